"""`--command`: a value never becomes code, whatever runs it and however the option is written."""

from __future__ import annotations

import pytest

from tornado_app.commands.command_line import CommandLine
from tornado_app.settings import SettingsError, read

REFUSED = [
    'sh -c "echo {x}"',
    "sh -c {x}",
    "/bin/bash -c 'ls {x}' bash",
    "bash -ec 'ls {x}'",
    "bash -c -e 'ls {x}'",
    "bash -ce 'ls {x}'",
    "bash -o pipefail -c 'ls {x}'",
    "bash -x -c'ls {x}'",
    "bash +x -c 'ls {x}'",
    "fish --command='ls {x}'",
    "fish --command 'ls {x}'",
    "zsh {x}",
    "sh {x} a",
    "env sh -c 'ls {x}'",
    "env -i A=b sh -c 'ls {x}'",
    "env A={x} sh -c 'ls {x}'",
    "env {x}",
    "env A=b {x} ls",
    "env -S 'ls {x}'",
    "env -S'ls {x}'",
    "env --split-string='ls {x}'",
    "env LD_PRELOAD={x} ls",
    "env PATH=/bin:{x} ls",
    "env PYTHONPATH={x} python3 x.py",
    "nice -n 5 sh -c 'ls {x}'",
    "nice {x}",
    "timeout 5 {x}",
    "timeout -k 1 5 sh -c 'ls {x}'",
    "sudo -u nobody {x}",
    "sudo -u nobody sh -c 'ls {x}'",
    "setsid nohup ionice -c 3 bash -c 'ls {x}'",
    "busybox sh -c 'ls {x}'",
    "xargs -n 1 sh -c 'ls {x}'",
    "find . -exec sh -c 'ls {x}' ;",
    "docker run --rm image sh -c 'ls {x}'",
    "my-wrapper --fast bash -lc 'ls {x}'",
    "su -c 'ls {x}' nobody",
    "su nobody -c 'ls {x}'",
    "script -c 'ls {x}' /dev/null",
    "flock /tmp/lock -c 'ls {x}'",
    "flock /tmp/lock {x}",
    "ssh host 'ls {x}'",
    "ssh host ls {x}",
    "timeout 5 ssh host ls {x}",
    "watch ls {x}",
    "parallel ls {x}",
    "python -c 'print({x})'",
    "python3.11 -c 'print({x})'",
    "/usr/bin/python3 -Ic 'print({x})'",
    "python -m {x}",
    "python {x}",
    "env python3 -c 'print({x})'",
    "perl -e 'print {x}'",
    "perl -ne 'print {x}'",
    "perl -E'say {x}'",
    "ruby -e 'puts {x}'",
    "node -e '{x}'",
    "node --eval={x}",
    "node -p {x}",
    "php -r '{x};'",
    "lua5.4 -e '{x}'",
    "Rscript -e '{x}'",
    "awk {x} file",
    "gawk -e {x} file",
    "awk -F , 'a == \"{x}\"' file",
    "bash -o pipefail {x}",
    "python -W error {x}",
    "python -W error -c 'print({x})'",
    "sed 's/a/{x}/' file",
    "sed -n -e 's/a/{x}/' file",
    "sqlite3 a.db 'SELECT {x}'",
    "psql -c 'SELECT {x}'",
    "rsync -e {x} a b",
    "tar -x --to-command={x} -f a.tar",
    "tar -I {x} -xf a.tar",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_place_in_code_is_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(ValueError, match=r"is code that|can't be a value"):
        CommandLine(text)


@pytest.mark.parametrize(
    "text",
    [
        "backup --to {x}",
        "sh -c 'cat \"$1\"' sh {x}",
        "bash -ec 'cat -- \"$@\"' bash {x} {y}",
        "sh -c 'exit 7'",
        "sh /scripts/run.sh {x}",
        "sh /scripts/{x}.sh",
        "bash -x -o pipefail /scripts/run.sh {x}",
        "env A={x} ls {y}",
        "env -u HOME ls {x}",
        "nice -n {n} ls {x}",
        "timeout {s} ls {x}",
        "timeout -k {k} {s} ls {x}",
        "sudo -u {user} ls {x}",
        "ionice -c {c} ls {x}",
        "python -c 'import sys; print(sys.argv)' {x}",
        "python3 tool.py -c {x}",
        "python -m tool --code {x}",
        "perl -ne 'print' {x}",
        "perl x.pl -e {x}",
        "node app.js -e {x}",
        "awk '{{print}}' {x}",
        "awk -f prog.awk {x}",
        "sed -e p {x}",
        "sed -f prog.sed {x}",
        "grep -c {x} file",
        "grep -e {x} file",
        "gcc -c {x}",
        "wc -c {x}",
        "tar -cf {x} folder",
        "rsync -a {x} b",
        "sqlite3 {x} .schema",
        "find {x} -name a.txt",
        "seq {n}",
        "docker run --rm -v {x}:/data image tool {y}",
        "xargs -n {n} ls",
    ],
)
def test_a_place_beside_code_is_allowed(text: str) -> None:
    CommandLine(text)


def test_the_setting_says_so() -> None:
    with pytest.raises(SettingsError) as caught:
        read(["--command", 'show=sh -c "cat {file}"'], {})
    said = str(caught.value)
    assert "'cat {file}' is code that sh runs" in said
    assert "sh -c 'cat \"$1\"' sh {value}" in said
