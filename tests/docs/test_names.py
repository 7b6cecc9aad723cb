"""Names of the documentation are replaced, and put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.docs.blocks import Block
from tests.docs.completion import complete_bucket, completed
from tests.docs.names import Names, Reference, mounts
from tests.s3 import EmbeddedS3

CERTIFICATE = Certificate(Path("/x/s3.pem"), Path("/x/s3.key"), Path("/x/root.pem"))


@pytest.fixture
def names(tmp_path: Path) -> Names:
    """Names of servers that are not started."""
    servers = {
        "http": EmbeddedS3((), access_key="AK", secret_key="SK"),
        "https": EmbeddedS3((), access_key="AK", secret_key="SK"),
    }
    for scheme, server in servers.items():
        server.scheme, server.port = scheme, {"http": 81, "https": 444}[scheme]
    return Names(servers, CERTIFICATE, tmp_path, 8080, ports={"443": 8443})


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (Reference("https://b.s3.eu-west-1.amazonaws.com/"), ("https://b.s3.eu-west-1.amazonaws.com", "b", False)),
        (Reference("https://s3.eu-west-1.amazonaws.com/b/p"), ("https://s3.eu-west-1.amazonaws.com/b", "b", False)),
        (Reference("http://s3.example:9000/b/p/"), ("http://s3.example:9000/b", "b", False)),
        (Reference("https://films.ceph.example/", "films"), ("https://films.ceph.example", "films", True)),
        (Reference("https://films.s3.example"), ("https://films.s3.example", "films", False)),
        (Reference("https://ceph.example/films/", "films"), ("https://ceph.example/films", "films", False)),
    ],
)
def test_references(reference: Reference, expected: tuple[str, str, bool]) -> None:
    assert reference.split() == expected


TEXT = """\
Listen 443
<VirtualHost *:443>
  ServerName a.example
  SSLCertificateFile /etc/ssl/a.pem
  WSGIScriptAlias /media ${USP_S3_WSGI}
  <Location /media>
    SetEnv S3BucketURL https://films.ceph.example/p
    SetEnv S3Bucket films
    SetEnv S3AccessKey FILMS_KEY
    setenv s3secretkeyfile "/etc/apache2/s3/x.secret"
    SetEnv S3FallbackURL http://s3.example/copy/
    SetEnv S3FallbackRegion far-away
    SetEnv OTHER /etc/x
  </Location>
  ProxyPass /own http://127.0.0.1/media
  CustomLog /var/log/apache2/a.log combined
</VirtualHost>
"""
LOCAL = """\
Listen 127.0.0.1:8443
<VirtualHost *:8443>
  ServerName a.example
  SSLCertificateFile /x/s3.pem
  WSGIScriptAlias /media ${USP_S3_WSGI}
  <Location /media>
    SetEnv S3BucketURL https://films.s3.localhost:444/p
    SetEnv S3Bucket films
    SetEnv S3AccessKey AK
    setenv s3secretkeyfile FOLDER/etc/apache2/s3/x.secret
    SetEnv S3FallbackURL http://localhost:81/copy/
    SetEnv S3FallbackRegion eu-central-1
    SetEnv OTHER /etc/x
  </Location>
  ProxyPass /own http://127.0.0.1:8080/media
  CustomLog FOLDER/var/log/apache2/a.log combined
</VirtualHost>
"""


def test_names_are_replaced(names: Names) -> None:
    local = names.localized(TEXT)
    assert local == LOCAL.replace("FOLDER", str(names.folder))
    assert (names.folder / "etc/apache2/s3/x.secret").read_text() == "SK\n"
    (mount,) = mounts(local, list(names.buckets.values()))
    assert (mount.path, mount.bucket.name, mount.prefix, mount.host) == ("/media", "films", "p", "a.example")
    assert names.documented(local).splitlines()[6] == TEXT.splitlines()[6]


def test_names_in_commands_are_replaced(names: Names) -> None:
    text = "curl -u ACCESS_KEY:SECRET_KEY https://b.s3.amazonaws.com/a http://127.0.0.1/b | tee /var/log/apache2/x\n"
    local = names.localized_script(text)
    assert local == (
        f"curl -u AK:SK https://localhost:444/b/a http://127.0.0.1:8080/b | tee {names.folder}/var/log/apache2/x\n"
    )
    assert names.documented(local) == text.replace("SECRET_KEY", "SK")


def test_a_longer_host_is_another_bucket(names: Names) -> None:
    names.add_bucket(Reference("https://b.s3.amazonaws.com"))
    assert names.with_local_urls("https://b.s3.amazonaws.com.cn/x") == "https://b.s3.amazonaws.com.cn/x"


def block(text: str, **keys: str) -> Block:
    return Block("x.md", 1, "apache", text, keys)


def test_completion() -> None:
    location = "<Location /x>\nSetEnv S3BucketURL https://s3.example/b/\n</Location>\n"
    assert completed(block(location)) == f'WSGIScriptAlias "/x" ${{USP_S3_WSGI}}\n{location}'
    mounted = f"WSGIScriptAlias /x ${{USP_S3_WSGI}}\n{location}"
    assert completed(block(mounted)) == mounted
    proxy = '<Proxy "https://s3.example/b/">\nSetEnv S3Region x\n</Proxy>\n'
    assert 'ProxyPass "/media" "https://s3.example/b"\n<Proxy' in completed(block(proxy))
    assert completed(block(proxy)).startswith("SSLProxyEngine on\n")
    proxied = 'ProxyPass "/media" "https://b.s3.amazonaws.com"\n'
    assert '<Proxy "https://b.s3.amazonaws.com/">\n  SetEnv S3AccessKey' in completed(block(proxied))
    whole = '<Proxy "*">\nSetEnv S3BucketURL https://b.s3.amazonaws.com\n</Proxy>\n'
    assert completed(block(proxied + whole)).endswith("ca-certificates.crt\n" + proxied + whole)
    assert completed(block("  SetEnv S3Retries 3\n", **{"in": "gateway"})).endswith("SetEnv S3Retries 3\n</Location>\n")
    assert completed(block("LogLevel info\n", **{"with": "gateway"})) == complete_bucket("gateway") + "LogLevel info\n"
