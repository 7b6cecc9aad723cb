"""Finds settings outside of ``<Proxy>`` sections that apply to no request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.gateway_mounts import Mount
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirective, ProxyDirectives
from usp_s3_wsgi.configtest.server_config import SETTING_NAMES, Section, Server

#: httpd's own handlers, which use no variables; another handler may be a program that the settings are for.
_OWN_HANDLERS = set(
    "none default-handler type-map send-as-is imap-file server-status server-info balancer-manager ldap-status".split()
)
#: httpd takes these content types for the handler of that name, if no other one is set (ap_invoke_handler).
_PROGRAM_TYPE = "application/x-httpd-"
_HANDLER_FLAG = re.compile(rf"[\[,]\s*(?:H(?:andler)?=|T(?:ype)?={_PROGRAM_TYPE})", re.IGNORECASE)
_HANDLER_DIRECTIVES = {"sethandler", "addhandler", "addtype", "forcetype", "rewriterule"}
#: Other directives that run a program for any path.
_PROGRAM_DIRECTIVES = {"wsgihandlerscript", "wsgidispatchscript", "action", "script"}


def check(
    servers: list[Server], mounts: list[Mount], directives_by_server: list[ProxyDirectives], findings: Findings
) -> None:
    """Report Location sections and servers whose settings apply to no request."""
    mounts_by_server: dict[int, list[Mount]] = {}
    for mount in mounts:
        mounts_by_server.setdefault(id(mount.server), []).append(mount)
    proxy_directives_by_server = {
        id(proxy_directives.server): [*proxy_directives.all, *proxy_directives.to_balancers]
        for proxy_directives in directives_by_server
    }
    for server in servers:
        locations = [section for section in server.sections if section.is_location and section.has_settings]
        if not locations and not server.top_level.has_settings:
            continue
        relevant = server.merge_order if server.main else servers
        programs = [path for one in relevant for path in _program_paths(one)]
        server_mounts = [mount for one in relevant for mount in mounts_by_server.get(id(one), ())]
        proxy_directives = [
            proxy_directive for one in relevant for proxy_directive in proxy_directives_by_server[id(one)]
        ]
        used = _UsedPaths([*(mount.path for mount in server_mounts), *programs], proxy_directives)
        for section in locations:
            if not used.includes(section):
                _report_location(section, proxy_directives, findings)
        if server.top_level.has_settings and not server_mounts and not programs and not _has_sections(relevant):
            first = next(value for name, value in server.top_level.variables.items() if name in SETTING_NAMES)
            findings.warning(
                FindingCode.SERVER_SETTINGS_NOT_USED,
                first.directive,
                f"{first.name} applies to no request: there is no WSGIScriptAlias that uses it, and no <Proxy> section"
                " with settings of its own",
            )


def _program_paths(server: Server) -> Iterator[str | None]:
    """Yield the paths of other programs, which may use variables of the same names; None for a program of any path."""
    for section in (server.top_level, *server.sections):
        path = section.argument if section.is_location else None
        for child in section.directives:
            words = child.words if child.name in _HANDLER_DIRECTIVES else ()
            if child.name == "sethandler" and words and words[0].lower() not in _OWN_HANDLERS:
                if not words[0].lower().startswith("proxy:http"):  # a proxy directive
                    yield path
            elif (
                (child.name == "addhandler" and words and words[0].lower() not in _OWN_HANDLERS)
                or (child.name in {"addtype", "forcetype"} and words and words[0].lower().startswith(_PROGRAM_TYPE))
                or (child.name == "rewriterule" and _HANDLER_FLAG.search(" ".join(words[2:])))
                or child.name in _PROGRAM_DIRECTIVES
            ):
                yield path
            elif child.name in {"scriptalias", "scriptaliasmatch", "fallbackresource"}:
                is_literal = child.name == "scriptalias" and len(child.words) > 1
                yield child.words[0] if is_literal else path


def _has_sections(servers: Iterable[Server]) -> bool:
    """Whether there are sections for which the settings of the server are defaults."""
    return any(section.has_s3_variables for server in servers for section in (*server.proxy_sections, *server.sections))


class _UsedPaths:
    """The paths for which requests are served by an application, or proxied."""

    def __init__(self, paths: list[str | None], proxy_directives: list[ProxyDirective]) -> None:
        # To a ProxyPass, the Location sections at and below its path apply; to other directives, also those around it.
        is_proxypass = [
            proxy_directive.kind == "proxypass" and _is_http(proxy_directive) for proxy_directive in proxy_directives
        ]
        proxypass_directives = [
            proxy_directive for proxy_directive, yes in zip(proxy_directives, is_proxypass, strict=True) if yes
        ]
        others = [
            proxy_directive for proxy_directive, yes in zip(proxy_directives, is_proxypass, strict=True) if not yes
        ]
        paths = paths + [
            _path(proxy_directive)
            for proxy_directive in others
            if proxy_directive.section is None or proxy_directive.section.is_location
        ]
        self._is_unknown = any(path is None for path in paths)
        self._paths = {_steps(path) for path in paths if path is not None}
        self._by_path: dict[tuple[str, ...], list[ProxyDirective]] = {}
        self._by_outer_path: dict[tuple[str, ...], list[ProxyDirective]] = {}
        for proxy_directive in proxypass_directives:
            steps = _steps(proxy_directive.path or "/")
            self._by_path.setdefault(steps, []).append(proxy_directive)
            for end in range(len(steps) + 1):
                self._by_outer_path.setdefault(steps[:end], []).append(proxy_directive)
        self._outer_paths = {steps[:end] for steps in self._paths for end in range(len(steps) + 1)}
        self._sections_with_proxy_directives = {
            id(proxy_directive.section) for proxy_directive in proxy_directives if proxy_directive.section is not None
        }

    def includes(self, section: Section) -> bool:
        """Whether the settings of a Location section apply to some requests."""
        steps = _steps(section.argument)
        outer_paths = [steps[:end] for end in range(len(steps) + 1)]
        bucket = section.variables["s3bucketurl"].value if "s3bucketurl" in section.variables else ""
        return (
            self._is_unknown
            or id(section) in self._sections_with_proxy_directives
            or steps in self._outer_paths
            or any(outer in self._paths for outer in outer_paths)
            or any(
                _may_use(bucket, proxy_directive)
                for outer in outer_paths
                for proxy_directive in self._by_path.get(outer, ())
            )
            or any(
                bucket and _may_use(bucket, proxy_directive) for proxy_directive in self._by_outer_path.get(steps, ())
            )
        )


def _path(proxy_directive: ProxyDirective) -> str | None:
    return proxy_directive.section.argument if proxy_directive.section is not None else proxy_directive.path


def _may_use(bucket: str, proxy_directive: ProxyDirective) -> bool:
    """Whether settings with this S3BucketURL, which may be empty, can apply to the requests of a ProxyPass."""
    return not bucket or proxy_directive.sends_to_bucket(bucket) is not False


def _is_http(proxy_directive: ProxyDirective) -> bool:
    return proxy_directive.canonical.startswith(("http://", "https://", "balancer:"))


def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def _report_location(section: Section, proxy_directives: list[ProxyDirective], findings: Findings) -> None:
    assert section.directive is not None
    steps = _steps(section.argument)
    proxypass_directives = (
        proxy_directive
        for proxy_directive in proxy_directives
        if proxy_directive.path is not None and proxy_directive.kind == "proxypass" and _is_http(proxy_directive)
    )
    inner = next(
        (
            proxy_directive
            for proxy_directive in proxypass_directives
            if _steps(proxy_directive.path or "/")[: len(steps)] == steps
        ),
        None,
    )
    bucket = section.variables["s3bucketurl"].value if "s3bucketurl" in section.variables else ""
    outer_paths = [steps[:end] for end in range(len(steps) + 1)]
    outer = next(
        (
            proxy_directive
            for proxy_directive in proxy_directives
            if proxy_directive.kind == "proxypass"
            and _is_http(proxy_directive)
            and _steps(proxy_directive.path or "/") in outer_paths
        ),
        None,
    )
    if bucket and outer is not None:
        findings.warning(
            FindingCode.LOCATION_OF_OTHER_BUCKET,
            section.directive,
            f"these settings do not apply to the requests of {outer.directive.location}: S3BucketURL is another bucket",
        )
        return
    if inner is not None:
        findings.warning(
            FindingCode.LOCATION_NOT_APPLIED,
            section.directive,
            f"these settings do not apply to the requests of {inner.directive.location}: move them into a <Proxy>"
            " section of its URL, or into a <Location> of its path",
        )
        return
    subject = "this bucket is" if "s3bucketurl" in section.variables else "these settings are"
    findings.warning(
        FindingCode.LOCATION_NOT_USED,
        section.directive,
        f"{subject} not used: no WSGIScriptAlias, ProxyPass or RewriteRule [P] handles this path",
    )
