"""The argument of a ``<Proxy>`` section: a URL, or a pattern of URLs and what it matches."""

from __future__ import annotations

import fnmatch
import re
import warnings
from functools import lru_cache

from usp_s3_wsgi.configtest.server_config import Section
from usp_s3_wsgi.configtest.urls import socket_prefix, without_secrets, without_socket

#: httpd takes <Proxy "http://[::1]/"> for a pattern with one character of "::1".
_IPV6_URL = re.compile(r"(?i:https?)://(?:[^/@]*@)?\[[0-9a-fA-F:.]+\][^?*\[\]]*")
#: URLs that no pattern for a bucket or a provider matches.
_UNRELATED_URLS = ("http://any-host.invalid/any/path", "https://any-host.invalid/any/path")


def is_ipv6_url(section: Section) -> bool:
    """Whether httpd takes a URL for a pattern because of the brackets around its IPv6 address."""
    return not section.is_regex and section.is_pattern and _IPV6_URL.fullmatch(section.argument) is not None


def is_meant_as_url(section: Section) -> bool:
    """Whether the author of a section meant a URL, not a pattern."""
    return not section.is_pattern or is_ipv6_url(section)


def corrected_tag(section: Section, proxy_walk_url: str) -> str:
    """Return the tag that makes mod_proxy apply a section to a URL. No backslashes: httpd's log doubles them."""
    url, proxy_walk_url = without_secrets(without_socket(section.argument)), without_secrets(proxy_walk_url)
    path = re.sub(r"\A[^/]*//[^/]*", "", url) or "/"
    socket = socket_prefix(proxy_walk_url)
    origin = re.sub(r"(//[^/]*).*", r"\1", proxy_walk_url[len(socket) :], flags=re.DOTALL)
    if "[" in origin:
        return f'<ProxyMatch "^{socket}{origin.replace("[", "[[]", 1)}{path}">'
    return f'<Proxy "{socket}{origin}{path}">'


@lru_cache(maxsize=1024)
def _expression(argument: str, is_regex: bool) -> re.Pattern[str] | None:
    """Return the expression of a pattern, None if Python's expressions differ too much from httpd's."""
    if not is_regex:
        if "[" in argument or "\\" in argument:
            return None
        return re.compile(rf"\A{fnmatch.translate(argument)}")
    try:
        with warnings.catch_warnings(action="ignore"):
            return re.compile(argument, re.S)
    except re.error:
        return None


def _matches(section: Section, url: str) -> bool | None:
    expression = _expression(section.argument, section.is_regex)
    return None if expression is None else expression.search(url) is not None


def matches_all_below(section: Section, url: str) -> bool:
    """Whether a pattern matches all requests below a URL, judging by some examples."""
    examples = [url.rstrip("/") + "/" + path for path in ("a", "a/b.mp4", "x/y/z.ts")]
    return all(_matches(section, example) for example in examples)


def may_match_below(section: Section, url: str) -> bool:
    """Whether a pattern may match some URLs that begin with this one."""
    prefix = _literal_prefix(section)
    return url.startswith(prefix) or prefix.startswith(url)


def _literal_prefix(section: Section) -> str:
    """Return what all URLs that a pattern matches begin with."""
    if not section.is_regex:
        return re.split(r"[?*\[\\]", section.argument, maxsplit=1)[0]
    match = re.match(r"\^((?:[\w/:\]-]|\\[.\[\]/:-]|\[[.\[]\])+)(.?)", section.argument)
    if match is None or "|" in section.argument:
        return ""
    text = re.sub(r"\\(.)|\[(.)\]", lambda found: found[1] or found[2], match[1])
    return text[:-1] if match[2] in {"?", "*", "{"} else text


def matches_any_host(section: Section) -> bool:
    """Whether a pattern matches URLs of arbitrary hosts."""
    return any(_matches(section, url) for url in _UNRELATED_URLS)
