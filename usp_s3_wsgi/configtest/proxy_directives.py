"""The directives that make mod_proxy send requests, and the URLs that they send them to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from urllib.parse import unquote, urlsplit

from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.server_config import Section, Server
from usp_s3_wsgi.configtest.urls import canonical, common_path, literal_prefix, socket_prefix, without_socket

#: What ends the literal part of a URL, by the kind of proxy directive: a backreference, a variable, a map.
_EXPANSION = {
    "rewrite": re.compile(r"(?<!\\)[$%][0-9{]"),
    "proxypassmatch": re.compile(r"\$[0-9]"),
    "proxypass": re.compile(r"\$\{"),
    "handler": re.compile(r"%\{"),
}
#: Directives that may contain URLs but do not send requests to them.
_NOT_PROXY_DIRECTIVES = re.compile(
    r"<|setenv|passenv|unsetenv|proxypassreverse|proxyset|proxyremote|noproxy|proxyhc|header|requestheader|redirect"
    r"|errordocument|rewritecond|rewritemap|rewritebase|rewriterule|browsermatch|server(?:name|alias|admin)|customlog|logformat"
    r"|errorlog|substitute|require|ssl|define|error\Z|alias|script|wsgi|allow|deny|add|auth|oidc"
)


@dataclass(frozen=True, eq=False)
class ProxyDirective:
    """A directive that proxies requests to a URL: ProxyPass, RewriteRule [P], a handler proxy:URL, BalancerMember.

    ``kind``: proxypass, proxypassmatch (also ProxyPass ~), rewrite, handler, other (also of another module). ``url``:
    the literal part of the URL. ``is_literal``: the URL has no variable part; only a path follows. ``path``: what all
    paths of the clients begin with, None if it is unknown. ``section``: the innermost section around the directive;
    for the member of a balancer, around the directive that uses the balancer. ``balancer``: the URL of the balancer of
    this member. ``socket``: ``unix:PATH|`` before the URL.
    """

    server: Server
    directive: Directive
    kind: str
    url: str
    is_literal: bool
    path: str | None
    section: Section | None
    balancer: str = ""
    socket: str = ""

    @property
    def is_proxypass(self) -> bool:
        """Whether it is a ProxyPass or ProxyPassMatch."""
        return self.kind in {"proxypass", "proxypassmatch"}

    @cached_property
    def canonical(self) -> str:
        """The URL in mod_proxy's canonical form."""
        return canonical(self.url)

    @cached_property
    def proxy_walk_url(self) -> str:
        """The URL with which mod_proxy looks for sections (``proxy_walk``).

        It is the URL as it is written, except for members of a balancer, handlers, and RewriteRule in a section.
        """
        if self.balancer:
            return self.canonical
        if self.kind == "handler" or (self.kind == "rewrite" and self.section):
            return self.socket + self.canonical
        return self.socket + self.url if self.kind == "rewrite" else self.url

    @cached_property
    def bucket_url(self) -> str | None:
        """The URL of a ProxyPass that names the bucket, None if it does not."""
        names_bucket = self.is_proxypass and not self.balancer and self.is_literal
        return self.url if names_bucket and self.canonical.startswith(("http:", "https:")) else None

    @cached_property
    def proxypass_path(self) -> str | None:
        """The path of a ProxyPass, or the prefix of its pattern: Location sections at or below it belong to it."""
        return literal_prefix(self.path_argument) if self.kind == "proxypassmatch" else self.path

    @property
    def path_argument(self) -> str:
        """The path or pattern of a ProxyPass as it is written."""
        words = [word for word in self.directive.words if word != "~"]
        return self.section.argument if self.section is not None else words[0]

    @property
    def has_known_host(self) -> bool:
        """Whether the host that requests are sent to is known."""
        return self.is_literal or bool(re.match(r"[^:/]+://[^/]+/", self.canonical))

    def sends_to_bucket(self, bucket_url: str) -> bool | None:
        """Whether its requests go to the bucket of an S3BucketURL, as httpd's module decides it; None: some of them."""
        try:
            target, bucket = urlsplit(self.canonical), urlsplit(canonical(bucket_url))
            is_same = (target.scheme, target.hostname, target.port) == (bucket.scheme, bucket.hostname, bucket.port)
        except ValueError:
            return True
        if not bucket.scheme or not bucket.hostname:
            return True  # the parser of settings reports what is wrong with it
        if self.socket or not is_same:
            return False
        path = unquote(target.path) or "/"
        folder = f"/{unquote(bucket.path).split('/')[1]}/" if len(bucket.path) > 1 else "/"
        if folder == "/" or path.startswith(folder) or (self.is_literal and f"{path}/" == folder):
            return True
        return None if folder.startswith(path) and (not self.is_literal or path == "/") else False


