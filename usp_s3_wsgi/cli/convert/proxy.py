"""The plane ``proxy``: mod_proxy carries the bytes and the sections stay what they are.

``SetEnv`` comes before each directive; what besides is needed to sign what the vendor's module signs is added.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from usp_s3_wsgi.cli.convert.line_edits import KEYS, Edits, convert_key, convert_module, indent
from usp_s3_wsgi.cli.convert.mount_plan import (
    Home,
    Places,
    Target,
    check_outside,
    conditions_around,
    counts_in,
    defined,
    homes,
    host,
    tags,
    targets,
)
from usp_s3_wsgi.configtest.apache_syntax import Line, Node, walk

#: Our module that signs inside <Proxy>.
SIGNER = "usp_s3_module"
_GUARD = (
    f"<IfModule !{SIGNER}>",
    f'  Error "{SIGNER} is not loaded, so requests to S3 would go out unsigned: usp-s3 apache-config"',
    "</IfModule>",
)
_UNVERIFIED = (
    "httpd does not verify the certificate of this https:// URL by default: "
    "SSLProxyVerify require, SSLProxyVerifyDepth 10 and SSLProxyCACertificateFile"
)
_PERHAPS_UNVERIFIED = _UNVERIFIED.replace("of this https:// URL", "of this URL, if the variable says https://,")
#: How deep httpd verifies, 1 by default: public providers have one or two authorities between the root and a server's
#: certificate.
_DEPTH = 10
_ENOUGH = 3
_SHALLOW = f"certificates of public providers have more authorities above them: SSLProxyVerifyDepth {_DEPTH}"
_UNNAMED = (
    "nothing says which bucket these keys are for: put them into the <Proxy> section of its URL, or write SetEnv "
    "S3BucketURL beside them"
)
_BY_ADDRESS = (
    "httpd compares the names of a certificate with the URL's host, and never its IP addresses: give the host a name, "
    "in DNS or /etc/hosts, that the certificate has"
)

_FIRST = re.compile(r"((?:https?://|\$\{\w+\})[^/]*/[^/]+)(?:/|\Z)", re.I)
_IP_ADDRESS = re.compile(r"(?i)\^?https://(?:[0-9]{1,3}(?:\\?\.[0-9]{1,3}){3}(?=[:/]|$)|\\?\[)")


class _Led(NamedTuple):
    """A section with keys, and which directives its keys are for, where it is none of a URL.

    ``own``: those in it, or else those whose path it is at or below; ``below``: those of paths at or below it.
    """

    home: Home
    own: tuple[Target, ...] = ()
    below: tuple[Target, ...] = ()


def to_proxy(nodes: tuple[Node, ...], edits: Edits) -> None:
    """Note what becomes of each line, and what the operator must look at."""
    places = tuple(walk(nodes))
    for line, around in places:
        convert_module(line, around, SIGNER, edits)
        if line.name in KEYS:
            convert_key(line, edits)
    _guard(nodes, edits)
    known = _Targets(places)
    sections = [known.of(home) for home in homes(places) if home.section.name != "macro"]
    for one in sections:
        _keep_together(one.home, edits)
        if not one.home.section.name.startswith("proxy"):
            _name_bucket(one, edits)
    check_outside(places, edits)
    _check_certificates(sections, places, edits)


class _Targets:
    """All targets, by the sections and paths that they are in: there may be thousands."""

    def __init__(self, places: Places) -> None:
        self._inside: dict[int, list[Target]] = defaultdict(list)
        self._at: dict[tuple[str, ...], list[Target]] = defaultdict(list)
        self._below: dict[tuple[str, ...], list[Target]] = defaultdict(list)
        for target in targets(places):
            for section in target.around:
                self._inside[section.opening.number].append(target)
            if target.path is not None:
                for top in _tops(target.path):
                    self._below[top].append(target)
                self._at[_tops(target.path)[-1]].append(target)

    def of(self, home: Home) -> _Led:
        """Return what the keys of a section are for."""
        if home.section.name.startswith("proxy"):
            return _Led(home)
        own, below = self._inside[home.section.opening.number], []
        if home.path is not None:
            tops = _tops(home.path)
            own = own or [target for top in tops for target in self._at[top]]
            below = self._below[tops[-1]]
        return _Led(home, _seen(own, home), _seen(below, home))


def _tops(path: str) -> list[tuple[str, ...]]:
    """The paths that one is at or below, the shortest first, in steps."""
    steps = tuple(path.strip("/").split("/")) if path.strip("/") else ()
    return [steps[:end] for end in range(len(steps) + 1)]


def _seen(found: Iterable[Target], home: Home) -> tuple[Target, ...]:
    return tuple(target for target in found if host(home.around) in {0, host(target.around)})


def _keep_together(home: Home, edits: Edits) -> None:
    """Where the keys are in conditions, the section's other settings go there too.

    Without keys the vendor's module sends unsigned, and ours, for which any setting says that a bucket is private,
    sends nothing.
    """
    around_of = conditions_around(home)
    of_name: dict[str, list[Line]] = {}
    for key in home.keys:
        of_name.setdefault(key.name, []).append(key)
    credentials = [key for name in ("s3accesskey", "s3secretkey") for key in of_name.get(name, ())]
    if any(len(of_name[key.name]) > 1 for key in credentials):
        return  # for one situation or another
    wanted = dict.fromkeys(tags(section) for key in credentials for section in around_of[key.number])
    for key in home.keys:
        if key in credentials and around_of[key.number]:
            continue
        own = {tags(section) for section in around_of[key.number]}
        missing = [pair for pair in wanted if pair not in own]
        edits.before(key, *(f"{indent(key)}{opening}" for opening, _ in missing))
        edits.after(key, *(f"{indent(key)}{closing}" for _, closing in reversed(missing)))


def _name_bucket(led: _Led, edits: Edits) -> None:
    """Settings in a <Location> are about the bucket of its ProxyPass; of every other rule they must say the bucket."""
    home = led.home
    is_pattern = home.section.name != "location" or home.section.opening.arguments[:1] == ("~",)
    if not is_pattern and any(target.is_pass for target in led.own):
        return
    found = (*led.own, *led.below)
    if url := _common_bucket([target.url for target in found]):
        first = next((key for key in home.keys if key.name == "s3accesskey"), home.keys[0])
        edits.before(first, f'{indent(first)}SetEnv S3BucketURL "{url}"')
    elif found or is_pattern:
        edits.error(home.section.opening, _UNNAMED)


def _common_bucket(urls: list[str]) -> str | None:
    """The URL that all of these are below, if that names a bucket for sure."""
    if len(set(urls)) <= 1:
        return urls[0] if urls else None
    firsts = {match[1] if (match := _FIRST.match(url)) else "" for url in urls}
    return f"{firsts.pop()}/" if len(firsts) == 1 and "" not in firsts else None


def _check_certificates(sections: Iterable[_Led], places: Places, edits: Edits) -> None:
    variables = defined(places)
    urls_of = [(one.home, urls) for one in sections if (urls := _https_urls(one, variables))]
    if urls_of:
        _verify_depth(places, edits)
    verifying = [around for line, around in places if line.name == "sslproxyverify" and _is(line, "require")]
    for home, urls in urls_of:
        if not any(counts_in(around, (*home.around, home.section)) for around in verifying):
            is_known = any(re.match(r"\^?https:", url, re.I) for url in urls)
            edits.warn(home.section.opening, _UNVERIFIED if is_known else _PERHAPS_UNVERIFIED)
        if any(_IP_ADDRESS.match(url) for url in urls):
            edits.warn(home.section.opening, _BY_ADDRESS)


def _verify_depth(places: Places, edits: Edits) -> None:
    """Certificates must be verified as deep as they are: with httpd's default those of public providers are refused."""
    depths = [(line, around) for line, around in places if line.name == "sslproxyverifydepth"]
    for line, _ in depths:
        if line.arguments and line.arguments[0].isdigit() and int(line.arguments[0]) < _ENOUGH:
            edits.warn(line, _SHALLOW)
    for line, around in places:
        is_deep = any(counts_in(outer, around) for _, outer in depths)
        if line.name == "sslproxyverify" and not _is(line, "none") and not is_deep:
            edits.after(line, f"{indent(line)}SSLProxyVerifyDepth {_DEPTH}")


def _https_urls(led: _Led, variables: Mapping[str, str]) -> list[str]:
    """What is or may be an https:// URL: of a ``<Proxy>`` and its members, or of what else leads to the bucket."""
    section = led.home.section
    lines = [section.opening, *(line for line, _ in walk(section.body) if line.name == "balancermember")]
    urls = [word for line in lines for word in line.arguments] if section.name.startswith("proxy") else []
    urls += [target.url for target in (*led.own, *led.below)]
    urls = [re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], match[0]), url) for url in urls]
    return [url for url in urls if re.match(r"\^?https:|\$\{\w+\}(?!://)|[$%@]\w", url, re.I)]


def _guard(nodes: tuple[Node, ...], edits: Edits) -> None:
    """httpd must not start without the signer: requests would go out unsigned and SetEnv says nothing of it."""
    if any(line.name == "error" and _is(around[-1].opening, f"!{SIGNER}") for line, around in walk(nodes) if around):
        return
    for node in nodes:
        if any(line.name in KEYS for line, _ in walk([node])):
            first = node if isinstance(node, Line) else node.opening
            edits.before(first, *(indent(first) + text for text in _GUARD))
            return


def _is(line: Line, value: str) -> bool:
    return [argument.lower() for argument in line.arguments] == [value]
