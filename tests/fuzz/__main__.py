"""``make fuzz``: fuzz all targets, or the named ones, for some time each, guided by the coverage of the code.

    python -m tests.fuzz                             # all targets
    python -m tests.fuzz s3_responses --minutes 10   # one of them, for longer
    python -m tests.fuzz s3_responses --input FILE   # check one input again, without atheris

Inputs that reach new code are kept in build/fuzz, and the next run begins with them. A failure prints its input, the
file that holds it, and the command that checks it again. The exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.target import DESCRIPTIONS, Target, check_input, load

_ROOT = Path(__file__).parents[2]
_FOLDER = Path("build", "fuzz")
_NOT_INSTALLED = (
    "atheris or h11 is not installed in this environment: tests/fuzz/install.sh VENV. "
    "atheris has wheels for Linux on x86_64 with CPython 3.11 to 3.14 only."
)
#: Seconds after which libFuzzer ends a check that does not return; MAX_SECONDS is for those that do.
_HANG_SECONDS = 20
_MAX_MEMORY_MB = 1_024
#: Characters of an input, and lines of a log, that a failure prints.
_SHOWN_LENGTH = 300
_SHOWN_LINES = 25


class Outcome(NamedTuple):
    """How the fuzzing of a target ended. ``failure``: what to print of a failure, empty if there was none."""

    name: str
    summary: str
    failure: str


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="targets:\n" + "\n".join(f"  {name:<16} {text}" for name, text in DESCRIPTIONS.items()),
    )  # fmt: skip
    parser.add_argument("target", nargs="*", help="default: all of them")
    parser.add_argument("--minutes", type=float, default=0.3, help="for each target (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time, each in its own process")
    parser.add_argument("--seed", type=int, help="above 0: the same inputs each time, without those of former runs")
    parser.add_argument("--input", type=Path, metavar="FILE", help="only check the input in this file")
    options = parser.parse_args()
    if unknown := set(options.target) - set(DESCRIPTIONS):
        parser.error(f"unknown target: {', '.join(sorted(unknown))}")
    if options.input is not None:
        if len(options.target) != 1:
            parser.error("--input needs one target")
        return _check_again(options.target[0], options.input)
    if not all(importlib.util.find_spec(module) for module in ("atheris", "h11")):
        parser.error(_NOT_INSTALLED)
    names = options.target or list(DESCRIPTIONS)
    with ThreadPoolExecutor(options.jobs) as executor:
        running = [executor.submit(fuzz, name, options.minutes * 60, options.seed) for name in names]
        failures = [outcome for ended in as_completed(running) if _report(outcome := ended.result())]
    return 1 if failures else 0


def _report(outcome: Outcome) -> bool:
    """Print an outcome. Returns whether it is a failure."""
    print(f"{outcome.name}: {outcome.summary}", outcome.failure, sep="\n" if outcome.failure else "", flush=True)
    return bool(outcome.failure)


def _check_again(name: str, file: Path) -> int:
    try:
        check_input(load(name), file.read_bytes())
    except Exception:
        traceback.print_exc()
        return 1
    print(f"{name}: passed")
    return 0


def fuzz(name: str, seconds: float, seed: int | None) -> Outcome:
    """Fuzz a target in a process of its own. ``seed``: for the same inputs as before, None for other ones each time."""
    folder = _ROOT / _FOLDER / name
    with tempfile.TemporaryDirectory() as temporary:
        corpus = folder / "corpus" if seed is None else Path(temporary, "corpus")
        seeds, artifacts = Path(temporary, "seeds"), Path(temporary, "artifacts")
        for each in (folder, corpus, seeds, artifacts):
            each.mkdir(parents=True, exist_ok=True)
        target = load(name)
        for number, data in enumerate(target.seeds):
            Path(seeds, str(number)).write_bytes(data[: target.max_length])
        dictionary = Path(temporary, "words")
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        log = folder / "log.txt"
        # The seed 0 is another one each time.
        arguments: list[str | Path] = [f"-seed={seed or 0}", f"-dict={dictionary}", corpus, seeds]
        status = _run(name, target, seconds, arguments, artifacts, log)
        text = log.read_text("utf-8", "replace")
        files = [Path(shutil.copy(artifact, folder)) for artifact in artifacts.iterdir()]
    failure = _failure(name, text, files, status) if status or files else ""
    return Outcome(name, _summary(text), failure)


def _escaped(word: bytes) -> str:
    """https://llvm.org/docs/LibFuzzer.html#dictionaries"""
    return "".join(f"\\x{byte:02x}" for byte in word)


def _run(name: str, target: Target, seconds: float, arguments: Sequence[str | Path], artifacts: Path, log: Path) -> int:
    """Run the process to its end and write its output to ``log``; returns its exit status."""
    command = [
        sys.executable, "-m", "tests.fuzz.worker", name,
        f"-max_total_time={max(1, round(seconds))}", f"-max_len={target.max_length}", f"-timeout={_HANG_SECONDS}",
        f"-rss_limit_mb={_MAX_MEMORY_MB}", f"-artifact_prefix={artifacts}/", "-print_final_stats=1",
        *map(str, arguments),
    ]  # fmt: skip
    # The order of a set must not depend on the process.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    with open(log, "wb") as output:
        return subprocess.run(command, stdout=output, stderr=output, cwd=_ROOT, env=environment, check=False).returncode


def _summary(log: str) -> str:
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)
    inputs = re.findall(r"^(?:#|stat::number_of_executed_units: *)(\d+)", log, re.MULTILINE)
    if not coverage or not inputs:
        return "did not run"
    branches, _, kept = coverage[-1]
    return f"{int(inputs[-1]):,} inputs, {int(branches):,} branches covered by {kept} of them"


def _failure(name: str, log: str, files: list[Path], status: int) -> str:
    """What to print of a failure: the exception or the last lines of the log, the input, and how to check it again."""
    raised = re.search(r"=== Uncaught Python exception: ===\n(.*?)(?:\n==|\Z)", log, re.DOTALL)
    lines = [line for line in (raised[1] if raised else log).splitlines() if line.strip()]
    texts = [f"FAILED (exit status {status})", *(line[:_SHOWN_LENGTH] for line in lines[-_SHOWN_LINES:])]
    for file in files:
        data, path = file.read_bytes(), file.relative_to(_ROOT)
        shown = repr(data[:_SHOWN_LENGTH]) + ("..." if len(data) > _SHOWN_LENGTH else "")
        texts.append(f"input ({len(data)} bytes): {shown}")
        texts.append(f"file: {path}")
        texts.append(f"again: {os.path.relpath(sys.executable, _ROOT)} -m tests.fuzz {name} --input {path}")
    return "\n  ".join(texts)


if __name__ == "__main__":
    sys.exit(main())
