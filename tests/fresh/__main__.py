"""The two commands of README, and the commands of the documentation, on minimal Debian machines: ``make test-fresh``.

    .venv/bin/python -m tests.fresh                        # bookworm, trixie and the httpd image's layout: an hour
    .venv/bin/python -m tests.fresh --jobs 3 trixie httpd-image
    .venv/bin/python -m tests.fresh --part documentation bookworm

Each machine is a chroot: a minimal Debian of any suite (minbase with git, make and ca-certificates), or the layout of
the official httpd image. HEAD of this clone is cloned into it, and ``make demo-check`` and ``make test`` run there: as
root, in a folder that only root can read; and as an ordinary user, for whom the first call must name the missing Debian
packages. These packages are installed, and the same call must succeed. On further machines the commands of the
documentation run as root, word by word (documentation.py).

pip's index, CA and proxy are those of the caller (PIP_INDEX_URL, PIP_CERT, https_proxy and the like). The base machines
and the logs of the last runs are kept in a folder (--cache, or FRESH_CACHE). The exit status is 1 if anything failed.
The virtual environment of the tests and the packages of tests/fresh/install.sh are needed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fresh import documentation
from tests.fresh.machine import (
    CACHE,
    IMAGE,
    UID,
    Machine,
    SetupError,
    base_image,
    last_line,
    machine,
    say,
    write_bundle,
)

SUITES = ("bookworm", "trixie", IMAGE)
USERS = ("root", "tester")
COMMANDS = ("make demo-check", "make test")
PARTS = ("commands", "documentation")


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one command on one machine."""

    suite: str
    user: str
    command: str
    seconds: float
    passed: int
    failed: int
    skipped: int
    ok: bool
    note: str = ""


# --- the two commands


def run_commands(suite: str, user: str, base: Path, bundle: Path) -> list[Row]:
    """Run the two commands on a new machine of this suite, as this user."""
    with machine(base, suite, base.parent / f"{suite}-{user}.log") as fresh:
        say(f"{suite}, {user}: started; the log is {fresh.log}")
        shutil.copy(bundle, fresh.folder / "clone.bundle")
        (fresh.folder / "clone.bundle").chmod(0o644)
        rows = []
        try:
            if user == "root":
                clone = "/root/private/clone"
                fresh.run_checked("mkdir -m 700 /root/private")
            else:
                clone = f"/home/{user}/clone"
                fresh.run_checked(f"useradd --create-home --uid {UID} --user-group {user}")
            status, output = fresh.run(f"git clone -q /clone.bundle {clone}", user)
            if status:
                raise SetupError(f"git clone: {last_line(output)}")
            if user != "root":
                rows.append(first_call(fresh, user, clone))
            rows += [command_row(fresh, user, clone, command) for command in COMMANDS]
        except SetupError as error:
            rows.append(Row(suite, user, "", 0, 0, 1, 0, False, str(error)))
        for row in rows:
            say(f"{suite}, {user}: {row.command} {'ok' if row.ok else 'FAILED'}, {row.seconds:.0f} s {row.note}")
        return rows


def first_call(fresh: Machine, user: str, clone: str) -> Row:
    """The first call, which must name the missing packages; then install them. Raises: SetupError."""
    started = time.monotonic()
    status, output = fresh.run(COMMANDS[0], user, clone)
    seconds = time.monotonic() - started
    packages = named_packages(output)
    if not status or packages is None:
        raise SetupError(f"the first call does not name missing packages: {last_line(output)}")
    fresh.run_checked(
        f"apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends {packages}"
    )
    return Row(fresh.suite, user, f"{COMMANDS[0]} (first)", seconds, 0, 0, 0, True, f"names {packages}")


def named_packages(output: str) -> str | None:
    """The Debian packages that the output asks to install; None if it names none."""
    named = re.search(r"apt-get install ((?:[a-z0-9][a-z0-9.+-]+ ?)+)$", output, re.MULTILINE)
    return named[1].strip() if named else None


def command_row(fresh: Machine, user: str, clone: str, command: str) -> Row:
    """Run one of the two commands, and count its results."""
    started = time.monotonic()
    try:
        # Other machines, and other tests on the caller's machine, must not take the ports of these tests.
        status, output = fresh.run(command, user, clone, has_own_network=True)
    except OSError as error:
        raise SetupError(f"no network of its own: {error}") from error
    seconds = time.monotonic() - started
    passed, failed, skipped = counts(output)
    failures = re.findall(r"^(?:FAILED|ERROR) (\S+)|^  ✗ (.*)", output, re.MULTILINE)
    note = ", ".join((name or check)[:100] for name, check in failures) or (last_line(output) if status else "")
    return Row(fresh.suite, user, command, seconds, passed, failed, skipped, not status and passed > 0, note)


