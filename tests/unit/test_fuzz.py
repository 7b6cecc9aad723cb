"""``make fuzz``: each target accepts the inputs that it begins with, and a failure says how to see it again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz.target import DESCRIPTIONS, Target, check_input, fields, join, load

ROOT = Path(__file__).parents[2]
#: Parses the options in a process that can import neither atheris nor h11, even if they are installed.
WITHOUT_ATHERIS = """
import sys
import time
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name in {"atheris", "h11"} else find(name, *more)
from tests.fuzz.__main__ import main
sys.argv = ["python -m tests.fuzz", *sys.argv[1:]]
sys.exit(main())
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line without atheris."""
    command = [sys.executable, "-c", WITHOUT_ATHERIS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_each_target_accepts_its_seeds(name: str) -> None:
    if name == "s3_responses":
        pytest.importorskip("h11", reason='h11 is only installed by "make fuzz"')
    loaded = load(name)
    assert len(loaded.seeds) > 1
    for seed in loaded.seeds:
        loaded.check(seed[: loaded.max_length])


def test_every_target_is_described() -> None:
    files = {path.stem for path in (ROOT / "tests" / "fuzz").glob("*.py") if "\nTARGET = " in path.read_text()}
    assert files == set(DESCRIPTIONS)


def test_fields() -> None:
    assert fields(join(b"a", b"", b"b"), 3) == [b"a", b"", b"b"]
    assert fields(b"a", 3) == [b"a", b"", b""]
    assert fields(join(b"a", b"b", b"c"), 2) == [b"a", join(b"b", b"c")]


@pytest.mark.parametrize(("clock", "is_too_slow"), [((0, 0.4), False), ((0, 9, 9, 9.1), False), ((0, 9, 9, 18), True)])
def test_a_slow_input_fails_if_it_is_slow_twice(
    clock: tuple[float, ...], is_too_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(clock)
    monkeypatch.setattr(time, "process_time", lambda: next(times))
    checked = Target(lambda data: None, ())
    if is_too_slow:
        with pytest.raises(AssertionError, match=r"3 bytes took 9\.00 s of CPU time"):
            check_input(checked, b"abc")
    else:
        check_input(checked, b"abc")
    assert not list(times)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["settings"], "has wheels for"),
        (["nothing"], "unknown target: nothing"),
        (["--input", "x"], "needs one target"),
    ],
)
def test_wrong_command_lines_and_missing_packages(arguments: list[str], output: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2 and output in ended.stderr and "Traceback" not in ended.stderr


def test_an_input_is_checked_again_without_atheris(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"S3Expires=1")
    ended = run("settings", "--input", str(file))
    assert (ended.returncode, ended.stdout) == (0, "settings: passed\n")


def test_a_failure_shows_the_exception_the_input_and_how_to_check_it_again() -> None:
    folder = ROOT / "build" / "fuzz" / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "crash-of-test_fuzz"
    file.write_bytes(b"x" * 1_000)
    log = "INFO: Loaded\n === Uncaught Python exception: ===\nAssertionError: no\n==12== ERROR: libFuzzer: signal\n"
    try:
        text = command._failure("settings", log, [file], 77)
    finally:
        file.unlink()
    assert "AssertionError: no" in text and "libFuzzer" not in text
    assert f"input (1000 bytes): b'{'x' * 300}'..." in text
    assert "-m tests.fuzz settings --input build/fuzz/settings/crash-of-test_fuzz" in text
