"""``usp-s3 convert`` with a real httpd: it accepts the printed configuration, in both modes, and serves the objects.

Otherwise an error names the line, and the exit status agrees.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, NEEDS_SSL, ONE_CHILD
from tests.httpd.machine import (
    HttpdError,
    compile_module,
    free_port,
    has_module,
    httpd_binary,
    httpd_environment,
    modules_directory,
)
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd, WithoutModule
from tests.httpd.test_configtest import HCHECK, NEEDS_HCHECK, answers
from tests.mod_unified_s3_auth_configurations import CASES, Bucket, expected
from tests.s3 import EmbeddedS3
from usp_s3_wsgi.cli.main import main

#: The virtual host of mod_unified_s3_auth's documentation, with another bucket beside the Origin's.
MOD_UNIFIED_S3_AUTH = """
# Loaded as in its documentation.
LoadModule unified_s3_auth_module modules/mod_unified_s3_auth.so
<VirtualHost *>
  ServerName www.example.com
  # Keys with "//".
  MergeSlashes Off
  <IfModule smooth_streaming_module>
    <Location "/">
      UspHandleIsm on
      UspEnableSubreq on
    </Location>
    <Location "/your-bucket">
      IsmProxyPass {url}/
    </Location>
  </IfModule>
  <IfModule ssl_module>
    SSLProxyEngine on
  </IfModule>
  <Proxy "{url}/">
    # The keys of the account.
    S3SecretKey  {secret}
    s3accesskey  "{access}"
    S3Region     {region}
    S3UseHeaders on
    ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300
  </Proxy>
  ProxyPass "/films" "{url}"
  <Location "/old">
    ProxyPass {url}
    S3SecretKey {secret}
    S3AccessKey {access}
  </Location>
</VirtualHost>
"""


@pytest.mark.parametrize("mode", ["proxy", "gateway"])
def test_the_documented_virtual_host(
    mode: str, s3: EmbeddedS3, tmp_path: Path, checked: list[Httpd], capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put(BUCKET, "a b//c.mp4", b"a private film")
    url = f"{s3.url}/{BUCKET}"
    file = tmp_path / "site.conf"
    file.write_text(MOD_UNIFIED_S3_AUTH.format(url=url, secret=s3.secret_key, access=s3.access_key, region=s3.region))
    assert main(["convert", "--to", mode, str(file)]) == 0
    text, warnings = capsys.readouterr()
    assert s3.secret_key not in warnings
    port = free_port()
    assert ("this URL uses port 80" in warnings) == (mode == "gateway")
    httpd = Httpd(text.replace("http://127.0.0.1/", f"http://127.0.0.1:{port}/"), port=port)
    checked.append(httpd)
    httpd.start()
    command = [httpd_binary(), "-t", "-f", str(httpd.root / "httpd.conf")]
    tried = subprocess.run(command, env=httpd_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert "Syntax OK" in tried.stderr
    s3.clear()
    for mount in ("films", "old"):
        reply = httpd.fetch(f"/{mount}/a%20b//c.mp4")
        assert (reply.status, reply.body) == (200, b"a private film"), mount
    assert s3.requests()[0]["headers"]["authorization"] == "AWS4-HMAC-SHA256"


TLS = """\
<VirtualHost *>
  SSLProxyEngine on
  SSLProxyVerify require
  SSLProxyCACertificateFile {root}
  <Proxy "{url}/">
    S3SecretKey {secret}
    S3AccessKey {access}
    S3Region    {region}
  </Proxy>
  ProxyPass "/films" "{url}"
</VirtualHost>
"""


@NEEDS_SSL
@pytest.mark.parametrize("mode", ["proxy", "gateway"])
def test_a_bucket_with_a_certificate_like_a_providers(
    mode: str,
    s3_tls: EmbeddedS3,
    certificate: Certificate,
    tmp_path: Path,
    checked: list[Httpd],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By default, SSLProxyVerifyDepth allows no intermediate authority. The gateway has no SSLProxy directives."""
    s3_tls.put(BUCKET, "a.mp4", b"a private film")
    keys = {"secret": s3_tls.secret_key, "access": s3_tls.access_key, "region": s3_tls.region}
    file = tmp_path / "site.conf"
    file.write_text(TLS.format(url=f"https://localhost:{s3_tls.port}/{BUCKET}", root=certificate.root, **keys))
    assert main(["convert", "--to", mode, str(file)]) == 0
    text, messages = capsys.readouterr()
    assert messages == ""
    httpd = Httpd(text)
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/films/a.mp4").body == b"a private film"


