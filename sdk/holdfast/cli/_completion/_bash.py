"""Completion in bash, which also ends words at `=` and `:`, so that `file_name=` and `http:` are words."""

from __future__ import annotations

import os
from typing import Any

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

_SOURCE = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response completion type value
    response=$(env COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1")
    for completion in $response; do
        type=${completion%%%%,*}
        value=${completion#*,}
        if [[ $type == dir ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == file ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == plain ]]; then
            [[ $value == *= ]] && compopt -o nospace || printf -v value %%q "$value"
            COMPREPLY+=("$value")
        fi
    done
    return 0
}

%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}

%(complete_func)s_setup;
"""


class Bash(BashComplete):
    """Completion of bash that splits the line as typed, in place of the words of readline."""

    source_template = _SOURCE

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._typed = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor's word, and that word."""
        if "COMP_LINE" not in os.environ:  # the script of an earlier version
            return super().get_completion_args()
        line = os.environ["COMP_LINE"].encode()
        before = line[: int(os.environ.get("COMP_POINT") or len(line))].decode(errors="replace")
        words = split_arg_string(before)
        # Does one more letter continue the last word, or begin a new one?
        is_new = len(split_arg_string(before + "x")) > len(words)
        self._typed = "" if is_new or not words else words.pop()
        return words[1:], self._typed

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return the replacement for the part after the last break."""
        value = str(item.value)
        breaks = [mark for mark in "=:" if mark in os.environ.get("COMP_WORDBREAKS", "=:")]
        cut = max((self._typed.rfind(mark) + 1 for mark in breaks), default=0)
        if item.type == "plain" and value.startswith(self._typed[:cut]):
            value = value[cut:]
        return f"{item.type},{value}"


def register() -> None:
    """Register this class with click."""
    add_completion_class(Bash)
