"""A section whose URL is spelled in another way than the request's: mod_proxy does not apply it.

Such a request is neither signed nor sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.httpd.ways import (
    WAYS,
    assert_configtest_reports,
    assert_rejected,
    keys,
    log_lines,
    proxy_config,
    running,
    section,
)

#: The URL that is requested, the section's URL for it, and the spelling that the log line must suggest.
SPELLINGS = {
    "scheme": ("http://@HOST@:@PORT@/bucket", "HTTP://@HOST@:@PORT@/bucket", "http://@HOST@:@PORT@/bucket"),
    "host": ("http://@HOST@:@PORT@/bucket", "http://@UPPER@:@PORT@/bucket", "http://@HOST@:@PORT@/bucket"),
    "port": ("http://@HOST@/bucket", "http://@HOST@:80/bucket", "http://@HOST@/bucket"),
    "whole-host": ("http://@HOST@:@PORT@/bucket", "http://@UPPER@:@PORT@", "http://@HOST@:@PORT@/"),
}


def spell(kind: str, way: str, port: int) -> list[str]:
    host = f"{way}.localhost"
    values = {"@HOST@": host, "@UPPER@": host.title(), "@PORT@": str(port)}
    return [re.sub("@[A-Z]+@", lambda match: values[match[0]], text) for text in SPELLINGS[kind]]


@pytest.fixture(scope="module", params=SPELLINGS)
def misspelled(
    request: pytest.FixtureRequest,
    bucket_server: Recorder,
    localhost_names: Path,
) -> Iterator[tuple[Httpd, str]]:
    parts = []
    for way in WAYS:
        url, section_url, _ = spell(request.param, way, bucket_server.port)
        parts += [proxy_config(way, way, url), section(section_url, *keys("KEY"))]
    reported = "mod_proxy does not apply this section to the requests of"
    with running(localhost_names, *parts, names=list(WAYS), configtest=reported) as httpd:
        yield httpd, request.param


@pytest.mark.parametrize("way", WAYS)
def test_the_log_suggests_the_right_spelling(
    misspelled: tuple[Httpd, str],
    bucket: Recorder,
    way: str,
) -> None:
    httpd, kind = misspelled
    httpd.expect_error("AH00957|AH01114|AH01102|AH00940|AH00959")  # no server listens on port 80
    _, section_url, right = spell(kind, way, bucket.port)
    assert_rejected(httpd, way, "main", re.escape(right))
    assert bucket.signers() == [], section_url


def test_the_same_unusual_spelling_in_both_is_signed(
    bucket: Recorder,
    localhost_names: Path,
    checked: list[Httpd],
) -> None:
    """mod_proxy applies a section to a ProxyPass that is spelled in the same way."""
    url = f"HTTP://B.Localhost:{bucket.port}/bucket"
    httpd = Httpd(f"ProxyPass /media {url}\n{section(url, *keys('KEY'))}", preload=localhost_names)
    checked.append(httpd)
    httpd.start()
    assert (httpd.fetch("/media/a.ts").status, bucket.signers()) == (200, ["KEY/r"])


def test_the_usual_spelling_is_signed(
    bucket: Recorder,
    localhost_names: Path,
    checked: list[Httpd],
) -> None:
    url = bucket.url("b", "/bucket")
    httpd = Httpd(f"ProxyPass /media {url}\n{section(url, *keys('KEY'))}", preload=localhost_names)
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/media/a.ts").status == 200
    assert bucket.signers() == ["KEY/r"]


@pytest.fixture
def ipv6_server() -> Iterator[Recorder]:
    try:
        server = Recorder("::1").__enter__()
    except OSError:
        pytest.skip("this machine has no ::1")
    yield server
    server.__exit__(None, None, None)


def test_a_section_of_an_ipv6_address_is_rejected_with_a_suggestion(
    ipv6_server: Recorder, checked: list[Httpd]
) -> None:
    """httpd parses its brackets as a pattern, which never matches."""
    url = f"http://[::1]:{ipv6_server.port}/bucket"
    httpd = Httpd(f"ProxyPass /media {url}\n{section(url, *keys('KEY'))}")
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/media/a.ts").status == 500
    of_configtest, of_request = log_lines(httpd)
    right = f'write <ProxyMatch "^http://[[]::1]:{ipv6_server.port}/bucket/">'
    assert right in of_configtest and right in of_request, (of_configtest, of_request)
    assert ipv6_server.signers() == []


IPV6 = {
    "suggestion": '<ProxyMatch "^http://[[]::1]:@PORT@/bucket/">\n@ALL@\nSetEnv S3BucketURL @URL@/\n</ProxyMatch>',
    "ProxyMatch": '<ProxyMatch "^http://\\[::1\\]:@PORT@/bucket/">\n@ALL@\nSetEnv S3BucketURL @URL@/\n</ProxyMatch>',
    "Proxy": '<Proxy "http://\\[::1\\]:@PORT@/bucket/*">\n@ALL@\nSetEnv S3BucketURL @URL@/\n</Proxy>',
    "Location": "<Location /media>\n@ALL@\n</Location>",
}


@pytest.mark.parametrize("form", IPV6)
def test_an_ipv6_address_that_httpd_parses_is_signed(ipv6_server: Recorder, form: str, checked: list[Httpd]) -> None:
    url = f"http://[::1]:{ipv6_server.port}/bucket"
    text = (
        IPV6[form]
        .replace("@ALL@", "\n".join(keys("KEY")))
        .replace("@URL@", url)
        .replace("@PORT@", str(ipv6_server.port))
    )
    httpd = Httpd(f"ProxyPass /media {url}\n{text}")
    checked.append(httpd)
    httpd.start()
    assert_configtest_reports(httpd, "")
    assert httpd.fetch("/media/a.ts").status == 200
    assert ipv6_server.signers() == ["KEY/r"]
