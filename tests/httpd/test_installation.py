"""An installation in a running server: upgrade and removal as docs/upgrade.md says, and permissions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.server import ScriptedS3, answer
from tests.httpd.conftest import BUCKET
from tests.httpd.machine import apache_user, httpd_binary, httpd_environment
from tests.httpd.server import Httpd
from tests.httpd.test_process import DATA, load
from tests.leaks import ACCESS_KEY, SECRET_KEY
from usp_s3_wsgi.cli import httpd_user

#: What pip installs for this package: its own files, and the libraries that it needs in httpd.
INSTALLED = ("usp_s3_wsgi", "usp_s3_wsgi-*.dist-info", "urllib3", "httptools", "click", "mod_wsgi", "mod_wsgi_packages")
#: The header by which the bucket's server distinguishes the two installations.
AGENT = "User-Agent: usp_s3_wsgi"


class Installed(Httpd):
    """A server with the lines of one of several installations."""

    lines = ""

    def gateway_lines(self) -> str:
        return self.lines


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="upgrade-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def install(prefix: Path, agent: str) -> str:
    """Make an environment with a copy of this installation; return the output of its ``usp-s3 apache-config``."""
    venv.create(prefix, with_pip=False)
    own_prefix = Path(sys.prefix).resolve()
    (packages,) = (prefix / "lib").glob("python3.*/site-packages")
    for pattern in INSTALLED:
        for source in (own_prefix / packages.relative_to(prefix)).glob(pattern):
            shutil.copytree(source, packages / source.name)
    shutil.copytree(own_prefix / "share" / "usp_s3_wsgi", prefix / "share" / "usp_s3_wsgi")
    pool = packages / "usp_s3_wsgi" / "transport" / "pool.py"
    assert AGENT in pool.read_text()
    pool.write_text(pool.read_text().replace(AGENT, f"User-Agent: {agent}"))
    printed = subprocess.run(
        [prefix / "bin" / "python", "-c", "from usp_s3_wsgi.cli.main import main; main(['apache-config'])"],
        capture_output=True, text=True, timeout=60, check=True, cwd="/",
    )  # fmt: skip
    assert str(own_prefix) not in printed.stdout and printed.stdout.count(str(prefix)) >= 5
    return printed.stdout


def config(url: str) -> str:
    """A mount of the gateway and a ``<Proxy>`` section."""
    keys = (
        f"SetEnv S3AccessKey {ACCESS_KEY}\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\nSetEnv S3UseHeaders on\n"
    )
    return f"""
WSGIScriptAlias /media ${{USP_S3_WSGI}}
<Location /media>
SetEnv S3BucketURL {url}/{BUCKET}/
{keys}</Location>
ProxyPass /proxied {url}/{BUCKET}
<Proxy "{url}/{BUCKET}/">
{keys}</Proxy>
"""


def mapped_files(httpd: Httpd) -> str:
    """The files that the children have mapped into memory."""
    return "".join(Path(f"/proc/{pid}/maps").read_text() for pid in httpd.children())


def test_a_second_environment_then_a_graceful_restart(folder: Path, checked: list[Httpd]) -> None:
    lines = {name: install(folder / name, name) for name in ("old", "new")}
    with ScriptedS3(then=answer(200, DATA)) as s3:
        httpd = Installed(config(s3.url))
        httpd.lines = lines["old"]
        checked.append(httpd)
        httpd.start()
        with load(httpd) as seen:
            httpd.lines = lines["new"]
            httpd.reload()
        assert {(status, body) for _, status, body in seen} == {(200, DATA)}
        # The old one is no longer needed.
        shutil.rmtree(folder / "old")
        s3.requests.clear()
        for _ in range(2):
            for mount in ("/media", "/proxied"):
                assert [httpd.fetch(f"{mount}/a.ts").body for _ in range(8)] == [DATA] * 8
            assert {request.headers.get("user-agent", "new") for request in s3.requests} == {"new"}
            assert str(folder / "new") in mapped_files(httpd) and str(folder / "old") not in mapped_files(httpd)
            httpd.reload()


def test_an_installation_for_another_python_is_logged_at_the_start(folder: Path, checked: list[Httpd]) -> None:
    """Requests get 500; none is forwarded unsigned."""
    install(folder / "other", "other")
    (libraries,) = (folder / "other" / "lib").glob("python3.*")
    libraries.rename(libraries.with_name("python3.99"))
    own_prefix, scripts = Path(sys.prefix).resolve() / "share", folder / "other" / "share"
    with ScriptedS3() as s3:
        httpd = Installed(config(s3.url))
        httpd.lines = re.sub(rf'"{own_prefix}(?=/usp_s3_wsgi/usp_s3)', f'"{scripts}', Httpd("").gateway_lines())
        checked.append(httpd)
        httpd.start()
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        httpd.wait_for_error(
            f"ImportError: usp_s3_wsgi is not installed for Python {version}, which httpd's mod_wsgi runs"
        )
        httpd.expect_error(r"\[wsgi:error\]|this process has no signer")  # tracebacks
        assert httpd.fetch("/media/a.ts").status == httpd.fetch("/proxied/a.ts").status == 500


@pytest.mark.skipif(os.geteuid() != 0, reason="httpd's children run as another user only where root starts it")
def test_an_installation_that_apaches_user_cannot_read_gives_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example one that was made with umask 077. Without the warning, each request would get 500."""
    lines = install(folder / "closed", "closed")
    httpd = Installed("")
    httpd.lines = lines
    with httpd:
        run_configuration = subprocess.run(
            [httpd_binary(), "-f", str(httpd.root / "httpd.conf"), "-t", "-D", "DUMP_RUN_CFG"],
            env=httpd_environment(), capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
    user = httpd_user.user_in(run_configuration)
    assert user == apache_user().pw_uid
    monkeypatch.setattr(httpd_user, "user_id", lambda programs: user)
    share = folder / "closed" / "share" / "usp_s3_wsgi"
    monkeypatch.setattr(httpd_user, "files", lambda share: sorted(share.iterdir()))
    assert httpd_user.warnings(share) == []
    (folder / "closed").chmod(0o700)
    (warning,) = httpd_user.warnings(share)
    assert f"({apache_user().pw_name}) cannot read {folder}/closed: they will answer 500" in warning


def test_removal_of_the_environment(folder: Path, checked: list[Httpd]) -> None:
    """Remove buckets and lines, restart httpd gracefully, then remove the folder: other sites still work."""
    lines = install(folder / "only", "only")
    with ScriptedS3(then=answer(200, DATA)) as s3:
        httpd = Installed(config(s3.url))
        httpd.lines = lines
        checked.append(httpd)
        httpd.start()
        (httpd.root / "htdocs" / "page").write_text("another site")
        assert httpd.fetch("/media/a.ts").body == DATA
        httpd.lines, httpd.config = "", ""
        httpd.reload()
        assert httpd.fetch("/page").body == b"another site"
        shutil.rmtree(folder / "only")
        httpd.reload()
        assert httpd.fetch("/page").body == b"another site"
        assert httpd.fetch("/media/a.ts").status == httpd.fetch("/proxied/a.ts").status == 404
        assert str(folder) not in mapped_files(httpd)
