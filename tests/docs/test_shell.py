"""Commands and their outputs: reading them, running them, comparing them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.shell import FORBIDDEN, Command, console_commands, matches, run_commands, script_commands


def test_commands() -> None:
    text = "$ one\n$ two \\\n>   more\nout\n\n$ cat >x <<'EOF'\n> a\nEOF\n...\n"
    assert list(console_commands(text)) == [
        Command("one", ""),
        Command("two \\\n  more", "out\n\n"),
        Command("cat >x <<'EOF'\na\nEOF", "...\n"),
    ]


def test_commands_of_a_script() -> None:
    text = "# first\numask 022\n\nfor x in 1; do\n  echo $x\ndone\ncat >x <<E\n'\nE\na && \\\n  b\nc &&\n  'd\ne'\n"
    assert list(script_commands(text)) == [
        "umask 022",
        "for x in 1; do\n  echo $x\ndone",
        "cat >x <<E\n'\nE",
        "a && \\\n  b",
        "c &&\n  'd\ne'",
    ]
    with pytest.raises(ValueError):
        list(script_commands("echo 'x\n"))


@pytest.mark.parametrize("text", ["", "output\n", "$ cat <<E\nx\n"])
def test_what_is_not_a_command_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        list(console_commands(text))


@pytest.mark.parametrize(
    ("documented", "actual", "expected"),
    [
        ("", "", True),
        ("", "x\n", False),
        ("a\n", "a", True),
        ("a\n", "a  \n", True),
        ("a\n", "ab\n", False),
        ("a.c\n", "abc\n", False),
        ("a ... c\n", "a b c\n", True),
        ("a ...\n", "a b\nc\n", False),
        ("...\n", "", True),
        ("a\n...\nc\n", "a\nc\n", True),
        ("a\n...\nc\n", "a\nb\nb\nc\n", True),
        ("a\n...\nc\n", "a\nb\n", False),
    ],
)
def test_outputs(documented: str, actual: str, expected: bool) -> None:
    assert matches(documented, actual) is expected


def test_commands_share_a_shell(tmp_path: Path) -> None:
    texts = ["name=1", "cd /", "echo $name $PWD >&2; false", "cat <<E\nx\nE", "cat", "exit 3", "echo not reached"]
    results = run_commands(texts, tmp_path)
    assert results == [(0, ""), (0, ""), (1, "1 /\n"), (0, "x\n"), (0, "")]
    assert run_commands(["read line", "echo $line"], tmp_path, given="a b") == [(0, ""), (0, "a b\n")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apt-get install x", True),
        ("cd x && sudo true", True),
        ("systemctl restart apache2", True),
        ("ls /usr/lib/apt", False),
        ("usp-s3 convert /etc/apache2/sites-available/media.conf", False),
        ("curl --mount http://127.0.0.1/service", False),
    ],
)
def test_commands_that_change_the_machine(text: str, expected: bool) -> None:
    assert bool(FORBIDDEN.search(text)) is expected
