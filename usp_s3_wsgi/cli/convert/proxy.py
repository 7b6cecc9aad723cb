"""The mode ``proxy``: mod_proxy still sends the requests, and the sections stay as they are.

``SetEnv`` is put before each directive of mod_unified_s3_auth; other lines are added where usp_s3_wsgi needs them to
sign the same requests.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from usp_s3_wsgi.cli.convert.line_edits import LineEdits, indent
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import S3_DIRECTIVES, convert_directive, convert_module
from usp_s3_wsgi.cli.convert.nested_lines import (
    NestedLine,
    NestedLines,
    ScopeIndex,
    defined_variables,
    section_tags,
    virtual_host,
)
from usp_s3_wsgi.cli.convert.proxy_targets import ProxyTarget, proxy_targets
from usp_s3_wsgi.cli.convert.s3_sections import (
    S3Section,
    find_s3_sections,
    tests_by_directive,
    warn_of_directives_outside,
)
from usp_s3_wsgi.configtest.apache_syntax import Line, Node, in_quotes, walk

#: The module that signs requests in <Proxy> sections.
SIGNER = "usp_s3_module"
_GUARD = (
    f"<IfModule !{SIGNER}>",
    f'  Error "{SIGNER} is not loaded, so requests to S3 would go out unsigned: usp-s3 apache-config"',
    "</IfModule>",
)
_UNVERIFIED = (
    "httpd does not verify the certificate of this https:// URL by default: "
    "set SSLProxyVerify require, SSLProxyVerifyDepth 10 and SSLProxyCACertificateFile"
)
_PERHAPS_UNVERIFIED = _UNVERIFIED.replace("of this https:// URL", "of this URL, if the variable contains https://,")
#: SSLProxyVerifyDepth is 1 by default. Public providers have one or two authorities between the root and a server's
#: certificate.
_VERIFY_DEPTH = 10
_MIN_VERIFY_DEPTH = 3
_TOO_SHALLOW = (
    "this depth is too small for the certificates of public providers, which have more intermediate authorities: "
    f"set SSLProxyVerifyDepth {_VERIFY_DEPTH}"
)
_UNKNOWN_BUCKET = (
    "the bucket of these keys is unknown: move them into the <Proxy> section of its URL, or add SetEnv S3BucketURL "
    "beside them"
)
_IP_ADDRESS = (
    "httpd compares the names in a certificate with the host of the URL, but not its IP addresses: use a host name, "
    "in DNS or /etc/hosts, that is in the certificate"
)

_URL_WITH_BUCKET = re.compile(r"((?:https?://|\$\{\w+\})[^/]*/[^/]+)(?:/|\Z)", re.I)
_URL_WITH_IP_ADDRESS = re.compile(r"(?i)\^?https://(?:[0-9]{1,3}(?:\\?\.[0-9]{1,3}){3}(?=[:/]|$)|\\?\[)")


class _SectionTargets(NamedTuple):
    """A section with S3 directives, and the proxy targets that they are for, if it is not a ``<Proxy>``.

    ``targets_in_or_above``: those in the section, or else those whose path it is at or below; ``targets_at_or_below``:
    those with a path at or below that of the section.
    """

    s3_section: S3Section
    targets_in_or_above: tuple[ProxyTarget, ...] = ()
    targets_at_or_below: tuple[ProxyTarget, ...] = ()


def to_proxy(nodes: tuple[Node, ...], edits: LineEdits) -> None:
    """Edit each line, and add messages for what the operator must check."""
    lines = [NestedLine(*pair) for pair in walk(nodes)]
    for line, enclosing in lines:
        convert_module(line, enclosing, SIGNER, edits)
        if line.name in S3_DIRECTIVES:
            convert_directive(line, edits)
    _insert_guard(nodes, edits)
    index = _TargetIndex(lines)
    sections = [index.find(one) for one in find_s3_sections(lines) if one.section.name != "macro"]
    for one in sections:
        _repeat_tests(one.s3_section, edits)
        if not one.s3_section.section.name.startswith("proxy"):
            _insert_bucket_url(one, edits)
    warn_of_directives_outside(lines, edits)
    _check_certificates(sections, lines, edits)


class _TargetIndex:
    """All proxy targets, by section and by path."""

    def __init__(self, lines: NestedLines) -> None:
        self._by_section: dict[int, list[ProxyTarget]] = defaultdict(list)
        self._at: dict[tuple[str, ...], list[ProxyTarget]] = defaultdict(list)
        self._at_or_below: dict[tuple[str, ...], list[ProxyTarget]] = defaultdict(list)
        for target in proxy_targets(lines):
            for section in target.enclosing:
                self._by_section[section.opening.number].append(target)
            if target.path is not None:
                for outer in _outer_paths(target.path):
                    self._at_or_below[outer].append(target)
                self._at[_outer_paths(target.path)[-1]].append(target)

    def find(self, s3_section: S3Section) -> _SectionTargets:
        """Return the targets that the directives of a section are for."""
        if s3_section.section.name.startswith("proxy"):
            return _SectionTargets(s3_section)
        in_or_above, at_or_below = self._by_section[s3_section.section.opening.number], []
        if s3_section.path is not None:
            outer_paths = _outer_paths(s3_section.path)
            in_or_above = in_or_above or [target for outer in outer_paths for target in self._at[outer]]
            at_or_below = self._at_or_below[outer_paths[-1]]
        return _SectionTargets(s3_section, _in_scope(in_or_above, s3_section), _in_scope(at_or_below, s3_section))


def _outer_paths(path: str) -> list[tuple[str, ...]]:
    """Return the paths that cover a path, the shortest first, each split at the slashes."""
    steps = tuple(path.strip("/").split("/")) if path.strip("/") else ()
    return [steps[:end] for end in range(len(steps) + 1)]


def _in_scope(targets: Iterable[ProxyTarget], s3_section: S3Section) -> tuple[ProxyTarget, ...]:
    host = virtual_host(s3_section.enclosing)
    return tuple(target for target in targets if host in {0, virtual_host(target.enclosing)})


def _repeat_tests(s3_section: S3Section, edits: LineEdits) -> None:
    """Put the other settings of a section into the same <IfModule>, <IfDefine> and so on as its credentials.

    Without credentials, mod_unified_s3_auth sends requests unsigned; usp_s3_module rejects them, because any setting
    means that the bucket is private.
    """
    tests = tests_by_directive(s3_section)
    by_name: dict[str, list[Line]] = {}
    for directive in s3_section.directives:
        by_name.setdefault(directive.name, []).append(directive)
    credentials = [line for name in ("s3accesskey", "s3secretkey") for line in by_name.get(name, ())]
    if any(len(by_name[line.name]) > 1 for line in credentials):
        return  # alternatives, each in its own <IfModule> or the like
    needed = dict.fromkeys(section_tags(section) for line in credentials for section in tests[line.number])
    for directive in s3_section.directives:
        if directive in credentials and tests[directive.number]:
            continue
        existing = {section_tags(section) for section in tests[directive.number]}
        missing = [tags for tags in needed if tags not in existing]
        edits.insert_before(directive, *(f"{indent(directive)}{opening}" for opening, _ in missing))
        edits.insert_after(directive, *(f"{indent(directive)}{closing}" for _, closing in reversed(missing)))


def _insert_bucket_url(section_targets: _SectionTargets, edits: LineEdits) -> None:
    """Add S3BucketURL to a <Location>, unless its requests are sent by ProxyPass, whose URL names the bucket."""
    s3_section = section_targets.s3_section
    opening = s3_section.section.opening
    is_pattern = s3_section.section.name != "location" or opening.arguments[:1] == ("~",)
    if not is_pattern and any(target.is_proxypass for target in section_targets.targets_in_or_above):
        return
    targets = (*section_targets.targets_in_or_above, *section_targets.targets_at_or_below)
    if url := _common_bucket([target.url for target in targets]):
        first = next((one for one in s3_section.directives if one.name == "s3accesskey"), s3_section.directives[0])
        edits.insert_before(first, f"{indent(first)}SetEnv S3BucketURL {in_quotes(url)}")
    elif targets or is_pattern:
        edits.error(opening, _UNKNOWN_BUCKET)


def _common_bucket(urls: list[str]) -> str | None:
    """Return the URL that all of these are below, if it certainly names a bucket."""
    if len(set(urls)) <= 1:
        return urls[0] if urls else None
    buckets = {match[1] if (match := _URL_WITH_BUCKET.match(url)) else "" for url in urls}
    return f"{buckets.pop()}/" if len(buckets) == 1 and "" not in buckets else None


def _check_certificates(sections: Iterable[_SectionTargets], lines: NestedLines, edits: LineEdits) -> None:
    variables = defined_variables(lines)
    with_urls = [(one.s3_section, urls) for one in sections if (urls := _https_urls(one, variables))]
    if with_urls:
        _set_verify_depth(lines, edits)
    verify = ScopeIndex(one for one in lines if one.line.name == "sslproxyverify" and _is(one.line, "require"))
    for s3_section, urls in with_urls:
        opening = s3_section.section.opening
        if not verify.applying_in((*s3_section.enclosing, s3_section.section)):
            is_known = any(re.match(r"\^?https:", url, re.I) for url in urls)
            edits.warn(opening, _UNVERIFIED if is_known else _PERHAPS_UNVERIFIED)
        if any(_URL_WITH_IP_ADDRESS.match(url) for url in urls):
            edits.warn(opening, _IP_ADDRESS)


def _set_verify_depth(lines: NestedLines, edits: LineEdits) -> None:
    """Add SSLProxyVerifyDepth: httpd's default rejects the certificates of public providers."""
    depths = [nested for nested in lines if nested.line.name == "sslproxyverifydepth"]
    for line, _ in depths:
        if line.arguments and line.arguments[0].isdigit() and int(line.arguments[0]) < _MIN_VERIFY_DEPTH:
            edits.warn(line, _TOO_SHALLOW)
    index = ScopeIndex(depths)
    for line, enclosing in lines:
        if line.name == "sslproxyverify" and not _is(line, "none") and not index.applying_in(enclosing):
            edits.insert_after(line, f"{indent(line)}SSLProxyVerifyDepth {_VERIFY_DEPTH}")


