"""Which directives make mod_proxy send requests, and to which URLs.

mod_proxy compares the URL of a request with ``<Proxy>`` sections letter by letter, as the directive has it
(``proxy_walk``); afterwards it makes it canonical (``proxy_http_canon``), and for that URL usp_s3_module looks again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote, urlsplit

from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.server_config import Section, Server

_URL = re.compile(r"(?P<scheme>https?|h2c?):(?P<slashes>//)(?P<authority>[^/?#]*)(?P<path>.*)", re.I | re.S)
_PORTS = {"http": "80", "https": "443", "h2": "443", "h2c": "80"}
#: What ends the literal part of a target: a backreference, a variable, a map.
_RUNTIME = {
    "rewrite": re.compile(r"(?<!\\)[$%][0-9{]"),
    "match": re.compile(r"\$[0-9]"),
    "pass": re.compile(r"\$\{"),
    "handler": re.compile(r"%\{"),
}
#: Directives that name URLs and do not lead to them.
_NO_LEADS = re.compile(
    r"<|setenv|passenv|unsetenv|proxypassreverse|proxyset|proxyremote|noproxy|proxyhc|header|requestheader|redirect"
    r"|errordocument|rewritecond|rewritemap|rewritebase|rewriterule|browsermatch|server(?:name|alias|admin)|customlog|logformat"
    r"|errorlog|substitute|require|ssl|define|error\Z|alias|script|wsgi|allow|deny|add|auth|oidc"
)


def canonical(url: str) -> str:
    """Return the URL in mod_proxy's own spelling: lowercase scheme and host, without the scheme's default port."""
    match = _URL.fullmatch(url)
    if match is None:
        return url
    scheme, authority = match["scheme"].lower(), match["authority"].rpartition("@")[2].lower()
    host, colon, port = authority.rpartition(":")
    if colon and port.isdigit():
        port = str(int(port))
        authority = host if port == _PORTS[scheme] else f"{host}:{port}"
    return f"{scheme}://{authority}{match['path']}"


def authority(url: str) -> str:
    """Return scheme, host and port of a canonical URL: ``http://host:port``; empty where they are not whole."""
    match = re.match(r"[^:/]+://[^/?#]+", url)
    return match[0] if match else ""


def without_secrets(url: str) -> str:
    """Return a URL for a log: without user and password, and without the query, which may be a signature."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url.partition("?")[0])


def socket_of(url: str) -> str:
    """Return what stands before the URL of a ``unix:`` target, empty for another one."""
    return url[: url.index("|") + 1] if url[:5].lower() == "unix:" and "|" in url else ""


def behind_socket(url: str) -> str:
    """Return the URL of a ``unix:`` target; another one as it is."""
    if url[:5].lower() == "unix:" and "|" in url:
        url = url.partition("|")[2]
        return url if url.rstrip("/") and not url.endswith((":", "://")) else f"{url.rstrip('/')}//localhost"
    return url


@dataclass(frozen=True, eq=False)
class Lead:
    """Where a directive sends requests to.

    ``url``: the beginning that is literal. ``is_whole``: what follows is a path or nothing. ``how``: pass, match,
    rewrite, handler, or other (of another module). ``path``: where the client's paths begin, None if not known.
    ``section``: around the directive, the innermost; of a balancer's members that of the directive that leads to it.
    ``balancer``: the URL of the balancer before this member. ``socket``: what stands before the URL, ``unix:...|``.
    """

    server: Server
    directive: Directive
    how: str
    url: str
    is_whole: bool
    path: str | None
    section: Section | None
    balancer: str = ""
    socket: str = ""

    @cached_property
    def canonical(self) -> str:
        """The URL in mod_proxy's own spelling."""
        return canonical(self.url)

    @cached_property
    def asked(self) -> str:
        """The URL that sections are looked for by: as it is written, unless a section or a balancer leads there."""
        if self.balancer:
            return self.canonical
        if self.how in {"rewrite", "handler"}:
            return self.socket + (self.canonical if self.section else self.url)
        return self.url

    @cached_property
    def named(self) -> str | None:
        """The URL of a ProxyPass that names the bucket, None where it does not."""
        is_whole = self.how in {"pass", "match"} and not self.balancer and self.is_whole
        return self.url if is_whole and self.canonical.startswith(("http:", "https:")) else None

    @cached_property
    def mount(self) -> str | None:
        """The path of a ProxyPass, of a pattern its beginning: Location sections at or below it are its own."""
        return literal_beginning(self.pattern) if self.how == "match" else self.path

    @property
    def pattern(self) -> str:
        """The path of a ProxyPass as it is written."""
        words = [word for word in self.directive.words if word != "~"]
        return self.section.name if self.section is not None else words[0]

    @property
    def is_decided(self) -> bool:
        """Whether it is known which host the requests go to."""
        return self.is_whole or bool(re.match(r"[^:/]+://[^/]+/", self.canonical))


