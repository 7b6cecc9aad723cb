"""A real Prometheus with the files in apache/monitoring, in which a minute is a second."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.httpd.machine import free_port
from tests.monitoring import files
from tests.monitoring.programs import PROMETHEUS, promtool

WAIT = 60.0


def accelerate(text: str) -> str:
    """Rules whose hours are minutes, and whose minutes are seconds. Thresholds, such as 300 seconds, stay."""
    faster = {"m": "s", "h": "m"}
    return re.sub(r"(?<=\[|\s)(\d+)([mh])(?=\]|\s)", lambda found: found[1] + faster[found[2]], text)


class Prometheus:
    """The server as a context manager. It scrapes the servers of prometheus.yml, replaced with the given ones."""

    def __init__(self, *targets: str) -> None:
        """``targets``: addresses with ports."""
        self._targets = targets

    def __enter__(self) -> Prometheus:
        self.root = Path(tempfile.mkdtemp(prefix="prometheus-"))
        config = files.PROMETHEUS_CONFIG.read_text("utf-8").replace("_interval: 15s", "_interval: 1s")
        targets = "".join(f"          - {target}\n" for target in self._targets)
        config, replaced = re.subn(r"(?:^          - 192\.0\.2\.\d+:80\n)+", targets, config, flags=re.MULTILINE)
        assert replaced == 1
        (self.root / "prometheus.yml").write_text(config)
        (self.root / "alerts.yml").write_text(accelerate(files.ALERTS.read_text("utf-8")))
        checked = promtool("check", "config", self.root / "prometheus.yml")
        assert checked.returncode == 0, checked.stdout
        self.address = f"127.0.0.1:{free_port()}"
        with (self.root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    PROMETHEUS, f"--config.file={self.root / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.root / 'data'}", f"--web.listen-address={self.address}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root,
            )  # fmt: skip
        try:
            self.wait_for(self._is_ready, "Prometheus does not start")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._process.send_signal(number)
            try:
                self._process.wait(timeout=15)
                break
            except subprocess.TimeoutExpired:
                pass
        shutil.rmtree(self.root, ignore_errors=True)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def wait_for(self, condition: Callable[[], bool], message: str) -> None:
        """Wait until a condition holds. Raises: AssertionError with the message and the log."""
        deadline = time.monotonic() + WAIT
        while not condition():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(f"{message}\n{self.alerts()}\n{(self.root / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the HTTP API. Raises: AssertionError with Prometheus' error."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                found = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{url}: {error.read().decode()}") from None
        assert found["status"] == "success" and not found.get("warnings"), found
        return found["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The current samples of an expression."""
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def query_range(self, expr: str, seconds: float) -> list[dict[str, Any]]:
        """The samples of the last seconds, one for each second."""
        now = time.time()
        found: list[dict[str, Any]] = self.get(
            "query_range", query=expr, start=str(now - seconds), end=str(now), step="1"
        )["result"]
        return found

    def alerts(self, state: str = "") -> list[dict[str, Any]]:
        """The alerts that are pending or firing."""
        try:
            found: list[dict[str, Any]] = self.get("alerts")["alerts"]
        except OSError:
            return []
        return [each for each in found if not state or each["state"] == state]

    def wait_for_alert(self, name: str, **labels: str) -> dict[str, Any]:
        """Wait until an alert fires, and return it."""
        wanted = {"alertname": name, **labels}.items()

        def matching() -> list[dict[str, Any]]:
            return [each for each in self.alerts("firing") if wanted <= each["labels"].items()]

        self.wait_for(lambda: bool(matching()), f"{name} does not fire")
        found = matching()
        assert len(found) == 1, found
        return found[0]
