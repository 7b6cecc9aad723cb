"""The first process of the container image (apache/container/container.py) and its httpd, without a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.httpd.machine import httpd_binary, httpd_environment
from tests.httpd.server import WAIT, Httpd
from tests.httpd.slow_clients import LARGE, SMALL_BUFFERS, read_to_end, slow_client

pytestmark = pytest.mark.unsanitized

SOURCE = Path(__file__).parents[2] / "apache" / "container" / "container.py"
#: Starts httpd as "usp-s3-container run" does after it has prepared the configuration.
DRIVER = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("container", sys.argv[1])
container = importlib.util.module_from_spec(spec)
spec.loader.exec_module(container)
signal.pthread_sigmask(signal.SIG_BLOCK, container.HANDLED)
container.HTTPD, container.CHECK_SECONDS = sys.argv[2], float(sys.argv[3])
print("ready for signals", flush=True)
sys.exit(container.supervise(os.open(os.devnull, os.O_RDONLY), sys.argv[4:], os.environ))
"""


class Supervised(Httpd):
    """An httpd below the container's first process, which gets the signals."""

    check_seconds = 60.0

    def _command(self) -> list[str]:
        options = [str(SOURCE), httpd_binary(), str(self.check_seconds), "-f", str(self.root / "httpd.conf")]
        return [sys.executable, "-c", DRIVER, *options]

    def signal(self, *numbers: signal.Signals) -> None:
        """Send signals one after the other."""
        assert self._process is not None
        for number in numbers:
            self._process.send_signal(number)
            time.sleep(0.3)

    def status(self) -> int:
        """Wait for the end; the exit status."""
        assert self._process is not None
        return self._process.wait(WAIT)

    def httpd_pid(self) -> int:
        (pid,) = self.children()
        return pid

    def wait_for_line(self, text: str) -> None:
        deadline = time.monotonic() + WAIT
        while text not in (self.root / "error.log").read_text():
            assert time.monotonic() < deadline, text
            time.sleep(0.05)

    def write_configuration(self, further: str = "") -> None:
        (self.root / "httpd.conf").write_text(self._whole_config() + further)


@pytest.fixture
def server() -> Iterator[Supervised]:
    httpd = Supervised(SMALL_BUFFERS)
    with httpd:
        (httpd.root / "htdocs" / "film.mp4").write_bytes(bytes(LARGE))
        yield httpd


@pytest.mark.parametrize(
    "numbers", [[signal.SIGWINCH], [signal.SIGTERM], [signal.SIGWINCH, signal.SIGWINCH, signal.SIGTERM]]
)
def test_a_stop_finishes_what_has_begun(server: Supervised, numbers: list[signal.Signals]) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(slow_client(server, "/film.mp4")) for _ in range(3)]
        server.signal(*numbers)
        assert server.running
        for connection in slow:
            read_to_end(connection)
    assert server.status() == 0


def test_an_interrupt_stops_at_once(server: Supervised) -> None:
    with slow_client(server, "/film.mp4"):
        server.signal(signal.SIGINT)
        assert server.status() == 0


def test_a_stop_during_the_start_is_not_lost(server: Supervised) -> None:
    server.signal(signal.SIGWINCH)
    assert server.status() == 0
    for hundredths in (0, 2, 5, 10, 20, 40, 80, 160):
        with subprocess.Popen(
            server._command(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=httpd_environment()
        ) as started:
            assert started.stdout and started.stdout.readline() == b"ready for signals\n"
            time.sleep(hundredths / 100)
            started.send_signal(signal.SIGWINCH)
            assert started.wait(WAIT) == 0, hundredths


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_reload(server: Supervised, number: signal.Signals) -> None:
    server.write_configuration("Bogus on\n")
    server.signal(number)
    server.wait_for_line("usp-s3-container: the changed configuration is not loaded:\n")
    server.wait_for_line("Invalid command 'Bogus'")
    assert server.fetch("/film.mp4").status == 200
    server.write_configuration('Redirect 302 "/old" "/film.mp4"\n')
    server.signal(number)
    deadline = time.monotonic() + WAIT
    while server.fetch("/old").status != 302:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_check_that_cannot_be_made_changes_nothing() -> None:
    server = Supervised("")
    server.check_seconds = 0.001
    with server:
        server.signal(signal.SIGUSR1)
        server.wait_for_line("usp-s3-container: the changed configuration is not loaded:\nhttpd -t: ")
        assert server.fetch("/").status < 500


def test_the_end_of_httpd_is_that_of_the_container(server: Supervised) -> None:
    os.kill(server.httpd_pid(), signal.SIGKILL)
    assert server.status() == 128 + signal.SIGKILL
