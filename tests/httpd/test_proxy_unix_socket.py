"""A bucket behind a Unix socket is signed if the URL of its section, or the ProxyPass, names the same socket."""

from __future__ import annotations

import pytest

from tests.httpd.server import Httpd
from tests.httpd.tap import ATTACKER_BODY, Tap
from tests.httpd.ways import keys, section

URL = "http://films.example/bucket"
WITH_SOCKET = f"unix:${{ROOT}}/s3.sock|{URL}"
PASS = f'ProxyPass /media "{WITH_SOCKET}"'
RULE = f'RewriteEngine On\nRewriteRule ^/media/(.*) "{WITH_SOCKET}/$1" [P]'
HANDLER = f'<Location /media>\nSetHandler "proxy:{WITH_SOCKET}/"\n</Location>'


@pytest.mark.parametrize(
    ("directive", "section_url", "is_signed"),
    [
        (PASS, URL, True),
        (RULE, WITH_SOCKET, True),
        (RULE, URL, False),
        (HANDLER, WITH_SOCKET, True),
        (HANDLER, URL, False),
    ],
    ids=["pass", "rule", "rule-without-socket", "handler", "handler-without-socket"],
)
def test_the_socket_is_in_the_section(directive: str, section_url: str, is_signed: bool) -> None:
    with Httpd(f"{directive}\n{section(section_url, *keys('KEY'))}") as httpd:
        with Tap(path=httpd.root / "s3.sock") as s3:
            if not is_signed:
                httpd.expect_error("USPS30812: |USPS30101: .*write <Proxy .unix:")
            reply = httpd.fetch("/media/a.ts")
            assert (reply.status, reply.body == ATTACKER_BODY) == ((200, True) if is_signed else (500, False))
            assert (b"Signature=" in s3.received) == bool(s3.received) == is_signed
    assert httpd.unexpected == []
