"""Where the status page of this machine's httpd is, according to its configuration.

Only loopback is asked: the page is for this machine alone unless the operator changes that, and it shows itself to a
client on this machine at an address or as localhost only (``status.responses.may_be_rebound``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

import click

from usp_s3_wsgi.cli.server import own_url
from usp_s3_wsgi.cli.server.own_url import Endpoint
from usp_s3_wsgi.configtest import gateway_mounts
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.configtest.server_config import Server, build_servers
from usp_s3_wsgi.configtest.urls import common_path

_SCRIPT = "usp_s3_status.wsgi"
_HTTPS_PORT = 443


class StatusURL(NamedTuple):
    """Where to connect to; ``host``: IPv6 without brackets. ``path``: of the mount, without a slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, as in a URL."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"


def parse(text: str) -> StatusURL:
    """Return the URL that ``--status`` names. Raises: click.BadParameter."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise click.BadParameter("must be a URL such as http://127.0.0.1/usp-s3/status.") from None
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc:
        raise click.BadParameter("must be a URL such as http://127.0.0.1/usp-s3/status, without a password.")
    if (address := loopback(host)) is None:
        raise click.BadParameter(
            "must be at 127.0.0.1, [::1] or localhost. For another server: ssh -L 8000:127.0.0.1:80 SERVER, "
            "and http://127.0.0.1:8000/usp-s3/status."
        )
    default_port = _HTTPS_PORT if parts.scheme == "https" else 80
    path = parts.path.rstrip("/").removesuffix("/json").rstrip("/")
    return StatusURL(parts.scheme, address, port or default_port, path)


def loopback(host: str) -> str | None:
    """Return the address of loopback that a host stands for, None if it does not."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        return host if ipaddress.ip_address(host).is_loopback else None
    except ValueError:
        return None


def find(configuration: Configuration) -> list[StatusURL]:
    """Return where the status page may be, the most likely place first; empty if it is not configured."""
    servers = build_servers(configuration.directives)
    listening = [(listen, host) for listen in own_url.listen_endpoints(configuration) if (host := _host(listen))]
    found: dict[StatusURL, None] = {}
    for server in servers:
        for path in _paths(server):
            for listen, host in listening:
                if server.main is None or _serves(server, listen):
                    answering = [one for one in servers if one.main and _serves(one, listen)] or servers[:1]
                    has_tls = any(own_url.has_tls(one, listen) for one in answering)
                    found[StatusURL("https" if has_tls else "http", host, listen.port, path.rstrip("/"))] = None
    return list(found)


def is_configured(configuration: Configuration) -> bool:
    """Whether the configuration has a status page, even if it is not known how to reach it."""
    return any(True for server in build_servers(configuration.directives) for _ in _paths(server))


def error_logs(configuration: Configuration, run_configuration: str) -> list[str]:
    """Return the files of the error logs, that of the main server first.

    ``run_configuration``: what httpd prints with DUMP_RUN_CFG, which has the ServerRoot; without it, a relative path
    stays one.
    """
    root = re.search(r'^ServerRoot: "([^"]*)"$', run_configuration, re.MULTILINE)
    main = re.search(r'^Main ErrorLog: "(/[^"]*)"$', run_configuration, re.MULTILINE)
    found: dict[str, None] = {main[1]: None} if main else {}
    for server in build_servers(configuration.directives):
        for one in server.top_level.directives:
            if one.name == "errorlog" and one.words and not one.words[0].startswith(("|", "syslog")):
                found[str(PurePosixPath(root[1] if root else "", one.words[0]))] = None
    return list(found)


def _paths(server: Server) -> Iterator[str]:
    """Yield the paths of the status page: of a WSGIScriptAlias, and of the RewriteRule in health.conf."""
    for mount in gateway_mounts.mounts(server):
        if PurePosixPath(mount.directive.words[1]).name == _SCRIPT and mount.path:
            yield mount.path
    for section in (server.top_level, *server.sections):
        for child in section.directives:
            if child.name == "rewriterule" and len(child.words) > 1:
                script = PurePosixPath(child.words[1].partition("$")[0]).name
                if script == _SCRIPT and (path := common_path(child.words[0])):
                    yield path


def _host(endpoint: Endpoint) -> str | None:
    """Return the address of loopback that an endpoint includes, None if it has none."""
    return "127.0.0.1" if endpoint.is_any_address else loopback(endpoint.address)


def _serves(server: Server, listen: Endpoint) -> bool:
    """Whether requests to this endpoint on loopback may be those of a virtual host."""
    return any(listen.overlaps(one) and _host(one) for one in own_url.virtual_host_endpoints(server))
