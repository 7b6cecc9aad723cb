"""An environment for botocore with only what a test sets, and an httpd in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from tests.httpd.server import Httpd
from tests.identity.emulated import leaks


@dataclass(frozen=True, slots=True)
class Aws:
    """Environment variables and the two configuration files of botocore, in the test's own ``directory``."""

    directory: Path
    _patch: pytest.MonkeyPatch

    def set(self, *variables: Mapping[str, str]) -> None:
        """Set environment variables, such as those of an endpoint's ``environment()``."""
        for name, value in (pair for each in variables for pair in each.items()):
            self._patch.setenv(name, value)

    def config(self, text: str) -> None:
        """Write the file that replaces ~/.aws/config."""
        (self.directory / "config").write_text(text)

    def credentials(self, text: str) -> None:
        """Write the file that replaces ~/.aws/credentials."""
        (self.directory / "credentials").write_text(text)

    def session(self) -> Any:
        """Return a new botocore session, which has loaded nothing yet."""
        return botocore.session.Session()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    """Remove all AWS and proxy settings. Instance metadata is unreachable unless an endpoint is set."""
    for name in os.environ:
        if name.startswith(("AWS_", "BOTO_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # ~/.boto
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    # A closed port, so that nothing leaves this machine.
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    return Aws(tmp_path, monkeypatch)


@pytest.fixture
def servers() -> Iterator[Callable[[str], Httpd]]:
    """Start servers. In the end their logs must hold no secret and no unexpected line."""
    started: list[Httpd] = []

    def start(config: str) -> Httpd:
        httpd = Httpd(config)
        started.append(httpd)
        httpd.expect_error("usp_s3_wsgi: .*(credentials refreshed from|refresh failed: )")
        httpd.start()
        return httpd

    yield start
    for httpd in started:
        httpd.stop()
        assert httpd.unexpected == []
        assert not leaks(httpd._all_errors())
