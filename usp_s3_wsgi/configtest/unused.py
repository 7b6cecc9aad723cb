"""Settings that count for nothing: no mount, no ProxyPass and no other directive has requests there."""

from __future__ import annotations

from collections.abc import Iterable

from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.gateway import Mount
from usp_s3_wsgi.configtest.servers import Section, Server
from usp_s3_wsgi.configtest.tree import Directive
from usp_s3_wsgi.configtest.urls import Lead, Leads

#: Other ways to an application, to a script or to a handler: where they are, nothing is said.
_OTHER_WAYS = set("sethandler addhandler wsgihandlerscript wsgidispatchscript action script fallbackresource".split())


def check(servers: list[Server], mounts: list[Mount], leads_of: list[Leads], findings: Findings) -> None:
    """Tell of Location sections, and of servers, whose settings nobody uses."""
    mounts_of: dict[int, list[Mount]] = {}
    for mount in mounts:
        mounts_of.setdefault(id(mount.server), []).append(mount)
    leads_by_server = {id(one.server): [*one.all, *one.balanced] for one in leads_of}
    for server in servers:
        asked = [section for section in server.sections if section.is_location and section.has_settings]
        if not asked and not server.outside.has_settings:
            continue
        seen = server.visible if server.main else servers
        if any(child.name in _OTHER_WAYS for one in seen for child in _directives(one)):
            continue
        here = [mount for one in seen for mount in mounts_of.get(id(one), ())]
        leads = [lead for one in seen for lead in leads_by_server[id(one)]]
        used = _Used(here, leads)
        for section in asked:
            if not used.is_used(section):
                _tell(section, leads, findings)
        if server.outside.has_settings and not here and not _uses_defaults(seen):
            first = next(value for name, value in server.outside.variables.items() if name.startswith("s3"))
            findings.warning(
                first.directive,
                f"{first.name} counts for no request: there is no WSGIScriptAlias for it, and no <Proxy> section with"
                " settings of its own",
            )


def _directives(server: Server) -> list[Directive]:
    return [child for section in (server.outside, *server.sections) for child in section.directives]


def _uses_defaults(seen: Iterable[Server]) -> bool:
    return any(section.has_any for server in seen for section in (*server.proxies, *server.sections))


class _Used:
    """Which paths requests are led from."""

    def __init__(self, mounts: list[Mount], leads: list[Lead]) -> None:
        paths = [mount.path for mount in mounts]
        # Of a ProxyPass the Location sections at and below its path count; of others those around, too.
        from_pass = [lead for lead in leads if lead.how == "pass" and lead.section is None]
        others = [lead for lead in leads if lead.how != "pass" or lead.section is not None]
        paths += [lead.path for lead in others if lead.section is None]
        self.is_unknown = any(path is None for path in paths)
        self._starts = {_steps(path) for path in paths if path is not None}
        self._below = {_steps(lead.path or "/") for lead in from_pass}
        self._around = {steps[:end] for steps in self._starts for end in range(len(steps) + 1)}
        self._inside = {id(lead.section) for lead in others if lead.section is not None}
        self._bucket = {steps[:end] for steps in self._below for end in range(len(steps) + 1)}

    def is_used(self, section: Section) -> bool:
        steps = _steps(section.name)
        ends = [steps[:end] for end in range(len(steps) + 1)]
        return (
            self.is_unknown
            or id(section) in self._inside
            or steps in self._around
            or any(end in self._starts or end in self._below for end in ends)
            or ("s3bucketurl" in section.variables and steps in self._bucket)
        )


def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def _tell(section: Section, leads: list[Lead], findings: Findings) -> None:
    assert section.directive is not None
    steps = _steps(section.name)
    passes = (lead for lead in leads if lead.path is not None and lead.how == "pass")
    inner = next((lead for lead in passes if _steps(lead.path or "/")[: len(steps)] == steps), None)
    if inner is not None:
        findings.warning(
            section.directive,
            f"these settings do not count for what {inner.directive.place} sends: put them into a <Proxy> section of"
            " that URL, or into a <Location> of that path",
        )
        return
    what = "there is a bucket" if "s3bucketurl" in section.variables else "there are settings"
    findings.warning(
        section.directive,
        f"{what} here, and nothing leads to this path: no WSGIScriptAlias, ProxyPass or RewriteRule [P] does",
    )
