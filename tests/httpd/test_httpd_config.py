"""The command usp-s3 reads httpd's configuration as httpd sees it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.httpd.machine import httpd_binary, httpd_environment
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY
from usp_s3_wsgi.cli.server import buckets, httpd_config
from usp_s3_wsgi.cli.server.httpd_config import HttpdCommand, HttpdConfigError
from usp_s3_wsgi.configtest.parsed_config import Directive

KEYS = f"SetEnv S3AccessKey A\n  SetEnv S3SecretKey {SECRET_KEY}\n  SetEnv S3Region ${{REGION}}"
CONFIG = f"""
Define REGION eu-west-3
WSGIScriptAlias /films ${{USP_S3_WSGI}}
<Location /films>
  SetEnv S3BucketURL "https://s3.example/films/"
  {KEYS}
</Location>
ProxyPass /tv https://s3.example/tv/deep/
<Proxy "https://s3.example/tv/">
  {KEYS}
</Proxy>
<VirtualHost 127.0.0.1:${{PORT}}>
  ServerName other.example
  <IfModule !no_such_module.c>
    WSGIScriptAlias "/with space" ${{USP_S3_WSGI}}
    <Location "/with space">
      SetEnv S3BucketURL https://s3.example/other/
      {KEYS}
    </Location>
  </IfModule>
  <Location /guarded>
    <RequireAny>
      Require all granted
    </RequireAny>
  </Location>
</VirtualHost>
"""
#: All but what usp_s3_module's LoadModule changes.
COMPARED = {"setenv", "wsgiscriptalias", "proxypass", "<location", "<proxy", "<virtualhost", "<requireany", "require"}


@pytest.fixture(scope="module")
def httpd() -> Iterator[Httpd]:
    with Httpd(CONFIG) as server:
        yield server


@pytest.fixture(params=["usp_s3_module", "mod_info", "mod_info that httpd does not load"])
def command(request: pytest.FixtureRequest, httpd: Httpd, tmp_path: Path) -> HttpdCommand:
    """httpd with the configuration, and what can show it."""
    text = (httpd.root / "httpd.conf").read_text()
    if request.param != "usp_s3_module":
        text = re.sub(r"\n *LoadModule usp_s3_module .*", "", text)
    if request.param.endswith("not load"):
        text = re.sub(r"\nLoadModule info_module .*", "", text)
    path = tmp_path / "httpd.conf"
    path.write_text(text)
    return HttpdCommand(httpd_binary(), str(path))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in httpd_environment().items():
        monkeypatch.setenv(name, value)


def test_the_settings_of_each_bucket(command: HttpdCommand) -> None:
    configuration = httpd_config.read(command)
    names = ("/films", "https://s3.example/tv/", "/with space")
    films, tv, other = (buckets.find(configuration, name) for name in names)
    assert {one.settings.region for one in (films, tv, other)} == {"eu-west-3"}
    assert {one.settings.secret_key for one in (films, tv, other)} == {SECRET_KEY}
    assert [one.settings.bucket_url.bucket for one in (films, tv, other)] == ["films", "tv", "other"]
    assert (films.place.way, films.place.path, films.place.url) == ("gateway", "/films", "")
    assert (tv.place.way, tv.place.path, tv.place.url) == ("proxy", "/tv", "https://s3.example/tv/deep/")
    assert other.place.server.directive is not None


def test_a_path_below_a_mount_selects_its_bucket(command: HttpdCommand) -> None:
    configuration = httpd_config.read(command)
    assert buckets.find(configuration, "/tv/1.ts").settings.bucket_url.bucket == "tv"
    with pytest.raises(click.ClickException, match=r"no bucket is configured at /filmsx.*\n  /films\n  /with space\n"):
        buckets.find(configuration, "/filmsx")


def test_both_ways_to_read_it_have_the_same_directives(httpd: Httpd, command: HttpdCommand) -> None:
    def flat(directives: list[Directive]) -> list[tuple[object, ...]]:
        fields = [(one.name, one.words, Path(one.file).name, flat(one.children)) for one in directives]
        return [one for one in fields if one[0] in COMPARED]

    expected = httpd_config.read(HttpdCommand(httpd_binary(), str(httpd.root / "httpd.conf")))
    found = httpd_config.read(command)
    assert (found.uid, found.gid, found.user_name) == (expected.uid, expected.gid, expected.user_name)
    assert flat(found.directives) == flat(expected.directives)


def test_nothing_is_printed_or_sent_elsewhere(httpd: Httpd, tmp_path: Path) -> None:
    """A variable of the environment that is not a socket for this purpose does not make httpd print secrets."""
    for number in ("0", "1", "2", "99", "x", ""):
        done = subprocess.run(
            [httpd_binary(), "-t", "-f", str(httpd.root / "httpd.conf")], capture_output=True, text=True, timeout=60,
            check=False, env={**httpd_environment(), "USP_S3_CONFIGURATION_FD": number},
        )  # fmt: skip
        assert (done.returncode, done.stdout + done.stderr) == (0, "Syntax OK\n")


def test_an_error_of_httpd_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "httpd.conf"
    path.write_text("\n")
    with pytest.raises(HttpdConfigError, match=r"-t says:\nAH00534: .* No MPM loaded"):
        httpd_config.read(HttpdCommand(httpd_binary(), str(path)))
    with pytest.raises(HttpdConfigError, match="cannot be run: No such file"):
        httpd_config.read(HttpdCommand("/no/httpd"))