def test_a_converted_section_is_not_served_without_the_signer(
    s3: EmbeddedS3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site.conf"
    file.write_text(MOD_UNIFIED_S3_AUTH.format(url=f"{s3.url}/{BUCKET}", secret="x", access="y", region="z"))
    assert main(["convert", str(file)]) == 0
    httpd = WithoutModule(capsys.readouterr().out)
    with pytest.raises(HttpdError, match="usp_s3_module is not loaded, so requests to S3 would go out unsigned"):
        httpd.start()


# ---------------------------------------------------------------- all typical configurations

FILM = b"a private film"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lines that load a module with the directives of Unified Origin, and other modules."""
    module = compile_module(Path(__file__).with_name("origin.c"), tmp_path_factory.mktemp("origin"))
    lines = [f'LoadModule origin_module "{module}"']
    lines += [
        f'LoadModule {name}_module "{modules_directory()}/mod_{name}.so"'
        for name in ("macro", "version")
        if has_module(name)
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def film(s3: EmbeddedS3) -> EmbeddedS3:
    """The S3 server with the object that the paths of the cases are for."""
    s3.put(BUCKET, "a.mp4", FILM)
    return s3


@pytest.fixture(scope="module")
def stop() -> Iterator[Callable[[Httpd], None]]:
    """A function that stops a server while the next one starts: it takes httpd a second."""
    stopped: list[Future[None]] = []
    with ThreadPoolExecutor(2) as executor:
        yield lambda httpd: stopped.append(executor.submit(httpd.stop))
    for one in stopped:
        one.result()


def converted(mode: str, file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, list[tuple[int, str, str]]]:
    """Return the exit status, the printed text, and line, level and text of each message."""
    status = main(["convert", "--to", mode, str(file)])
    text, messages = capsys.readouterr()
    found = []
    for line in messages.splitlines():
        match = re.fullmatch(rf"usp-s3: {re.escape(str(file))}: line (\d+): (error|warning): (.*)", line)
        assert match, line
        found.append((int(match[1]), match[2], match[3]))
    return status, text, found


@pytest.mark.parametrize("mode", ["proxy", "gateway"])
@pytest.mark.parametrize("name", CASES)
def test_httpd_serves_the_objects_or_there_is_an_error(
    name: str,
    mode: str,
    origin: str,
    film: EmbeddedS3,
    bucket: Recorder,
    stop: Callable[[Httpd], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    private = Bucket(f"{film.url}/{BUCKET}", film.access_key, film.secret_key, film.region, tmp_path)
    public = replace(private, url=f"http://127.0.0.1:{bucket.port}/{BUCKET}")
    if "<Macro" in case.text and not has_module("macro"):
        pytest.skip("this httpd has no mod_macro")
    file = private.write(case.text)
    status, text, messages = converted(mode, file, capsys)
    announced = expected(file.read_text(), mode)
    assert [one[:2] for one in messages] == [one[:2] for one in announced]
    assert all(part in message for (_, _, message), (_, _, part) in zip(messages, announced, strict=True))
    assert status == (3 if any(level == "error" for _, level, _ in messages) else 0)
    failures = []
    for situation in case.situations:
        is_public = situation.startswith("# public")
        here = public if is_public else private
        port = free_port()
        config = text.replace(private.url, here.url).replace("http://127.0.0.1/", f"http://127.0.0.1:{port}/")
        httpd = Httpd(ONE_CHILD + origin + here.filled(situation) + config, port=port)
        if status == 0 or (done := httpd.configtest()).returncode == 0:
            httpd.start()
            try:
                failures += not_served(httpd, case.paths, bucket if is_public else None)
            finally:
                stop(httpd)
        else:
            failures.append(done.stdout)
    assert bool(failures) == (status != 0), failures


def not_served(httpd: Httpd, paths: tuple[str, ...], public: Recorder | None) -> list[str]:
    """Return the paths that httpd does not serve. ``public``: the server of a bucket without signatures."""
    failures = []
    for path in paths:
        reply = httpd.fetch(path)
        if public is not None:
            is_served = public.signers() == ["unsigned"] and reply.status == 200
        else:
            is_served = (reply.status, reply.body) == (200, FILM)
        failures += [] if is_served else [f"{path}: {reply.status}", *httpd.errors()]
    return failures + [line for line in httpd.errors() if "[usp_s3:error]" in line]


HEALTH = """\
<Proxy "balancer://films">
  BalancerMember {url} hcmethod=GET hcuri=a.mp4 hcinterval=1 hcfails=1 hcpasses=1
</Proxy>
<Proxy "{url}/">
  S3AccessKey {access}
  S3SecretKey {secret}
</Proxy>
ProxyPass /films balancer://films
"""


@NEEDS_HCHECK
def test_health_checks_that_cause_503_are_an_error(
    film: EmbeddedS3, tmp_path: Path, checked: list[Httpd], capsys: pytest.CaptureFixture[str]
) -> None:
    file = Bucket(f"{film.url}/{BUCKET}", film.access_key, film.secret_key, film.region, tmp_path).write(HEALTH)
    status, text, messages = converted("proxy", file, capsys)
    assert status == 3 and [one[:2] for one in messages] == [(2, "error")]
    assert messages[0][2].startswith("hcmethod=GET: the health checks of mod_proxy_hcheck are not signed")
    httpd = Httpd(HCHECK + text)
    checked.append(httpd)
    httpd.expect_error("AH01170|hcmethod=GET: the health checks of mod_proxy_hcheck")
    httpd.start()
    assert 503 in answers(httpd, 20, until=503)
