"""usp-s3 check names each planted fault in one line, both ways in, and says what to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.httpd.machine import compile_shared, free_port, has_module, httpd_binary, httpd_environment
from tests.httpd.planted import PLANTS, configuration
from tests.httpd.server import Httpd
from tests.leaks import leaks
from tests.s3 import EmbeddedS3
from tests.unit.test_cli_check import FAULTS

COMMAND = Path(sys.prefix, "bin", "usp-s3")
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shared(Path(__file__).with_name("shifted_clock.c"), tmp_path_factory.mktemp("clock"))


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Checked(NamedTuple):
    """The command's result: its exit status and its standard output."""

    status: int
    output: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.output)
        return document

    def results(self, number: int = 0) -> dict[str, dict[str, Any]]:
        """The results of a bucket by the name of the check."""
        return {one["check"]: one for one in self.document["buckets"][number]["results"]}


def check(config: str, *options: str, preload: Path | None = None, **environment: str) -> Checked:
    """Run the command with a configuration of httpd. Asserts that nothing it prints is a secret."""
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        httpd = Httpd(config)
        httpd.root, httpd.port = root, free_port()
        for name in ("run", "htdocs"):
            (root / name).mkdir()
        (root / "httpd.conf").write_text(httpd._whole_config())
        return run(root / "httpd.conf", *options, preload=preload, **environment)


def run(file: Path, *options: str, preload: Path | None = None, **environment: str) -> Checked:
    done = subprocess.run(
        [COMMAND, "check", "--httpd", httpd_binary(), "-f", file, *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        env={**httpd_environment(preload), **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert not leaks((done.stdout + done.stderr).encode())
    return Checked(done.returncode, done.stdout or done.stderr)


@pytest.mark.parametrize("mount", ["/embedded", "/proxied"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(
    s3: EmbeddedS3, shifted_clock: Path, readable_folder: Path, name: str, mount: str
) -> None:
    if mount == "/proxied" and not has_module("ssl"):
        pytest.skip("this httpd has no mod_ssl")
    named = FAULTS[name][-1 if mount == "/proxied" else 0]
    with PLANTS[name](s3, readable_folder) as bucket:
        if mount == "/proxied" and "S3ProxySet" in bucket.settings:
            pytest.skip("the gateway's setting")
        preload = shifted_clock if name == "slow clock" else None
        checked = check(configuration(bucket, s3, mount), "--json", preload=preload, CLOCK_SHIFT="-3600")
    assert checked.document["verdict"] == "wrong" or (named.check == "signed request" and name == "missing permission")
    result = checked.results()[named.check]
    assert named.text in result["text"] and named.action in result["action"], result
    assert checked.status == (0 if name == "missing permission" else 1)