class Leads:
    """All of a server's own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        members = {url: list(found) for url, found in _members(server)}
        direct = list(_direct(server))
        self.all = [lead for lead in direct if not _balancer(lead.url)[0]]
        self.balanced = [lead for lead in direct if _balancer(lead.url)[0]]
        known = {url: list(found) for url, found in members.items()}
        if server.main:
            for url, found in _members(server.main):
                known.setdefault(url, []).extend(found)
        for lead in self.balanced:
            name, rest = _balancer(lead.url)
            for directive, url in known.get(name, ()):
                self.all.append(
                    Lead(server, directive, lead.how, url.rstrip("/") + rest if rest else url, lead.is_whole, lead.path,
                         lead.section, lead.url)
                )  # fmt: skip
        led_to = {_balancer(lead.url)[0] for lead in self.balanced}
        self.members = [
            Lead(server, directive, "other", url, True, None, None, f"balancer://{name}")
            for name, found in members.items()
            for directive, url in found
            if name not in led_to
        ]
        #: The line that lets Unified Origin ask in subrequests for what manifests name, which nobody knows here.
        self.of_manifests = next(
            (
                child
                for section in (server.outside, *server.sections, *server.proxies)
                for child in section.directives
                if child.name == "uspenablesubreq" and child.text.strip().lower() == "on"
            ),
            None,
        )
        #: Whether clients choose the URL.
        self.is_forward = any(
            child.name == "proxyrequests" and child.text.strip().lower() == "on" for child in server.outside.directives
        )


def _balancer(url: str) -> tuple[str, str]:
    match = re.match(r"balancer://([^/]*)(.*)", url, re.I | re.S)
    return (match[1].lower(), match[2]) if match else ("", "")


def _members(server: Server) -> Iterator[tuple[str, list[tuple[Directive, str]]]]:
    found: dict[str, list[tuple[Directive, str]]] = {}
    for section in (server.outside, *server.proxies, *server.sections):
        for child in section.directives:
            if child.name != "balancermember":
                continue
            names = [word for word in child.words if "=" not in word]
            if section.directive is not None:
                names.insert(0, section.name)
            if len(names) > 1 and (balancer := _balancer(names[0])[0]):
                found.setdefault(balancer, []).append((child, behind_socket(names[1])))
    yield from found.items()


def _direct(server: Server) -> Iterator[Lead]:
    for section in (server.outside, *server.sections):
        around = section if section.directive is not None else None
        for child in section.directives:
            yield from _of(server, child, around)


def _of(server: Server, child: Directive, section: Section | None) -> Iterator[Lead]:
    words = list(child.words)
    if child.name in {"proxypass", "proxypassmatch"}:
        yield from _of_proxypass(server, child, section)
    elif child.name == "rewriterule":
        if len(words) > 2 and re.search(r"(?:^|[\[,])\s*P(?:roxy)?\s*(?:[\],]|$)", words[2], re.I):
            literal, is_whole = _literal("rewrite", behind_socket(words[1]))
            path = section.name if section and section.is_location else None if section else literal_path(words[0])
            yield Lead(server, child, "rewrite", literal, is_whole, path, section, "", socket_of(words[1]))
    elif child.name == "sethandler":
        if words and words[0][:6].lower() == "proxy:":
            literal, is_whole = _literal("handler", behind_socket(words[0][6:]))
            path = section.name if section and section.is_location else None
            yield Lead(server, child, "handler", literal, is_whole, path, section, "", socket_of(words[0][6:]))
    elif not _NO_LEADS.match(child.name):
        for word in words:
            if re.match(r"(?:unix:.*\|)?(?:https?|balancer)://", word, re.I | re.S):
                yield Lead(server, child, "other", behind_socket(word), True, None, section)


def _of_proxypass(server: Server, child: Directive, section: Section | None) -> Iterator[Lead]:
    words = list(child.words)
    is_regex = child.name == "proxypassmatch" or (section is not None and section.is_pattern)
    if section is not None:
        words.insert(0, section.name)
    elif words[:1] == ["~"]:
        words, is_regex = words[1:], True
    if len(words) < 2 or words[1] == "!":
        return
    how = "match" if is_regex else "pass"
    literal, is_whole = _literal(how, behind_socket(words[1]))
    path = literal_path(words[0]) if is_regex else words[0]
    yield Lead(server, child, how, literal, is_whole, path, section, "", socket_of(words[1]))


def _literal(how: str, target: str) -> tuple[str, bool]:
    match = _RUNTIME[how].search(target)
    literal = target[: match.start()] if match else target
    return (re.sub(r"\\([$%])", r"\1", literal) if how == "rewrite" else literal), match is None


def literal_path(regex: str) -> str | None:
    """Return the path that all paths which match a regular expression are below; None where that is not known."""
    match = re.match(r"\^(/[\w/-]*)(.*)", regex, re.S)
    if match is None or "|" in re.sub(r"\(.*\)", "", regex):
        return None
    path, rest = match[1], match[2]
    # What follows may be more of the last name, or take its last letter away.
    return path if rest in {"$", "/?$"} or rest.startswith(("(/", "(?:/")) else path[: path.rindex("/") + 1]


def literal_beginning(regex: str) -> str | None:
    """Return what a pattern of paths begins with, as httpd's module takes it; None where that is a slash or nothing."""
    match = re.match(r"\^?([^.\[\]()$*+?{}|\\^]*)([*?{]?)", regex)
    assert match is not None
    text = match[1][:-1] if match[2] else match[1]
    return text if len(text) > 1 else None


