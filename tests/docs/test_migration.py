"""docs/migration.md: its configurations are those that ``usp-s3 convert`` prints, and its table of differences is true.

The left column of the table is what mod_proxy does by itself, without a module that signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_troubleshooting import (
    DENIED,
    DOCS,
    FILM,
    NO_SUCH_KEY,
    REQUEST_ID,
    SLOW_DOWN,
    DefaultFormat,
    WithoutModuleAndFormat,
    bucket,
    proxy,
    scripted,
)
from tests.faults.server import answer, error
from tests.httpd.server import Httpd
from usp_s3_wsgi.cli.main import main

#: The statuses of mod_proxy by itself, and with this package, for S3's answers.
STATUSES = {
    "wrong key": (error(403, "SignatureDoesNotMatch"), 403, 502),
    "wrong clock": (error(403, "RequestTimeTooSkewed"), 403, 502),
    "wrong region": (error(400, "AuthorizationHeaderMalformed"), 400, 502),
    "no such bucket": (error(404, "NoSuchBucket"), 404, 502),
    "slow down": (SLOW_DOWN, 503, 503),
    "failure": (error(500, "InternalError"), 500, 503),
    "no such object": (NO_SUCH_KEY, 404, 404),
    "denied": (DENIED, 403, 403),
}
#: The rows of the table about these answers.
ROWS = {
    "S3 rejects key, signature, clock, region or bucket": (
        "wrong key",
        "wrong clock",
        "wrong region",
        "no such bucket",
    ),
    "S3 asks to slow down, or fails": ("slow down", "failure"),
    "no such object": ("no such object",),
    "access to the object denied": ("denied",),
}
WAYS = ("alone", "package")


def apache_blocks() -> list[str]:
    text = (DOCS / "migration.md").read_text("utf-8")
    return re.findall(r"^```apache\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("before", "after", "options"),
    [(0, 1, ()), (0, 2, ("--to", "gateway")), (3, 4, ())],
    ids=["proxy", "gateway", "container"],
)
def test_the_blocks_are_what_convert_prints(
    before: int, after: int, options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = apache_blocks()
    file = tmp_path / "site.conf"
    file.write_text(blocks[before])
    assert main(["convert", *options, str(file)]) == 0
    assert capsys.readouterr().out.strip() == blocks[after].strip()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Httpd]]:
    with WithoutModuleAndFormat(bucket(proxy())) as alone, DefaultFormat(bucket(proxy())) as package:
        package.expect_error("usp_s3_wsgi: S3 answered")
        yield {"alone": alone, "package": package}
    assert alone.unexpected == package.unexpected == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", STATUSES)
def test_status_and_body(servers: dict[str, Httpd], name: str, way: str) -> None:
    step, *statuses = STATUSES[name]
    with scripted(step):
        reply = servers[way].fetch("/media/film.mp4")
    assert reply.status == statuses[WAYS.index(way)]
    assert (b"<Code>" in reply.body) == (way == "alone")
    if way == "package" and reply.status == 503:
        assert "Retry-After" in reply.headers


@pytest.mark.parametrize("row", ROWS)
def test_the_table_has_these_statuses(row: str) -> None:
    (cells,) = re.findall(rf"^\| {row} \| (.*) \| (.*) \|$", (DOCS / "migration.md").read_text("utf-8"), re.MULTILINE)
    alone, package = ([int(status) for status in re.findall(r"\b[1-5]\d\d\b", cell)] for cell in cells)
    assert set(alone) == {STATUSES[name][1] for name in ROWS[row]}
    assert {package[0]} == {STATUSES[name][2] for name in ROWS[row]}  # a second one is that of S3DeniedStatus


@pytest.mark.parametrize("way", WAYS)
def test_headers_and_query(servers: dict[str, Httpd], way: str) -> None:
    with scripted(answer(200, b"a film", REQUEST_ID)) as s3:
        reply = servers[way].fetch("/media/film.mp4?token=x", cookie="c=1", authorization="Basic eDp5")
        (request,) = s3.requests
    sent = {name for name in ("cookie", "x-forwarded-for") if name in request.headers}
    assert sent == ({"cookie", "x-forwarded-for"} if way == "alone" else set())
    assert (request.headers["authorization"] == "Basic eDp5") == (way == "alone")
    assert ("token" in request.target) == (way == "alone")
    assert ("x-amz-request-id" in reply.headers) == (way == "alone")


@pytest.mark.parametrize("way", WAYS)
def test_methods(servers: dict[str, Httpd], way: str) -> None:
    with scripted(*([FILM] if way == "alone" else [])) as s3:
        status = servers[way].fetch("/media/film.mp4", method="DELETE").status
    assert (status, [request.method for request in s3.requests]) == ((200, ["DELETE"]) if way == "alone" else (405, []))


@pytest.mark.parametrize("way", WAYS)
def test_the_bucket_itself(servers: dict[str, Httpd], way: str) -> None:
    with scripted(*([FILM] if way == "alone" else [])) as s3:
        assert servers[way].fetch("/media/").status == (200 if way == "alone" else 404)
        assert [request.target for request in s3.requests] == (["/bucket/"] if way == "alone" else [])
