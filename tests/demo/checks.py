"""The checks of ``--check``: what a user would try by hand, with another client than the gateway's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from tests.demo import browser
from tests.demo.stage import FILM, HERE, ODD_KEYS, PLAYLIST, TYPES, Stage, content, film_files

#: Seconds to wait for one answer.
TIMEOUT = 20.0
TICK, CROSS, NOTE = "✓", "✗", "·"


class Failed(Exception):
    """A check has failed; the message says how."""


class NotHere(Exception):
    """The installation lacks what is optional; the message says what."""


def run(stage: Stage, screenshot: Path | None, stopped: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """Do all checks; yields a mark and a line for each."""
    checks: dict[str, Callable[[], str]] = {
        "film": lambda: film(stage),
        "byte ranges": lambda: byte_ranges(stage),
        "HEAD": lambda: head(stage),
        "without signature": lambda: without_signature(stage),
        "odd keys": lambda: odd_keys(stage),
        "HLS": lambda: hls(stage),
        "<Proxy>": lambda: proxied(stage),
        "nothing else": lambda: nothing_else(stage),
        "start page": lambda: start_page(stage),
        "browser": lambda: page(stage, screenshot, stopped),
        "error log": lambda: error_log(stage),
    }
    for name, check in checks.items():
        if stopped():
            return
        try:
            yield TICK, f"{name}: {check()}"
        except (browser.NoBrowser, NotHere) as error:
            yield NOTE, f"{name}: {error}; this is not tried"
        except (Failed, requests.RequestException) as error:
            yield CROSS, f"{name}: {error}"


def expect(condition: bool, message: str) -> None:
    """Raises: Failed, with the message, unless the condition holds."""
    if not condition:
        raise Failed(message)


def ask(url: str, status: int, method: str = "GET", **headers: str) -> requests.Response:
    """Send one request and expect that status; ``If_None_Match="x"`` is the header If-None-Match."""
    with requests.Session() as session:
        session.trust_env = False  # neither a proxy nor .netrc of whoever runs this
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = session.request(method, url, headers=named, timeout=TIMEOUT, allow_redirects=False)
    expect(answer.status_code == status, f"{method} {url}: {answer.status_code}, expected {status}")
    return answer


def film(stage: Stage) -> str:
    """The whole film is the file, byte by byte."""
    data = (HERE / FILM).read_bytes()
    answer = ask(stage.url(FILM), 200)
    same_object(answer, data, "video/mp4")
    return f"{len(data):,} bytes, sha256 {hashlib.sha256(answer.content).hexdigest()}"


def same_object(answer: requests.Response, data: bytes, content_type: str) -> None:
    """Expect exactly these bytes, of that type."""
    expect(
        answer.content == data, f"{answer.url}: {len(answer.content)} bytes that differ from the object's {len(data)}"
    )
    told = answer.headers.get("Content-Type")
    expect(told == content_type, f"{answer.url}: Content-Type {told}, expected {content_type}")


def byte_ranges(stage: Stage) -> str:
    """Parts at the beginning, in the middle and at the end; one past the end is refused."""
    data = (HERE / FILM).read_bytes()
    size = len(data)
    middle = size // 2
    for asked, first, last in (
        ("0-99", 0, 99),
        (f"{middle}-{middle + 65_535}", middle, min(middle + 65_535, size - 1)),
        ("-100", size - 100, size - 1),
    ):
        answer = ask(stage.url(FILM), 206, Range=f"bytes={asked}")
        told = answer.headers.get("Content-Range")
        expect(told == f"bytes {first}-{last}/{size}", f"bytes={asked}: Content-Range {told}")
        expect(answer.content == data[first : last + 1], f"bytes={asked}: other bytes than those of the film")
    ask(stage.url(FILM), 416, Range=f"bytes={size}-")
    return "206 with the right bytes at beginning, middle and end; 416 past the end"


def head(stage: Stage) -> str:
    """The headers alone; then nothing anew for the ETag that they hold."""
    answer = ask(stage.url(FILM), 200, "HEAD")
    size = (HERE / FILM).stat().st_size
    length, etag = answer.headers.get("Content-Length"), answer.headers.get("ETag", "")
    expect(length == str(size) and not answer.content, f"Content-Length {length}, expected {size}")
    ask(stage.url(FILM), 304, If_None_Match=etag)
    return f"Content-Length {size}, ETag {etag}; asked again with it: 304"


def without_signature(stage: Stage) -> str:
    """S3 itself gives nothing to a client without keys."""
    answer = ask(stage.direct_url, 403)
    expect(b"<Code>AccessDenied</Code>" in answer.content, f"{stage.direct_url}: 403, but not of S3")
    return "S3 itself answers 403 AccessDenied"


def odd_keys(stage: Stage) -> str:
    """Each odd key leads to its own object."""
    for key in ODD_KEYS:
        same_object(ask(stage.url(key), 200), content(key), "text/plain; charset=utf-8")
    return f"all {len(ODD_KEYS)} lead to their objects"


def hls(stage: Stage) -> str:
    """The playlist, and each segment that it names."""
    files = film_files()
    same_object(ask(stage.url(PLAYLIST), 200), files[PLAYLIST].read_bytes(), TYPES[".m3u8"])
    names = [line for line in files[PLAYLIST].read_text().splitlines() if line and not line.startswith("#")]
    expect(bool(names), "the playlist names no segments")
    for name in names:
        file = files[f"{PLAYLIST.rpartition('/')[0]}/{name}"]
        answer = ask(stage.url(PLAYLIST).rpartition("/")[0] + f"/{name}", 200)
        same_object(answer, file.read_bytes(), TYPES[file.suffix])
    return f"the playlist and its {len(names)} segments"


def proxied(stage: Stage) -> str:
    """The film and the odd keys once more, by way of mod_proxy."""
    if "usp_s3_module" not in stage.httpd.gateway_lines():
        raise NotHere("the extension is not compiled, for httpd's headers are missing")
    same_object(ask(stage.proxied_url(FILM), 200), (HERE / FILM).read_bytes(), "video/mp4")
    for key in ODD_KEYS:
        same_object(ask(stage.proxied_url(key), 200), content(key), "text/plain; charset=utf-8")
    ask(stage.proxied_url(""), 404)
    return "the same film and odd keys, signed in a <Proxy> section"


def nothing_else(stage: Stage) -> str:
    """No listing of the bucket, no object that is not there, no writing."""
    ask(stage.url(""), 404)
    ask(stage.url("film/none.mp4"), 404)
    ask(stage.url("film/new.mp4"), 405, "PUT")
    return "the bucket is not listed (404), what is not there is 404, PUT is 405"


def start_page(stage: Stage) -> str:
    """The page, and what it reads."""
    page = ask(stage.httpd.url + "/", 200)
    expect(page.content == (HERE / "index.html").read_bytes(), "the start page is another one")
    facts = ask(stage.httpd.url + "/demo.json", 200)
    expect(facts.json()["s3_url"] == stage.direct_url, "demo.json is another one")
    return f"200, {len(page.content):,} bytes"


def page(stage: Stage, screenshot: Path | None, stopped: Callable[[], bool]) -> str:
    """The page's own checks, which play the film, in a real browser."""
    try:
        shown = browser.visit(stage.httpd.url + "/", screenshot, stopped)
    except browser.BrowserError as error:
        raise Failed(str(error)) from error
    expect(shown.outcome == "ok", f"{shown.browser}: the page says {shown.outcome!r}: {shown.summary}")
    return f"{shown.browser}: {shown.summary}"


def error_log(stage: Stage) -> str:
    """Nothing unexpected in it, least of all a secret."""
    text = (stage.httpd.root / "error.log").read_text("utf-8", "replace")
    for secret in (stage.s3.secret_key, "Signature="):
        expect(secret not in text, "the secret key or a signature is in httpd's error log")
    lines = stage.httpd.errors()
    expect(not lines, "\n    ".join(["unexpected lines:", *lines]))
    return "no secret and no unexpected line in it"
