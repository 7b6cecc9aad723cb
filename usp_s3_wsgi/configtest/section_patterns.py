"""How the name of a ``<Proxy>`` section is written: a URL, or a pattern of URLs."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

from usp_s3_wsgi.configtest.proxy_rules import behind_socket, socket_of, without_secrets
from usp_s3_wsgi.configtest.server_config import Section

#: What <Proxy "http://[::1]/"> is for httpd: a pattern, of one letter of "::1".
_IPV6 = re.compile(r"(?i:https?)://(?:[^/@]*@)?\[[0-9a-fA-F:.]+\][^?*\[\]]*")
#: URLs that no pattern of a bucket or of a provider falls on.
_ANYWHERE = ("http://any-host.invalid/any/path", "https://any-host.invalid/any/path")


def is_ipv6(section: Section) -> bool:
    """Whether httpd takes a URL for a pattern because of the brackets around its address."""
    return not section.is_regex and section.is_pattern and _IPV6.fullmatch(section.name) is not None


def is_literal(section: Section) -> bool:
    """Whether a section is one of a URL, as it is meant."""
    return not section.is_pattern or is_ipv6(section)


def right_form(section: Section, asked: str) -> str:
    """How a section is written so that mod_proxy applies it to a URL. No backslashes: httpd's log doubles them."""
    url, asked = without_secrets(behind_socket(section.name)), without_secrets(asked)
    path = re.sub(r"\A[^/]*//[^/]*", "", url) or "/"
    socket = socket_of(asked)
    origin = re.sub(r"(//[^/]*).*", r"\1", asked[len(socket) :], flags=re.DOTALL)
    if "[" in origin:
        return f'<ProxyMatch "^{socket}{origin.replace("[", "[[]", 1)}{path}">'
    return f'<Proxy "{socket}{origin}{path}">'


@lru_cache(maxsize=1024)
def _expression(name: str, is_regex: bool) -> re.Pattern[str] | None:
    """Return what the name of a section matches, None where Python's and httpd's expressions differ too much."""
    if not is_regex:
        if "[" in name or "\\" in name:
            return None
        name = re.escape(name).replace(r"\*", ".*").replace(r"\?", ".")
        return re.compile(rf"\A(?:{name})\Z", re.S)
    try:
        with warnings.catch_warnings(action="ignore"):
            return re.compile(name, re.S)
    except re.error:
        return None


def _matches(section: Section, url: str) -> bool | None:
    expression = _expression(section.name, section.is_regex)
    return None if expression is None else expression.search(url) is not None


def falls_on(section: Section, url: str) -> bool:
    """Whether all requests to a URL fall under a pattern, as far as some of them show."""
    tries = [url.rstrip("/") + "/" + path for path in ("a", "a/b.mp4", "x/y/z.ts")]
    return all(_matches(section, one) for one in tries)


def may_match(section: Section, url: str) -> bool:
    """Whether a pattern may fall on some of what begins with a URL."""
    start = literal_start(section)
    return url.startswith(start) or start.startswith(url)


def literal_start(section: Section) -> str:
    """What all URLs that a pattern falls on begin with."""
    if not section.is_regex:
        return re.split(r"[?*\[\\]", section.name, maxsplit=1)[0]
    match = re.match(r"\^((?:[\w/:\]-]|\\[.\[\]/:-]|\[[.\[]\])+)(.?)", section.name)
    if match is None or "|" in section.name:
        return ""
    text = re.sub(r"\\(.)|\[(.)\]", lambda found: found[1] or found[2], match[1])
    return text[:-1] if match[2] in {"?", "*", "{"} else text


def falls_on_any_host(section: Section) -> bool:
    """Whether a pattern falls on URLs of hosts that nobody named."""
    return any(_matches(section, url) for url in _ANYWHERE)
