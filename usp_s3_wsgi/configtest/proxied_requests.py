"""Requests that mod_proxy sends: the settings of ``<Proxy>`` sections, and of what stands around."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.proxy_rules import (
    Lead,
    Leads,
    authority,
    behind_socket,
    canonical,
    has_below,
    is_below,
    is_in_bucket,
    is_path_below,
)
from usp_s3_wsgi.configtest.proxy_sections import Proxies
from usp_s3_wsgi.configtest.section_patterns import falls_on, falls_on_any_host, may_match, right_form
from usp_s3_wsgi.configtest.server_config import Section, Server, Variables, merged
from usp_s3_wsgi.configtest.settings_check import judge, judge_values, warn_of_misspelt
from usp_s3_wsgi.proxy import callbacks

_KEYS = (
    "s3accesskey", "s3accesskeyfile", "s3secretkey", "s3secretkeyfile", "s3credentialsource", "s3profile", "s3rolearn",
)  # fmt: skip


def check(servers: list[Server], leads: list[Leads], findings: Findings) -> tuple[set[int], set[int]]:
    """Tell what is wrong with the settings of proxied requests; ``leads``: of each server.

    Returns the ids of the ``<Proxy>`` sections that something leads to, and of the leads to some section.
    """
    reached: set[int] = set()
    signed: set[int] = set()
    for server, own in zip(servers, leads, strict=True):
        proxies = Proxies(server)
        inherited = leads[0].all if server.main and server.has_settings else []
        everything = [*own.all, *own.members, *inherited]
        for lead in everything:
            if authority(lead.canonical) and _check_lead(server, lead, proxies, reached, findings):
                signed.add(id(lead))
        for section in proxies.patterns:
            _check_pattern(server, section, everything, signed, reached, findings)
        is_forward = own.is_forward or leads[0].is_forward
        for section in proxies.sections:
            if section.computing and (id(section) in reached or is_forward):
                _tell_of_computing(section, findings)
    _check_sections(servers, leads, reached, findings)
    return reached, signed


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
            balanced = (*leads[0].balanced, *own.balanced)
            if section.name.lower().startswith("balancer:") and any(_are_one(lead.url, section) for lead in balanced):
                reached.add(id(section))


def _check_places(section: Section, findings: Findings) -> None:
    """What is for the gateway alone, wherever the rest of the settings comes from."""
    assert section.directive is not None
    for name, value in section.variables.items():
        if value.value and (value.name in callbacks.GATEWAY_ONLY or value.name.startswith("S3Fallback")):
            judge(findings, {name: value}, "http://bucket.invalid/b/", value.directive)


def _are_one(url: str, section: Section) -> bool:
    """Whether the URL of a balancer is in a section, or the section in it."""
    return is_below(url, section.name) or has_below(url, section.name)


def _tell_of_computing(section: Section, findings: Findings) -> None:
    for directive, name in section.computing:
        findings.error(
            directive,
            f"{name} is set by a rule here, and such settings count for the gateway alone: the requests of this section"
            " are refused. Where mod_proxy sends, settings are SetEnv lines",
        )


def _check_spelling(lead: Lead, proxies: Proxies, is_refused: bool, reached: set[int], findings: Findings) -> bool:
    """Tell of sections that mod_proxy does not apply; whether there are some. ``is_refused``: nothing else signs."""
    sections = proxies.in_another_spelling(lead)
    for section in sections:
        reached.add(id(section))
        assert section.directive is not None
        tell = findings.error if is_refused else findings.warning
        tell(
            section.directive,
            f"mod_proxy never applies this section to the requests that {lead.directive.place} sends there"
            f"{', which are refused' if is_refused else ''}: write {right_form(section, lead.asked)}",
        )
    return bool(sections)


def _check_lead(server: Server, lead: Lead, proxies: Proxies, reached: set[int], findings: Findings) -> bool:
    """Tell what is wrong with what a directive sends; whether some of that is signed or refused."""
    covering, below = proxies.covering(lead.asked, lead.is_whole), proxies.below(lead.asked, lead.is_whole)
    is_http = re.match(r"https?://", lead.canonical) is not None
    balancers = [section for section in proxies.balancers if is_http and is_below(lead.balancer, section.name)]
    reached.update(id(section) for section in (*covering, *below, *balancers))
    if lead.canonical.startswith("h2") and any(section.has_settings for section in covering):
        scheme = lead.canonical.partition(":")[0]
        findings.error(lead.directive, f"{scheme}: HTTP/2 cannot be signed: write http:// or https://")
    if not is_http or not lead.is_decided or not server_may_be_ours(server):
        return bool(covering or below or _check_spelling(lead, proxies, False, reached, findings))
    patterns = [section for section in proxies.patterns if falls_on(section, lead.asked)]
    applied = sorted((*covering, *patterns, *balancers), key=lambda one: proxies.order[id(one)])
    claims = {id(section): _claims(section, lead) for section in applied}
    around = _around(server, lead)
    base = [one.outside for one in server.visible]
    own = merged(around.sections)
    if lead.how not in {"pass", "match"}:  # from what httpd has merged, with the spelling of the first ones
        spelt = merged((*base, *covering, *around.sections), keeps_spelling=True)
        own = {name: spelt[name] for name in own}
    bucket = _bucket_of(own)
    is_in = is_in_bucket(lead, bucket) if bucket else False
    is_own = lead.how in {"pass", "match"} and any(section.has_settings for section in around.sections)
    is_claimed = True in claims.values() or is_own or is_in is True
    is_partly = bool(below or around.is_partly or is_in is None) or proxies.has_doubtful_pattern(lead)
    is_partly = is_partly or None in claims.values()
    is_pass = lead.how in {"pass", "match"} and lead.path is not None
    is_undecided = server.is_undecided_below(lead.path or "/") if is_pass else server.is_undecided
    may_be_claimed = is_claimed or is_partly or (is_undecided and _has_conditional(server))
    is_misspelt = _check_spelling(lead, proxies, not may_be_claimed, reached, findings)
    if is_claimed:
        _warn_of_computing(server, lead, findings)
        variables = merged((*base, *applied))
        default = variables.get("s3bucketurl")
        if default and any(default in section.variables.values() for section in base):
            is_its_own = is_in_bucket(lead, default.value) if default.value else True
            is_partly = is_partly or is_its_own is None
            if not is_its_own:
                del variables["s3bucketurl"]  # of a gateway
        for section in around.sections:
            for name in section.unset:
                variables.pop(name, None)
        variables |= own
        if is_partly or is_undecided:
            judge_values(findings, variables)
        else:
            _judge_whole(server, lead, applied, around.sections, variables, findings)
    elif lead.how in {"rewrite", "handler"} and not may_be_claimed and not is_undecided and not is_misspelt:
        _check_keys_around(lead, own, findings)
    if not is_undecided and not around.is_partly and not proxies.patterns:
        for section in below:
            assert section.directive is not None
            is_whole = lead.is_whole and not proxies.below(section.name)
            if section.has_settings and is_whole and not any(_bucket_of(one.variables) for one in base):
                variables = merged((*base, *proxies.covering(section.name), *around.sections))
                judge(findings, variables, canonical(section.name), section.directive)
    return bool(is_claimed or below or is_misspelt)


def _judge_whole(
    server: Server,
    lead: Lead,
    applied: Sequence[Section],
    around: Sequence[Section],
    variables: Variables,
    findings: Findings,
) -> None:
    """All requests of a directive have the same settings."""
    named = [section.name for section in applied if section.has_settings and not section.is_pattern]
    named = [name for name in named if behind_socket(name).lower().startswith(("http:", "https:"))]
    has_around = lead.path is not None and any(section.has_any for section in server.around(lead.path))
    url = behind_socket(named[-1]) if named else lead.named if has_around else None
    holders = [section.directive for section in (*applied, *around) if section.has_settings and section.directive]
    where = holders[-1] if holders else lead.directive
    if url is None and not _shows_bucket(lead, variables):
        judge_values(findings, variables)
        what = f"the bucket's name is not in the host of {authority(lead.canonical)}"
        instead = (
            f' put these settings into a <Proxy "{lead.canonical.rstrip("/")}/"> section, one for each BalancerMember,'
            " or write S3BucketURL beside them"
            if lead.balancer
            else " a pattern needs S3BucketURL"
        )
        findings.error(where, f"{what}:{instead}")
        return
    chosen = judge(findings, variables, url or f"{authority(lead.canonical)}/", where)
    _check_bucket(chosen, lead, variables, findings)


def _shows_bucket(lead: Lead, variables: Variables) -> bool:
    """Whether scheme, host and port or the settings say which bucket requests are sent to."""
    if any(variables[name].value for name in ("s3bucketurl", "s3bucket") if name in variables):
        return True
    try:
        return bool(bucket_url.parse(authority(lead.canonical)).bucket)
    except ValueError:
        return True  # the parser says what is wrong with it


def _claims(section: Section, lead: Lead) -> bool | None:
    """Whether a ``<Proxy>`` section makes requests a bucket's; None: some of them."""
    if not section.has_settings:
        return False
    if not section.is_pattern or not falls_on_any_host(section):
        return True
    bucket = _bucket_of(section.variables)
    return is_in_bucket(lead, bucket) if bucket else False


