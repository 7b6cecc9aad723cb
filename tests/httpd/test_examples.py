"""The shipped examples work; only names of hosts, buckets, keys and folders are replaced."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.certificates import Certificate
from tests.httpd.conftest import BUCKET, NEEDS_SSL, PAGES
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3, User

EXAMPLES = Path(__file__).parents[2] / "apache" / "examples"
#: mod_wsgi of the package libapache2-mod-wsgi-py3: unpacked by tests/install.sh, or installed.
_MODULE = "usr/lib/apache2/modules/mod_wsgi.so"
DEBIAN_MOD_WSGI = next(
    (path for root in (Path(sys.prefix).resolve() / "debian", Path("/")) if (path := root / _MODULE).exists()), Path()
)
#: Debian compiles it for Debian's Python only: mod_wsgi.so is a link to mod_wsgi.so-3.13.
NEEDS_DEBIAN_MOD_WSGI = pytest.mark.skipif(
    DEBIAN_MOD_WSGI.resolve().name != "mod_wsgi.so-{}.{}".format(*sys.version_info),
    reason="Debian's libapache2-mod-wsgi-py3 is not here, or for another Python",
)


def example(name: str, s3: EmbeddedS3, **further: str) -> str:
    """Return an example in which names of the documentation are replaced by those of the embedded S3."""
    bucket = f"{s3.url}/{BUCKET}/"
    replacements = {
        "*:80": "*",
        "/var/www/yoursite": "${ROOT}/htdocs",
        **further,
        "https://your-bucket.s3.eu-central-1.amazonaws.com/": bucket,
        "https://your-bucket.s3.amazonaws.com/": bucket,
        " SECRET_KEY": f" {s3.secret_key}",
        " ACCESS_KEY": f" {s3.access_key}",
    }
    text = (EXAMPLES / name).read_text()
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


@pytest.fixture
def start(checked: list[Httpd]) -> type[Httpd]:
    """A class whose servers are started at once, and are stopped and checked at the end."""

    class Started(Httpd):
        def __init__(self, config: str, **options: object) -> None:
            super().__init__(config, **options)  # type: ignore[arg-type]
            checked.append(self)
            self.start()

    return Started


def test_every_example_is_tested() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in EXAMPLES.iterdir() if f'example("{path.name}"' not in source] == []


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that httpd's children can read."""
    with tempfile.TemporaryDirectory(prefix="buckets-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_many_buckets(start: type[Httpd], folder: Path) -> None:
    legacy = User("LEGACYACCESSKEY", "legacy-secret", ("legacy",))
    with EmbeddedS3(buckets=("films",), users=(legacy,)) as s3:
        lines = ""
        for bucket, access_key, secret_key in (
            ("films", s3.access_key, s3.secret_key),
            ("legacy", legacy.access_key, legacy.secret_key),
        ):
            s3.put(bucket, "a/b.mp4", bucket.encode())
            (folder / f"{bucket}.secret").write_text(secret_key)
            lines += f"{bucket} {s3.url}/{bucket}/|{access_key}|{folder}/{bucket}.secret\n"
        (folder / "buckets.txt").write_text(lines)
        httpd = start(
            example("many_buckets.conf", s3, **{"dbm:/etc/apache2/s3/buckets.dbm": f"txt:{folder}/buckets.txt"})
        )
        for bucket in ("films", "legacy"):
            assert httpd.fetch(f"/media/{bucket}/a/b.mp4").body == bucket.encode()
        for target in ("/media/other/a/b.mp4", "/media/films/missing", "/media/films/", "/media/", "/media"):
            assert httpd.fetch(target).status == 404, target


def test_several_buckets(start: type[Httpd], folder: Path) -> None:
    archive = User("ARCHIVEACCESSKEY", "archive-secret", ("archive",))
    legacy = User("LEGACYACCESSKEY", "legacy-secret", ("legacy",))
    with (
        EmbeddedS3(buckets=("films",), users=(legacy,)) as eu,
        EmbeddedS3((), users=(archive,), region="us-west-2") as us,
    ):
        eu.put("films", "a.mp4", b"a film")
        us.put("archive", "archive/2026/a.mp4", b"an old film")
        eu.put("legacy", "a.mp4", b"a legacy film")
        replacements = {
            "https://films.s3.eu-central-1.amazonaws.com/": f"{eu.url}/films/",
            "https://s3.us-west-2.amazonaws.com/": f"{us.url}/",
            "https://storage.example.net/": f"{eu.url}/",
            "/etc/apache2/s3/films.secret": str(folder / "films.secret"),
            "FILMS_ACCESS_KEY": eu.access_key,
            "ARCHIVE_ACCESS_KEY": archive.access_key,
            "ARCHIVE_SECRET_KEY": archive.secret_key,
            "LEGACY_ACCESS_KEY": legacy.access_key,
            "LEGACY_SECRET_KEY": legacy.secret_key,
        }
        (folder / "films.secret").write_text(eu.secret_key)
        httpd = start(example("several_buckets.conf", eu, **replacements))
        eu.clear()
        assert httpd.fetch("/films/a.mp4").body == b"a film"
        assert httpd.fetch("/archive/a.mp4").body == b"an old film"
        assert httpd.fetch("/legacy/a.mp4").body == b"a legacy film"
        assert [entry["headers"]["authorization"] for entry in eu.requests()] == ["AWS4-HMAC-SHA256", "AWS"]


def test_the_virtual_host(start: type[Httpd], s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "video.ism", b"<smil/>")
    httpd = start(example("virtualhost.conf", s3))
    assert httpd.fetch("/your-bucket/video.ism").body == b"<smil/>"
    (httpd.root / "htdocs" / "page.txt").write_text("the site itself")
    assert httpd.fetch("/page.txt").body == b"the site itself"


@NEEDS_SSL
def test_the_virtual_host_with_a_proxy_section(
    start: type[Httpd], s3_tls: EmbeddedS3, certificate: Certificate
) -> None:
    replacements = {
        "https://your-bucket.s3.eu-central-1.amazonaws.com": f"https://localhost:{s3_tls.port}/{BUCKET}",
        "/etc/ssl/certs/ca-certificates.crt": str(certificate.root),
    }
    s3_tls.put(BUCKET, "dir/a//b.ism", b"<smil/>")
    httpd = start(example("proxy_virtualhost.conf", s3_tls, **replacements))
    assert httpd.fetch("/your-bucket/dir/a//b.ism").body == b"<smil/>"
    assert httpd.fetch("/your-bucket/").status == 404
    (httpd.root / "htdocs" / "page.txt").write_text("the site itself")
    assert httpd.fetch("/page.txt").body == b"the site itself"


@NEEDS_SSL
@pytest.mark.parametrize("key", ["a//b.ts", "a%2Fb.ts", "/lead.ts", "a/b.ts"])
def test_any_key(start: type[Httpd], s3: EmbeddedS3, s3_tls: EmbeddedS3, certificate: Certificate, key: str) -> None:
    replacements = {
        "https://your-films.s3.eu-central-1.amazonaws.com": f"https://localhost:{s3_tls.port}/{BUCKET}",
        "/etc/ssl/certs/ca-certificates.crt": str(certificate.root),
    }
    for server in (s3, s3_tls):
        server.put(BUCKET, "a/b.ts", b"another object")
        server.put(BUCKET, unquote(key), key.encode())
    httpd = start(example("any_key.conf", s3, **replacements) + PAGES)
    assert httpd.fetch(f"/media/{key}").body == key.encode()
    for mount in ("media", "films"):
        assert httpd.fetch(f"/{mount}/{key}").body == key.encode()
        (httpd.root / "htdocs" / "page").write_text(f'[<!--#include virtual="/{mount}/{key}" -->]')
        assert httpd.fetch("/page").body == f"[{key}]".encode()


@NEEDS_SSL
def test_a_bucket_with_an_untrusted_certificate(start: type[Httpd], s3_tls: EmbeddedS3) -> None:
    """The example trusts the system's authorities, which did not issue the embedded S3's certificate."""
    replacements = {"https://your-bucket.s3.eu-central-1.amazonaws.com": f"https://localhost:{s3_tls.port}/{BUCKET}"}
    httpd = start(example("proxy_virtualhost.conf", s3_tls, **replacements))
    s3_tls.clear()
    httpd.expect_error("AH02039|AH02040|AH02003|AH02004|AH01084|AH01097|AH00898|AH01102|AH10291")
    httpd.expect_error("usp_s3_wsgi: no response from S3; mod_proxy returned 50[02]")
    assert httpd.fetch("/your-bucket/dir/a//b.ism").status in {500, 502}
    assert s3_tls.requests() == []


def test_a_location_at_the_root(start: type[Httpd], s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "dir/a b.mp4", b"v2 in the query")
    s3.put(BUCKET, "/lead.mp4", b"a leading slash")
    httpd = start(example("location.conf", s3))
    s3.clear()
    assert httpd.fetch("/dir/a%20b.mp4").body == b"v2 in the query"
    assert "AWSAccessKeyId=" in s3.requests()[0]["target"]
    assert httpd.fetch("//lead.mp4").body == b"a leading slash"
    assert httpd.fetch("/").status == 404


def test_subrequests(start: type[Httpd], s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "a/banner.html", b"<b>private</b>")
    httpd = start(example("subrequest.conf", s3))
    page = httpd.root / "htdocs" / "page.shtml"
    page.write_text(
        '1 <!--#include virtual="/private/a/banner.html" --> 2 <!--#include virtual="/private/a/banner.html" -->'
    )
    for reply in (
        httpd.fetch("/page.shtml"),
        httpd.fetch("/page.shtml", range="bytes=3-5"),
        httpd.fetch("/page.shtml", if_none_match="*"),
    ):
        assert reply.body == b"1 <b>private</b> 2 <b>private</b>"
    httpd.expect_error("AH01630: client denied by server configuration")
    assert httpd.fetch("/private/a/banner.html").status == 403


def test_daemon_mode(start: type[Httpd], s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "d/a+b//c.mp4", b"x" * 3_000_000)
    httpd = start(example("daemon.conf", s3))
    reply = httpd.fetch("/media/d/a%2Bb//c.mp4")
    assert (reply.status, reply.body) == (200, b"x" * 3_000_000)
    assert httpd.fetch("/media/d/a%2Bb//c.mp4", range="bytes=5-9").status == 206
    assert httpd.fetch("/media/missing", method="HEAD").status == 404
    # With the module, which counts the bytes, the connection is kept open after an object.
    assert reply.headers["Connection"] is None


def loaded_mod_wsgi(httpd: Httpd) -> set[Path]:
    """The mod_wsgi that a child of httpd has loaded."""
    maps = Path(f"/proc/{httpd.children()[0]}/maps").read_text().splitlines()
    files = {Path(line.split(maxsplit=5)[5]) for line in maps if "/mod_wsgi" in line}
    return {file for file in files if file.name.startswith("mod_wsgi")}


@NEEDS_DEBIAN_MOD_WSGI
@pytest.mark.parametrize("name", ["virtualhost.conf", "daemon.conf"])
def test_with_debians_mod_wsgi(start: type[Httpd], s3: EmbeddedS3, name: str) -> None:
    s3.put(BUCKET, "a//b%2F.mp4", b"y" * 2_000_000)
    httpd = start(example(name, s3), mod_wsgi=DEBIAN_MOD_WSGI)
    mount = {"virtualhost.conf": "/your-bucket", "daemon.conf": "/media"}[name]
    reply = httpd.fetch(f"{mount}/a//b%252F.mp4")
    assert (reply.status, reply.body) == (200, b"y" * 2_000_000)
    assert loaded_mod_wsgi(httpd) == {DEBIAN_MOD_WSGI.resolve()}
    partial = httpd.fetch(f"{mount}/a//b%252F.mp4", range="bytes=0-")
    assert (partial.status, partial.headers["Content-Range"]) == (206, "bytes 0-1999999/2000000")
    assert httpd.fetch(f"{mount}/a//b%252F.mp4", method="HEAD").headers["Content-Length"] == "2000000"


def test_a_reload_applies_new_settings(start: type[Httpd], s3: EmbeddedS3) -> None:
    s3.put(BUCKET, "a.mp4", b"a film")
    text = example("virtualhost.conf", s3)
    httpd = start(text.replace(s3.secret_key, "an-old-secret"))
    assert httpd.fetch("/your-bucket/a.mp4").status == 502
    httpd.wait_for_error("SignatureDoesNotMatch")
    httpd.config = text
    httpd.reload()
    assert httpd.fetch("/your-bucket/a.mp4").body == b"a film"
