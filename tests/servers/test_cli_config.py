"""What ``usp-s3 config`` writes for a server is accepted by httpd and serves the server's objects, both ways."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.server import Httpd
from tests.servers.battery.modes import PLAIN
from tests.servers.botocore_client import encoded
from tests.servers.run import Run, fetch
from tests.servers.sections import bucket
from tests.unit.test_cli_config import WAYS
from tests.unit.test_cli_config import run as run_command

MODE = "v4-header"
#: The provider and the regions of each server. RGW accepts any region, also that of its zonegroup.
PROVIDERS = {"Swift": "swift", "Ceph RGW": "ceph"}
REGIONS = {"Ceph RGW": ["default", "us-east-1", "eu-central-1"]}


@pytest.fixture
def secret_file(run: Run) -> Iterator[Path]:
    """The file with the server's secret key, which httpd's children can read."""
    with tempfile.TemporaryDirectory(prefix="keys-") as name:
        Path(name).chmod(0o755)
        file = Path(name, "a.secret")
        file.write_text(f"{run.server.keys.secret_key}\n")
        yield file


@pytest.mark.parametrize("way", WAYS)
def test_served(run: Run, way: str, secret_file: Path) -> None:
    if reason := run.unsupported(MODE):
        pytest.skip(f"{run.server.name} does not support {MODE}: {reason}")
    for region in REGIONS.get(run.server.name, [run.server.region]):
        done = run_command(
            way, f"--provider={PROVIDERS.get(run.server.name, 'other')}", f"--endpoint={run.server.url}",
            f"--bucket={bucket(MODE, 'objects')}", f"--region={region}", f"--access-key={run.server.keys.access_key}",
            f"--secret-key-file={secret_file}",
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        tested = Httpd(done.stdout).configtest()
        assert (tested.returncode, tested.stdout) == (0, "Syntax OK\n")
        with Httpd(done.stdout) as httpd:
            response = fetch(httpd, f"/media/{encoded(PLAIN.key)}")
            assert (response.status, response.body) == (200, PLAIN.body), httpd.errors()
        assert httpd.unexpected == []