def _bucket_of(variables: Variables) -> str:
    return variables["s3bucketurl"].value if "s3bucketurl" in variables else ""


def server_may_be_ours(server: Server) -> bool:
    """Whether settings stand in what counts in a server."""
    return any(one.has_settings for one in server.visible)


def _has_conditional(server: Server) -> bool:
    """Whether sections that count for some requests alone hold settings."""
    return any(section.is_conditional and section.has_settings for one in server.visible for section in one.sections)


class _Around(NamedTuple):
    """The Location sections whose settings count for all that a directive sends; whether others do for some of it."""

    sections: list[Section]
    is_partly: bool


def _around(server: Server, lead: Lead) -> _Around:
    if lead.path is None:
        return _Around([lead.section] if lead.section and not lead.section.is_conditional else [], False)
    around = server.around(lead.path)
    inner = server.below(lead.path)
    if lead.how == "rewrite" or lead.how == "handler":
        bucket = _bucket_of(merged(around))
        is_another = bool(bucket) and is_in_bucket(lead, bucket) is False
        return _Around([], False) if is_another else _Around(around, bool(inner))
    ways = {id(section): _is_own(section, lead) for section in (*around, *inner)}
    return _Around(
        [section for section in around if ways[id(section)]],
        any(ways[id(section)] is not False for section in inner) or None in ways.values(),
    )


