"""URLs and paths as mod_proxy compares them, and the literal parts of patterns.

mod_proxy compares the URL of a request with ``<Proxy>`` sections letter by letter, as the directive has it
(``proxy_walk``). Afterwards it makes the URL canonical (``proxy_http_canon``), and usp_s3_module looks for sections
of the canonical URL again.
"""

from __future__ import annotations

import re

_URL = re.compile(r"(?P<scheme>https?|h2c?):(?P<slashes>//)(?P<authority>[^/?#]*)(?P<path>.*)", re.I | re.S)
_DEFAULT_PORTS = {"http": "80", "https": "443", "h2": "443", "h2c": "80"}


def canonical(url: str) -> str:
    """Return the URL in mod_proxy's canonical form: lowercase scheme and host, without the scheme's default port."""
    match = _URL.fullmatch(url)
    if match is None:
        return url
    scheme, authority = match["scheme"].lower(), match["authority"].rpartition("@")[2].lower()
    host, colon, port = authority.rpartition(":")
    if colon and port.isdigit():
        port = str(int(port))
        authority = host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"
    return f"{scheme}://{authority}{match['path']}"


def authority(url: str) -> str:
    """Return scheme, host and port of a canonical URL: ``http://host:port``; empty if one of them is missing."""
    match = re.match(r"[^:/]+://[^/?#]+", url)
    return match[0] if match else ""


def without_secrets(url: str) -> str:
    """Return a URL for a log: without user and password, and without the query, which may be a signature."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url.partition("?")[0])


def socket_prefix(url: str) -> str:
    """Return the ``unix:PATH|`` before the URL of a unix socket, empty for another URL."""
    return url[: url.index("|") + 1] if url[:5].lower() == "unix:" and "|" in url else ""


def without_socket(url: str) -> str:
    """Return the URL after ``unix:PATH|``; another URL as it is."""
    if url[:5].lower() == "unix:" and "|" in url:
        url = url.partition("|")[2]
        return url if url.rstrip("/") and not url.endswith((":", "://")) else f"{url.rstrip('/')}//localhost"
    return url


def is_below(url: str, section_url: str, is_literal: bool = True) -> bool:
    """Whether every URL that begins with ``url`` is below the URL of a section.

    ``is_literal``: only a path follows ``url``, or nothing.
    """
    if not url.startswith(section_url):
        return is_literal and f"{url}/" == section_url
    rest = url[len(section_url) :]
    return section_url.endswith("/") or (rest[0] in "/?" if rest else is_literal)


def is_partly_below(url: str, section_url: str, is_literal: bool = True) -> bool:
    """Whether some URLs that begin with ``url`` are below the URL of a section."""
    if not section_url.startswith(url):
        return False
    return not is_literal or url.endswith("/") or section_url[len(url) : len(url) + 1] in {"/", ""}


def is_path_below(path: str, above: str) -> bool:
    """Whether a path is the same as another one, or below it."""
    above = above.rstrip("/")
    return path == above or path.startswith(f"{above}/")


def common_path(regex: str) -> str | None:
    """Return a path that all paths which match a regular expression are below; None if it is unknown."""
    match = re.match(r"\^(/[\w/-]*)(.*)", regex, re.S)
    if match is None or "|" in re.sub(r"\(.*\)", "", regex):
        return None
    path, rest = match[1], match[2]
    # The rest may continue the last name of the path, or make its last letter optional.
    return path if rest in {"$", "/?$"} or rest.startswith(("(/", "(?:/")) else path[: path.rindex("/") + 1]


def literal_prefix(regex: str) -> str | None:
    """Return the literal prefix of a pattern of paths, as httpd's module finds it; None if it is empty or a slash."""
    match = re.match(r"\^?([^.\[\]()$*+?{}|\\^]*)([*?{]?)", regex)
    assert match is not None
    text = match[1][:-1] if match[2] else match[1]
    return text if len(text) > 1 else None
