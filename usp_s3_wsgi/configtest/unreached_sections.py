"""Finds ``<Proxy>`` sections that no proxied request matches.

For each, it names the directive that was probably meant to send it requests.
"""

from __future__ import annotations

import difflib
import re

from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirective, ProxyDirectives
from usp_s3_wsgi.configtest.server_config import Section, Server
from usp_s3_wsgi.configtest.urls import canonical, without_secrets

#: Names of this machine.
_LOOPBACK = re.compile(r"(?<=//)(?:localhost|127\.0\.0\.1|\[::1\])(?=[:/]|\Z)")
#: From this ratio of difflib.SequenceMatcher on, a URL counts as another one with a typo.
_MIN_SIMILARITY = 0.8
#: Limits of the pairwise comparison of sections and proxy directives.
_MAX_SECTIONS = 20
_MAX_PROXY_DIRECTIVES = 1000


def check(
    servers: list[Server],
    directives_by_server: list[ProxyDirectives],
    reached: set[int],
    signed: set[int],
    findings: Findings,
) -> None:
    """Report the sections that no request matches.

    ``reached``: the ids of the sections that requests match; ``signed``: of the proxy directives with
    requests that are signed or may match a section.
    """
    undecided: list[tuple[Section, Directive]] = []
    compared = 0
    for server, server_directives in zip(servers, directives_by_server, strict=True):
        relevant = directives_by_server if server.main is None else [directives_by_server[0], server_directives]
        if any(one.is_forward_proxy for one in (*relevant, directives_by_server[0])):
            continue  # clients choose the URL
        unreached = [
            section for section in server.proxy_sections if section.has_settings and id(section) not in reached
        ]
        if not unreached:
            continue
        candidates = [
            proxy_directive for one in relevant for proxy_directive in (*one.all, *one.members_of_unused_balancers)
        ]
        undecided_directives = [proxy_directive for proxy_directive in candidates if not proxy_directive.has_known_host]
        subrequest_directive = next((one.subrequest_directive for one in relevant if one.subrequest_directive), None)
        unsigned = [proxy_directive for proxy_directive in candidates if id(proxy_directive) not in signed][
            :_MAX_PROXY_DIRECTIVES
        ]
        for section in unreached:
            assert section.directive is not None
            possible = next(
                (proxy_directive for proxy_directive in undecided_directives if _may_match(proxy_directive, section)),
                None,
            )
            if possible is not None:
                undecided.append((section, possible.directive))
                continue
            compared += 1
            similar = _most_similar(section, unsigned) if compared <= _MAX_SECTIONS else None
            if similar is None and subrequest_directive is not None:
                undecided.append((section, subrequest_directive))
            elif similar is None:
                findings.warning(
                    FindingCode.SECTION_NOT_USED,
                    section.directive,
                    "no request matches this section: no ProxyPass, BalancerMember, RewriteRule [P] or similar"
                    " directive has a URL below that of the section",
                )
            else:
                findings.warning(
                    FindingCode.SECTION_NOT_USED_SIMILAR_URL,
                    section.directive,
                    f"no request matches this section: {similar.directive.location} sends requests to"
                    f" {without_secrets(similar.canonical)}, unsigned. If that is the bucket, write the same URL in"
                    " both places",
                )
    if undecided:
        _report_undecided(undecided, findings)


def _report_undecided(undecided: list[tuple[Section, Directive]], findings: Findings) -> None:
    """Report all undecided sections in one line; each comes with the directive whose requests may match it."""
    section, directive = undecided[0]
    assert section.directive is not None
    others = len(undecided) - 1
    more = f" (and {others} other section{'s' if others > 1 else ''})" if others else ""
    findings.warning(
        FindingCode.SECTION_NOT_CHECKED,
        section.directive,
        f"could not check whether any request matches this section{more}: the URLs that {directive.location} sends"
        " requests to are only known at request time",
    )


def _may_match(proxy_directive: ProxyDirective, section: Section) -> bool:
    """Whether requests to an unknown host may match a section: the literal part of the directive's URL allows it."""
    return any(
        url.startswith(prefix)
        for url in (section.argument, canonical(section.argument))
        for prefix in (proxy_directive.url, proxy_directive.canonical)
    )


def _most_similar(section: Section, proxy_directives: list[ProxyDirective]) -> ProxyDirective | None:
    section_url = _normalized(canonical(section.argument))
    best, best_ratio = None, _MIN_SIMILARITY
    matcher = difflib.SequenceMatcher(None, "", section_url, autojunk=False)
    for proxy_directive in proxy_directives:
        url = _normalized(proxy_directive.canonical)
        shorter = section_url[: len(url)] if len(section_url) > len(url) else section_url
        other = url[: len(shorter) + 1]
        if shorter.rstrip("/") == other.rstrip("/"):
            return proxy_directive
        matcher.set_seq1(url[: len(section_url) + 1])
        if (
            matcher.real_quick_ratio() > best_ratio
            and matcher.quick_ratio() > best_ratio
            and (ratio := matcher.ratio()) > best_ratio
        ):
            best, best_ratio = proxy_directive, ratio
    return best


def _normalized(url: str) -> str:
    """Return a URL without its most frequent variations: scheme, port, the name of this machine, upper case."""
    url = _LOOPBACK.sub("localhost", url.lower())
    return re.sub(r"\A[a-z]+://([^/]*?)(?::\d+)?(?=/|\Z)", r"\1", url)