def _is_own(section: Section, lead: Lead) -> bool | None:
    """Whether the settings of a Location count for a ProxyPass; None: for some of its requests."""
    if section is lead.section:
        return True
    if bucket := _bucket_of(section.variables):
        return is_in_bucket(lead, bucket)
    return lead.mount is not None and is_path_below(section.name, lead.mount)


def _warn_of_computing(server: Server, lead: Lead, findings: Findings) -> None:
    places = [] if lead.path is None else server.around(lead.path)
    if lead.section is not None and lead.section not in places:
        places.append(lead.section)
    for section in places:
        if any(name.lower() == "s3bucketurl" for _, name in section.computing):
            continue  # which may be another bucket's
        for directive, name in section.computing:
            findings.warning(
                directive,
                f"{name} is set by a rule here, and such settings count for the gateway alone: what"
                f" {lead.directive.place} sends is refused where the rule applies. Write a SetEnv line",
            )


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


def _check_keys_around(lead: Lead, own: Variables, findings: Findings) -> None:
    keys = [own[name] for name in _KEYS if name in own and own[name].value]
    if not keys or _bucket_of(own):
        return
    findings.error(
        lead.directive,
        f"the requests sent there are refused: {keys[0].name} at {keys[0].directive.place} is neither in a"
        f' <Proxy "{authority(lead.canonical)}/..."> section nor is there an S3BucketURL with it: write one of the two',
    )


def _check_pattern(
    server: Server, section: Section, leads: Sequence[Lead], signed: set[int], reached: set[int], findings: Findings
) -> None:
    proxied = [lead for lead in leads if re.match(r"https?:", lead.canonical)]
    if any(may_match(section, lead.asked) for lead in (proxied if section.computing else leads)):
        reached.add(id(section))
    has_keys = any(section.variables[name].value for name in _KEYS if name in section.variables)
    if not has_keys or _bucket_of(section.variables) or not falls_on_any_host(section) or server.is_undecided:
        return
    unsigned = (lead for lead in proxied if id(lead) not in signed)
    if not leads or any(falls_on(section, lead.asked) or not lead.is_decided for lead in unsigned):
        assert section.directive is not None
        findings.error(
            section.directive,
            "this section falls on any host, so that these keys would sign for any of them: name the bucket with"
            " S3BucketURL, or in the section's own URL",
        )
