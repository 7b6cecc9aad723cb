"""Checks the S3 settings of a whole configuration of httpd, before the first request.

httpd runs this package in a separate process for ``httpd -t`` and at each start and restart
(``mod_usp_s3/configtest.c``). Input: the parsed configuration (:mod:`parsed_config`). Output: :mod:`findings`, each
with a code (:mod:`finding_codes`). In between: which settings apply where (:mod:`server_config`), which directives
proxy requests to which URLs (:mod:`proxy_directives`), and the parser of settings (:mod:`settings_check`). A false
alarm is worse than a missing one: what cannot be decided here is left to the first request.
"""

from __future__ import annotations

from usp_s3_wsgi.configtest import (
    gateway_mounts,
    health_checks,
    proxied_requests,
    referenced_files,
    unreached_sections,
    unused_settings,
)
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirectives
from usp_s3_wsgi.configtest.server_config import build_servers

__all__ = ["check"]


def check(configuration: Configuration) -> Findings:
    """Return the findings about a configuration; the files that it names are read as the user of this process."""
    findings = Findings()
    servers = build_servers(configuration.directives)
    directives_by_server = [ProxyDirectives(server) for server in servers]
    mounts = [
        mount
        for server, proxy_directives in zip(servers, directives_by_server, strict=True)
        for mount in gateway_mounts.check(server, proxy_directives, findings)
    ]
    reached, signed = proxied_requests.check(servers, directives_by_server, findings)
    unreached_sections.check(servers, directives_by_server, reached, signed, findings)
    unused_settings.check(servers, mounts, directives_by_server, findings)
    health_checks.check(servers, findings)
    referenced_files.check(findings, configuration.may_lack_permission)
    return findings
