"""Requests that mod_proxy sends: the settings of ``<Proxy>`` sections, and of what stands around."""

from __future__ import annotations

import re
from collections.abc import Sequence

from usp_s3_wsgi import access, bucket_url
from usp_s3_wsgi.configtest import near
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.judge import judge, judge_values, warn_of_misspelt
from usp_s3_wsgi.configtest.patterns import falls_on, falls_on_any_host, is_ipv6, may_match, right_form
from usp_s3_wsgi.configtest.proxies import Proxies
from usp_s3_wsgi.configtest.servers import Section, Server, Variables, merged
from usp_s3_wsgi.configtest.urls import Lead, Leads, authority, canonical, has_below, is_below
from usp_s3_wsgi.settings import Settings

_KEYS = ("s3accesskey", "s3accesskeyfile", "s3secretkey", "s3secretkeyfile", "s3credentialsource", "s3rolearn")


def check(servers: list[Server], leads: list[Leads], findings: Findings) -> None:
    """Tell what is wrong with the settings of proxied requests; ``leads``: of each server."""
    reached: set[int] = set()
    signed: set[int] = set()
    for server, own in zip(servers, leads, strict=True):
        proxies = Proxies(server)
        inherited = leads[0].all if server.main and server.has_settings else []
        everything = [*own.all, *own.members, *inherited]
        for lead in everything:
            if not authority(lead.canonical):
                continue  # each request's own
            _check_spelling(lead, proxies, reached, findings)
            if _check_lead(server, lead, proxies, reached, findings):
                signed.add(id(lead))
        for section in proxies.patterns:
            _check_pattern(server, section, everything, proxies, reached, findings)
    _check_sections(servers, leads, reached, findings)
    near.check(servers, leads, reached, signed, findings)


def _check_sections(servers: list[Server], leads: list[Leads], reached: set[int], findings: Findings) -> None:
    """What is wrong with a section by itself, whether anything leads to it or not."""
    for server, own in zip(servers, leads, strict=True):
        for section in server.proxies:
            if not section.has_any:
                continue
            if section.has_settings:
                judge_values(findings, section.variables)
                _check_places(section, findings)
            else:
                warn_of_misspelt(findings, section.variables)
            name = section.name.lower().rstrip("/")
            if name.startswith("balancer:") and any(
                lead.url.lower().startswith(name) for lead in (*leads[0].balanced, *own.balanced)
            ):
                reached.add(id(section))


def _check_places(section: Section, findings: Findings) -> None:
    """What is for the gateway alone, wherever the rest of the settings comes from."""
    assert section.directive is not None
    for name, value in section.variables.items():
        if value.value and (value.name in access._NOT_HERE or value.name.startswith("S3Fallback")):
            judge(findings, {name: value}, "http://bucket.invalid/b/", value.directive)


def _check_spelling(lead: Lead, proxies: Proxies, reached: set[int], findings: Findings) -> None:
    for section in proxies.odd_ones(lead.canonical):
        reached.add(id(section))
        assert section.directive is not None
        form = right_form(section)
        is_applied = (
            not is_ipv6(section)
            and (is_below(lead.url, section.name) or has_below(lead.url, section.name))
            and not (lead.section and lead.how in {"rewrite", "handler"})
        )
        if is_applied:
            findings.warning(
                section.directive,
                f"this is not how mod_proxy writes that URL: write {form}, and the same URL at {lead.directive.place}",
            )
        else:
            findings.error(
                section.directive,
                f"mod_proxy never applies this section to the requests that {lead.directive.place} sends there, which"
                f" are refused: write {form}",
            )


def _check_lead(server: Server, lead: Lead, proxies: Proxies, reached: set[int], findings: Findings) -> bool:
    """Tell what is wrong with what a directive sends; whether some of that is signed or refused."""
    urls = (lead.canonical, lead.url)
    covering, below = proxies.covering(*urls), proxies.below(*urls)
    reached.update(id(section) for section in (*covering, *below))
    if lead.canonical.startswith("h2") and any(section.has_settings for section in covering):
        scheme = lead.canonical.partition(":")[0]
        findings.error(lead.directive, f"{scheme}: HTTP/2 cannot be signed: write http:// or https://")
    if not re.match(r"https?://", lead.canonical) or not lead.is_decided or not server_may_be_ours(server):
        return bool(covering or below)
    patterns = [section for section in proxies.patterns if falls_on(section, lead.canonical)]
    balancer = [section for section in proxies.balancers if lead.balancer.lower().startswith(section.name.lower())]
    around, inner = _locations(server, lead)
    ours = [section for section in (*covering, *patterns, *balancer) if section.has_settings]
    is_below_proxypass = lead.how == "pass" and any(section.has_settings for section in around)
    base = [one.outside for one in server.visible]
    if ours or is_below_proxypass:
        sections = [*base, *sorted((*covering, *patterns), key=lambda one: proxies.order[id(one)]), *balancer, *around]
        holders = [section for section in sections if section.has_settings and section.directive]
        literal = [section.name for section in covering if section.has_settings]
        variables = merged(sections)
        if below or inner or server.is_undecided or proxies.has_doubtful_pattern(lead):
            judge_values(findings, variables)
        else:
            of_location = lead.canonical if lead.section and lead.how == "pass" else f"{authority(lead.canonical)}/"
            url = canonical(literal[-1]) if literal else of_location
            where = holders[-1].directive or lead.directive
            chosen = judge(findings, variables, url, where)
            _check_bucket(chosen, lead, variables, findings)
    elif lead.how in {"rewrite", "handler"} and not below and not server.is_undecided:
        _check_keys_around(lead, merged(around), merged((*base, *around)), proxies, findings)
    for section in below:
        if not server.is_undecided and not inner and not proxies.patterns:
            sections = [*base, *proxies.covering(section.name), *around]
            assert section.directive is not None
            url = canonical(section.name)
            if not proxies.below(section.name):
                judge(findings, merged(sections), url, section.directive)
    return bool(ours or is_below_proxypass or below)


