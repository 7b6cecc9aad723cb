"""Checks mod_proxy_hcheck: its requests are not signed, so that S3 rejects them and a bucket looks unavailable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.proxy_sections import ProxySections
from usp_s3_wsgi.configtest.server_config import Section, Server
from usp_s3_wsgi.configtest.urls import canonical, without_socket

#: The methods that send a request.
_HTTP_METHODS = {"OPTIONS", "HEAD", "GET", "OPTIONS11", "HEAD11", "GET11"}


class _HealthCheck(NamedTuple):
    method: str = ""
    expression: str = ""  # the name of a ProxyHCExpr


def check(servers: list[Server], findings: Findings) -> None:
    """Report balancer members with S3 settings whose health is checked by HTTP."""
    top_level = [child for server in servers for child in server.top_level.directives]
    templates: dict[str, _HealthCheck] = {}
    for child in top_level:
        if child.name == "proxyhctemplate" and child.words:
            templates[child.words[0].lower()] = _health_check(child, templates)
    expressions = {child.words[0]: child.text for child in top_level if child.name == "proxyhcexpr" and child.words}
    for server in servers:
        proxy_sections = None
        for section in (server.top_level, *server.proxy_sections):
            for child in section.directives:
                if child.name not in {"balancermember", "proxyset"}:
                    continue
                health_check = _health_check(child, templates)
                if health_check.method not in _HTTP_METHODS:
                    continue
                if not _fails_with_403(expressions.get(health_check.expression)):
                    continue
                url = next((word for word in child.words if "=" not in word and "balancer:" not in word), "")
                url = without_socket(url or _section_url(section))
                proxy_sections = proxy_sections or ProxySections(server)
                applied = (
                    *proxy_sections.sections_for_all_requests(canonical(url)),
                    *proxy_sections.sections_for_some_requests(canonical(url)),
                )
                balancer_section = (section,) if section.directive else ()  # the section of a balancer
                if url and any(one.has_settings for one in (*balancer_section, *applied)):
                    _warn(child, health_check.method, findings)


def _section_url(section: Section) -> str:
    return section.argument if section.directive is not None and "balancer:" not in section.argument else ""


def _health_check(directive: Directive, templates: Mapping[str, _HealthCheck]) -> _HealthCheck:
    """Return the parameters of a directive; the last one of a name counts, also if it comes from a template."""
    found = _HealthCheck()
    for word in directive.words:
        name, _, value = word.partition("=")
        if name.lower() == "hcmethod":
            found = found._replace(method=value.upper())
        elif name.lower() == "hcexpr":
            found = found._replace(expression=value)
        elif name.lower() == "hctemplate":
            found = templates.get(value.lower(), found)
    return found


def _fails_with_403(expression: str | None) -> bool:
    """Whether a member counts as unavailable when S3 rejects an unsigned request; without an expression it does."""
    if expression is None:
        return True
    pattern = re.search(r"%\{REQUEST_STATUS\}\s*=~\s*m?[/#|]\^(?:[23]|\[[23-]+\])", expression)
    return pattern is not None and "||" not in expression and "-o" not in expression


def _warn(directive: Directive, method: str, findings: Findings) -> None:
    findings.warning(
        FindingCode.HEALTH_CHECK_NOT_SIGNED,
        directive,
        f"hcmethod={method}: the health checks of mod_proxy_hcheck are not signed, so S3 rejects them and the balancer"
        " answers 503: use hcmethod=TCP, or a ProxyPass location of this server as the member",
    )
