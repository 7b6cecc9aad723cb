"""Finds the address at which httpd serves a place of its configuration, and the name that leads to its virtual host.

No name is resolved: a client connects to what httpd listens on, and sends the server's name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

import click

from usp_s3_wsgi.cli.server.httpd_text import to_shown
from usp_s3_wsgi.config.bucket_url import DEFAULT_PORTS
from usp_s3_wsgi.configtest.bucket_use import Place
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.configtest.server_config import Server

_ANY_ADDRESS = frozenset({"", "*", "_default_", "0.0.0.0"})
_ANY_IPV6 = "::"
_LOOPBACK, _LOOPBACK_IPV6 = "127.0.0.1", "::1"
#: The port without a protocol in its Listen directive that httpd takes for one of https.
_HTTPS_PORT = 443
_SERVER_NAME = re.compile(r"(?:https?://)?(?P<host>\[[^\]]*\]|[^:]*)(?::\d+)?", re.IGNORECASE)


class OwnURL(NamedTuple):
    """Where a server is reached. ``address``: to connect to. ``name``: for the Host header, SNI and the certificate."""

    scheme: str
    address: str
    port: int
    name: str

    @property
    def host(self) -> str:
        """The Host header: without the port if it is the default port of the scheme."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if DEFAULT_PORTS[self.scheme] == self.port else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """The server's URL, without a slash at the end."""
        return f"{self.scheme}://{self.host}"


class Endpoint(NamedTuple):
    """An address and port of a Listen or VirtualHost directive; port 0: any. ``protocol``: of a Listen directive."""

    address: str
    port: int
    protocol: str = ""

    @property
    def is_any_address(self) -> bool:
        """Whether it is each address of this machine."""
        return self.address in _ANY_ADDRESS or self.address == _ANY_IPV6

    def overlaps(self, other: Endpoint) -> bool:
        """Whether there are connections that belong to both."""
        is_same_port = self.port == other.port or 0 in {self.port, other.port}
        return is_same_port and (self.is_any_address or other.is_any_address or self.address == other.address)


def own_url(configuration: Configuration, place: Place) -> OwnURL:
    """Return where this server serves a place. Raises: click.UsageError: httpd listens on no port for it."""
    server = place.server
    listening = listen_endpoints(configuration)
    hosts = virtual_host_endpoints(server)
    for listen in _in_order(listening, server):
        # A name, which only httpd may resolve, is any address here.
        matching = next((host for host in hosts if listen.overlaps(host)), None) if hosts else listen
        if matching is not None:
            return _at(server, listen, matching)
    raise click.UsageError(f"httpd listens on no port for {to_shown(place.name)}: name the URL with --url")


def _at(server: Server, listen: Endpoint, host: Endpoint) -> OwnURL:
    scheme = "https" if has_tls(server, listen) else "http"
    chosen = listen if not listen.is_any_address else host
    loopback = _LOOPBACK_IPV6 if listen.address == _ANY_IPV6 else _LOOPBACK
    address = loopback if chosen.is_any_address else chosen.address
    return OwnURL(scheme, address, listen.port, _name(server) or address)


def _in_order(listening: list[Endpoint], server: Server) -> list[Endpoint]:
    """Return what httpd listens on; for the main server, what no virtual host has comes first."""
    if server.directive is not None:
        return listening
    others = [one for host in server.virtual_hosts for one in virtual_host_endpoints(host)]
    return sorted(listening, key=lambda listen: any(listen.overlaps(other) for other in others))


def listen_endpoints(configuration: Configuration) -> list[Endpoint]:
    """Return what httpd listens on."""
    return [
        found
        for directive in configuration.directives
        if directive.name == "listen" and (found := _listen(directive.words)) is not None
    ]


def virtual_host_endpoints(server: Server) -> list[Endpoint]:
    """Return what the tag of a virtual host names, none for the main server; a name is any address here."""
    words = server.directive.words if server.directive is not None else ()
    found = [_split(word) for word in words]
    return [
        one if is_address(one.address) or one.address in _ANY_ADDRESS else one._replace(address="*") for one in found
    ]


def _listen(words: tuple[str, ...]) -> Endpoint | None:
    """https://httpd.apache.org/docs/2.4/mod/mpm_common.html#listen: the address, a port and a protocol."""
    if not words:
        return None
    endpoint = Endpoint("", int(words[0])) if words[0].isdecimal() else _split(words[0])
    protocol = next((word.lower() for word in words[1:] if "=" not in word), "")
    return endpoint._replace(protocol=protocol) if endpoint.port else None


def _split(text: str) -> Endpoint:
    """Split ``address:port``, ``[address]:port``, ``address`` or ``*:*``."""
    match = re.fullmatch(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<address>[^:]*))(?::(?P<port>\d+|\*))?", text)
    if match is None:
        return Endpoint(text.strip("[]"), 0)
    port = match["port"] or ""
    return Endpoint(match["ipv6"] or match["address"] or "", int(port) if port.isdecimal() else 0)


def is_address(text: str) -> bool:
    """Whether this is an IP address, and no name."""
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def has_tls(server: Server, listen: Endpoint) -> bool:
    """Whether mod_ssl serves https: SSLEngine decides, else the protocol of the port."""
    engine = next(_arguments("sslengine", *reversed(server.merge_order)), ())
    if engine:
        return engine[0].lower() == "on"
    return (listen.protocol or ("https" if listen.port == _HTTPS_PORT else "http")) == "https"


def _name(server: Server) -> str:
    """Return the name of the server: a virtual host without one may have an alias."""
    own = [*_arguments("servername", server), *_arguments("serveralias", server)]
    main = _arguments("servername", server.main) if server.main else ()
    for words in (*own, *main):
        for word in words:
            match = _SERVER_NAME.fullmatch(word)
            if match and match["host"] and not re.search(r"[*?]", word):
                return match["host"].strip("[]")
    return ""


def _arguments(name: str, *servers: Server) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of a directive in these servers, the last directive of each first."""
    for server in servers:
        for directive in reversed(server.top_level.directives):
            if directive.name == name:
                yield directive.words
