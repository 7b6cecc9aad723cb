"""The checks of ``--check``: what a user would try by hand, with the library requests as the client."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from tests.demo import browser
from tests.demo.stage import FILM, HERE, PLAYLIST, TYPES, UNUSUAL_KEYS, Stage, content, film_files

#: Seconds to wait for a response.
TIMEOUT = 20.0
TICK, CROSS, NOTE = "✓", "✗", "·"


class Failed(Exception):
    """A check has failed; the message says why."""


class NotInstalled(Exception):
    """An optional part is not installed; the message says which."""


def run(stage: Stage, screenshot: Path | None, stopped: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """Run all checks; yields a mark and a line for each."""
    checks: dict[str, Callable[[], str]] = {
        "film": lambda: film(stage),
        "byte ranges": lambda: byte_ranges(stage),
        "HEAD": lambda: head(stage),
        "without signature": lambda: without_signature(stage),
        "unusual keys": lambda: unusual_keys(stage),
        "HLS": lambda: hls(stage),
        "<Proxy>": lambda: proxied(stage),
        "no other access": lambda: no_other_access(stage),
        "status page": lambda: status_page(stage),
        "start page": lambda: start_page(stage),
        "browser": lambda: page(stage, screenshot, stopped),
        "error log": lambda: error_log(stage),
    }
    for name, check in checks.items():
        if stopped():
            return
        try:
            yield TICK, f"{name}: {check()}"
        except (browser.NoBrowser, NotInstalled) as error:
            yield NOTE, f"{name}: {error}; not checked"
        except (Failed, requests.RequestException) as error:
            yield CROSS, f"{name}: {error}"


def expect(condition: bool, message: str) -> None:
    """Raises: Failed, with the message, unless the condition holds."""
    if not condition:
        raise Failed(message)


def fetch(url: str, status: int, method: str = "GET", **headers: str) -> requests.Response:
    """Send one request and check the status; ``If_None_Match="x"`` is the header If-None-Match."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy and no .netrc of the user
        request_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        response = session.request(method, url, headers=request_headers, timeout=TIMEOUT, allow_redirects=False)
    expect(response.status_code == status, f"{method} {url}: {response.status_code}, expected {status}")
    return response


def film(stage: Stage) -> str:
    """The film has exactly the bytes of the file."""
    data = (HERE / FILM).read_bytes()
    response = fetch(stage.url(FILM), 200)
    same_object(response, data, "video/mp4")
    return f"{len(data):,} bytes, sha256 {hashlib.sha256(response.content).hexdigest()}"


def same_object(response: requests.Response, data: bytes, content_type: str) -> None:
    """Check the bytes and the Content-Type of an object."""
    expect(
        response.content == data,
        f"{response.url}: {len(response.content)} bytes, which differ from the object's {len(data)}",
    )
    value = response.headers.get("Content-Type")
    expect(value == content_type, f"{response.url}: Content-Type {value}, expected {content_type}")


def byte_ranges(stage: Stage) -> str:
    """Ranges at the beginning, in the middle and at the end; 416 after the end."""
    data = (HERE / FILM).read_bytes()
    size = len(data)
    middle = size // 2
    for requested_range, first, last in (
        ("0-99", 0, 99),
        (f"{middle}-{middle + 65_535}", middle, min(middle + 65_535, size - 1)),
        ("-100", size - 100, size - 1),
    ):
        response = fetch(stage.url(FILM), 206, Range=f"bytes={requested_range}")
        value = response.headers.get("Content-Range")
        expect(value == f"bytes {first}-{last}/{size}", f"bytes={requested_range}: Content-Range {value}")
        expect(response.content == data[first : last + 1], f"bytes={requested_range}: wrong bytes")
    fetch(stage.url(FILM), 416, Range=f"bytes={size}-")
    return "206 with the right bytes at beginning, middle and end; 416 after the end"


def head(stage: Stage) -> str:
    """HEAD, then a conditional request with its ETag."""
    response = fetch(stage.url(FILM), 200, "HEAD")
    size = (HERE / FILM).stat().st_size
    length, etag = response.headers.get("Content-Length"), response.headers.get("ETag", "")
    expect(length == str(size) and not response.content, f"Content-Length {length}, expected {size}")
    fetch(stage.url(FILM), 304, If_None_Match=etag)
    return f"Content-Length {size}, ETag {etag}; If-None-Match: 304"


