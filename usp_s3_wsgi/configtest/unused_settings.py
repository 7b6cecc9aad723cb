"""Settings that count for nothing: no mount, no ProxyPass and no other directive has requests there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.gateway_mounts import Mount
from usp_s3_wsgi.configtest.proxy_rules import Lead, Leads, is_in_bucket
from usp_s3_wsgi.configtest.server_config import KNOWN, Section, Server

#: Handlers of httpd's own that no variable is for; others may be another program's, and so may the settings.
_HANDLERS = set(
    "none default-handler type-map send-as-is imap-file server-status server-info balancer-manager ldap-status".split()
)
#: Content types that httpd takes for the handler of that name, where no other one is set (ap_invoke_handler).
_PROGRAM_TYPE = "application/x-httpd-"
_HANDLER_FLAG = re.compile(rf"[\[,]\s*(?:H(?:andler)?=|T(?:ype)?={_PROGRAM_TYPE})", re.IGNORECASE)
_NAMING_HANDLERS = {"sethandler", "addhandler", "addtype", "forcetype", "rewriterule"}
#: Other ways to a program, of any path.
_ANYWHERE = {"wsgihandlerscript", "wsgidispatchscript", "action", "script"}


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
        programs = [path for one in seen for path in _programs(one)]
        here = [mount for one in seen for mount in mounts_of.get(id(one), ())]
        leads = [lead for one in seen for lead in leads_by_server[id(one)]]
        used = _Used([*(mount.path for mount in here), *programs], leads)
        for section in asked:
            if not used.is_used(section):
                _tell(section, leads, findings)
        if server.outside.has_settings and not here and not programs and not _uses_defaults(seen):
            first = next(value for name, value in server.outside.variables.items() if name in KNOWN)
            findings.warning(
                first.directive,
                f"{first.name} counts for no request: there is no WSGIScriptAlias for it, and no <Proxy> section with"
                " settings of its own",
            )


def _programs(server: Server) -> Iterator[str | None]:
    """Return the paths of other programs, which may know the same names; None for one of any path."""
    for section in (server.outside, *server.sections):
        path = section.name if section.is_location else None
        for child in section.directives:
            words = child.words if child.name in _NAMING_HANDLERS else ()
            if child.name == "sethandler" and words and words[0].lower() not in _HANDLERS:
                if not words[0].lower().startswith("proxy:http"):  # a lead
                    yield path
            elif (
                (child.name == "addhandler" and words and words[0].lower() not in _HANDLERS)
                or (child.name in {"addtype", "forcetype"} and words and words[0].lower().startswith(_PROGRAM_TYPE))
                or (child.name == "rewriterule" and _HANDLER_FLAG.search(" ".join(words[2:])))
                or child.name in _ANYWHERE
            ):
                yield path
            elif child.name in {"scriptalias", "scriptaliasmatch", "fallbackresource"}:
                is_literal = child.name == "scriptalias" and len(child.words) > 1
                yield child.words[0] if is_literal else path


def _uses_defaults(seen: Iterable[Server]) -> bool:
    return any(section.has_any for server in seen for section in (*server.proxies, *server.sections))


class _Used:
    """Which paths requests are led from."""

    def __init__(self, paths: list[str | None], leads: list[Lead]) -> None:
        # Of a ProxyPass the Location sections at and below its path count; of others those around, too.
        is_pass = [lead.how == "pass" and _is_http(lead) for lead in leads]
        from_pass = [lead for lead, yes in zip(leads, is_pass, strict=True) if yes]
        others = [lead for lead, yes in zip(leads, is_pass, strict=True) if not yes]
        paths = paths + [_path(lead) for lead in others if lead.section is None or lead.section.is_location]
        self.is_unknown = any(path is None for path in paths)
        self._starts = {_steps(path) for path in paths if path is not None}
        self._below: dict[tuple[str, ...], list[Lead]] = {}
        self._bucket: dict[tuple[str, ...], list[Lead]] = {}
        for lead in from_pass:
            steps = _steps(lead.path or "/")
            self._below.setdefault(steps, []).append(lead)
            for end in range(len(steps) + 1):
                self._bucket.setdefault(steps[:end], []).append(lead)
        self._around = {steps[:end] for steps in self._starts for end in range(len(steps) + 1)}
        self._inside = {id(lead.section) for lead in leads if lead.section is not None}

    def is_used(self, section: Section) -> bool:
        steps = _steps(section.name)
        ends = [steps[:end] for end in range(len(steps) + 1)]
        bucket = section.variables["s3bucketurl"].value if "s3bucketurl" in section.variables else ""
        return (
            self.is_unknown
            or id(section) in self._inside
            or steps in self._around
            or any(end in self._starts for end in ends)
            or any(_is_about(bucket, lead) for end in ends for lead in self._below.get(end, ()))
            or any(bucket and _is_about(bucket, lead) for lead in self._bucket.get(steps, ()))
        )


def _path(lead: Lead) -> str | None:
    return lead.section.name if lead.section is not None else lead.path


def _is_about(bucket: str, lead: Lead) -> bool:
    """Whether the settings beside an S3BucketURL may count for what a ProxyPass sends."""
    return not bucket or is_in_bucket(lead, bucket) is not False


def _is_http(lead: Lead) -> bool:
    return lead.canonical.startswith(("http://", "https://", "balancer:"))


def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def _tell(section: Section, leads: list[Lead], findings: Findings) -> None:
    assert section.directive is not None
    steps = _steps(section.name)
    passes = (lead for lead in leads if lead.path is not None and lead.how == "pass" and _is_http(lead))
    inner = next((lead for lead in passes if _steps(lead.path or "/")[: len(steps)] == steps), None)
    bucket = section.variables["s3bucketurl"].value if "s3bucketurl" in section.variables else ""
    ends = [steps[:end] for end in range(len(steps) + 1)]
    at = next(
        (lead for lead in leads if lead.how == "pass" and _is_http(lead) and _steps(lead.path or "/") in ends), None
    )
    if bucket and at is not None:
        findings.warning(
            section.directive,
            f"these settings do not count for what {at.directive.place} sends: S3BucketURL is another bucket's",
        )
        return
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
