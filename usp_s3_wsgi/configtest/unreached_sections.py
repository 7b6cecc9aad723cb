"""``<Proxy>`` sections that nothing leads to, and which directive was probably meant to."""

from __future__ import annotations

import difflib
import re

from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.proxy_rules import Lead, Leads, canonical, without_secrets
from usp_s3_wsgi.configtest.server_config import Section, Server

#: Names of this very machine.
_LOOPBACK = re.compile(r"(?<=//)(?:localhost|127\.0\.0\.1|\[::1\])(?=[:/]|\Z)")
#: From which ratio on a URL is taken for another one with a mistake in it, as difflib.SequenceMatcher computes it.
_SIMILAR = 0.8
#: So many sections are compared with so many directives: each with each takes its time.
_MOST_SECTIONS = 20
_MOST_LEADS = 1000


def check(servers: list[Server], leads: list[Leads], reached: set[int], signed: set[int], findings: Findings) -> None:
    """Tell which sections nothing leads to.

    ``reached``: the ids of those that something does; ``signed``: of the directives that lead to some section.
    """
    undecided: list[tuple[Section, Directive]] = []
    compared = 0
    for server, own in zip(servers, leads, strict=True):
        seen = [own] if server.main is None else [leads[0], own]
        seen = leads if server.main is None else seen
        if any(one.is_forward for one in (*seen, leads[0])):
            continue  # clients choose the URL
        unreached = [section for section in server.proxies if section.has_settings and id(section) not in reached]
        if not unreached:
            continue
        candidates = [lead for one in seen for lead in (*one.all, *one.members)]
        undecided_leads = [lead for lead in candidates if not lead.is_decided]
        of_manifests = next((one.of_manifests for one in seen if one.of_manifests), None)
        others = [lead for lead in candidates if id(lead) not in signed][:_MOST_LEADS]
        for section in unreached:
            assert section.directive is not None
            maybe = next((lead for lead in undecided_leads if _may_lead(lead, section)), None)
            if maybe is not None:
                undecided.append((section, maybe.directive))
                continue
            compared += 1
            meant = _meant(section, others) if compared <= _MOST_SECTIONS else None
            if meant is None and of_manifests is not None:
                undecided.append((section, of_manifests))
            else:
                findings.warning(section.directive, "nothing leads to this section" + _hint(meant))
    if undecided:
        _tell_of_undecided(undecided, findings)


def _tell_of_undecided(undecided: list[tuple[Section, Directive]], findings: Findings) -> None:
    """One line for all the sections; each comes with the directive that may lead to it."""
    section, leading = undecided[0]
    assert section.directive is not None
    more = f" (and {len(undecided) - 1} sections more)" if len(undecided) > 1 else ""
    findings.warning(
        section.directive,
        f"could not check whether something leads to this section{more}: where {leading.place} leads to"
        " is known at each request only",
    )


def _may_lead(lead: Lead, section: Section) -> bool:
    """Whether a target that is known at each request only may be in a section: its literal part does not decide."""
    return any(
        url.startswith(start) for url in (section.name, canonical(section.name)) for start in (lead.url, lead.canonical)
    )


def _hint(lead: Lead | None) -> str:
    if lead is None:
        return ": no ProxyPass, BalancerMember, RewriteRule [P] or the like has a URL below it"
    url = without_secrets(lead.canonical)
    return (
        f": {lead.directive.place} leads to {url}, unsigned. If that is the bucket, write the same URL in both places"
    )


def _meant(section: Section, leads: list[Lead]) -> Lead | None:
    name = _plain(canonical(section.name))
    best, best_ratio = None, _SIMILAR
    matcher = difflib.SequenceMatcher(None, "", name, autojunk=False)
    for lead in leads:
        url = _plain(lead.canonical)
        shorter = name[: len(url)] if len(name) > len(url) else name
        other = url[: len(shorter) + 1]
        if shorter.rstrip("/") == other.rstrip("/"):
            return lead
        matcher.set_seq1(url[: len(name) + 1])
        if (
            matcher.real_quick_ratio() > best_ratio
            and matcher.quick_ratio() > best_ratio
            and (ratio := matcher.ratio()) > best_ratio
        ):
            best, best_ratio = lead, ratio
    return best


def _plain(url: str) -> str:
    """Without what is most often written differently: scheme, port, the name of this machine, upper case."""
    url = _LOOPBACK.sub("localhost", url.lower())
    return re.sub(r"\A[a-z]+://([^/]*?)(?::\d+)?(?=/|\Z)", r"\1", url)
