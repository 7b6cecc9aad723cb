"""mod_proxy_hcheck: its requests go out unsigned, so that a bucket looks dead to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.proxy_rules import behind_socket, canonical
from usp_s3_wsgi.configtest.proxy_sections import Proxies
from usp_s3_wsgi.configtest.server_config import Section, Server

#: The methods that send a request.
_HTTP = {"OPTIONS", "HEAD", "GET", "OPTIONS11", "HEAD11", "GET11"}


class _Probe(NamedTuple):
    method: str = ""
    expression: str = ""  # the name of a ProxyHCExpr


def check(servers: list[Server], findings: Findings) -> None:
    """Tell of balancer members with S3 settings whose health is asked for by HTTP."""
    outside = [child for server in servers for child in server.outside.directives]
    templates: dict[str, _Probe] = {}
    for child in outside:
        if child.name == "proxyhctemplate" and child.words:
            templates[child.words[0].lower()] = _probe(child, templates)
    expressions = {child.words[0]: child.text for child in outside if child.name == "proxyhcexpr" and child.words}
    for server in servers:
        proxies = None
        for section in (server.outside, *server.proxies):
            for child in section.directives:
                if child.name not in {"balancermember", "proxyset"}:
                    continue
                probe = _probe(child, templates)
                if probe.method not in _HTTP or not _refuses_403(expressions.get(probe.expression)):
                    continue
                url = next((word for word in child.words if "=" not in word and "balancer:" not in word), "")
                url = behind_socket(url or _url_of(section))
                proxies = proxies or Proxies(server)
                known = (*proxies.covering(canonical(url)), *proxies.below(canonical(url)))
                own = (section,) if section.directive else ()  # a balancer's
                if url and any(one.has_settings for one in (*own, *known)):
                    _tell(child, probe.method, findings)


def _url_of(section: Section) -> str:
    return section.name if section.directive is not None and "balancer:" not in section.name else ""


def _probe(directive: Directive, templates: Mapping[str, _Probe]) -> _Probe:
    """Return what a line says; the last word counts, and that may be a template's."""
    probe = _Probe()
    for word in directive.words:
        name, _, value = word.partition("=")
        if name.lower() == "hcmethod":
            probe = probe._replace(method=value.upper())
        elif name.lower() == "hcexpr":
            probe = probe._replace(expression=value)
        elif name.lower() == "hctemplate":
            probe = templates.get(value.lower(), probe)
    return probe


def _refuses_403(expression: str | None) -> bool:
    """Whether S3's answer to an unsigned request means that the member is dead; without an expression it does."""
    if expression is None:
        return True
    pattern = re.search(r"%\{REQUEST_STATUS\}\s*=~\s*m?[/#|]\^(?:[23]|\[[23-]+\])", expression)
    return pattern is not None and "||" not in expression and "-o" not in expression


def _tell(directive: Directive, method: str, findings: Findings) -> None:
    findings.warning(
        directive,
        f"hcmethod={method}: mod_proxy_hcheck's requests are not signed, so that S3 refuses them and the balancer"
        " answers 503: use hcmethod=TCP, or as the member a ProxyPass location of this server",
    )