def server_may_be_ours(server: Server) -> bool:
    """Whether settings stand in what counts in a server."""
    return any(one.has_settings for one in server.visible)


def _locations(server: Server, lead: Lead) -> tuple[list[Section], list[Section]]:
    """Return the Location sections whose settings count for all that a directive sends, and those for some of it."""
    if lead.path is None:
        return ([lead.section] if lead.section and not lead.section.is_conditional else []), []
    around = server.around(lead.path)
    inner = server.below(lead.path)
    if lead.how in {"rewrite", "handler"} and _is_of_another(lead, merged(around)):
        return [], []  # the gateway's, or another bucket's
    if lead.how in {"pass", "match", "other"}:
        around = [one for one in around if one is lead.section or one.name.rstrip("/") == lead.path.rstrip("/")]
    return around, inner


def _is_of_another(lead: Lead, variables: Variables) -> bool:
    """Whether an S3BucketURL around is another one than that which requests are sent to."""
    given = variables.get("s3bucketurl")
    try:
        bucket, target = bucket_url.parse(given.value if given else ""), bucket_url.parse(lead.canonical)
    except ValueError:
        return given is not None and bool(given.value)
    if (bucket.scheme, bucket.host, bucket.port) != (target.scheme, target.host, target.port):
        return True
    return not (target.prefix.startswith(bucket.prefix) or bucket.prefix.startswith(target.prefix))


def _check_bucket(chosen: Settings | None, lead: Lead, variables: Variables, findings: Findings) -> None:
    """An S3BucketURL that is not where the requests go."""
    if chosen is None or "s3bucketurl" not in variables or not variables["s3bucketurl"].value:
        return
    try:
        target = bucket_url.parse(authority(lead.canonical))
    except ValueError as error:
        findings.error(lead.directive, f"the URL {error}")
        return
    bucket = chosen.bucket_url
    if (bucket.scheme, bucket.host, bucket.port) != (target.scheme, target.host, target.port):
        findings.error(
            variables["s3bucketurl"].directive,
            f"S3BucketURL is not where {lead.directive.place} sends these requests ({authority(lead.canonical)})",
        )


def _check_keys_around(lead: Lead, own: Variables, variables: Variables, proxies: Proxies, findings: Findings) -> None:
    keys = [own[name] for name in _KEYS if name in own and own[name].value]
    if not keys or variables.get("s3bucketurl") or proxies.odd_ones(lead.canonical):
        return
    if proxies.has_doubtful_pattern(lead):
        return
    findings.error(
        lead.directive,
        f"the requests sent there are refused: {keys[0].name} at {keys[0].directive.place} is neither in a"
        f' <Proxy "{authority(lead.canonical)}/..."> section nor is there an S3BucketURL with it: write one of the two',
    )


def _check_pattern(
    server: Server, section: Section, leads: Sequence[Lead], known: Proxies, reached: set[int], findings: Findings
) -> None:
    if any(may_match(section, url) for lead in leads for url in (lead.canonical, lead.url)):
        reached.add(id(section))
    keys = [section.variables[name] for name in _KEYS if name in section.variables and section.variables[name].value]
    if not keys or not falls_on_any_host(section) or server.is_undecided:
        return
    urls = [(lead.canonical, lead.url) for lead in leads if re.match(r"https?:", lead.canonical)]
    if urls and all(known.covering(*each) or known.below(*each) for each in urls):
        return  # each has a section of its own
    others = (*(one.outside for one in server.visible), *(one for each in server.visible for one in each.sections))
    proxies = (one for each in server.visible for one in each.proxies)
    if not any("s3bucketurl" in one.variables for one in (*others, *proxies)):
        assert section.directive is not None
        findings.error(
            section.directive,
            "this section falls on any host, so that these keys would sign for any of them: name the bucket with"
            " S3BucketURL, or in the section's own URL",
        )
