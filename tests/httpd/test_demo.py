"""The demo, run as a user runs it: as a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.httpd.machine import is_listening

ROOT = Path(__file__).resolve().parents[2]
DEMO = (sys.executable, "-m", "tests.demo")
TIMEOUT = 120


@pytest.fixture
def temporary_folder() -> Iterator[Path]:
    """A folder for temporary files that httpd's children can read; they cannot read pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="test-demo-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def default_sighup() -> Iterator[None]:
    """Restore the default action of SIGHUP: under nohup it is ignored, and the demo would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def environment(temporary_folder: Path) -> dict[str, str]:
    """The environment of a demo. Its processes are found by their TMPDIR."""
    return {**os.environ, "TMPDIR": str(temporary_folder), "PORT": ""}


def processes(temporary_folder: Path) -> dict[int, str]:
    """All processes of the demo with this folder: pids and command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(f"TMPDIR={temporary_folder}") in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ProcessLookupError):  # ended meanwhile, or another user's
            continue
    return found


def child_pid(process: subprocess.Popen[str], part: str) -> int:
    """The pid of the demo's direct child with this text in its command line, which httpd's own children share."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (pid,) = [pid for pid in pids if part.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(pid)


def assert_nothing_left(temporary_folder: Path, *ports: int) -> None:
    """Assert that no process, file or open port is left."""
    deadline = time.monotonic() + 5
    while processes(temporary_folder) and time.monotonic() < deadline:  # processes of a killed group may take a moment
        time.sleep(0.05)
    assert processes(temporary_folder) == {}
    assert list(temporary_folder.iterdir()) == []
    assert not [port for port in ports if is_listening(port)]


@contextmanager
def demo(temporary_folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A running demo and its ports, of Apache and of S3."""
    with subprocess.Popen(
        DEMO, cwd=ROOT, env=environment(temporary_folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            welcome = ""
            while not welcome.endswith("Ctrl-C stops it all.\n"):
                line = process.stdout.readline()
                assert line, welcome
                welcome += line
            ports = [int(port) for port in dict.fromkeys(re.findall(r"http://127\.0\.0\.1:(\d+)/", welcome))]
            assert len(ports) == 2
            yield process, ports
        finally:
            process.terminate()


def test_demo_check(temporary_folder: Path) -> None:
    """``make demo-check``: every check succeeds, and nothing is left."""
    done = subprocess.run(
        [*DEMO, "--check"],
        cwd=ROOT,
        env=environment(temporary_folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    marks = re.findall(r"^  (\S) ", done.stdout, re.MULTILINE)
    assert len(marks) == 12 and marks.count("✓") >= 9  # without a browser or the extension some of them are notes
    assert_nothing_left(temporary_folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal(temporary_folder: Path, number: signal.Signals) -> None:
    """A signal ends the demo, also if a second one follows at once."""
    with demo(temporary_folder) as (process, ports):
        assert len(processes(temporary_folder)) >= 4  # itself, S3, httpd and its children
        assert all(map(is_listening, ports))
        process.send_signal(number)
        process.send_signal(number)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert output.splitlines()[-2:] == [f"{number.name}: stopping ...", "Stopped: Apache, S3 and their data are gone."]
    assert_nothing_left(temporary_folder, *ports)


def test_signal_during_the_start(temporary_folder: Path) -> None:
    """The demo stops as soon as it can undo what it has started."""
    with subprocess.Popen(
        DEMO, cwd=ROOT, env=environment(temporary_folder), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Starting")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert "Open this" not in output
    assert_nothing_left(temporary_folder)


@pytest.mark.parametrize(("part", "name"), [("-DFOREGROUND", "httpd"), ("s3/server.py", "the embedded S3")])
def test_a_killed_httpd_or_s3_ends_the_demo(temporary_folder: Path, part: str, name: str) -> None:
    """The demo reports it, exits with status 1, and leaves nothing."""
    with demo(temporary_folder) as (process, ports):
        os.kill(child_pid(process, part), signal.SIGKILL)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert f"{name} has ended by itself" in output
    assert_nothing_left(temporary_folder, *ports)


def test_a_port_that_is_in_use(temporary_folder: Path) -> None:
    """The demo prints a message without a traceback, and starts nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            DEMO, cwd=ROOT, env={**environment(temporary_folder), "PORT": port}, capture_output=True, text=True,
            timeout=TIMEOUT, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"demo: port {port} of 127.0.0.1 cannot be used: Address already in use\n")
    assert_nothing_left(temporary_folder)