def _https_urls(section_targets: _SectionTargets, variables: Mapping[str, str]) -> list[str]:
    """Return URLs that are or may be https://: of a ``<Proxy>`` and its members, or of the section's proxy targets."""
    section = section_targets.s3_section.section
    lines = [section.opening, *(line for line, _ in walk(section.body) if line.name == "balancermember")]
    urls = [word for line in lines for word in line.arguments] if section.name.startswith("proxy") else []
    urls += [target.url for target in (*section_targets.targets_in_or_above, *section_targets.targets_at_or_below)]
    urls = [re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], match[0]), url) for url in urls]
    return [url for url in urls if re.match(r"\^?https:|\$\{\w+\}(?!://)|[$%@]\w", url, re.I)]


def _insert_guard(nodes: tuple[Node, ...], edits: LineEdits) -> None:
    """Keep httpd from starting without the signer: SetEnv is no error then, and requests would be unsigned."""
    for line, enclosing in walk(nodes):
        if line.name == "error" and enclosing and _is(enclosing[-1].opening, f"!{SIGNER}"):
            return
    for node in nodes:
        if any(line.name in S3_DIRECTIVES for line, _ in walk([node])):
            first = node if isinstance(node, Line) else node.opening
            edits.insert_before(first, *(indent(first) + text for text in _GUARD))
            return


def _is(line: Line, value: str) -> bool:
    return [argument.lower() for argument in line.arguments] == [value]
