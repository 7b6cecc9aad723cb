"""``usp-s3 get`` with an S3, and with a server in the place of Apache, that fail in many ways: no file is truncated."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import resource
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificate
from tests.configurations import configtest_input
from tests.faults.server import (
    Connection,
    Request,
    ScriptedS3,
    Step,
    answer,
    close,
    error,
    first,
    head_of,
    reset,
    stall,
)
from tests.leaks import ACCESS_KEY, SECRET_KEY, leaks
from usp_s3_wsgi.cli.main import main
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.configtest import parsed_config

OBJECT = bytes(range(256)) * 400
ETAG = '"an-etag"'
MD5 = hashlib.md5(OBJECT).hexdigest()
BROKEN = 50_000
WHOLE = answer(200, OBJECT, ("ETag", ETAG))
Run = Callable[..., "Outcome"]


class Outcome:
    """What the command did. No output has a secret."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err
        assert not leaks(out) and not leaks(err)
        assert "Traceback" not in err and "internal error" not in err

    @property
    def json(self) -> dict[str, Any]:
        """The result of --json."""
        result: dict[str, Any] = json.loads(self.out)
        return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def get(folder: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run the command with a bucket at /media whose S3 is at this URL."""

    def run(url: str, *arguments: str, key: str = "/media/film/1.mp4", settings: str = "", retries: int = 0) -> Outcome:
        text = f"""
Listen 1
WSGIScriptAlias /media /share/usp_s3.wsgi
<Location /media>
  SetEnv S3BucketURL {url}/bucket/
  SetEnv S3AccessKey {ACCESS_KEY}
  SetEnv S3SecretKey {SECRET_KEY}
  SetEnv S3Region eu-central-1
  SetEnv S3UseHeaders on
  SetEnv S3Retries {retries}
  {settings}
</Location>
"""
        monkeypatch.setattr(httpd_config, "read", lambda httpd: parsed_config.parse(configtest_input(text)))
        status = main(["get", *arguments, key])
        out, err = capfdbinary.readouterr()
        return Outcome(status, out.decode("latin-1"), err.decode())

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part(start: int, data: bytes = OBJECT, etag: str = ETAG, end: int | None = None) -> bytes:
    """The response to a range."""
    end = len(data) if end is None else end
    return answer(206, data[start:end], ("Content-Range", f"bytes {start}-{end - 1}/{len(data)}"), ("ETag", etag))


def broken(whole: bytes, end: Callable[[Connection, Request], None] = close, length: int = BROKEN) -> Step:
    """Send a response's header and a part of its body."""
    return first(whole[: len(head_of(whole)) + length], end)


# ---------------------------------------------------------------- straight from S3


def test_a_download(get: Run, folder: Path) -> None:
    with ScriptedS3(WHOLE) as s3:
        outcome = get(s3.url)
    assert outcome.status == 0, outcome.err
    assert files(folder) == ["1.mp4"]
    assert (folder / "1.mp4").read_bytes() == OBJECT
    assert outcome.out == ""
    assert hashlib.sha256(OBJECT).hexdigest() in outcome.err and "102,400" in outcome.err
    (request,) = s3.requests
    assert request.target == "/bucket/film/1.mp4"
    assert request.headers["x-amz-checksum-mode"] == "ENABLED"
    assert "x-amz-checksum-mode" in request.headers["authorization"]  # it is signed


def test_quiet_says_nothing(get: Run) -> None:
    with ScriptedS3(WHOLE) as s3:
        outcome = get(s3.url, "-q")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


def test_standard_output(get: Run, folder: Path) -> None:
    with ScriptedS3(WHOLE) as s3:
        outcome = get(s3.url, "-o", "-")
    assert (outcome.status, outcome.out.encode("latin-1"), files(folder)) == (0, OBJECT, [])
    assert "SHA-256" in outcome.err


def test_a_device_and_a_folder(get: Run, folder: Path) -> None:
    (folder / "sub").mkdir()
    with ScriptedS3(WHOLE, WHOLE) as s3:
        assert get(s3.url, "-o", "/dev/null").status == 0
        assert get(s3.url, "-o", "sub").status == 0
    assert files(folder) == ["sub"] and files(folder / "sub") == ["1.mp4"]


@pytest.mark.parametrize("end", [close, reset])
def test_s3_breaks_off(get: Run, folder: Path, end: Callable[[Connection, Request], None]) -> None:
    with ScriptedS3(broken(WHOLE, end)) as s3:
        outcome = get(s3.url, "--json")
    assert outcome.status == 1
    assert files(folder) == ["1.mp4.part", "1.mp4.part.json"]
    stored = (folder / "1.mp4.part").read_bytes()
    assert OBJECT.startswith(stored) and (len(stored) == BROKEN or end is reset)
    assert f"S3 broke off after {len(stored):,} bytes" in outcome.err and "bytes are missing" in outcome.err
    assert f"{len(stored):,} bytes are in 1.mp4.part: the same command with --continue gets the rest" in outcome.err
    (download,) = outcome.json["downloads"]
    assert not download["complete"] and download["sha256"] is None and download["bytes"] == len(stored)
    assert download["error"]["code"] == "USPS30501"


def test_the_body_is_resumed_as_the_gateway_does_it(get: Run, folder: Path) -> None:
    with ScriptedS3(broken(WHOLE), part(BROKEN)) as s3:
        outcome = get(s3.url, "--json", retries=1)
    assert outcome.status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT
    assert s3.requests[1].headers["range"] == f"bytes={BROKEN}-{len(OBJECT) - 1}"
    assert s3.requests[1].headers["if-match"] == ETAG
    (download,) = outcome.json["downloads"]
    assert (download["resumes"], len(download["attempts"])) == (1, 2)
    assert "the body was resumed" in outcome.err


def test_another_object_is_not_taken_for_the_rest(get: Run, folder: Path) -> None:
    with ScriptedS3(broken(WHOLE), answer(412)) as s3:
        outcome = get(s3.url, retries=1)
    assert outcome.status == 1
    assert "the object was changed meanwhile" in outcome.err
    assert files(folder) == ["1.mp4.part", "1.mp4.part.json"]


def test_retries_and_corrections_are_shown(get: Run) -> None:
    wrong_region = error(400, "AuthorizationHeaderMalformed", region="eu-west-3")
    with ScriptedS3(error(503, "SlowDown"), wrong_region, WHOLE) as s3:
        outcome = get(s3.url, "--json", retries=1)
    assert outcome.status == 0
    (download,) = outcome.json["downloads"]
    assert [attempt["status"] for attempt in download["attempts"]] == [503, 400, 200]
    assert download["corrections"] == ["region"]
    attempts = outcome.err[outcome.err.index("Attempts") :].splitlines()
    assert [line.split()[0] for line in attempts[1:3]] == ["corrected:", "1:"] and "\\x0a" not in outcome.err
    assert attempts[1].endswith("corrected: region") and "1: S3 answered 503 SlowDown" in attempts[2]
    assert not any(line.endswith(" ") for line in outcome.err.splitlines())


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (error(404, "NoSuchKey"), ("404 NoSuchKey, request id 4442587FB7D0A2F9", "Why: There is no object with")),
        (error(403, "AccessDenied"), ("S3 answered 403 AccessDenied", "Why:", "What to do:")),
        (error(403, "SignatureDoesNotMatch"), ("check S3SecretKey or S3SecretKeyFile", "What to do:")),
        (error(403, "InvalidAccessKeyId"), ("S3 answered 403 InvalidAccessKeyId", "Why:")),
        (error(503, "SlowDown"), ("S3 answered 503 SlowDown", "Why:")),
        (answer(302, b"", ("Location", "http://other.example/")), ("S3 answered 302",)),
        (answer(307, b"", ("Location", "http://other.example/")), ("S3 answered 307",)),
        (b"garbage\r\n\r\n", ("response header is not valid HTTP: no status line", "Why:")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", ("not valid HTTP",)),
        (answer(206, b"a", ("Content-Range", "bytes 0-0/9")), ("no range was requested",)),
        (answer(200, b"hello", length=None), ("no Content-Length: truncation could not be detected",)),
        (close, ("closed the connection without a response",)),
        (answer(304), ("S3 answered 304 to a request without a condition",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_failures(get: Run, folder: Path, step: Step, words: tuple[str, ...]) -> None:
    with ScriptedS3(step) as s3:
        outcome = get(s3.url, "--no-checksums")
    assert outcome.status == 1
    assert outcome.err.startswith("usp-s3: S3")
    assert not any(line.endswith(" ") for line in outcome.err.splitlines())
    for word in words:
        assert word in " ".join(outcome.err.split()), word
    assert files(folder) == []


def test_no_connection(get: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = get(f"http://127.0.0.1:{port}")
    assert outcome.status == 1 and "Connection refused" in outcome.err


def test_s3_is_silent(get: Run) -> None:
    with ScriptedS3(stall) as s3:
        outcome = get(s3.url, settings="SetEnv S3ProxySet timeout=100ms")
    assert outcome.status == 1 and "no response within 0.1 s" in outcome.err


def test_more_bytes_than_announced_are_not_stored(get: Run, folder: Path) -> None:
    with ScriptedS3(first(answer(200, b"hello") + b"more", close)) as s3:
        assert get(s3.url).status == 0
    assert (folder / "1.mp4").read_bytes() == b"hello"


def test_a_chunked_body(get: Run, folder: Path) -> None:
    chunked = answer(200, b"5\r\nhello\r\n0\r\n\r\n", ("Transfer-Encoding", "chunked"), length=None)
    with ScriptedS3(chunked, first(chunked[:-5], close)) as s3:
        assert get(s3.url).status == 0
        assert (folder / "1.mp4").read_bytes() == b"hello"
        outcome = get(s3.url, "-o", "2")
    assert outcome.status == 1
    assert files(folder) == ["1.mp4", "2.part"]
    assert "5 bytes are in 2.part, which cannot be continued" in outcome.err


def test_the_fallback_bucket_is_used_as_the_gateway_does_it(get: Run, folder: Path) -> None:
    with ScriptedS3(error(503, "SlowDown"), error(503, "SlowDown")) as s3, ScriptedS3(WHOLE, close) as other:
        settings = f"SetEnv S3FallbackURL {other.url}/copy/"
        outcome = get(s3.url, settings=settings)
        assert outcome.status == 0
        assert f"{other.url}/copy/film/1.mp4" in outcome.err
        assert "S3FallbackURL was used: S3 answered 503 SlowDown" in " ".join(outcome.err.split())
        assert get(s3.url, "--force", settings=settings).status == 1


def test_a_name_is_looked_up_and_connections_are_kept(get: Run) -> None:
    with ScriptedS3(WHOLE, WHOLE, WHOLE, host="127.0.0.1") as s3:
        outcome = get(f"http://localhost:{s3.port}", "--repeat", "3", "--json")
    assert outcome.status == 0 and s3.requests[-1].connection == 1
    (download,) = outcome.json["downloads"]
    lookups = [times["lookup"] is not None for times in download["times"]]
    assert lookups == [True, False, False]
    assert "3 times" in outcome.err and "Name lookup" in outcome.err


def test_a_repeated_download_with_other_bytes(get: Run) -> None:
    with ScriptedS3(WHOLE, answer(200, OBJECT[::-1])) as s3:
        outcome = get(s3.url, "--repeat", "3")
    assert outcome.status == 1 and "a repeated download has other bytes than the first one" in outcome.err


def test_tls(get: Run, certificate: Certificate) -> None:
    with ScriptedS3(WHOLE, tls=certificate) as s3:
        outcome = get(s3.url, "--json", settings=f"SetEnv S3CAFile {certificate.root}")
        assert outcome.status == 0 and outcome.json["downloads"][0]["times"][0]["tls"] > 0
        assert "TLS handshake" in outcome.err
        outcome = get(s3.url, "--force")
        assert outcome.status == 1 and "certificate verification failed" in outcome.err


# ---------------------------------------------------------------- ranges


@pytest.mark.parametrize(
    ("wanted", "start", "end"), [("5-9", 5, 10), ("bytes=102390-", 102_390, 102_400), ("-7", 102_393, 102_400)]
)
def test_a_range(get: Run, folder: Path, wanted: str, start: int, end: int) -> None:
    with ScriptedS3(part(start, end=end)) as s3:
        outcome = get(s3.url, "--range", wanted, "--json")
    assert outcome.status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT[start:end]
    assert s3.requests[0].headers["range"] == f"bytes={wanted.removeprefix('bytes=')}"
    assert "x-amz-checksum-mode" not in s3.requests[0].headers
    assert outcome.json["downloads"][0]["first_byte"] == start
    assert outcome.json["downloads"][0]["checksums"] == []


def test_another_range_than_requested(get: Run, folder: Path) -> None:
    with ScriptedS3(part(6, end=11)) as s3:
        outcome = get(s3.url, "--range", "5-9")
    assert outcome.status == 1 and "Content-Range is not the requested range" in outcome.err and files(folder) == []


def test_a_part_of_the_range(get: Run, folder: Path) -> None:
    with ScriptedS3(part(0, end=50)) as s3:
        outcome = get(s3.url, "--range", "0-99")
    assert outcome.status == 1 and "the response has the bytes 0 to 49, not 0 to 99" in outcome.err
    assert files(folder) == []


@pytest.mark.parametrize(
    ("options", "response", "size"),
    [
        ((), answer(416, b"", ("Content-Range", f"bytes */{len(OBJECT)}")), True),
        ((), answer(416, b"<Error><Code>InvalidRange</Code><ActualObjectSize>102400</ActualObjectSize></Error>"), True),
        ((), answer(416, b"<Error><ActualObjectSize>many</ActualObjectSize></Error>"), False),
        ((), answer(416, b"<Error>", length=200), False),
        (("--url",), answer(416, b"", ("Content-Range", f"bytes */{len(OBJECT)}")), True),
        (("--url",), answer(416), False),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_no_such_range(get: Run, options: tuple[str, ...], response: bytes, size: bool) -> None:
    with ScriptedS3(response) as s3:
        outcome = get(s3.url, "--range", "999999-", *options, *([s3.url] if options else []))
    assert outcome.status == 1 and "the object has no such range" in outcome.err
    assert ("the object has no such range: the object has 102,400 bytes" in outcome.err) == size


def test_a_range_that_s3_does_not_implement(get: Run, folder: Path) -> None:
    with ScriptedS3(answer(501), WHOLE) as s3:
        assert get(s3.url, "--range", "0-4").status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT


# ---------------------------------------------------------------- checksums


def checksum(name: str, digest: bytes, *more: tuple[str, str]) -> bytes:
    value = base64.b64encode(digest).decode()
    return answer(200, OBJECT, ("ETag", '"x"'), (f"x-amz-checksum-{name}", value), *more)


CRC32 = zlib.crc32(OBJECT).to_bytes(4, "big")
FULL = ("x-amz-checksum-type", "FULL_OBJECT")
AMAZON = ("Server", "AmazonS3")


@pytest.mark.parametrize(
    ("response", "name", "result", "reason"),
    [
        (checksum("crc32", CRC32, FULL), "CRC32", "equal", ""),
        (checksum("sha1", hashlib.sha1(OBJECT).digest()), "SHA1", "equal", ""),
        (checksum("sha256", hashlib.sha256(OBJECT).digest()), "SHA256", "equal", ""),
        (checksum("crc32c", b"1234"), "CRC32C", "not checked", "does not compute"),
        (checksum("crc64nvme", b"12345678", FULL), "CRC64NVME", "not checked", "does not compute"),
        (checksum("sha256", b"x", ("x-amz-checksum-type", "COMPOSITE")), "SHA256", "not checked", "parts"),
        (answer(200, OBJECT, ("x-amz-checksum-crc32", "AAAAAA==-3")), "CRC32", "not checked", "parts"),
        (answer(200, OBJECT), "ETag", "not checked", "has none"),
        (answer(200, OBJECT, ("ETag", f'"{MD5}"')), "ETag", "equal", "MD5"),
        (answer(200, OBJECT, ("ETag", f'"{MD5[::-1]}"')), "ETag", "not checked", "need not be"),
        (answer(200, OBJECT, ("ETag", f'"{MD5[::-1]}"'), AMAZON), "ETag", "not checked", "need not be"),
        (answer(200, OBJECT, ("ETag", f'"{MD5}-2"')), "ETag", "not checked", "multipart"),
        (answer(200, OBJECT, ("ETag", '"abc"')), "ETag", "not checked", "no MD5"),
        (answer(200, OBJECT, ("ETag", f'W/"{MD5}"')), "ETag", "not checked", "no MD5"),
    ],
)
def test_checksums(get: Run, folder: Path, response: bytes, name: str, result: str, reason: str) -> None:
    with ScriptedS3(response) as s3:
        outcome = get(s3.url, "--json")
    assert outcome.status == 0
    found = {one["name"]: one for one in outcome.json["downloads"][0]["checksums"]}
    assert found[name]["result"] == result and reason in found[name]["reason"]
    assert f"{name}: {result}" in outcome.err
    assert files(folder) == ["1.mp4"]


def test_a_wrong_checksum(get: Run, folder: Path) -> None:
    with ScriptedS3(checksum("crc32", b"1234")) as s3:
        outcome = get(s3.url)
    assert outcome.status == 1
    assert "CRC32: these are not the bytes that were stored" in outcome.err and "MTIzNA==" in outcome.err
    assert files(folder) == ["1.mp4.part"]  # it cannot be continued
    assert "102,400 bytes are in 1.mp4.part, which cannot be continued" in outcome.err


def test_an_s3_that_rejects_the_header_for_checksums(get: Run) -> None:
    with ScriptedS3(error(501, "NotImplemented"), WHOLE, WHOLE, error(400, "InvalidArgument"), close) as s3:
        outcome = get(s3.url)
        assert outcome.status == 0 and "S3 rejected the header x-amz-checksum-mode" in outcome.err
        assert get(s3.url, "--force", "--no-checksums").status == 0
        assert ["x-amz-checksum-mode" in request.headers for request in s3.requests] == [True, False, False]
        assert get(s3.url, "--force").status == 1


# ---------------------------------------------------------------- --continue


@pytest.fixture
def interrupted(get: Run, folder: Path) -> Iterator[ScriptedS3]:
    """An S3 that has broken off once. Its script is filled by the test."""
    with ScriptedS3(broken(WHOLE)) as s3:
        assert get(s3.url).status == 1
        yield s3


def test_the_rest(get: Run, folder: Path, interrupted: ScriptedS3) -> None:
    interrupted._script.append(part(BROKEN - 1))
    outcome = get(interrupted.url, "--continue", "--json")
    assert outcome.status == 0, outcome.err
    assert (folder / "1.mp4").read_bytes() == OBJECT
    assert files(folder) == ["1.mp4"]
    request = interrupted.requests[-1]
    assert (request.headers["range"], request.headers["if-match"]) == (
        f"bytes={BROKEN - 1}-{len(OBJECT) - 1}",
        ETAG,
    )
    assert "(the last byte is requested again to prove that it is the same object)" in " ".join(outcome.err.split())
    (download,) = outcome.json["downloads"]
    assert download["continued_at"] == BROKEN - 1 and download["sha256"] == hashlib.sha256(OBJECT).hexdigest()


def test_twice(get: Run, folder: Path, interrupted: ScriptedS3) -> None:
    interrupted._script += [broken(part(BROKEN - 1), length=1000), part(BROKEN + 998)]
    assert get(interrupted.url, "--continue").status == 1
    assert get(interrupted.url, "--continue").status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT


def test_with_the_checksum_of_the_first_response(get: Run, folder: Path) -> None:
    whole = answer(200, OBJECT, ("ETag", ETAG), ("x-amz-checksum-crc32", base64.b64encode(CRC32).decode()))
    with ScriptedS3(broken(whole), part(BROKEN - 1)) as s3:
        get(s3.url)
        outcome = get(s3.url, "--continue")
    assert outcome.status == 0 and "CRC32: equal" in outcome.err


def test_a_part_that_is_complete(get: Run, folder: Path, interrupted: ScriptedS3) -> None:
    (folder / "1.mp4.part").write_bytes(OBJECT)
    interrupted._script.append(part(len(OBJECT) - 1))
    assert get(interrupted.url, "--continue").status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT


def test_a_range_is_continued(get: Run, folder: Path) -> None:
    with ScriptedS3(broken(part(100, end=1100), length=500), part(599, end=1100)) as s3:
        assert get(s3.url, "--range", "100-1099").status == 1
        assert get(s3.url, "--continue").status == 1  # another range
        outcome = get(s3.url, "--continue", "--range", "100-1099", "--json")
    assert outcome.status == 0 and (folder / "1.mp4").read_bytes() == OBJECT[100:1100]
    assert outcome.json["downloads"][0]["first_byte"] == 100


@pytest.mark.parametrize(
    "response",
    [answer(412), WHOLE, part(BROKEN - 1, etag='"other"'), part(BROKEN - 1, OBJECT + b"x", end=len(OBJECT))],
    ids=["412", "no range", "another ETag", "another length"],
)
def test_a_changed_object(get: Run, folder: Path, interrupted: ScriptedS3, response: bytes) -> None:
    before = (folder / "1.mp4.part").read_bytes()
    interrupted._script.append(response)
    outcome = get(interrupted.url, "--continue")
    assert outcome.status == 1
    assert "--force starts again" in outcome.err
    assert (folder / "1.mp4.part").read_bytes() == before
    interrupted._script.append(WHOLE)
    assert get(interrupted.url, "--force").status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT


def test_a_part_of_the_rest(get: Run, folder: Path, interrupted: ScriptedS3) -> None:
    interrupted._script.append(part(BROKEN - 1, end=BROKEN + 5))
    outcome = get(interrupted.url, "--continue")
    assert outcome.status == 1 and "the response has the bytes 49,999 to 50,004, not 49,999 to 102,399" in outcome.err
    assert files(folder) == ["1.mp4.part", "1.mp4.part.json"]


def test_nothing_is_there_to_continue(get: Run, folder: Path) -> None:
    with ScriptedS3(WHOLE) as s3:
        assert get(s3.url, "--continue").status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT


def test_a_part_of_which_nothing_is_known(get: Run, folder: Path, interrupted: ScriptedS3) -> None:
    note = folder / "1.mp4.part.json"
    known = note.read_text()
    for text in ("", "[]", "{}", known.replace("an-etag", "an").replace('"etag"', '"e"')):
        note.write_text(text)
        outcome = get(interrupted.url, "--continue")
        assert outcome.status == 1 and "it is not known of which object it is" in outcome.err
    note.write_text(known.replace("film/1.mp4", "film/2.mp4"))
    outcome = get(interrupted.url, "--continue")
    assert outcome.status == 1 and "is of another object or range" in outcome.err


def test_without_continue_or_force_nothing_is_lost(get: Run, folder: Path, interrupted: ScriptedS3) -> None:
    outcome = get(interrupted.url)
    assert outcome.status == 1
    assert "--continue gets the rest, --force starts again" in outcome.err
    (folder / "1.mp4").write_bytes(b"mine")
    outcome = get(interrupted.url)
    assert outcome.status == 1 and "1.mp4 exists: --force overwrites it" in outcome.err
    assert (folder / "1.mp4").read_bytes() == b"mine" and len(interrupted.requests) == 1


def test_a_part_that_another_process_writes(get: Run, folder: Path, interrupted: ScriptedS3) -> None:
    import fcntl

    with (folder / "1.mp4.part").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcome = get(interrupted.url, "--continue")
        assert outcome.status == 1 and "is being written by another process" in outcome.err


@pytest.mark.parametrize("name", ["1.mp4.part", "1.mp4.part.json", "1.mp4"])
def test_a_link_in_the_place_of_a_file(get: Run, folder: Path, name: str) -> None:
    (folder / "mine").write_bytes(b"mine")
    (folder / name).symlink_to("mine")
    with ScriptedS3(WHOLE) as s3:
        assert get(s3.url, "--force").status == 0
    assert files(folder) == ["1.mp4", "mine"] and (folder / "mine").read_bytes() == b"mine"
    assert not (folder / "1.mp4").is_symlink() and (folder / "1.mp4").read_bytes() == OBJECT


# ---------------------------------------------------------------- a folder that others can write

NOBODY = 65_534


@pytest.fixture
def shared(folder: Path) -> Path:
    """The current directory, where another user can make files. Tests chown theirs to that user."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of another user")
    folder.chmod(0o777)
    return folder


def make(kind: str, path: Path) -> None:
    """Make what a user could have left there, with the user as its owner."""
    if kind == "pipe":
        os.mkfifo(path, 0o666)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("pipe"), 0o666)  # root's, but who chose it?
        path.symlink_to("pipe")
    else:
        path.write_bytes(OBJECT[:BROKEN])
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@pytest.mark.parametrize("options", [(), ("--force",)])
@pytest.mark.parametrize("kind", ["pipe", "link", "link to a pipe"])
def test_a_pipe_or_a_device_of_another_user_gets_nothing(
    get: Run, shared: Path, kind: str, options: tuple[str, ...]
) -> None:
    make(kind, shared / "2.mp4")
    reader = os.open(shared / "2.mp4", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with ScriptedS3() as s3:
            outcome = get(s3.url, "-o", "2.mp4", *options)
        assert outcome.status == 1 and "2.mp4 is not written: " in outcome.err and "another user" in outcome.err
        assert kind == "link" or os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_a_link_that_others_could_replace(get: Run, shared: Path) -> None:
    (shared / "2.mp4").symlink_to("/dev/null")
    with ScriptedS3() as s3:
        outcome = get(s3.url, "-o", "2.mp4")
    assert outcome.status == 1 and "can be written by others than root" in outcome.err


def test_an_own_pipe(get: Run, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    received = bytearray()
    reader = threading.Thread(target=lambda: received.extend((folder / "pipe").read_bytes()), daemon=True)
    reader.start()
    with ScriptedS3(WHOLE) as s3:
        assert get(s3.url, "-o", "pipe").status == 0
    reader.join(20)
    assert bytes(received) == OBJECT


def test_an_open_file_of_this_process(get: Run, folder: Path) -> None:
    """As a shell has it for >(sha256sum)."""
    read_end, write_end = os.pipe()
    received = bytearray()

    def read() -> None:
        while data := os.read(read_end, 65_536):
            received.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with ScriptedS3(WHOLE) as s3:
        outcome = get(s3.url, "-o", f"/dev/fd/{write_end}")
    os.close(write_end)
    reader.join(20)
    os.close(read_end)
    assert (outcome.status, bytes(received)) == (0, OBJECT), outcome.err


@pytest.mark.parametrize("kind", ["pipe", "link", "file"])
def test_force_replaces_what_another_user_has_left(get: Run, shared: Path, kind: str) -> None:
    for name in ("1.mp4.part", "1.mp4.part.json"):
        make(kind, shared / name)
    with ScriptedS3(WHOLE) as s3:
        assert get(s3.url, "--force").status == 0
    assert files(shared) == ["1.mp4"] and (shared / "1.mp4").stat().st_uid == 0
    assert (shared / "1.mp4").read_bytes() == OBJECT


@pytest.mark.parametrize("name", ["1.mp4.part", "1.mp4.part.json"])
@pytest.mark.parametrize("kind", ["pipe", "link", "file", "hard link"])
def test_only_the_own_beginning_is_continued(get: Run, shared: Path, kind: str, name: str) -> None:
    with ScriptedS3(broken(WHOLE)) as s3:
        assert get(s3.url).status == 1
        if kind == "file":
            os.chown(shared / name, NOBODY, NOBODY)
        elif kind == "hard link":
            os.link(shared / name, shared / "other")
        else:
            (shared / name).unlink()
            make(kind, shared / name)
        outcome = get(s3.url, "--continue")
        assert outcome.status == 1 and "--force starts again" in outcome.err
        assert len(s3.requests) == 1 and not (shared / "1.mp4").exists()


# ---------------------------------------------------------------- files


def test_a_file_that_appears_meanwhile(get: Run, folder: Path) -> None:
    def late(connection: Connection, request: Request) -> None:
        (folder / "1.mp4").write_bytes(b"mine")
        connection.send(WHOLE)

    with ScriptedS3(late) as s3:
        outcome = get(s3.url)
    assert outcome.status == 1 and "1.mp4 exists meanwhile; the object is in 1.mp4.part" in outcome.err
    assert (folder / "1.mp4").read_bytes() == b"mine" and (folder / "1.mp4.part").read_bytes() == OBJECT


def test_a_file_system_without_hard_links(get: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(old: object, new: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with ScriptedS3(WHOLE) as s3:
        assert get(s3.url).status == 0
    assert files(folder) == ["1.mp4"]


def test_a_folder_that_does_not_exist(get: Run) -> None:
    with ScriptedS3() as s3:
        outcome = get(s3.url, "-o", "none/1.mp4")
    assert outcome.status == 1 and outcome.err.count("\n") == 1
    assert outcome.err == "usp-s3: the folder none does not exist\n"


def test_a_full_disk(get: Run, folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with ScriptedS3(WHOLE) as s3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            outcome = get(s3.url)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, old)
    assert outcome.status == 1
    assert "1.mp4.part: File too large" in outcome.err
    assert "the same command with --continue gets the rest" in outcome.err
    with ScriptedS3(part((folder / "1.mp4.part").stat().st_size - 1)) as s3:
        note = folder / "1.mp4.part.json"
        note.write_text(json.dumps({**json.loads(note.read_text()), "url": f"{s3.url}/bucket/film/1.mp4"}))
        assert get(s3.url, "--continue").status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT


def test_a_full_disk_for_the_comparison(get: Run) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with ScriptedS3(WHOLE) as s3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            outcome = get(s3.url, "--compare", "--url", s3.url)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, old)
    assert outcome.status == 1 and "File too large" in outcome.err and outcome.err.count("\n") == 1


def test_a_disk_that_is_full_at_the_end(get: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with ScriptedS3(WHOLE) as s3:
        outcome = get(s3.url)
    assert outcome.status == 1 and "1.mp4.part: No space left on device" in outcome.err
    assert files(folder) == ["1.mp4.part", "1.mp4.part.json"]


def test_a_full_device(get: Run) -> None:
    with ScriptedS3(WHOLE) as s3:
        outcome = get(s3.url, "-o", "/dev/full")
    assert outcome.status == 1
    assert outcome.err == "usp-s3: /dev/full: No space left on device\n"


def test_an_interrupt(get: Run, folder: Path) -> None:
    """What SIGINT does, and how the download goes on."""

    def interrupt(connection: Connection, request: Request) -> None:
        while not (part := folder / "1.mp4.part").exists() or part.stat().st_size < BROKEN - 10_000:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        connection.wait()
        connection.close()

    with ScriptedS3(broken(WHOLE, interrupt)) as s3:
        outcome = get(s3.url)
        assert outcome.status == 130
        s3.release()
        assert f"{BROKEN:,} bytes are in 1.mp4.part: the same command with --continue gets the rest" in outcome.err
        assert "usp-s3: interrupted" in outcome.err
        s3._script.append(part(BROKEN - 1))
        assert get(s3.url, "--continue").status == 0
    assert (folder / "1.mp4").read_bytes() == OBJECT


# ---------------------------------------------------------------- through Apache


def test_through_a_server(get: Run, folder: Path) -> None:
    with ScriptedS3(WHOLE) as apache:
        outcome = get("http://s3.example", "--url", apache.url, key="/media/film/a%20b.mp4?x=1")
    assert outcome.status == 0, outcome.err
    assert (folder / "a b.mp4").read_bytes() == OBJECT
    (request,) = apache.requests
    assert request.target == "/media/film/a%20b.mp4?x=1"
    assert request.headers["host"] == f"127.0.0.1:{apache.port}"
    assert request.headers["accept-encoding"] == "identity"
    assert "authorization" not in request.headers


def test_the_url_of_the_object(get: Run) -> None:
    with ScriptedS3(WHOLE) as apache:
        assert get("http://s3.example", "--url", f"{apache.url}/other/1.mp4?a=b").status == 0
    assert apache.requests[0].target == "/other/1.mp4?a=b"


def test_proxies_of_the_environment_are_not_used(get: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with ScriptedS3(WHOLE, WHOLE) as server:
        assert get("http://s3.example", "--url", server.url).status == 0
        assert get(server.url, "--force").status == 0


CHUNKS = answer(200, b"5\r\nhello\r\n0\r\n\r\n", ("Transfer-Encoding", "chunked"), length=None)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (broken(WHOLE), "Apache broke off after 50,000 of 102,400 bytes: the connection was closed"),
        (first(CHUNKS[:-5], close), "Apache broke off after 5 bytes: the connection was closed"),
        (first(CHUNKS[:-8], close), "Apache broke off after 4 bytes: the connection was closed"),
        (first(WHOLE[:-10], reset), "Apache broke off after"),
        (answer(200, b"hello", length=None), "nobody knows if it is complete"),
        (b"garbage\r\n\r\n", "the response is not valid HTTP"),
        (close, "the connection was closed without a response"),
        (reset, "Connection reset by peer"),
        (answer(301, b"", ("Location", "https://a.example/x?token=1")), "it redirects to https://a.example/x, which"),
        (answer(401), "Apache answered 401 Unauthorized: it asks for a password"),
        (answer(403), "an access rule of this server denied it"),
        (answer(404), "no mount of this server has this path"),
        (answer(502), "the error log says why"),
        (answer(418), "Apache answered 418"),
        (answer(416), "no such range"),
        (part(5), "no range was requested"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_failures_of_the_server(get: Run, folder: Path, step: Step, words: str) -> None:
    with ScriptedS3(first(step, close) if isinstance(step, bytes) else step) as apache:
        outcome = get("http://s3.example", "--url", apache.url)
    assert outcome.status == 1
    assert words in outcome.err
    assert "token" not in outcome.err
    assert "1.mp4" not in files(folder)


def test_a_silent_server(get: Run) -> None:
    with ScriptedS3(stall, broken(WHOLE, stall)) as apache:
        outcome = get("http://s3.example", "--url", apache.url, "--timeout", "0.2")
        assert outcome.status == 1 and "nothing was received within 0.2 s" in outcome.err
        outcome = get("http://s3.example", "--url", apache.url, "--timeout", "0.2")
        assert outcome.status == 1 and "after 50,000 of 102,400 bytes: nothing was received within" in outcome.err


def test_no_server(get: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = get("http://s3.example", "--url", f"http://127.0.0.1:{port}")
    assert outcome.status == 1 and f"127.0.0.1 port {port}: Connection refused" in outcome.err
    outcome = get("http://s3.example", "--url", "http://no-such-host.invalid")
    assert outcome.status == 1 and "the name no-such-host.invalid cannot be resolved" in outcome.err


def test_the_rest_through_the_server(get: Run, folder: Path) -> None:
    with ScriptedS3(broken(WHOLE), part(BROKEN - 1), broken(WHOLE), answer(412)) as apache:
        arguments = ("http://s3.example", "--url", apache.url)
        assert get(*arguments).status == 1
        assert get(*arguments, "--continue").status == 0
        assert apache.requests[1].headers["if-match"] == ETAG
        assert (folder / "1.mp4").read_bytes() == OBJECT
        assert get(*arguments, "--force").status == 1
        outcome = get(*arguments, "--continue", "--force")
        assert outcome.status == 1 and "the object was changed" in outcome.err


def test_the_certificate_of_the_server(get: Run, certificate: Certificate) -> None:
    with ScriptedS3(WHOLE, WHOLE, tls=certificate) as apache:
        arguments = ("http://s3.example", "--url", f"https://localhost:{apache.port}", "--force")
        outcome = get(*arguments)
        assert outcome.status == 1 and "the certificate for localhost cannot be verified" in outcome.err
        assert "--ca-file names its authority" in outcome.err
        assert get(*arguments, "--ca-file", str(certificate.root)).status == 0
        assert get(*arguments, "--insecure").status == 0
        outcome = get(*arguments, "--ca-file", str(certificate.key))
        assert outcome.status == 2 and "--ca-file cannot be used" in outcome.err


def test_a_server_that_does_not_speak_tls(get: Run) -> None:
    def refuse(connection: Connection) -> None:
        connection.send(answer(400))
        connection.wait()

    with ScriptedS3(accepted=refuse) as plain:
        outcome = get("http://s3.example", "--url", f"https://127.0.0.1:{plain.port}")
        plain.release()
    assert outcome.status == 1 and ": TLS: " in outcome.err


def test_a_server_that_does_not_connect(get: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object) -> socket.socket:
        raise TimeoutError("timed out")

    monkeypatch.setattr("usp_s3_wsgi.transport.happy_eyeballs.connect", connect)
    outcome = get("http://s3.example", "--url", "http://127.0.0.1:1")
    assert outcome.status == 1 and "127.0.0.1 port 1: no connection within 5 s" in outcome.err


def test_a_connection_to_the_server_is_kept(get: Run) -> None:
    with ScriptedS3(WHOLE, WHOLE) as apache:
        outcome = get("http://s3.example", "--url", f"http://localhost:{apache.port}", "--repeat", "2", "--json")
    assert outcome.status == 0 and apache.requests[-1].connection == 1
    times = outcome.json["downloads"][0]["times"]
    assert [(one["lookup"] is None, one["connect"] is None) for one in times] == [(False, False), (True, True)]


def test_the_name_must_be_that_of_the_certificate(get: Run, certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate, host="127.0.0.2") as apache:
        outcome = get("http://s3.example", "--url", apache.url, "--ca-file", str(certificate.root))
        assert outcome.status == 1 and "cannot be verified: IP address mismatch" in outcome.err


# ---------------------------------------------------------------- --compare


def compare(get: Run, s3: Step, apache: Step, *arguments: str) -> Outcome:
    with ScriptedS3(s3) as one, ScriptedS3(apache) as other:
        return get(one.url, "--url", other.url, "--compare", "--json", *arguments)


def test_equal(get: Run, folder: Path) -> None:
    outcome = compare(get, WHOLE, WHOLE)
    assert outcome.status == 0
    assert (outcome.json["equal"], outcome.json["first_difference"], outcome.json["file"]) == (True, None, None)
    assert [one["way"] for one in outcome.json["downloads"]] == ["s3", "apache"]
    assert "The bytes and headers are equal." in outcome.err
    assert files(folder) == []


@pytest.mark.parametrize(
    ("other", "position"),
    [
        (OBJECT[:70_000] + b"X" + OBJECT[70_001:], 70_000),
        (OBJECT[:70_000], 70_000),
        (OBJECT + b"x", 102_400),
        (b"", 0),
    ],
    ids=["other", "shorter", "longer", "empty"],
)
def test_different(get: Run, folder: Path, other: bytes, position: int) -> None:
    outcome = compare(get, WHOLE, answer(200, other, ("ETag", ETAG)), "-o", "kept")
    assert outcome.status == 1
    assert (outcome.json["equal"], outcome.json["first_difference"]) == (False, position)
    assert f"The bytes differ from byte {position} on" in outcome.err
    assert (folder / "kept").read_bytes() == OBJECT


def test_different_in_a_range(get: Run) -> None:
    other = OBJECT[:105] + b"X" + OBJECT[106:]
    outcome = compare(get, part(100, end=200), part(100, other, end=200), "--range", "100-199")
    assert outcome.json["first_difference"] == 105


def test_different_headers(get: Run) -> None:
    outcome = compare(get, WHOLE, answer(200, OBJECT, ("ETag", '"y"'), ("Cache-Control", "max-age=60")))
    assert outcome.status == 0 and outcome.json["different_headers"] == ["ETag", "Cache-Control"]
    assert "The bytes are equal, but these headers differ: ETag, Cache-Control." in outcome.err


def test_one_fails(get: Run, folder: Path) -> None:
    outcome = compare(get, error(404, "NoSuchKey"), WHOLE)
    assert outcome.status == 1 and outcome.json["equal"] is None
    assert [one["complete"] for one in outcome.json["downloads"]] == [False, True]
    outcome = compare(get, WHOLE, broken(WHOLE), "-o", "kept")
    assert outcome.status == 1 and "Apache broke off after 50,000" in outcome.err
    assert files(folder) == ["kept"]


def test_repeated(get: Run) -> None:
    with ScriptedS3(WHOLE, WHOLE) as s3, ScriptedS3(WHOLE, close) as apache:
        outcome = get(s3.url, "--url", apache.url, "--compare", "--repeat", "2")
    assert outcome.status == 1 and "closed without a response" in outcome.err
