"""The running demo: a private bucket with a film, and Apache with the gateway in front of it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.httpd.machine import apache_user
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3
from usp_s3_wsgi import __version__

HERE = Path(__file__).resolve().parent
BUCKET = "private-films"
FILM = "film/film.mp4"
PLAYLIST = "film/hls/index.m3u8"
#: The file types that are uploaded to the bucket.
TYPES = {
    ".mp4": "video/mp4",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".jpg": "image/jpeg",
}
#: Keys that are easily changed by URLs, servers and signatures.
UNUSUAL_KEYS = (
    "unusual keys/a b+c%.txt",
    "unusual keys/100%25.txt",
    "unusual keys/café ☕.txt",
    "unusual keys//double//slash.txt",
    "/leading slash.txt",
    "unusual keys/quotes 'and' (parens) [brackets].txt",
    "unusual keys/=&:;,@$?#.txt",
)


@dataclass(frozen=True, slots=True)
class Stage:
    """The running demo."""

    s3: EmbeddedS3
    httpd: Httpd

    def url(self, key: str) -> str:
        """The URL of an object through Apache."""
        return self.httpd.url + media_path(key)

    def proxied_url(self, key: str) -> str:
        """The URL of an object through mod_proxy."""
        return self.httpd.url + media_path(key).replace("/media/", "/proxied/", 1)

    @property
    def direct_url(self) -> str:
        """The unsigned URL of the film on S3 itself."""
        return f"{self.s3.url}/{BUCKET}/{FILM}"

    def ended_part(self) -> str:
        """The name of the part that has ended by itself, or an empty string."""
        if not self.httpd.running:
            return "httpd"
        return "" if self.s3.running else "the embedded S3"


@contextmanager
def running(port: int) -> Iterator[Stage]:
    """Start S3 and Apache; everything is removed at the end. Raises: HttpdError, S3Error."""
    with (
        tempfile.TemporaryDirectory(prefix="usp-s3-demo-") as folder,
        EmbeddedS3([BUCKET], secret_key=secrets.token_hex(20)) as s3,
    ):
        fill(s3)
        secret = secret_file(Path(folder), s3.secret_key)
        with Httpd(configuration(s3, secret), port=port, prefix="usp-s3-demo-httpd-") as httpd:
            stage = Stage(s3, httpd)
            publish(stage, httpd.root / "htdocs")
            yield stage


def media_path(key: str) -> str:
    """The path of an object's URL on the demo's Apache."""
    return "/media/" + quote(key, safe="/")


def content(key: str) -> bytes:
    """The content of the object with an unusual key."""
    return f"The key of this object is: {key}\n".encode()


def film_files() -> dict[str, Path]:
    """The keys of the film's objects, and their files."""
    files = sorted(path for path in (HERE / "film").rglob("*") if path.suffix in TYPES)
    return {path.relative_to(HERE).as_posix(): path for path in files}


def fill(s3: EmbeddedS3) -> None:
    """Upload the film and the objects with unusual keys."""
    for key, path in film_files().items():
        s3.put(BUCKET, key, path, content_type=TYPES[path.suffix])
    for key in UNUSUAL_KEYS:
        s3.put(BUCKET, key, content(key), content_type="text/plain; charset=utf-8")


def secret_file(folder: Path, secret_key: str) -> Path:
    """Write the secret key to a file that only httpd's children can read."""
    folder.chmod(0o711)
    file = folder / "secret"
    file.touch(mode=0o600)
    file.write_text(secret_key + "\n")
    if os.geteuid() == 0:
        os.chown(file, apache_user().pw_uid, -1)
    return file


def configuration(s3: EmbeddedS3, secret: Path) -> str:
    """Apache's configuration: demo.conf, and the definitions it needs."""
    return f"""
Define DEMO_BUCKET_URL "{s3.url}/{BUCKET}/"
Define DEMO_ACCESS_KEY "{s3.access_key}"
Define DEMO_SECRET_FILE "{secret}"
Define DEMO_REGION "{s3.region}"
Include "{HERE / "demo.conf"}"
"""


def publish(stage: Stage, htdocs: Path) -> None:
    """Copy the start page to a folder that httpd's children can read; they may have no access to the clone."""
    shutil.copyfile(HERE / "index.html", htdocs / "index.html")
    facts = {
        "s3_url": stage.direct_url,
        "keys": [{"label": key, "href": media_path(key)} for key in UNUSUAL_KEYS],
        "region": stage.s3.region,
        "bucket": BUCKET,
        "version": __version__,
    }
    (htdocs / "demo.json").write_text(json.dumps(facts))
    for file in htdocs.iterdir():
        file.chmod(0o644)  # independent of the umask