def counts(output: str) -> tuple[int, int, int]:
    """The numbers of passed, failed and skipped tests, from pytest's summary or the marks of the demo's checks."""
    summaries = re.findall(r"^(?:=+ )?(?:\d+ [a-z]+(?:, )?)+ in [\d.]+s.*$", output, re.MULTILINE)
    if not summaries:
        return tuple(len(re.findall(rf"^  {mark} ", output, re.MULTILINE)) for mark in "✓✗·")  # type: ignore[return-value]
    found = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", summaries[-1])}
    errors = found.get("error", 0) + found.get("errors", 0)
    return found.get("passed", 0), found.get("failed", 0) + errors, found.get("skipped", 0)


def run_documentation(suite: str, name: str, base: Path, bundle: Path) -> list[Row]:
    """Run the commands of the documentation with this name on a new machine of this suite, as root."""
    command = f"documentation: {name}"
    with machine(base, suite, base.parent / f"{suite}-documentation-{name}.log") as fresh:
        say(f"{suite}, {command}: started; the log is {fresh.log}")
        shutil.copy(bundle, fresh.folder / "clone.bundle")
        started = time.monotonic()
        try:
            fresh.run_checked(documentation.PREPARATION)
            steps = documentation.steps_of(documentation.fresh_blocks(), name)
            script = documentation.script(steps)
            _, output = fresh.run(script, directory=documentation.CLONE, shell="bash", has_own_network=True)
            passed, note = documentation.result(steps, output)
        except (SetupError, OSError) as error:  # OSError: no network of its own
            passed, note = 0, str(error)
        row = Row(suite, "root", command, time.monotonic() - started, passed, 1 if note else 0, 0, not note, note)
        say(f"{suite}, {command}: {'ok' if row.ok else 'FAILED'}, {row.seconds:.0f} s {note}")
        return [row]


# --- the command line


def main() -> int:
    """Test all machines, print the table; returns the exit status."""
    arguments = parse_arguments()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    bundle = arguments.cache / "clone.bundle"
    write_bundle(bundle)
    rows, bases = [], {}
    for suite in arguments.suites:
        try:
            bases[suite] = base_image(suite, arguments.cache)
        except SetupError as error:
            say(f"{suite} is not available here and not tested: {error}")
            rows.append(Row(suite, "", "", 0, 0, 0, 0, suite == IMAGE, "not available here"))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = []
        for suite, base in bases.items():
            if "documentation" in arguments.parts:
                names = documentation.names_for(suite)
                futures += [pool.submit(run_documentation, suite, name, base, bundle) for name in names]
            if "commands" in arguments.parts:
                futures += [pool.submit(run_commands, suite, user, base, bundle) for user in USERS]
        rows += [row for future in futures for row in future.result()]
    print(table(rows))
    return 0 if all(row.ok for row in rows) else 1


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.fresh", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "suites", nargs="*", default=SUITES, help=f"{IMAGE}, or names of Debian suites (default: {' '.join(SUITES)})"
    )
    parser.add_argument(
        "--part",
        dest="parts",
        action="append",
        choices=PARTS,
        help="only the two commands of README, or only those of the documentation",
    )
    parser.add_argument("--jobs", type=int, default=1, help="number of machines that run at the same time (1)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        help="the folder for base machines and logs (default: $FRESH_CACHE or /var/tmp/usp_s3_wsgi-fresh)",
    )
    arguments = parser.parse_args()
    arguments.parts = arguments.parts or PARTS
    if os.geteuid():
        parser.error("only root can make the machines")
    return arguments


def table(rows: Sequence[Row]) -> str:
    """The table of all results, followed by the notes."""
    lines = [f"{'suite':<12} {'user':<7} {'command':<27} {'passed':>6} {'failed':>6} {'skipped':>7} {'seconds':>7}"]
    lines += [
        f"{row.suite:<12} {row.user:<7} {row.command:<27} {row.passed:>6} {row.failed:>6} {row.skipped:>7} "
        f"{row.seconds:>7.0f}  {'ok' if row.ok else 'FAILED'}"
        for row in rows
    ]
    lines += [f"{row.suite}, {row.user}, {row.command}: {row.note}" for row in rows if row.note]
    return "\n".join(["", *lines])


if __name__ == "__main__":
    sys.exit(main())
