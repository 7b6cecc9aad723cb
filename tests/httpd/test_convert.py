"""``usp-s3 convert`` from end to end: httpd takes what it prints, in either plane, and serves the private objects."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, NEEDS_SSL
from tests.httpd.machine import HttpdError, free_port, httpd_binary, httpd_environment
from tests.httpd.server import Httpd, WithoutModule
from tests.s3 import EmbeddedS3
from usp_s3_wsgi import cli

#: The virtual host of mod_unified_s3_auth's documentation, with another bucket beside the Origin's.
VENDORS = """
# Loaded as the vendor says.
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


@pytest.mark.parametrize("plane", ["proxy", "gateway"])
def test_the_vendors_virtual_host(
    plane: str, s3: EmbeddedS3, tmp_path: Path, checked: list[Httpd], capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put(BUCKET, "a b//c.mp4", b"a private film")
    url = f"{s3.url}/{BUCKET}"
    file = tmp_path / "site.conf"
    file.write_text(VENDORS.format(url=url, secret=s3.secret_key, access=s3.access_key, region=s3.region))
    assert cli.main(["convert", "--to", plane, str(file)]) == 0
    text, warnings = capsys.readouterr()
    assert s3.secret_key not in warnings
    port = free_port()
    assert ("the port is 80 here" in warnings) == (plane == "gateway")
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
def test_a_bucket_with_a_certificate_like_a_providers(
    s3_tls: EmbeddedS3,
    certificate: Certificate,
    tmp_path: Path,
    checked: list[Httpd],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """httpd's SSLProxyVerifyDepth allows for no intermediate authority."""
    s3_tls.put(BUCKET, "a.mp4", b"a private film")
    keys = {"secret": s3_tls.secret_key, "access": s3_tls.access_key, "region": s3_tls.region}
    file = tmp_path / "site.conf"
    file.write_text(TLS.format(url=f"https://localhost:{s3_tls.port}/{BUCKET}", root=certificate.root, **keys))
    assert cli.main(["convert", str(file)]) == 0
    httpd = Httpd(capsys.readouterr().out)
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/films/a.mp4").body == b"a private film"


def test_a_converted_section_is_not_served_without_the_signer(
    s3: EmbeddedS3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site.conf"
    file.write_text(VENDORS.format(url=f"{s3.url}/{BUCKET}", secret="x", access="y", region="z"))
    assert cli.main(["convert", str(file)]) == 0
    httpd = WithoutModule(capsys.readouterr().out)
    with pytest.raises(HttpdError, match="usp_s3_module is not loaded, so requests to S3 would go out unsigned"):
        httpd.start()
