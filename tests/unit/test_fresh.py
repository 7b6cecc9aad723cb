"""How ``make test-fresh`` reads the output of the two commands, and runs those of the documentation."""

from __future__ import annotations

import subprocess

import pytest

from tests.docs.blocks import Block
from tests.fresh.__main__ import counts, named_packages
from tests.fresh.documentation import STARTS, Step, names_for, result, script, steps_of


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "....\nSKIPPED [4] x\n15 failed, 3536 passed, 29 skipped in 518.27s (0:08:38)\nmake: *** [test] Error 1",
            (3536, 15, 29),
        ),
        ("3536 passed in 18.27s\n", (3536, 0, 0)),
        ("===== 1 failed, 20 passed in 18.27s (0:00:18) =====\n", (20, 1, 0)),
        ("1 passed, 2 warnings, 3 errors in 1.00s\n", (1, 3, 0)),
        ("Starting ...\n  ✓ film: 200\n  ✗ HEAD: 404\n  · browser: none\n  ✓ HLS\n", (2, 1, 1)),
        ("make: *** [install] Error 1\n", (0, 0, 0)),
    ],
)
def test_counts(output: str, expected: tuple[int, int, int]) -> None:
    assert counts(output) == expected


def test_missing_packages_are_read_from_the_message() -> None:
    output = (
        "*** Missing on this machine: gcc\n    As root: apt-get install gcc libapr1-dev \n    Then call make again.\n"
    )
    assert named_packages(output) == "gcc libapr1-dev"
    assert named_packages("make: gcc: No such file or directory\n") is None


BLOCKS = [
    Block("a.md", 1, "sh", "x=1\n# comment\nread y\n", {"fresh": "one", "input": "it's"}),
    Block("a.md", 5, "sh", "false\n", {"fresh": "two"}),
    Block("a.md", 9, "console", "$ echo $x$y\n1it's\n$ false\n", {"fresh": "one", "status": "1"}),
    Block("b.md", 1, "apache", "Listen '80'\n", {"fresh": "one", "file": "/FOLDER/new/x.conf"}),
    Block("b.md", 5, "sh", "cat /FOLDER/new/x.conf\n", {"fresh": "one"}),
]


def run(steps: list[Step], folder: object) -> str:
    """The output of the script of these steps."""
    text = script(steps).replace("/FOLDER", str(folder))
    done = subprocess.run(["bash", "-c", 'eval "$1"', "bash", text], capture_output=True, text=True, timeout=60)
    return done.stdout


def test_blocks_run_in_one_shell_in_their_order(tmp_path: object) -> None:
    steps = steps_of(BLOCKS, "one")
    assert [(step.block.id, step.output) for step in steps] == [
        ("a.md:1", None),
        ("a.md:1", None),
        ("a.md:9", "1it's\n"),
        ("a.md:9", ""),
        ("b.md:1", None),
        ("b.md:5", None),
    ]
    output = run(steps, tmp_path)
    assert result(steps, output) == (6, "")
    assert "Listen '80'\n" in output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true\nfalse\ntrue\n", (1, "x.md:1: 'false': exit status 1")),
        ("true\nfalse && true\ntrue\n", (1, "x.md:1: 'false && true': exit status 1")),
        ("exit 3\n", (0, "x.md:1: 'exit 3': exit status 3")),
        ("kill -9 $$\n", (0, "x.md:1: 'kill -9 $$': exit status unknown")),
        ("true\nexit\ntrue\n", (2, "the shell did not run all steps")),
        ("echo AH00111: Config variable\ntrue\n", (0, "x.md:1: AH00111 in the output")),
    ],
)
def test_a_step_that_fails_is_the_last(text: str, expected: tuple[int, str], tmp_path: object) -> None:
    steps = steps_of([Block("x.md", 1, "sh", text, {"fresh": "x"})], "x")
    assert result(steps, run(steps, tmp_path)) == expected


def test_another_output_is_a_failure(tmp_path: object) -> None:
    steps = steps_of([Block("x.md", 1, "console", "$ echo a\nb\n", {"fresh": "x"})], "x")
    assert result(steps, run(steps, tmp_path)) == (0, "x.md:1: the output is not the documented one")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("apachectl configtest && apachectl graceful", True),
        ("apache2ctl restart", True),
        ("/usr/local/apache2/bin/httpd -k start", True),
        ("apachectl graceful-stop", False),
        ("apachectl configtest", False),
    ],
)
def test_commands_after_which_httpd_must_answer(command: str, expected: bool) -> None:
    assert bool(STARTS.search(command)) is expected


def test_the_httpd_image_has_blocks_of_its_own() -> None:
    assert not set(names_for("httpd-image")) & set(names_for("trixie"))
    assert "example" not in names_for("trixie")
