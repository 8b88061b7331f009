"""Arguments of a command line that a program runs as code, as a shell does with what follows `-c`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Has = Callable[[str], bool]
"""Whether an argument has a place for a value."""

_SHELLS = ("sh", "bash", "rbash", "dash", "ash", "zsh", "ksh", "mksh", "yash", "fish", "csh", "tcsh")
# Programs that take code, by the letters of the options that it follows, or is written into.
_CODE = {
    **dict.fromkeys(_SHELLS, "c"),
    **dict.fromkeys(("su", "runuser", "script", "flock", "psql", "vi", "vim", "nvim", "tclsh", "guile", "pwsh"), "c"),
    **dict.fromkeys(("python", "pypy", "ipython"), "cm"),
    **dict.fromkeys(("perl", "julia"), "eE"),
    **dict.fromkeys(("ruby", "lua", "luajit", "R", "Rscript", "osascript", "groovy", "bun", "mysql", "gawk"), "e"),
    **dict.fromkeys(("node", "nodejs", "deno"), "ep"),
    "php": "rBRE",
    "sed": "e",
    "env": "S",
    "rsync": "e",
    "tar": "I",
}
# Of those, the letters of options with a value that is no code.
_VALUES = {
    **dict.fromkeys(_SHELLS, "oO"),
    **dict.fromkeys(("python", "pypy", "ipython"), "WX"),
    **dict.fromkeys(("node", "nodejs"), "rC"),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), "Fvf"),
    "sed": "fl",
    "perl": "I",
    "ruby": "IrC",
    "php": "dcz",
    "lua": "l",
}
_LONG = re.compile(
    r"--?(command|eval|execute|expression|print|source|code|split-string|rsh|rsync-path|to-command|checkpoint-action"
    r"|use-compress-program|session-command|init-command|exec|Command|EncodedCommand)(=|$)"
)
# Their first operand is a script, which ends their options; those of the others do not end.
_SCRIPTED = {
    *_SHELLS, "python", "pypy", "ipython", "perl", "julia", "ruby", "lua", "luajit", "Rscript", "osascript", "groovy",
    "bun", "node", "nodejs", "deno", "php", "tclsh", "guile", "pwsh", "source", ".",
}  # fmt: skip
# Their first operand is code, unless an option has named it or its file.
_FIRST = {"awk", "gawk", "mawk", "nawk", "sed"}
# All their arguments, or all after the first operand, are put together to code.
_ALL = {"eval", "ssh", "rsh", "mosh", "watch", "parallel", "tmux", "screen", "xterm"}
_REST = {"sqlite", "duckdb"}
# Programs that run another one: the letters of options with a value, and how many operands are their own.
_RUNNERS = {
    "env": ("uC", 0), "nice": ("n", 0), "ionice": ("cnp", 0), "nohup": ("", 0), "setsid": ("", 0), "timeout": ("ks", 1),
    "stdbuf": ("ioe", 0), "sudo": ("ugCDRThp", 0), "doas": ("uC", 0), "xargs": ("nPLIsdaE", 0), "chroot": ("", 1),
    "time": ("fo", 0), "exec": ("a", 0), "command": ("", 0), "unbuffer": ("", 0), "busybox": ("", 0),
    "toybox": ("", 0), "chrt": ("TPD", 1), "taskset": ("", 1), "flock": ("wE", 1), "firejail": ("", 0),
    "strace": ("eosPpuE", 0), "ltrace": ("eosplu", 0), "setarch": ("", 1), "choom": ("np", 0),
}  # fmt: skip
# Variables that name code which a program loads.
_LOADS = re.compile(
    r"(LD_[A-Z_]+|DYLD_[A-Z_]+|PATH|PYTHON[A-Z]+|BASH_ENV|ENV|PERL5?(LIB|OPT|5LIB|5OPT)|RUBY(LIB|OPT)|NODE_[A-Z_]+"
    r"|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|GIT_[A-Z_]+|EDITOR|VISUAL|PAGER|CLASSPATH|JAVA_TOOL_OPTIONS)="
)
_VERSION = re.compile(r"(?<=[A-Za-z])-?[0-9][0-9.]*$")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def refuse(arguments: Sequence[str], has: Has) -> None:
    """Raise `ValueError` where a value would become code, or choose the program that runs.

    Programs that are known to run others are followed; after unknown ones code is searched for as well.
    """
    for index in range(1, len(arguments)):
        _refuse_options(_name(arguments[index]), arguments[index + 1 :], has, sure=False)
    _refuse_program(arguments, has)


def _refuse_program(arguments: Sequence[str], has: Has) -> None:
    """Arguments of which the first is surely a program."""
    program, rest = _name(arguments[0]), arguments[1:]
    _refuse_options(program, rest, has, sure=True)
    if program in _ALL or program in _REST:
        operands = [argument for argument in rest if program in _ALL or not argument.startswith("-")]
        for argument in operands[program in _REST :]:
            _refuse_place(program, argument, has)
    if program in _RUNNERS:
        _refuse_run(program, rest, has)


def _refuse_options(program: str, rest: Sequence[str], has: Has, *, sure: bool) -> None:
    """Code behind or in an option; where it is sure that this is a program, a script or code as an operand, too."""
    letters = _CODE.get(program, "")
    follows = named = skip = False
    for argument in rest:
        if skip:
            skip = False
            continue
        long, bundle = letters and _LONG.match(argument), _bundle(argument)
        if follows and (not argument.startswith("-") or program not in _SHELLS):
            _refuse_place(program, argument, has)
            if program in _SCRIPTED:
                return  # what comes behind is what the code gets
            follows, named = False, True
        elif long:
            _refuse_place(program, argument, has)
            follows = not long[2]
        elif letters and bundle and any(letter in bundle for letter in letters):
            _refuse_place(program, argument, has)
            follows = program in _SHELLS or bundle[-1] in letters
            named = True
        elif bundle:
            named = named or "f" in bundle
            skip = bundle[-1] in _VALUES.get(program, "")
        elif not argument.startswith("-"):
            if sure and program in _FIRST and not named:
                _refuse_place(program, argument, has)
            if sure and program in _SCRIPTED and argument.startswith("{") and has(argument):
                raise ValueError(f"{argument!r} is the script that {program} runs, which can't be a value")
            if program in _SCRIPTED or program in _FIRST:
                return


def _refuse_run(runner: str, rest: Sequence[str], has: Has) -> None:
    """Arguments of a program that runs another one."""
    letters, own = _RUNNERS[runner]
    skip = False
    for index, argument in enumerate(rest):
        if skip:
            skip = False
        elif argument.startswith("-"):
            skip = len(argument) == 2 and argument[1] in letters
        elif _ASSIGNMENT.match(argument) and runner in ("env", "sudo", "doas"):
            if _LOADS.match(argument):
                _refuse_place(runner, argument, has)
        elif own:
            own -= 1
        elif has(argument):
            raise ValueError(f"{argument!r} is the program that {runner} runs, which can't be a value")
        else:
            _refuse_program(rest[index:], has)
            return


def _refuse_place(program: str, argument: str, has: Has) -> None:
    if has(argument):
        instead = f"{program} -c 'cat \"$1\"' {program} {{value}}" if program in _SHELLS else f"{program} ... {{value}}"
        raise ValueError(
            f"{argument!r} is code that {program} runs, so a value in it could be any command: "
            f"let the code read an argument, and give the value as one: {instead}"
        )


def _bundle(argument: str) -> str:
    """The letters of an option or of several in one; "" for what is none."""
    return argument[1:] if argument[:1] in ("-", "+") and not argument.startswith("--") else ""


def _name(argument: str) -> str:
    return _VERSION.sub("", argument.rpartition("/")[2].removesuffix(".exe"))