class ProxyDirectives:
    """All proxy directives of a server.

    ``all``: those with a URL, and for each that uses a balancer, one per member. ``to_balancers``: those that use a
    balancer. ``members_of_unused_balancers``: the members of balancers that no proxy directive of this server uses.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        server_members = {name: list(found) for name, found in _members(server)}
        direct = list(_find_proxy_directives(server))
        self.all = [proxy_directive for proxy_directive in direct if not _split_balancer(proxy_directive.url)[0]]
        self.to_balancers = [proxy_directive for proxy_directive in direct if _split_balancer(proxy_directive.url)[0]]
        members = {name: list(found) for name, found in server_members.items()}
        if server.main:
            for name, found in _members(server.main):
                members.setdefault(name, []).extend(found)
        for proxy_directive in self.to_balancers:
            name, rest = _split_balancer(proxy_directive.url)
            for directive, url in members.get(name, ()):
                member_url = url.rstrip("/") + rest if rest else url
                self.all.append(
                    replace(
                        proxy_directive, directive=directive, url=member_url, balancer=proxy_directive.url, socket=""
                    )
                )
        used = {_split_balancer(proxy_directive.url)[0] for proxy_directive in self.to_balancers}
        self.members_of_unused_balancers = [
            ProxyDirective(server, directive, "other", url, True, None, None, f"balancer://{name}")
            for name, found in server_members.items()
            for directive, url in found
            if name not in used
        ]
        #: UspEnableSubreq on: Unified Origin requests the URLs that manifests contain, which are unknown here.
        self.subrequest_directive = next(
            (
                child
                for section in (server.top_level, *server.sections, *server.proxy_sections)
                for child in section.directives
                if child.name == "uspenablesubreq" and child.text.strip().lower() == "on"
            ),
            None,
        )
        #: Whether this is a forward proxy, where clients choose the URL.
        self.is_forward_proxy = any(
            child.name == "proxyrequests" and child.text.strip().lower() == "on"
            for child in server.top_level.directives
        )


def _split_balancer(url: str) -> tuple[str, str]:
    """Return the name of the balancer in a balancer:// URL and the rest of the URL; both are empty for another URL."""
    match = re.match(r"balancer://([^/]*)(.*)", url, re.I | re.S)
    return (match[1].lower(), match[2]) if match else ("", "")


def _members(server: Server) -> Iterator[tuple[str, list[tuple[Directive, str]]]]:
    """Yield each balancer of a server, with its BalancerMember directives and their URLs."""
    found: dict[str, list[tuple[Directive, str]]] = {}
    for section in (server.top_level, *server.proxy_sections, *server.sections):
        for child in section.directives:
            if child.name != "balancermember":
                continue
            urls = [word for word in child.words if "=" not in word]
            if section.directive is not None:
                urls.insert(0, section.argument)
            if len(urls) > 1 and (balancer := _split_balancer(urls[0])[0]):
                found.setdefault(balancer, []).append((child, without_socket(urls[1])))
    yield from found.items()


def _find_proxy_directives(server: Server) -> Iterator[ProxyDirective]:
    for section in (server.top_level, *server.sections):
        enclosing = section if section.directive is not None else None
        for child in section.directives:
            yield from _from_directive(server, child, enclosing)


def _from_directive(server: Server, child: Directive, section: Section | None) -> Iterator[ProxyDirective]:
    words = list(child.words)
    if child.name in {"proxypass", "proxypassmatch"}:
        yield from _from_proxypass(server, child, section)
    elif child.name == "rewriterule" and len(words) > 2:
        path = section.argument if section and section.is_location else None if section else common_path(words[0])
        if re.search(r"(?:^|[\[,])\s*P(?:roxy)?\s*(?:[\],]|$)", words[2], re.I):
            url, is_literal = _literal_part("rewrite", without_socket(words[1]))
            yield ProxyDirective(server, child, "rewrite", url, is_literal, path, section, "", socket_prefix(words[1]))
        else:
            flags = (flag.partition("=") for flag in words[2].removeprefix("[").removesuffix("]").split(","))
            for name, _, value in flags:
                if name.strip().lower() in {"h", "handler"}:
                    yield from _from_handler(server, child, section, path, *_literal_part("rewrite", value.strip()))
    elif child.name in {"sethandler", "addhandler"} and words:
        path = section.argument if section and section.is_location else None
        # Only that of SetHandler is an expression.
        handler = _literal_part("handler", words[0]) if child.name == "sethandler" else (words[0], True)
        yield from _from_handler(server, child, section, path, *handler)
    elif not _NOT_PROXY_DIRECTIVES.match(child.name):
        for word in words:
            if re.match(r"(?:unix:.*\|)?(?:https?|balancer)://", word, re.I | re.S):
                yield ProxyDirective(server, child, "other", without_socket(word), True, None, section)


def _from_handler(
    server: Server, child: Directive, section: Section | None, path: str | None, handler: str, is_literal: bool
) -> Iterator[ProxyDirective]:
    """Yield a proxy directive if requests with a handler are proxied; ``handler``: its literal part.

    A content type (ForceType, AddType, [T=]) can be a handler too, but the module rejects these requests.
    """
    if child.name != "sethandler" or not handler.startswith("proxy:unix"):
        handler = handler.lower()  # as httpd does
    if handler.startswith("proxy:") or (not is_literal and "proxy:".startswith(handler)):
        url = handler[6:]
        yield ProxyDirective(
            server, child, "handler", without_socket(url), is_literal, path, section, "", socket_prefix(url)
        )


def _from_proxypass(server: Server, child: Directive, section: Section | None) -> Iterator[ProxyDirective]:
    words = list(child.words)
    is_regex = child.name == "proxypassmatch" or (section is not None and section.is_pattern)
    if section is not None:
        words.insert(0, section.argument)
    elif words[:1] == ["~"]:
        words, is_regex = words[1:], True
    if len(words) < 2 or words[1] == "!":
        return
    kind = "proxypassmatch" if is_regex else "proxypass"
    url, is_literal = _literal_part(kind, without_socket(words[1]))
    path = common_path(words[0]) if is_regex else words[0]
    yield ProxyDirective(server, child, kind, url, is_literal, path, section, "", socket_prefix(words[1]))


def _literal_part(kind: str, target: str) -> tuple[str, bool]:
    """Return the literal beginning of a URL, and whether that is all of it."""
    match = _EXPANSION[kind].search(target)
    literal = target[: match.start()] if match else target
    return (re.sub(r"\\([$%])", r"\1", literal) if kind == "rewrite" else literal), match is None
