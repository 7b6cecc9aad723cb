"""Checks requests that mod_proxy sends, with the settings of ``<Proxy>`` sections and of sections around
the proxy directive."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.bucket_use import Place
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirective, ProxyDirectives
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


def check(
    servers: list[Server], directives_by_server: list[ProxyDirectives], findings: Findings
) -> tuple[set[int], set[int]]:
    """Check the settings of proxied requests; ``directives_by_server``: those of each server.

    Returns the ids of the ``<Proxy>`` sections that requests match, and of the proxy directives with requests that
    are signed (by a ``<Proxy>`` or a ``<Location>``), or that may match a ``<Proxy>`` section. If all requests match
    sections without a known setting, they are not signed.
    """
    reached: set[int] = set()
    signed: set[int] = set()
    for server, server_directives in zip(servers, directives_by_server, strict=True):
        proxy_sections = ProxySections(server)
        inherited = directives_by_server[0].all if server.main and server.has_s3_variables else []
        proxy_directives = [*server_directives.all, *server_directives.members_of_unused_balancers, *inherited]
        for proxy_directive in proxy_directives:
            if authority(proxy_directive.canonical) and _check_proxy_directive(
                server, proxy_directive, proxy_sections, reached, findings
            ):
                signed.add(id(proxy_directive))
        for section in proxy_sections.patterns:
            _check_pattern(server, section, proxy_directives, signed, reached, findings)
        is_forward_proxy = server_directives.is_forward_proxy or directives_by_server[0].is_forward_proxy
        for section in proxy_sections.sections:
            if section.computed_settings and (id(section) in reached or is_forward_proxy):
                _report_computed_settings(section, findings)
    _check_sections(servers, directives_by_server, reached, findings)
    return reached, signed


def _check_sections(
    servers: list[Server], directives_by_server: list[ProxyDirectives], reached: set[int], findings: Findings
) -> None:
    """Check each ``<Proxy>`` section by itself, whether requests match it or not."""
    for server, server_directives in zip(servers, directives_by_server, strict=True):
        for section in server.proxy_sections:
            if not section.has_s3_variables:
                continue
            if section.has_settings:
                check_values(findings, section.variables)
                _check_gateway_only(section, findings)
            else:
                warn_of_misspelled(findings, section.variables)
            to_balancers = (*directives_by_server[0].to_balancers, *server_directives.to_balancers)
            is_balancer = section.argument.lower().startswith("balancer:")
            if is_balancer and any(_is_same_balancer(proxy_directive.url, section) for proxy_directive in to_balancers):
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


def _report_computed_settings(section: Section, findings: Findings) -> None:
    for directive, name in section.computed_settings:
        findings.error(
            FindingCode.COMPUTED_SETTING,
            directive,
            f"{name} is set by a rule, which only the gateway supports: all requests that match this section are"
            " rejected; use SetEnv instead",
        )


def _check_spelling(
    proxy_directive: ProxyDirective,
    proxy_sections: ProxySections,
    is_rejected: bool,
    reached: set[int],
    findings: Findings,
) -> bool:
    """Report sections that mod_proxy does not apply, and return whether there are some.

    ``is_rejected``: the requests are rejected, because no other settings apply to them.
    """
    sections = proxy_sections.written_differently(proxy_directive)
    for section in sections:
        reached.add(id(section))
        assert section.directive is not None
        report = findings.error if is_rejected else findings.warning
        report(
            FindingCode.SECTION_URL_MISMATCH,
            section.directive,
            f"mod_proxy does not apply this section to the requests of {proxy_directive.directive.location}, because"
            f" its URL is written differently{'; these requests are rejected' if is_rejected else ''}: write"
            f" {corrected_tag(section, proxy_directive.proxy_walk_url)}",
        )
    return bool(sections)


def _check_proxy_directive(
    server: Server,
    proxy_directive: ProxyDirective,
    proxy_sections: ProxySections,
    reached: set[int],
    findings: Findings,
) -> bool:
    """Check the requests of a proxy directive; return whether some of them are signed or rejected."""
    sections_for_all_requests = proxy_sections.sections_for_all_requests(
        proxy_directive.proxy_walk_url, proxy_directive.is_literal
    )
    sections_for_some_requests = proxy_sections.sections_for_some_requests(
        proxy_directive.proxy_walk_url, proxy_directive.is_literal
    )
    is_http = re.match(r"https?://", proxy_directive.canonical) is not None
    balancers = [
        one for one in proxy_sections.balancers if is_http and is_below(proxy_directive.balancer, one.argument)
    ]
    reached.update(id(section) for section in (*sections_for_all_requests, *sections_for_some_requests, *balancers))
    if proxy_directive.canonical.startswith("h2") and any(
        section.has_settings for section in sections_for_all_requests
    ):
        scheme = proxy_directive.canonical.partition(":")[0]
        findings.error(
            FindingCode.HTTP2_NOT_SIGNED,
            proxy_directive.directive,
            f"{scheme}:// requests (HTTP/2) cannot be signed: use http:// or https://",
        )
    if not is_http or not proxy_directive.has_known_host or not _has_settings(server):
        return bool(
            sections_for_all_requests
            or sections_for_some_requests
            or _check_spelling(proxy_directive, proxy_sections, False, reached, findings)
        )
    patterns = [one for one in proxy_sections.patterns if matches_all_below(one, proxy_directive.proxy_walk_url)]
    applied = sorted((*sections_for_all_requests, *patterns, *balancers), key=lambda one: proxy_sections.order[id(one)])
    signs = {id(section): _signs(section, proxy_directive) for section in applied}
    locations = _locations(server, proxy_directive)
    top_level = [one.top_level for one in server.merge_order]
    location_variables = merge(locations.sections)
    if not proxy_directive.is_proxypass:
        # httpd has merged these settings, with the first spelling of each name.
        merged = merge((*top_level, *sections_for_all_requests, *locations.sections), keeps_spelling=True)
        location_variables = {name: merged[name] for name in location_variables}
    bucket = _bucket_url(location_variables)
    sends_to_bucket = proxy_directive.sends_to_bucket(bucket) if bucket else False
    has_location_settings = proxy_directive.is_proxypass and any(section.has_settings for section in locations.sections)
    is_signed = True in signs.values() or has_location_settings or sends_to_bucket is True
    differs_by_request = bool(
        sections_for_some_requests or locations.differs_by_request or sends_to_bucket is None
    ) or proxy_sections.may_match_some_requests(proxy_directive)
    differs_by_request = differs_by_request or None in signs.values()
    has_request_dependent_settings = (
        server.has_request_dependent_settings_below(proxy_directive.path or "/")
        if proxy_directive.is_proxypass and proxy_directive.path is not None
        else server.has_request_dependent_settings
    )
    may_be_signed = (
        is_signed or differs_by_request or (has_request_dependent_settings and _has_settings_for_some_requests(server))
    )
    is_mismatch = _check_spelling(proxy_directive, proxy_sections, not may_be_signed, reached, findings)
    if is_signed:
        _warn_of_computed_settings(server, proxy_directive, findings)
        variables = merge((*top_level, *applied))
        default = variables.get("s3bucketurl")
        if default and any(default in section.variables.values() for section in top_level):
            sends_to_default_bucket = proxy_directive.sends_to_bucket(default.value) if default.value else True
            differs_by_request = differs_by_request or sends_to_default_bucket is None
            if not sends_to_default_bucket:
                del variables["s3bucketurl"]  # the S3BucketURL outside of sections is for the gateway: another bucket
        for section in locations.sections:
            for name in section.unset:
                variables.pop(name, None)
        variables |= location_variables
        if differs_by_request or has_request_dependent_settings:
            check_values(findings, variables)
        else:
            _check_all_settings(server, proxy_directive, applied, locations.sections, variables, findings)
    elif (
        proxy_directive.kind in {"rewrite", "handler"}
        and not may_be_signed
        and not has_request_dependent_settings
        and not is_mismatch
    ):
        _check_credentials_without_bucket(proxy_directive, location_variables, findings)
    if not has_request_dependent_settings and not locations.differs_by_request and not proxy_sections.patterns:
        for section in sections_for_some_requests:
            assert section.directive is not None
            all_below_section = proxy_directive.is_literal and not proxy_sections.sections_for_some_requests(
                section.argument
            )
            if section.has_settings and all_below_section and not any(_bucket_url(one.variables) for one in top_level):
                variables = merge(
                    (*top_level, *proxy_sections.sections_for_all_requests(section.argument), *locations.sections)
                )
                section_url = canonical(section.argument)
                rest = section_url.removeprefix(proxy_directive.canonical)
                path = f"{proxy_directive.path}{rest}" if proxy_directive.path and rest != section_url else None
                place = Place("proxy", section_url, server, path, section_url)
                check_settings(findings, variables, section_url, section.directive, place=place)
    return bool(is_signed or sections_for_some_requests or is_mismatch)


def _check_all_settings(
    server: Server,
    proxy_directive: ProxyDirective,
    applied: Sequence[Section],
    locations: Sequence[Section],
    variables: Variables,
    findings: Findings,
) -> None:
    """Check the settings of a proxy directive whose requests all have the same settings."""
    urls = [section.argument for section in applied if section.has_settings and not section.is_pattern]
    urls = [url for url in urls if without_socket(url).lower().startswith(("http:", "https:"))]
    has_location = proxy_directive.path is not None and any(
        section.has_s3_variables for section in server.locations_for_all_requests(proxy_directive.path)
    )
    url = without_socket(urls[-1]) if urls else proxy_directive.bucket_url if has_location else None
    holders = [section.directive for section in (*applied, *locations) if section.has_settings and section.directive]
    last = holders[-1] if holders else proxy_directive.directive
    if url is None and not _names_bucket(proxy_directive, variables):
        check_values(findings, variables)
        advice = (
            f'put these settings into a <Proxy "{proxy_directive.canonical.rstrip("/")}/"> section, one for each'
            " BalancerMember, or set S3BucketURL beside them"
            if proxy_directive.balancer
            else "a URL pattern needs S3BucketURL"
        )
        findings.error(
            FindingCode.BUCKET_NOT_NAMED,
            last,
            f"the host in {authority(proxy_directive.canonical)} does not name the bucket: {advice}",
        )
        return
    section_url = url or f"{authority(proxy_directive.canonical)}/"
    place = Place("proxy", url or proxy_directive.canonical, server, proxy_directive.path, proxy_directive.canonical)
    chosen = check_settings(findings, variables, section_url, last, place=place)
    _check_bucket_url(chosen, proxy_directive, variables, findings)


def _names_bucket(proxy_directive: ProxyDirective, variables: Variables) -> bool:
    """Whether scheme, host and port of the URL, or the settings, name the bucket."""
    if any(variables[name].value for name in ("s3bucketurl", "s3bucket") if name in variables):
        return True
    try:
        return bool(bucket_url.parse(authority(proxy_directive.canonical)).bucket)
    except ValueError:
        return True  # the parser of settings reports what is wrong with it


def _signs(section: Section, proxy_directive: ProxyDirective) -> bool | None:
    """Whether a ``<Proxy>`` section makes the module sign the requests of a proxy directive; None: some of them."""
    if not section.has_settings:
        return False
    if not section.is_pattern or not matches_any_host(section):
        return True
    bucket = _bucket_url(section.variables)
    return proxy_directive.sends_to_bucket(bucket) if bucket else False


def _bucket_url(variables: Variables) -> str:
    return variables["s3bucketurl"].value if "s3bucketurl" in variables else ""


def _has_settings(server: Server) -> bool:
    """Whether any directive that applies in a server changes an S3 variable."""
    return any(one.has_s3_variables for one in server.merge_order)


def _has_settings_for_some_requests(server: Server) -> bool:
    """Whether a section that applies only to some requests contains settings."""
    return any(
        section.has_unknown_requests and section.has_settings for one in server.merge_order for section in one.sections
    )


class _Locations(NamedTuple):
    """The Location sections that apply to all requests of a proxy directive; whether others apply to some of them."""

    sections: list[Section]
    differs_by_request: bool


def _locations(server: Server, proxy_directive: ProxyDirective) -> _Locations:
    if proxy_directive.path is None:
        section = proxy_directive.section
        return _Locations([section] if section and not section.has_unknown_requests else [], False)
    locations_for_all_requests = server.locations_for_all_requests(proxy_directive.path)
    inner = server.locations_for_some_requests(proxy_directive.path)
    if proxy_directive.kind == "rewrite" or proxy_directive.kind == "handler":
        bucket = _bucket_url(merge(locations_for_all_requests))
        is_other_bucket = bool(bucket) and proxy_directive.sends_to_bucket(bucket) is False
        return _Locations([], False) if is_other_bucket else _Locations(locations_for_all_requests, bool(inner))
    applies = {
        id(section): _applies_to_proxypass(section, proxy_directive)
        for section in (*locations_for_all_requests, *inner)
    }
    return _Locations(
        [section for section in locations_for_all_requests if applies[id(section)]],
        any(applies[id(section)] is not False for section in inner) or None in applies.values(),
    )


def _applies_to_proxypass(section: Section, proxy_directive: ProxyDirective) -> bool | None:
    """Whether the settings of a Location apply to a ProxyPass; None: to some of its requests."""
    if section is proxy_directive.section:
        return True
    if bucket := _bucket_url(section.variables):
        return proxy_directive.sends_to_bucket(bucket)
    return proxy_directive.proxypass_path is not None and is_path_below(
        section.argument, proxy_directive.proxypass_path
    )


def _warn_of_computed_settings(server: Server, proxy_directive: ProxyDirective, findings: Findings) -> None:
    sections = [] if proxy_directive.path is None else server.locations_for_all_requests(proxy_directive.path)
    if proxy_directive.section is not None and proxy_directive.section not in sections:
        sections.append(proxy_directive.section)
    for section in sections:
        if any(name.lower() == "s3bucketurl" for _, name in section.computed_settings):
            continue  # it may be another bucket
        for directive, name in section.computed_settings:
            findings.warning(
                FindingCode.COMPUTED_SETTING,
                directive,
                f"{name} is set by a rule, which only the gateway supports: the requests of"
                f" {proxy_directive.directive.location} are rejected where the rule applies; use SetEnv instead",
            )


def _check_bucket_url(
    chosen: Settings | None, proxy_directive: ProxyDirective, variables: Variables, findings: Findings
) -> None:
    """Compare S3BucketURL with the URL that the requests are sent to."""
    if chosen is None or "s3bucketurl" not in variables or not variables["s3bucketurl"].value:
        return
    try:
        target = bucket_url.parse(authority(proxy_directive.canonical))
    except ValueError as error:
        findings.error(FindingCode.INVALID_PROXY_URL, proxy_directive.directive, f"the URL {error}")
        return
    bucket = chosen.bucket_url
    if (bucket.scheme, bucket.host, bucket.port) != (target.scheme, target.host, target.port):
        findings.error(
            FindingCode.BUCKET_URL_MISMATCH,
            variables["s3bucketurl"].directive,
            f"S3BucketURL has another scheme, host or port than {authority(proxy_directive.canonical)}, where"
            f" {proxy_directive.directive.location} sends these requests: use the same URL in both places",
        )


def _check_credentials_without_bucket(
    proxy_directive: ProxyDirective, location_variables: Variables, findings: Findings
) -> None:
    credentials = [
        location_variables[name]
        for name in _CREDENTIAL_SETTINGS
        if name in location_variables and location_variables[name].value
    ]
    if not credentials or _bucket_url(location_variables):
        return
    findings.error(
        FindingCode.CREDENTIALS_WITHOUT_BUCKET,
        proxy_directive.directive,
        f"the requests of this directive are rejected, because {credentials[0].name} at"
        f" {credentials[0].directive.location} is not for a known bucket: move it into a"
        f' <Proxy "{authority(proxy_directive.canonical)}/..."> section, or set S3BucketURL beside it',
    )


def _check_pattern(
    server: Server,
    section: Section,
    proxy_directives: Sequence[ProxyDirective],
    signed: set[int],
    reached: set[int],
    findings: Findings,
) -> None:
    http_directives = [
        proxy_directive for proxy_directive in proxy_directives if re.match(r"https?:", proxy_directive.canonical)
    ]
    matching = http_directives if section.computed_settings else proxy_directives
    if any(may_match_below(section, proxy_directive.proxy_walk_url) for proxy_directive in matching):
        reached.add(id(section))
    has_credentials = any(section.variables[name].value for name in _CREDENTIAL_SETTINGS if name in section.variables)
    if (
        not has_credentials
        or _bucket_url(section.variables)
        or not matches_any_host(section)
        or server.has_request_dependent_settings
    ):
        return
    unsigned = (proxy_directive for proxy_directive in http_directives if id(proxy_directive) not in signed)
    if not proxy_directives or any(
        matches_all_below(section, proxy_directive.proxy_walk_url) or not proxy_directive.has_known_host
        for proxy_directive in unsigned
    ):
        assert section.directive is not None
        findings.error(
            FindingCode.CREDENTIALS_FOR_ANY_HOST,
            section.directive,
            "this section matches any host, so that its keys would sign requests to any host: name the bucket with"
            " S3BucketURL, or in the section's own URL",
        )
