"""Fill the bucket of compose.yaml: ``fill.py FOLDER`` stores the page and the film of the demo (tests/demo).

It runs in the image with compose.yaml's variables and secrets, and shows how to store objects with the signer of the
package: S3Auth of the library requests.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import requests

import usp_s3_wsgi
from usp_s3_wsgi.requests_auth import S3Auth

SECRETS = Path("/run/secrets")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".mp4": "video/mp4",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".jpg": "image/jpeg",
}
#: Keys that are easily changed by URLs, servers and signatures.
UNUSUAL_KEYS = (
    "media/unusual keys/a b+c%.txt",
    "media/unusual keys/100%25.txt",
    "media/unusual keys/café ☕.txt",
    "media/unusual keys/quotes 'and' (parens) [brackets].txt",
    "media/unusual keys/=&:;,@$?#.txt",
)
#: Seconds until S3 must have stored the first object. Not each compose waits until it is healthy.
START_TIMEOUT = 60.0
TIMEOUT = 30.0


class StoredObject(NamedTuple):
    """An object of the bucket."""

    key: str
    content_type: str
    data: bytes


def main() -> int:
    """Store the objects; returns the exit status. SeaweedFS makes the bucket with the first one."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    bucket_url, region = os.environ["REMOTE_STORAGE_URL"], os.environ["S3_REGION"]
    access_key, secret_key = ((SECRETS / name).read_text("utf-8").strip() for name in ("access-key", "secret-key"))
    auth = S3Auth(access_key, secret_key, region)
    bucket = urlsplit(bucket_url).path.strip("/")
    facts = {
        "s3_url": f"{os.environ['PUBLIC_S3_URL']}/{bucket}/media/film/film.mp4",
        "bucket": bucket,
        "region": region,
    }
    for stored in objects(Path(sys.argv[1]), facts):
        store(bucket_url, stored, auth)
    print(f"fill.py: the page and the film are in the bucket {bucket}", flush=True)
    return 0


def objects(folder: Path, facts: dict[str, str]) -> Iterator[StoredObject]:
    """Yield the film, the objects with unusual keys, and the page."""
    for path in sorted((folder / "film").rglob("*")):
        if path.suffix in TYPES:
            key = f"media/{path.relative_to(folder).as_posix()}"
            yield StoredObject(key, TYPES[path.suffix], path.read_bytes())
    for key in UNUSUAL_KEYS:
        yield StoredObject(key, "text/plain; charset=utf-8", f"The key of this object is: {key}\n".encode())
    links = [{"label": key, "href": f"/{quote(key)}"} for key in UNUSUAL_KEYS]
    demo = json.dumps({**facts, "version": usp_s3_wsgi.__version__, "keys": links})
    yield StoredObject("demo.json", "application/json", demo.encode())
    yield StoredObject("index.html", TYPES[".html"], (folder / "index.html").read_bytes())


def store(bucket_url: str, stored: StoredObject, auth: S3Auth) -> None:
    """Store an object. Raises: requests.RequestException."""
    deadline = time.monotonic() + START_TIMEOUT
    headers = {"Content-Type": stored.content_type}
    while True:
        try:
            url = bucket_url + quote(stored.key)
            requests.put(url, data=stored.data, auth=auth, headers=headers, timeout=TIMEOUT).raise_for_status()
        except requests.RequestException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