def is_path_below(path: str, above: str) -> bool:
    """Whether a path is another one, or below it."""
    above = above.rstrip("/")
    return path == above or path.startswith(f"{above}/")


def is_below(url: str, section: str, is_whole: bool = True) -> bool:
    """Whether all that begins with ``url`` is below the URL of a section; ``is_whole``: a path or nothing follows."""
    if not url.startswith(section):
        return is_whole and f"{url}/" == section
    rest = url[len(section) :]
    return section.endswith("/") or (rest[0] in "/?" if rest else is_whole)


def has_below(url: str, section: str, is_whole: bool = True) -> bool:
    """Whether some of it is."""
    if not section.startswith(url):
        return False
    return not is_whole or url.endswith("/") or section[len(url) : len(url) + 1] in {"/", ""}


def is_in_bucket(lead: Lead, bucket: str) -> bool | None:
    """Whether what a directive sends is in the bucket of an S3BucketURL, as for httpd's module; None: some of it."""
    try:
        one, other = urlsplit(canonical(lead.url)), urlsplit(canonical(bucket))
        is_same = (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)
    except ValueError:
        return True
    if not other.scheme or not other.hostname:
        return True  # the settings' parser says what is wrong with it
    if lead.socket or not is_same:
        return False
    path, folder = unquote(one.path) or "/", f"/{unquote(other.path).split('/')[1]}/" if len(other.path) > 1 else "/"
    if folder == "/" or path.startswith(folder) or (lead.is_whole and f"{path}/" == folder):
        return True
    return None if folder.startswith(path) and (not lead.is_whole or path == "/") else False