def without_signature(stage: Stage) -> str:
    """S3 itself rejects unsigned requests."""
    response = fetch(stage.direct_url, 403)
    expect(b"<Code>AccessDenied</Code>" in response.content, f"{stage.direct_url}: 403, but not from S3")
    return "S3 itself answers 403 AccessDenied"


def unusual_keys(stage: Stage) -> str:
    """Each unusual key leads to its own object."""
    for key in UNUSUAL_KEYS:
        same_object(fetch(stage.url(key), 200), content(key), "text/plain; charset=utf-8")
    return f"all {len(UNUSUAL_KEYS)} lead to their objects"


def hls(stage: Stage) -> str:
    """The playlist, and each segment that it names."""
    files = film_files()
    same_object(fetch(stage.url(PLAYLIST), 200), files[PLAYLIST].read_bytes(), TYPES[".m3u8"])
    names = [line for line in files[PLAYLIST].read_text().splitlines() if line and not line.startswith("#")]
    expect(bool(names), "the playlist names no segments")
    for name in names:
        file = files[f"{PLAYLIST.rpartition('/')[0]}/{name}"]
        response = fetch(stage.url(PLAYLIST).rpartition("/")[0] + f"/{name}", 200)
        same_object(response, file.read_bytes(), TYPES[file.suffix])
    return f"the playlist and its {len(names)} segments"


def proxied(stage: Stage) -> str:
    """The film and the unusual keys through mod_proxy."""
    if "usp_s3_module" not in stage.httpd.gateway_lines():
        raise NotInstalled("usp_s3_module is not compiled, because httpd's headers are missing")
    same_object(fetch(stage.proxied_url(FILM), 200), (HERE / FILM).read_bytes(), "video/mp4")
    for key in UNUSUAL_KEYS:
        same_object(fetch(stage.proxied_url(key), 200), content(key), "text/plain; charset=utf-8")
    fetch(stage.proxied_url(""), 404)
    return "the film and the unusual keys, signed in a <Proxy> section"


def no_other_access(stage: Stage) -> str:
    """No listing of the bucket, no missing object, no writing."""
    fetch(stage.url(""), 404)
    fetch(stage.url("film/none.mp4"), 404)
    fetch(stage.url("film/new.mp4"), 405, "PUT")
    return "the bucket is not listed (404), a missing object is 404, PUT is 405"


def status_page(stage: Stage) -> str:
    """The status page shows the bucket, both ways in, without a failure."""
    if "usp_s3_module" not in stage.httpd.gateway_lines():
        raise NotInstalled("usp_s3_module is not compiled, because httpd's headers are missing")
    url = f"{stage.httpd.url}/usp-s3/status"
    expect(b"<html" in fetch(url, 200).content, f"{url} is no page")
    buckets = fetch(f"{url}/json", 200).json()["buckets"]
    named = [bucket for bucket in buckets if bucket["name"]]
    expect({bucket["way"] for bucket in named} == {"gateway", "proxy"}, f"{url} has the buckets {buckets}")
    expect(all(bucket["health"] == "ok" for bucket in named), f"{url}: {[bucket['summary'] for bucket in named]}")
    return "the bucket is in order, in the gateway and in the <Proxy> section"


def start_page(stage: Stage) -> str:
    """The start page and demo.json."""
    page = fetch(stage.httpd.url + "/", 200)
    expect(page.content == (HERE / "index.html").read_bytes(), "the start page differs from index.html")
    facts = fetch(stage.httpd.url + "/demo.json", 200)
    expect(facts.json()["s3_url"] == stage.direct_url, "demo.json has another URL of S3")
    return f"200, {len(page.content):,} bytes"


def page(stage: Stage, screenshot: Path | None, stopped: Callable[[], bool]) -> str:
    """The page's own checks, in a real browser that plays the film."""
    try:
        result = browser.visit(stage.httpd.url + "/", screenshot, stopped)
    except browser.BrowserError as error:
        raise Failed(str(error)) from error
    expect(result.outcome == "ok", f"{result.browser}: the page says {result.outcome!r}: {result.summary}")
    return f"{result.browser}: {result.summary}"


def error_log(stage: Stage) -> str:
    """The error log has no secret and no unexpected line."""
    text = (stage.httpd.root / "error.log").read_text("utf-8", "replace")
    for secret in (stage.s3.secret_key, "Signature="):
        expect(secret not in text, "the secret key or a signature is in httpd's error log")
    lines = stage.httpd.errors()
    expect(not lines, "\n    ".join(["unexpected lines:", *lines]))
    return "no secret and no unexpected line in it"
