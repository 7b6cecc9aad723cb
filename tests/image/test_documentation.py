"""The commands of docs/container.md and README with the image; only names, keys and ports are replaced."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.docs.pages import ROOT, parse_markdown
from tests.image.engine import Engine
from tests.image.running import WAIT, free_ports
from tests.s3 import EmbeddedS3

FILM = b"a film" * 1000
#: "docker" in the blocks is the engine that is here, with the options that this machine needs.
DOCKER = r"""
set -euo pipefail
docker() {
  if [ "$1" != run ]; then
    if [ "$1" = build ]; then return; fi   # "make image" has built it
    ENGINE_COMMAND "$@"
    return
  fi
  shift
  ENGINE_COMMAND run RUN_OPTIONS "$@"
}
"""


def blocks(page: str) -> list[str]:
    """The shell commands of a page that use docker."""
    tokens = parse_markdown((ROOT / page).read_text("utf-8"))
    return [token.content for token in tokens if token.type == "fence" and "docker" in token.content.split()]


@pytest.fixture
def secrets() -> Iterator[Path]:
    """The folder of keys and certificates, which the user of the image can read."""
    with tempfile.TemporaryDirectory(prefix="secrets-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("page", ["docs/container.md", "README.md"])
def test_the_commands_run(engine: Engine, image: str, secrets: Path, tmp_path: Path, page: str) -> None:
    certificate = make_certificate(secrets)
    with EmbeddedS3(buckets=("mybucket",)) as s3, EmbeddedS3(buckets=("mybucket",), tls=certificate) as s3_tls:
        for server in (s3, s3_tls):
            server.put("mybucket", "film/film.mp4", FILM)
        (secrets / "mybucket.secret").write_text(s3.secret_key)
        (secrets / "ca.pem").write_bytes(certificate.root.read_bytes())
        names = {name: f"{name}-{uuid.uuid4().hex[:8]}" for name in ("media", "minio", "films")}
        ports = {port: free_ports() for port in ("8080", "8090", "8070")}
        (secrets / "containers").mkdir(mode=0o755)
        (secrets / "containers" / "films.conf").write_text(own_configuration(s3))
        try:
            for commands in blocks(page):
                replaced = replace(commands, engine, image, s3, s3_tls, secrets, names, ports)
                done = subprocess.run(
                    ["bash", "-c", replaced],
                    cwd=tmp_path,
                    capture_output=True,
                    text=True,
                    timeout=5 * WAIT,
                    check=False,
                )
                assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
                assert s3.secret_key not in done.stdout + done.stderr
        finally:
            for name in names.values():
                engine.remove(name)
        assert (tmp_path / "film.mp4").read_bytes() == FILM


def own_configuration(s3: EmbeddedS3) -> str:
    """The operator's own file, with the bucket and the access key of this test."""
    tokens = parse_markdown((ROOT / "docs/container.md").read_text("utf-8"))
    (text,) = [token.content for token in tokens if token.type == "fence" and token.info == "apache"]
    text = text.replace("https://mybucket.s3.eu-central-1.amazonaws.com/", f"{s3.url}/mybucket/")
    return re.sub(r"\bACCESS_KEY\b", s3.access_key, text)


def replace(
    commands: str,
    engine: Engine,
    image: str,
    s3: EmbeddedS3,
    s3_tls: EmbeddedS3,
    secrets: Path,
    names: dict[str, str],
    ports: dict[str, dict[str, str]],
) -> str:
    """The commands with the names of this test. A container in the network of this machine publishes no ports."""
    start = DOCKER.replace("ENGINE_COMMAND", shlex.join(engine.command)).replace(
        "RUN_OPTIONS", shlex.join(engine.run_options())
    )
    for old, new in {
        "https://mybucket.s3.eu-central-1.amazonaws.com/": f"{s3.url}/mybucket/",
        "https://minio.example.com/mybucket/": f"{s3_tls.url}/mybucket/",
        "S3_REGION=us-east-1": f"S3_REGION={s3_tls.region}",
        "-v /etc/apache2/s3": f"-v {secrets}",
        "-v /etc/apache2/containers": f"-v {secrets}/containers",
        " usp_s3_wsgi": f" {image}",
    }.items():
        commands = commands.replace(old, new)
    commands = re.sub(r"=ACCESS_KEY\b", f"={s3.access_key}", commands)
    commands = re.sub(r"=SECRET_KEY\b", f"={s3.secret_key}", commands)
    for old, name in names.items():
        commands = re.sub(rf"(?<=[ ]){old}\b", name, commands)
    for published, variables in ports.items():
        options = " ".join(f"-e {name}={port}" for name, port in variables.items())
        commands = commands.replace(f"-p {published}:8080", options)
        commands = commands.replace(f"127.0.0.1:{published}", f"127.0.0.1:{variables['PORT']}")
    return start + commands
