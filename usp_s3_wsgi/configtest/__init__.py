"""What is wrong with the S3 settings of a configuration, as far as that can be known before the first request.

httpd runs this in a process of its own at ``httpd -t`` and at each start and restart (``_httpd_configtest.c``). In: its
parse result (:mod:`tree`). Out: findings. Between them: which settings count where (:mod:`servers`), which directives
lead to which URLs (:mod:`urls`), and the settings' own parser. A false alarm is worse than silence: what cannot be
decided here is left to the first request.
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
from usp_s3_wsgi.configtest.proxy_rules import Leads
from usp_s3_wsgi.configtest.server_config import build

__all__ = ["check"]


def check(configuration: Configuration) -> Findings:
    """Return what is to be told of a configuration; the files that it names are read as this process's user."""
    findings = Findings()
    servers = build(configuration.directives)
    leads = [Leads(server) for server in servers]
    mounts = [
        mount
        for server, own in zip(servers, leads, strict=True)
        for mount in gateway_mounts.check(server, own, findings)
    ]
    reached, signed = proxied_requests.check(servers, leads, findings)
    unreached_sections.check(servers, leads, reached, signed, findings)
    unused_settings.check(servers, mounts, leads, findings)
    health_checks.check(servers, findings)
    referenced_files.check(findings, configuration.may_lack_permission)
    return findings
