"""The directives that proxy requests, and the URLs that they send them to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from usp_s3_wsgi.cli.convert.nested_lines import NestedLine, owning_section
from usp_s3_wsgi.cli.convert.s3_sections import location_path
from usp_s3_wsgi.configtest.apache_syntax import Enclosing, Line

T = TypeVar("T")

#: Scheme and host, which may be a variable, and the rest.
_URL = re.compile(r"(?is)(https?://[^/]+|\$\{\w+\}[^/]*)(.*)")
_HANDLER_FLAG = re.compile(r"(?i)(?:^|[\[,])\s*H(?:andler)?=([^\],]*)")
_PROXY_FLAG = re.compile(r"(?i)(?:^|[\[,])\s*P(?:roxy)?\s*(?:[\],]|$)")


def rest_of_url(base: str, url: str) -> str | None:
    """Return what follows a base URL: empty, or it begins with a slash; None if the URL is not at or below it."""
    if not (one := _URL.fullmatch(base)) or not (two := _URL.fullmatch(url)):
        return None
    path = one[2].rstrip("/")
    if one[1].lower() != two[1].lower() or not f"{two[2]}/".startswith(f"{path}/"):
        return None
    return two[2][len(path) :]


def find_url(line: Line, base: str) -> tuple[int, str] | None:
    """Return the index of the first word that is a URL at or below a base URL, and what follows the base."""
    for index, word in enumerate(line.words):
        if index and (rest := rest_of_url(base, word.value)) is not None:
            return index, rest
    return None


class BaseURLIndex(Generic[T]):
    """Values by virtual host and base URL: the counterpart of :func:`find_url` for many base URLs."""

    def __init__(self, entries: Iterable[tuple[int, str, T]]) -> None:
        self._values: dict[tuple[int, str, str], list[tuple[int, T]]] = defaultdict(list)
        for number, (host, base, value) in enumerate(entries):
            if match := _URL.fullmatch(base):
                self._values[host, match[1].lower(), match[2].rstrip("/")].append((number, value))

    def bases_of(self, line: Line, hosts: Iterable[int]) -> list[T]:
        """Return the values in these virtual hosts for whose base URL a line has a URL, in their original order."""
        found: dict[int, T] = {}
        for word in line.words[1:]:
            if match := _URL.fullmatch(word.value):
                path = f"{match[2]}/"
                bases = [path[:end] for end, character in enumerate(path) if character == "/"]
                for host in hosts:
                    for base in bases:
                        found.update(self._values.get((host, match[1].lower(), base), ()))
        return [value for _, value in sorted(found.items(), key=lambda entry: entry[0])]


def proxy_passes(lines: Iterable[NestedLine]) -> Iterator[tuple[NestedLine, str, str]]:
    """Yield each ProxyPass with its path and its URL."""
    for nested in lines:
        if nested.line.name == "proxypass":
            section = owning_section(nested.enclosing)
            words = (*(section.opening.arguments[:1] if section else ()), *nested.line.arguments)
            if len(words) > 1:
                yield nested, words[0], words[1]


class ProxyTarget(NamedTuple):
    """A directive that proxies requests.

    ``url``: the literal beginning of the URL, empty if not even the host is literal. ``path``: the path of the
    requests, None if it is unknown.
    """

    line: Line
    enclosing: Enclosing
    url: str
    path: str | None

    @property
    def is_proxypass(self) -> bool:
        """Whether it is httpd's own ProxyPass, to which the settings of its path apply."""
        return self.line.name in {"proxypass", "proxypassmatch"}


def proxy_targets(lines: Iterable[NestedLine]) -> Iterator[ProxyTarget]:
    """Yield each directive that proxies requests."""
    for line, enclosing in lines:
        section = owning_section(enclosing)
        path = location_path(section) if section else None
        words = line.arguments
        if line.name in {"proxypass", "proxypassmatch"}:
            if section is None and len(words) > 1:
                path, words = (words[0] if line.name == "proxypass" else None), words[1:]
            url = words[0].partition("$1")[0] if words and words[0] != "!" else ""
        elif line.name == "ismproxypass":
            url = words[0] if words else ""
        elif line.name == "rewriterule" and len(words) > 2 and _PROXY_FLAG.search(words[2]):
            url = re.split(r"[$%][0-9{]", words[1], maxsplit=1)[0]
        elif (handler := _handler(line)).lower().startswith("proxy:"):
            url = handler[6:].partition("%{")[0]
        else:
            continue
        if url or line.name not in {"proxypass", "proxypassmatch", "ismproxypass"}:
            parameters = tuple(word for one in enclosing if one.name == "macro" for word in one.opening.arguments[1:])
            is_known = _URL.fullmatch(url) or (parameters and url.startswith(parameters))
            yield ProxyTarget(line, enclosing, url if is_known else "", path)


def _handler(line: Line) -> str:
    """The handler that a directive sets; empty if it sets none."""
    words = line.arguments
    if line.name in {"sethandler", "addhandler"}:
        return words[0] if words else ""
    flag = _HANDLER_FLAG.search(words[2]) if line.name == "rewriterule" and len(words) > 2 else None
    return flag[1].strip() if flag else ""
