"""mod_proxy_hcheck: its probes by HTTP go out unsigned, so that a bucket looks dead."""

from __future__ import annotations

from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.proxied import _Proxies
from usp_s3_wsgi.configtest.servers import Section, Server
from usp_s3_wsgi.configtest.tree import Directive
from usp_s3_wsgi.configtest.urls import behind_socket, canonical

#: The methods that send a request.
_HTTP = {"OPTIONS", "HEAD", "GET", "OPTIONS11", "HEAD11", "GET11"}


def check(servers: list[Server], findings: Findings) -> None:
    """Tell of balancer members with S3 settings whose health is asked for by HTTP."""
    templates = {
        child.words[0].lower(): _method(child, {})
        for server in servers
        for child in server.outside.directives
        if child.name == "proxyhctemplate" and child.words
    }
    for server in servers:
        proxies = None
        for section in (server.outside, *server.proxies):
            for child in section.directives:
                if child.name not in {"balancermember", "proxyset"} or _method(child, templates) not in _HTTP:
                    continue
                url = next((word for word in child.words if "=" not in word and "balancer:" not in word), "")
                url = behind_socket(url or _url_of(section))
                proxies = proxies or _Proxies(server)
                known = (*proxies.covering(canonical(url), url), *proxies.below(canonical(url), url))
                if url and any(one.has_settings for one in known):
                    _tell(child, _method(child, templates), findings)


def _url_of(section: Section) -> str:
    return section.name if section.directive is not None and "balancer:" not in section.name else ""


def _method(directive: Directive, templates: dict[str, str]) -> str:
    """The last one counts; a template's is one, too."""
    method = ""
    for word in directive.words:
        name, equals, value = word.partition("=")
        if equals and name.lower() == "hcmethod":
            method = value.upper()
        elif equals and name.lower() == "hctemplate":
            method = templates.get(value.lower(), method)
    return method


def _tell(directive: Directive, method: str, findings: Findings) -> None:
    findings.warning(
        directive,
        f"hcmethod={method}: mod_proxy_hcheck's requests are not signed, so that S3 refuses them and the balancer"
        " answers 503: use hcmethod=TCP, or as the member a ProxyPass location of this server",
    )
