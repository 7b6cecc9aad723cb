"""Checks whether a running httpd serves a bucket's path: with the same answer as S3's own."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import NamedTuple

import click

from usp_s3_wsgi.cli.check.result import Result, fine, look, not_tested, wrong
from usp_s3_wsgi.cli.check.s3_requests import FIRST_BYTE, SUCCESS, Answer
from usp_s3_wsgi.cli.check.signed_requests import Key
from usp_s3_wsgi.cli.server.own_url import OwnURL, own_url
from usp_s3_wsgi.cli.server.unverified_tls import unverified_context
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.bucket_use import Place
from usp_s3_wsgi.configtest.parsed_config import Configuration

_NAME = "through httpd"
#: Seconds for the connection, and for the response beyond the time that the bucket itself has.
_TIMEOUT = 10.0
_RELOAD = "reload httpd if the configuration has changed (apachectl graceful), and see its error log"
_DENIED = "httpd's own rules deny it, or it goes out unsigned: see the error log, and the findings about the settings"


def check(configuration: Configuration, place: Place, settings: Settings, key: Key, direct: Answer) -> Iterator[Result]:
    """Yield the result for an object that S3 itself has answered with ``direct``; nothing if its path is not known."""
    if key.own_target is None:
        return
    try:
        server = own_url(configuration, place)
        own = _request(server, key.own_target, settings.proxy_set.timeout)
    except (click.UsageError, OSError, ValueError, http.client.HTTPException) as error:
        yield not_tested(_NAME, f"httpd does not answer: {_reason(error)}")
        return
    status, shown = own.status, f"{server.url}{place.path}"
    expected = SUCCESS if direct.is_success else {direct.status}
    expected = expected | ({settings.denied_status} if direct.status == 403 else set())
    if not direct.is_success and settings.fallback is not None and status in SUCCESS:
        yield fine(_NAME, f"{shown}: {status}, from the fallback bucket")
    elif status in expected and not direct.is_success and not own.is_of_gateway:
        text = f"{shown}: {status}, as S3 itself, and as httpd for paths that it does not have"
        yield not_tested(_NAME, f"{text}: name an object with --key")
    elif status in expected:
        yield fine(_NAME, f"{shown}: {status}, as S3 itself")
    elif status in {401, 403}:
        yield look(_NAME, f"{shown}: {status}, but S3 itself answers {direct.status}", _DENIED)
    elif status in {301, 302, 303, 307, 308}:
        yield look(_NAME, f"{shown}: {status}: httpd redirects this request", "check the URL that clients use")
    elif status == 404:
        yield wrong(_NAME, f"{shown}: 404, but S3 has the object", f"another directive may handle the path: {_RELOAD}")
    else:
        yield wrong(_NAME, f"{shown}: {status}, but S3 itself answers {direct.status}", _RELOAD)


def check_path(configuration: Configuration, place: Place, path: str) -> Result:
    """Return the result for a path whose settings rules compute for each request. ``path``: percent-encoded."""
    try:
        server = own_url(configuration, place)
        status = _request(server, path, _TIMEOUT).status
    except (click.UsageError, OSError, ValueError, http.client.HTTPException) as error:
        return not_tested(_NAME, f"httpd does not answer: {_reason(error)}")
    shown = f"{server.url}{path}: {status}"
    if status in SUCCESS:
        return fine(_NAME, shown)
    if status == 404:
        return look(
            _NAME, f"{shown}: no such object, or the map has no such bucket", "name an existing object with --path"
        )
    if status in {401, 403}:
        return look(_NAME, f"{shown}: httpd's rules or S3 deny this request", _DENIED)
    return wrong(_NAME, shown, _RELOAD)


class _OwnAnswer(NamedTuple):
    """This server's answer. ``is_of_gateway``: it has the text with which the gateway answers an error."""

    status: int
    is_of_gateway: bool


def _request(server: OwnURL, path: str, timeout: float) -> _OwnAnswer:
    """Return the answer to a GET of one byte. Raises: OSError, ValueError, HTTPException: there is none."""
    connection: http.client.HTTPConnection
    if server.scheme == "https":
        # Its own certificate may be for a name that does not lead here. No secret is sent.
        connection = _TLSConnection(server, timeout + _TIMEOUT)
    else:
        connection = http.client.HTTPConnection(server.address, server.port, timeout=timeout + _TIMEOUT)
    try:
        connection.request("GET", path, headers={"Host": server.host, FIRST_BYTE[0]: FIRST_BYTE[1]})
        response = connection.getresponse()
        text = f"{response.status} {response.reason}\n".encode("latin-1")
        is_text = (response.getheader("Content-Type") or "").startswith("text/plain")
        return _OwnAnswer(response.status, is_text and response.read(len(text) + 1) == text)
    finally:
        connection.close()


class _TLSConnection(http.client.HTTPSConnection):
    """Connects to the address, and asks for the server's name."""

    def __init__(self, server: OwnURL, timeout: float) -> None:
        self._name, self._tls = server.name, unverified_context()
        super().__init__(server.address, server.port, timeout=timeout, context=self._tls)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
