"""Requests that mod_proxy sends: the settings of ``<Proxy>`` sections, and of what stands around."""

from __future__ import annotations

import re
from collections.abc import Sequence

from usp_s3_wsgi import access, bucket_url
from usp_s3_wsgi.configtest import near
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.judge import judge, judge_values, warn_of_misspelt
from usp_s3_wsgi.configtest.prefixes import Prefixes
from usp_s3_wsgi.configtest.servers import Section, Server, Variables, merged
from usp_s3_wsgi.configtest.urls import Lead, Leads, authority, canonical, has_below, is_below
from usp_s3_wsgi.settings import Settings

#: What <Proxy "http://[::1]/"> is for httpd: a pattern, of one letter of "::1".
_IPV6 = re.compile(r"(?i:https?)://(?:[^/@]*@)?\[[0-9a-fA-F:.]+\][^?*\[\]]*")
#: URLs that no pattern of a bucket or of a provider falls on.
_ANYWHERE = ("http://usp-s3-wsgi.invalid/a/b.mp4", "https://usp-s3-wsgi.invalid/a/b.mp4", "http://192.0.2.7:7/b")
_KEYS = ("s3accesskey", "s3accesskeyfile", "s3secretkey", "s3secretkeyfile", "s3credentialsource", "s3rolearn")


def is_ipv6(section: Section) -> bool:
    """Whether httpd takes a URL for a pattern because of the brackets around its address."""
    return not section.is_regex and section.is_pattern and _IPV6.fullmatch(section.name) is not None


def is_literal(section: Section) -> bool:
    """Whether a section is one of a URL, as it is meant."""
    return not section.is_pattern or is_ipv6(section)


def right_form(section: Section) -> str:
    """How a section is written so that mod_proxy applies it."""
    url = canonical(section.name)
    if is_ipv6(section):
        escaped = re.sub(r"([.\[\]()+?*^$|\\{}])", r"\\\1", url)
        return f'<ProxyMatch "^{escaped}">'
    return f'<Proxy "{url}">'


class Proxies:
    """The ``<Proxy>`` sections that count in a server, those with settings in order."""

    def __init__(self, server: Server) -> None:
        self.sections = [section for one in server.visible for section in one.proxies if section.has_any]
        self.order = {id(section): index for index, section in enumerate(self.sections)}
        literal: dict[str, list[Section]] = {}
        odd: dict[str, list[Section]] = {}
        for section in self.sections:
            if is_literal(section):
                literal.setdefault(section.name, []).append(section)
                if is_odd(section):
                    odd.setdefault(canonical(section.name), []).append(section)
        self.literal, self.odd = Prefixes(literal), Prefixes(odd)
        self.balancers = [section for section in self.sections if section.name.lower().startswith("balancer:")]
        self.patterns = [section for section in self.sections if not is_literal(section)]

    def covering(self, *urls: str) -> list[Section]:
        """The sections of URLs that all requests to these URLs fall under, in order."""
        found = {
            id(section): section
            for url in urls
            for sections in self.literal.beginning(f"{url}/")
            for section in sections
            if is_below(url, section.name)
        }
        return sorted(found.values(), key=lambda section: self.order[id(section)])

    def below(self, *urls: str) -> list[Section]:
        """Those that some of them fall under, but not all."""
        found = {
            id(section): section
            for url in urls
            for sections in self.literal.starting_with(url)
            for section in sections
            if has_below(url, section.name) and not is_below(url, section.name)
        }
        return sorted(found.values(), key=lambda section: self.order[id(section)])

    def odd_ones(self, url: str) -> list[Section]:
        """Those in a spelling that mod_proxy does not apply, which are meant for requests to this URL."""
        found = [
            *(one for ones in self.odd.beginning(f"{url}/") for one in ones if is_below(url, canonical(one.name))),
            *(one for ones in self.odd.starting_with(url) for one in ones if has_below(url, canonical(one.name))),
        ]
        return list({id(section): section for section in found}.values())


def is_odd(section: Section) -> bool:
    """Whether the URL of a section is not in mod_proxy's own spelling, or taken for a pattern."""
    return is_ipv6(section) or (
        re.match(r"https?:", section.name, re.I) is not None and canonical(section.name) != section.name
    )


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
    patterns = [section for section in proxies.patterns if _falls_on(section, lead.canonical)]
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
        if below or inner or server.is_undecided or _has_doubtful_pattern(proxies, lead):
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
    if _has_doubtful_pattern(proxies, lead):
        return
    findings.error(
        lead.directive,
        f"the requests sent there are refused: {keys[0].name} at {keys[0].directive.place} is neither in a"
        f' <Proxy "{authority(lead.canonical)}/..."> section nor is there an S3BucketURL with it: write one of the two',
    )


# ---------------------------------------------------------------- patterns


def _expression(section: Section) -> re.Pattern[str] | None:
    """Return what a pattern section matches, None where Python's and httpd's expressions differ too much."""
    try:
        if section.is_regex:
            return re.compile(section.name, re.S)
        text = re.sub(r"\\\*", ".*", re.sub(r"\\\?", ".", re.escape(section.name)))
        return None if "[" in section.name or "\\\\" in text else re.compile(f"(?:{text})\\Z", re.S)
    except re.error:
        return None


def _matches(section: Section, url: str) -> bool | None:
    expression = _expression(section)
    if expression is None:
        return None
    return (expression.search if section.is_regex else expression.match)(url) is not None


def _falls_on(section: Section, url: str) -> bool:
    """Whether all requests to a URL fall under a pattern, as far as some of them show."""
    tries = [url.rstrip("/") + "/" + path for path in ("a", "a/b.mp4", "x/y/z.ts")]
    return all(_matches(section, one) for one in tries)


def _has_doubtful_pattern(proxies: Proxies, lead: Lead) -> bool:
    return any(
        not _falls_on(section, lead.canonical) and section.has_any and _may_match(section, lead.canonical)
        for section in proxies.patterns
    )


def _may_match(section: Section, url: str) -> bool:
    """Whether a pattern may fall on some of what begins with a URL."""
    start = literal_start(section)
    return url.startswith(start) or start.startswith(url)


def literal_start(section: Section) -> str:
    """What all URLs that a pattern falls on begin with."""
    if not section.is_regex:
        return re.split(r"[?*\[\\]", section.name, maxsplit=1)[0]
    match = re.match(r"\^((?:[\w/:-]|\\[.\[\]/:-])+)(.?)", section.name)
    if match is None or "|" in section.name:
        return ""
    text = re.sub(r"\\(.)", r"\1", match[1])
    return text[:-1] if match[2] in {"?", "*", "{"} else text


def falls_on_any_host(section: Section) -> bool:
    """Whether a pattern falls on URLs of hosts that nobody named."""
    return any(_matches(section, url) for url in _ANYWHERE)


def _check_pattern(
    server: Server, section: Section, leads: Sequence[Lead], known: Proxies, reached: set[int], findings: Findings
) -> None:
    if any(_may_match(section, url) for lead in leads for url in (lead.canonical, lead.url)):
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
