"""Where this server serves a place of its configuration: address, port, scheme and name, without resolving a name."""

from __future__ import annotations

import click
import pytest

from tests.configurations import configtest_input
from usp_s3_wsgi.cli.server import buckets
from usp_s3_wsgi.cli.server.own_url import OwnURL, own_url
from usp_s3_wsgi.configtest import parsed_config

MOUNT = """
WSGIScriptAlias /media /share/usp_s3.wsgi
<Location /media>
  SetEnv S3BucketURL http://s3.example/b/
  SetEnv S3AccessKey A
  SetEnv S3SecretKey S
</Location>
"""


def found(text: str) -> OwnURL:
    """Where /media of a configuration is served; MOUNT stands for the lines of its bucket."""
    configuration = parsed_config.parse(configtest_input(text.replace("MOUNT", MOUNT)))
    return own_url(configuration, buckets.find(configuration, "/media").place)


def in_host(addresses: str, lines: str = "ServerName media.example") -> str:
    return f"<VirtualHost {addresses}>\n{lines}\nMOUNT\n</VirtualHost>\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The main server.
        ("Listen 80\nServerName a.example\nMOUNT", ("http", "127.0.0.1", 80, "a.example")),
        ("Listen 192.0.2.7:8080\nServerName a.example:80\nMOUNT", ("http", "192.0.2.7", 8080, "a.example")),
        ("Listen [::]:81\nServerName a.example\nMOUNT", ("http", "::1", 81, "a.example")),
        ("Listen [2001:db8::1]:81\nMOUNT", ("http", "2001:db8::1", 81, "2001:db8::1")),
        ("Listen 0.0.0.0:82\nMOUNT", ("http", "127.0.0.1", 82, "127.0.0.1")),
        ("Listen *:83\nMOUNT", ("http", "127.0.0.1", 83, "127.0.0.1")),
        ("Listen 80\nServerName http://a.example:8080\nMOUNT", ("http", "127.0.0.1", 80, "a.example")),
        ("Listen 80\nServerName [2001:db8::2]\nMOUNT", ("http", "127.0.0.1", 80, "2001:db8::2")),
        # A virtual host takes a port away from it.
        (
            "Listen 80\nListen 81\nServerName a.example\nMOUNT\n<VirtualHost *:80>\nServerName b\n</VirtualHost>",
            ("http", "127.0.0.1", 81, "a.example"),
        ),
        # TLS: by SSLEngine, by the protocol of the port, by the port.
        ("Listen 80\nSSLEngine on\nServerName a.example\nMOUNT", ("https", "127.0.0.1", 80, "a.example")),
        ("Listen 8443 https\nServerName a.example\nMOUNT", ("https", "127.0.0.1", 8443, "a.example")),
        ("Listen 8443 options=multipathtcp https\nServerName a\nMOUNT", ("https", "127.0.0.1", 8443, "a")),
        ("Listen 443\nServerName a.example\nMOUNT", ("https", "127.0.0.1", 443, "a.example")),
        ("Listen 443 http\nServerName a.example\nMOUNT", ("http", "127.0.0.1", 443, "a.example")),
        ("Listen 443\nSSLEngine off\nServerName a.example\nMOUNT", ("http", "127.0.0.1", 443, "a.example")),
        # Virtual hosts.
        ("Listen 80\nListen 443\n" + in_host("*:443"), ("https", "127.0.0.1", 443, "media.example")),
        ("Listen 80\nListen 443\n" + in_host("*:80"), ("http", "127.0.0.1", 80, "media.example")),
        ("Listen 80\n" + in_host("192.0.2.9:80"), ("http", "192.0.2.9", 80, "media.example")),
        ("Listen 80\n" + in_host("192.0.2.9"), ("http", "192.0.2.9", 80, "media.example")),
        ("Listen 80\n" + in_host("[2001:db8::9]:80"), ("http", "2001:db8::9", 80, "media.example")),
        (
            "Listen 192.0.2.8:80\nListen 192.0.2.9:80\n" + in_host("192.0.2.9:80"),
            ("http", "192.0.2.9", 80, "media.example"),
        ),
        ("Listen 80\nListen 81\n" + in_host("_default_:81 *:82"), ("http", "127.0.0.1", 81, "media.example")),
        ("Listen 80\n" + in_host("media.example:80"), ("http", "127.0.0.1", 80, "media.example")),
        ("Listen 80\n" + in_host("*:*"), ("http", "127.0.0.1", 80, "media.example")),
        # Names.
        (
            "Listen 80\nServerName a\n" + in_host("*:80", "ServerAlias *.x.example y.example"),
            ("http", "127.0.0.1", 80, "y.example"),
        ),
        ("Listen 80\nServerName a\n" + in_host("*:80", "ServerAlias *.x.example"), ("http", "127.0.0.1", 80, "a")),
        ("Listen 80\n" + in_host("*:80", ""), ("http", "127.0.0.1", 80, "127.0.0.1")),
        ("Listen 80\nSSLEngine on\n" + in_host("*:80"), ("https", "127.0.0.1", 80, "media.example")),
        ("Listen 80\nSSLEngine on\n" + in_host("*:80", "SSLEngine off"), ("http", "127.0.0.1", 80, "127.0.0.1")),
    ],
)  # fmt: skip
def test_where_a_place_is_served(text: str, expected: tuple[str, str, int, str]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize("text", ["MOUNT", "Listen\nMOUNT", "Listen x\nMOUNT", "Listen 80\n" + in_host("*:81")])
def test_httpd_listens_on_no_port_for_it(text: str) -> None:
    with pytest.raises(click.UsageError, match="httpd listens on no port for /media: name the URL with --url"):
        found(text)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (OwnURL("http", "127.0.0.1", 80, "a.example"), "http://a.example"),
        (OwnURL("https", "127.0.0.1", 443, "a.example"), "https://a.example"),
        (OwnURL("https", "127.0.0.1", 80, "a.example"), "https://a.example:80"),
        (OwnURL("http", "::1", 81, "2001:db8::1"), "http://[2001:db8::1]:81"),
    ],
)
def test_its_url(url: OwnURL, text: str) -> None:
    assert url.url == text
    assert url.host == text.partition("//")[2]
