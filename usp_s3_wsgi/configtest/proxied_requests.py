"""Checks requests that mod_proxy sends, with the settings of ``<Proxy>`` sections and of sections around the rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.proxy_rules import ProxyRule, ProxyRules
from usp_s3_wsgi.configtest.proxy_sections import ProxySections
from usp_s3_wsgi.configtest.section_patterns import (
    corrected_tag,
    matches_all_below,
    matches_any_host,
    may_match_below,
)
from usp_s3_wsgi.configtest.server_config import Section, Server, Variables, merge
from usp_s3_wsgi.configtest.settings_check import (
    check_settings,
    check_values,
    is_gateway_only,
    warn_of_misspelled,
)
from usp_s3_wsgi.configtest.urls import (
    authority,
    canonical,
    is_below,
    is_partly_below,
    is_path_below,
    without_socket,
)

_CREDENTIAL_SETTINGS = (
    "s3accesskey", "s3accesskeyfile", "s3secretkey", "s3secretkeyfile", "s3credentialsource", "s3profile", "s3rolearn",
)  # fmt: skip


def check(servers: list[Server], all_rules: list[ProxyRules], findings: Findings) -> tuple[set[int], set[int]]:
    """Check the settings of proxied requests; ``all_rules``: of each server.

    Returns the ids of the ``<Proxy>`` sections that requests match, and of the rules whose requests match a section.
    """
    reached: set[int] = set()
    signed: set[int] = set()
    for server, own in zip(servers, all_rules, strict=True):
        proxy_sections = ProxySections(server)
        inherited = all_rules[0].all if server.main and server.has_s3_variables else []
        rules = [*own.all, *own.unused_members, *inherited]
        for rule in rules:
            if authority(rule.canonical) and _check_rule(server, rule, proxy_sections, reached, findings):
                signed.add(id(rule))
        for section in proxy_sections.patterns:
            _check_pattern(server, section, rules, signed, reached, findings)
        is_forward_proxy = own.is_forward_proxy or all_rules[0].is_forward_proxy
        for section in proxy_sections.sections:
            if section.settings_by_rule and (id(section) in reached or is_forward_proxy):
                _report_settings_by_rule(section, findings)
    _check_sections(servers, all_rules, reached, findings)
    return reached, signed


def _check_sections(servers: list[Server], all_rules: list[ProxyRules], reached: set[int], findings: Findings) -> None:
    """Check each ``<Proxy>`` section by itself, whether requests match it or not."""
    for server, own in zip(servers, all_rules, strict=True):
        for section in server.proxy_sections:
            if not section.has_s3_variables:
                continue
            if section.has_settings:
                check_values(findings, section.variables)
                _check_gateway_only(section, findings)
            else:
                warn_of_misspelled(findings, section.variables)
            to_balancers = (*all_rules[0].to_balancers, *own.to_balancers)
            is_balancer = section.argument.lower().startswith("balancer:")
            if is_balancer and any(_is_same_balancer(rule.url, section) for rule in to_balancers):
                reached.add(id(section))


def _check_gateway_only(section: Section, findings: Findings) -> None:
    """Report settings that only the gateway has, wherever the other settings of the requests come from."""
    assert section.directive is not None
    for name, value in section.variables.items():
        if value.value and is_gateway_only(value.name):
            check_settings(findings, {name: value}, "http://bucket.invalid/b/", value.directive)


def _is_same_balancer(url: str, section: Section) -> bool:
    """Whether the URL of a balancer is below that of a section, or the other way round."""
    return is_below(url, section.argument) or is_partly_below(url, section.argument)


def _report_settings_by_rule(section: Section, findings: Findings) -> None:
    for directive, name in section.settings_by_rule:
        findings.error(
            FindingCode.SETTING_BY_RULE,
            directive,
            f"{name} is set by a rule, which only the gateway supports: all requests that match this section are"
            " rejected; use SetEnv instead",
        )


def _check_spelling(
    rule: ProxyRule, proxy_sections: ProxySections, is_rejected: bool, reached: set[int], findings: Findings
) -> bool:
    """Report sections that mod_proxy does not apply, and return whether there are some.

    ``is_rejected``: the requests are rejected, because no other settings apply to them.
    """
    sections = proxy_sections.written_differently(rule)
    for section in sections:
        reached.add(id(section))
        assert section.directive is not None
        report = findings.error if is_rejected else findings.warning
        report(
            FindingCode.SECTION_URL_MISMATCH,
            section.directive,
            f"mod_proxy does not apply this section to the requests of {rule.directive.location}, because its URL is"
            f" written differently{'; these requests are rejected' if is_rejected else ''}: write"
            f" {corrected_tag(section, rule.lookup_url)}",
        )
    return bool(sections)


def _check_rule(
    server: Server, rule: ProxyRule, proxy_sections: ProxySections, reached: set[int], findings: Findings
) -> bool:
    """Check the requests of a rule; return whether some of them are signed or rejected."""
    covering = proxy_sections.covering(rule.lookup_url, rule.is_complete)
    below = proxy_sections.below(rule.lookup_url, rule.is_complete)
    is_http = re.match(r"https?://", rule.canonical) is not None
    balancers = [one for one in proxy_sections.balancers if is_http and is_below(rule.balancer, one.argument)]
    reached.update(id(section) for section in (*covering, *below, *balancers))
    if rule.canonical.startswith("h2") and any(section.has_settings for section in covering):
        scheme = rule.canonical.partition(":")[0]
        findings.error(
            FindingCode.HTTP2_NOT_SIGNED,
            rule.directive,
            f"{scheme}:// requests (HTTP/2) cannot be signed: use http:// or https://",
        )
    if not is_http or not rule.has_known_host or not _has_settings(server):
        return bool(covering or below or _check_spelling(rule, proxy_sections, False, reached, findings))
    patterns = [one for one in proxy_sections.patterns if matches_all_below(one, rule.lookup_url)]
    applied = sorted((*covering, *patterns, *balancers), key=lambda one: proxy_sections.order[id(one)])
    signs = {id(section): _signs(section, rule) for section in applied}
    locations = _locations(server, rule)
    top_level = [one.top_level for one in server.merge_order]
    own = merge(locations.sections)
    if rule.kind not in {"pass", "match"}:  # httpd has merged these settings, with the first spelling of each name
        merged = merge((*top_level, *covering, *locations.sections), keeps_spelling=True)
        own = {name: merged[name] for name in own}
    bucket = _bucket_url(own)
    uses_bucket = rule.uses_bucket(bucket) if bucket else False
    is_own = rule.kind in {"pass", "match"} and any(section.has_settings for section in locations.sections)
    is_signed = True in signs.values() or is_own or uses_bucket is True
    is_partly = bool(below or locations.is_partly or uses_bucket is None) or proxy_sections.may_match_partly(rule)
    is_partly = is_partly or None in signs.values()
    is_pass = rule.kind in {"pass", "match"} and rule.path is not None
    is_unknown = server.has_unknown_settings_below(rule.path or "/") if is_pass else server.has_unknown_settings
    may_be_signed = is_signed or is_partly or (is_unknown and _has_conditional_settings(server))
    is_mismatch = _check_spelling(rule, proxy_sections, not may_be_signed, reached, findings)
    if is_signed:
        _warn_of_settings_by_rule(server, rule, findings)
        variables = merge((*top_level, *applied))
        default = variables.get("s3bucketurl")
        if default and any(default in section.variables.values() for section in top_level):
            uses_default = rule.uses_bucket(default.value) if default.value else True
            is_partly = is_partly or uses_default is None
            if not uses_default:
                del variables["s3bucketurl"]  # meant for a gateway
        for section in locations.sections:
            for name in section.unset:
                variables.pop(name, None)
        variables |= own
        if is_partly or is_unknown:
            check_values(findings, variables)
        else:
            _check_all_settings(server, rule, applied, locations.sections, variables, findings)
    elif rule.kind in {"rewrite", "handler"} and not may_be_signed and not is_unknown and not is_mismatch:
        _check_keys_without_bucket(rule, own, findings)
    if not is_unknown and not locations.is_partly and not proxy_sections.patterns:
        for section in below:
            assert section.directive is not None
            is_whole = rule.is_complete and not proxy_sections.below(section.argument)
            if section.has_settings and is_whole and not any(_bucket_url(one.variables) for one in top_level):
                variables = merge((*top_level, *proxy_sections.covering(section.argument), *locations.sections))
                check_settings(findings, variables, canonical(section.argument), section.directive)
    return bool(is_signed or below or is_mismatch)


def _check_all_settings(
    server: Server,
    rule: ProxyRule,
    applied: Sequence[Section],
    locations: Sequence[Section],
    variables: Variables,
    findings: Findings,
) -> None:
    """Check the settings of a rule whose requests all have the same settings."""
    urls = [section.argument for section in applied if section.has_settings and not section.is_pattern]
    urls = [url for url in urls if without_socket(url).lower().startswith(("http:", "https:"))]
    has_location = rule.path is not None and any(
        section.has_s3_variables for section in server.locations_covering(rule.path)
    )
    url = without_socket(urls[-1]) if urls else rule.bucket_url if has_location else None
    holders = [section.directive for section in (*applied, *locations) if section.has_settings and section.directive]
    last = holders[-1] if holders else rule.directive
    if url is None and not _names_bucket(rule, variables):
        check_values(findings, variables)
        advice = (
            f'put these settings into a <Proxy "{rule.canonical.rstrip("/")}/"> section, one for each BalancerMember,'
            " or set S3BucketURL beside them"
            if rule.balancer
            else "a URL pattern needs S3BucketURL"
        )
        findings.error(
            FindingCode.BUCKET_NOT_NAMED,
            last,
            f"the host in {authority(rule.canonical)} does not name the bucket: {advice}",
        )
        return
    chosen = check_settings(findings, variables, url or f"{authority(rule.canonical)}/", last)
    _check_bucket_url(chosen, rule, variables, findings)


def _names_bucket(rule: ProxyRule, variables: Variables) -> bool:
    """Whether scheme, host and port of the URL, or the settings, name the bucket."""
    if any(variables[name].value for name in ("s3bucketurl", "s3bucket") if name in variables):
        return True
    try:
        return bool(bucket_url.parse(authority(rule.canonical)).bucket)
    except ValueError:
        return True  # the parser of settings reports what is wrong with it


def _signs(section: Section, rule: ProxyRule) -> bool | None:
    """Whether a ``<Proxy>`` section makes the module sign the requests of a rule; None: some of them."""
    if not section.has_settings:
        return False
    if not section.is_pattern or not matches_any_host(section):
        return True
    bucket = _bucket_url(section.variables)
    return rule.uses_bucket(bucket) if bucket else False


def _bucket_url(variables: Variables) -> str:
    return variables["s3bucketurl"].value if "s3bucketurl" in variables else ""


def _has_settings(server: Server) -> bool:
    """Whether any directive that applies in a server changes an S3 variable."""
    return any(one.has_s3_variables for one in server.merge_order)


def _has_conditional_settings(server: Server) -> bool:
    """Whether sections that apply to some requests only contain settings."""
    return any(
        section.is_conditional and section.has_settings for one in server.merge_order for section in one.sections
    )


class _Locations(NamedTuple):
    """The Location sections that apply to all requests of a rule, and whether others apply to some of them."""

    sections: list[Section]
    is_partly: bool


def _locations(server: Server, rule: ProxyRule) -> _Locations:
    if rule.path is None:
        return _Locations([rule.section] if rule.section and not rule.section.is_conditional else [], False)
    covering = server.locations_covering(rule.path)
    inner = server.locations_below(rule.path)
    if rule.kind == "rewrite" or rule.kind == "handler":
        bucket = _bucket_url(merge(covering))
        is_other_bucket = bool(bucket) and rule.uses_bucket(bucket) is False
        return _Locations([], False) if is_other_bucket else _Locations(covering, bool(inner))
    applies = {id(section): _applies_to_proxypass(section, rule) for section in (*covering, *inner)}
    return _Locations(
        [section for section in covering if applies[id(section)]],
        any(applies[id(section)] is not False for section in inner) or None in applies.values(),
    )


def _applies_to_proxypass(section: Section, rule: ProxyRule) -> bool | None:
    """Whether the settings of a Location apply to a ProxyPass; None: to some of its requests."""
    if section is rule.section:
        return True
    if bucket := _bucket_url(section.variables):
        return rule.uses_bucket(bucket)
    return rule.own_path is not None and is_path_below(section.argument, rule.own_path)


def _warn_of_settings_by_rule(server: Server, rule: ProxyRule, findings: Findings) -> None:
    sections = [] if rule.path is None else server.locations_covering(rule.path)
    if rule.section is not None and rule.section not in sections:
        sections.append(rule.section)
    for section in sections:
        if any(name.lower() == "s3bucketurl" for _, name in section.settings_by_rule):
            continue  # it may be another bucket
        for directive, name in section.settings_by_rule:
            findings.warning(
                FindingCode.SETTING_BY_RULE,
                directive,
                f"{name} is set by a rule, which only the gateway supports: the requests of {rule.directive.location}"
                " are rejected where the rule applies; use SetEnv instead",
            )


def _check_bucket_url(chosen: Settings | None, rule: ProxyRule, variables: Variables, findings: Findings) -> None:
    """Compare S3BucketURL with the URL that the requests are sent to."""
    if chosen is None or "s3bucketurl" not in variables or not variables["s3bucketurl"].value:
        return
    try:
        target = bucket_url.parse(authority(rule.canonical))
    except ValueError as error:
        findings.error(FindingCode.INVALID_PROXY_URL, rule.directive, f"the URL {error}")
        return
    bucket = chosen.bucket_url
    if (bucket.scheme, bucket.host, bucket.port) != (target.scheme, target.host, target.port):
        findings.error(
            FindingCode.BUCKET_URL_MISMATCH,
            variables["s3bucketurl"].directive,
            f"S3BucketURL has another scheme, host or port than {authority(rule.canonical)}, where"
            f" {rule.directive.location} sends these requests: use the same URL in both places",
        )


def _check_keys_without_bucket(rule: ProxyRule, own: Variables, findings: Findings) -> None:
    keys = [own[name] for name in _CREDENTIAL_SETTINGS if name in own and own[name].value]
    if not keys or _bucket_url(own):
        return
    findings.error(
        FindingCode.KEYS_WITHOUT_BUCKET,
        rule.directive,
        f"the requests of this directive are rejected, because {keys[0].name} at {keys[0].directive.location} is not"
        f' for a known bucket: move it into a <Proxy "{authority(rule.canonical)}/..."> section, or set S3BucketURL'
        " beside it",
    )


def _check_pattern(
    server: Server,
    section: Section,
    rules: Sequence[ProxyRule],
    signed: set[int],
    reached: set[int],
    findings: Findings,
) -> None:
    http_rules = [rule for rule in rules if re.match(r"https?:", rule.canonical)]
    matching = http_rules if section.settings_by_rule else rules
    if any(may_match_below(section, rule.lookup_url) for rule in matching):
        reached.add(id(section))
    has_keys = any(section.variables[name].value for name in _CREDENTIAL_SETTINGS if name in section.variables)
    if not has_keys or _bucket_url(section.variables) or not matches_any_host(section) or server.has_unknown_settings:
        return
    unsigned = (rule for rule in http_rules if id(rule) not in signed)
    if not rules or any(matches_all_below(section, rule.lookup_url) or not rule.has_known_host for rule in unsigned):
        assert section.directive is not None
        findings.error(
            FindingCode.KEYS_FOR_ANY_HOST,
            section.directive,
            "this section matches any host, so that its keys would sign requests to any host: name the bucket with"
            " S3BucketURL, or in the section's own URL",
        )
