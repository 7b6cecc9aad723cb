"""A section that mod_proxy would apply in another spelling alone: never signed by it, and never sent without it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.httpd.ways import WAYS, assert_refused, assert_told, keys, led, lines_of, section, serving

#: The URL that a way leads to, a section's for it, and what the line about it must hold.
SPELLINGS = {
    "scheme": ("http://@HOST@:@PORT@/bucket", "HTTP://@HOST@:@PORT@/bucket", "http://@HOST@:@PORT@/bucket"),
    "host": ("http://@HOST@:@PORT@/bucket", "http://@UPPER@:@PORT@/bucket", "http://@HOST@:@PORT@/bucket"),
    "port": ("http://@HOST@/bucket", "http://@HOST@:80/bucket", "http://@HOST@/bucket"),
    "whole-host": ("http://@HOST@:@PORT@/bucket", "http://@UPPER@:@PORT@", "http://@HOST@:@PORT@/"),
}


def spelt(kind: str, way: str, port: int) -> list[str]:
    host = f"{way}.localhost"
    values = {"@HOST@": host, "@UPPER@": host.title(), "@PORT@": str(port)}
    return [re.sub("@[A-Z]+@", lambda match: values[match[0]], text) for text in SPELLINGS[kind]]


@pytest.fixture(scope="module", params=SPELLINGS)
def misspelt(
    request: pytest.FixtureRequest,
    bucket_server: Recorder,
    localhost_names: Path,
) -> Iterator[tuple[Httpd, str]]:
    parts = []
    for way in WAYS:
        url, written, _ = spelt(request.param, way, bucket_server.port)
        parts += [led(way, way, url), section(written, *keys("KEY"))]
    told = "mod_proxy does not apply this section to the requests of"
    with serving(localhost_names, *parts, names=list(WAYS), told=told) as httpd:
        yield httpd, request.param


@pytest.mark.parametrize("way", WAYS)
def test_a_section_in_another_spelling_is_refused_with_the_right_one(
    misspelt: tuple[Httpd, str],
    bucket: Recorder,
    way: str,
) -> None:
    httpd, kind = misspelt
    httpd.expect_error("AH00957|AH01114|AH01102|AH00940|AH00959")  # nobody listens on port 80
    _, written, right = spelt(kind, way, bucket.port)
    assert_refused(httpd, way, "main", re.escape(right))
    assert bucket.signers() == [], written


def test_both_in_the_same_other_spelling_are_signed(
    bucket: Recorder,
    localhost_names: Path,
    checked: list[Httpd],
) -> None:
    """mod_proxy applies the section of a ProxyPass that is spelt alike."""
    url = f"HTTP://B.Localhost:{bucket.port}/bucket"
    httpd = Httpd(f"ProxyPass /media {url}\n{section(url, *keys('KEY'))}", preload=localhost_names)
    checked.append(httpd)
    httpd.start()
    assert (httpd.fetch("/media/a.ts").status, bucket.signers()) == (200, ["KEY/r"])


def test_the_right_spelling_beside_the_other_one_is_signed(
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
def six() -> Iterator[Recorder]:
    try:
        server = Recorder("::1").__enter__()
    except OSError:
        pytest.skip("this machine has no ::1")
    yield server
    server.__exit__(None, None, None)


def test_a_section_of_an_ipv6_address_is_refused_with_what_to_write(six: Recorder, checked: list[Httpd]) -> None:
    """httpd takes its brackets for a pattern, which never matches."""
    url = f"http://[::1]:{six.port}/bucket"
    httpd = Httpd(f"ProxyPass /media {url}\n{section(url, *keys('KEY'))}")
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/media/a.ts").status == 500
    told, line = lines_of(httpd)
    right = f'write <ProxyMatch "^http://[[]::1]:{six.port}/bucket/">'
    assert right in told and right in line, (told, line)
    assert six.signers() == []


IPV6 = {
    "told": '<ProxyMatch "^http://[[]::1]:@PORT@/bucket/">\n@ALL@\nSetEnv S3BucketURL @URL@/\n</ProxyMatch>',
    "ProxyMatch": '<ProxyMatch "^http://\\[::1\\]:@PORT@/bucket/">\n@ALL@\nSetEnv S3BucketURL @URL@/\n</ProxyMatch>',
    "Proxy": '<Proxy "http://\\[::1\\]:@PORT@/bucket/*">\n@ALL@\nSetEnv S3BucketURL @URL@/\n</Proxy>',
    "Location": "<Location /media>\n@ALL@\n</Location>",
}


@pytest.mark.parametrize("form", IPV6)
def test_an_ipv6_address_in_a_form_that_httpd_knows(six: Recorder, form: str, checked: list[Httpd]) -> None:
    url = f"http://[::1]:{six.port}/bucket"
    text = IPV6[form].replace("@ALL@", "\n".join(keys("KEY"))).replace("@URL@", url).replace("@PORT@", str(six.port))
    httpd = Httpd(f"ProxyPass /media {url}\n{text}")
    checked.append(httpd)
    httpd.start()
    assert_told(httpd, "")
    assert httpd.fetch("/media/a.ts").status == 200
    assert six.signers() == ["KEY/r"]
