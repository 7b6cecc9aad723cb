"""The demo as a user runs it: another process, seen from outside."""

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
def place() -> Iterator[Path]:
    """A folder for temporary files, which httpd's children can reach, as they cannot with pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="test-demo-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """SIGHUP is not ignored, as it is where nohup runs the tests: the demo would inherit that, and obey it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def environment(place: Path) -> dict[str, str]:
    """The environment of a demo, by which all its processes are known as well."""
    return {**os.environ, "TMPDIR": str(place), "PORT": ""}


def processes(place: Path) -> dict[int, str]:
    """Everything that runs for the demo of that place, however deep below it: pids and command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(f"TMPDIR={place}") in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ProcessLookupError):  # gone meanwhile, or another user's
            continue
    return found


def child(process: subprocess.Popen[str], part: str) -> int:
    """The pid of the demo's own child whose command line has this part; httpd's children have the same one."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (pid,) = [pid for pid in pids if part.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(pid)


def nothing_left(place: Path, *ports: int) -> None:
    """No process, no file, no port is left."""
    deadline = time.monotonic() + 5
    while processes(place) and time.monotonic() < deadline:  # the last ones of a killed group
        time.sleep(0.05)
    assert processes(place) == {}
    assert list(place.iterdir()) == []
    assert not [port for port in ports if is_listening(port)]


@contextmanager
def demo(place: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A running demo and its ports: Apache's and that of S3."""
    with subprocess.Popen(
        DEMO, cwd=ROOT, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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


def test_check(place: Path) -> None:
    """``make demo-check``: every check has its tick, and nothing stays behind."""
    done = subprocess.run(
        [*DEMO, "--check"],
        cwd=ROOT,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    marks = re.findall(r"^  (\S) ", done.stdout, re.MULTILINE)
    assert len(marks) == 11 and marks.count("✓") >= 9  # without browser or extension one of them is a note
    nothing_left(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal(place: Path, number: signal.Signals) -> None:
    """A signal, even an impatient second one, ends all of it."""
    with demo(place) as (process, ports):
        assert len(processes(place)) >= 4  # itself, S3, httpd and its children
        assert all(map(is_listening, ports))
        process.send_signal(number)
        process.send_signal(number)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert output.splitlines()[-2:] == [f"{number.name}: stopping ...", "Stopped: Apache, S3 and their data are gone."]
    nothing_left(place, *ports)


def test_signal_during_the_start(place: Path) -> None:
    """It is heard at once, and obeyed as soon as what was begun can be taken back."""
    with subprocess.Popen(DEMO, cwd=ROOT, env=environment(place), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Starting")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert "Open this" not in output
    nothing_left(place)


@pytest.mark.parametrize(("part", "name"), [("-DFOREGROUND", "httpd"), ("s3/server.py", "the embedded S3")])
def test_death_of_a_part(place: Path, part: str, name: str) -> None:
    """Where Apache or S3 is killed, the demo says so, stops with status 1, and leaves nothing either."""
    with demo(place) as (process, ports):
        os.kill(child(process, part), signal.SIGKILL)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert f"{name} has ended by itself" in output
    nothing_left(place, *ports)


def test_taken_port(place: Path) -> None:
    """A port that is in use: a message, no traceback, nothing started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            DEMO, cwd=ROOT, env={**environment(place), "PORT": port}, capture_output=True, text=True, timeout=TIMEOUT,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"demo: port {port} of 127.0.0.1 cannot be used: Address already in use\n")
    nothing_left(place)
