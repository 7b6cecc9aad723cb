"""Checks the mounts of the gateway (WSGIScriptAlias) with the settings that apply to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from usp_s3_wsgi.configtest.bucket_use import BucketUse, Place
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.proxy_directives import ProxyDirectives
from usp_s3_wsgi.configtest.server_config import Section, Server, merge
from usp_s3_wsgi.configtest.settings_check import check_settings, check_values, s3_variables
from usp_s3_wsgi.configtest.urls import common_path

#: The gateway's script, ${USP_S3_WSGI}.
_SCRIPT = "usp_s3.wsgi"
_GROUP_OPTION = "process-group="
#: The process group of httpd's own processes.
_EMBEDDED = "%{GLOBAL}"
_USER_OPTIONS = ("user=", "group=", "supplementary-groups=", "chroot=")


@dataclass(frozen=True, eq=False)
class Mount:
    """A WSGIScriptAlias, of the gateway (``is_gateway``) or of another application.

    ``path``: the paths of all its requests are the same or below, None if it is unknown.
    """

    server: Server
    directive: Directive
    path: str | None
    is_exact: bool
    is_gateway: bool


def mounts(server: Server) -> Iterator[Mount]:
    """Yield the mounts of a server itself, of the gateway and of other applications."""
    for section in (server.top_level, *server.sections):
        for child in section.directives:
            if child.name not in {"wsgiscriptalias", "wsgiscriptaliasmatch"} or len(child.words) < 2:
                continue
            is_exact = child.name == "wsgiscriptalias"
            path = child.words[0] if is_exact else common_path(child.words[0])
            is_gateway = PurePosixPath(child.words[1]).name == _SCRIPT
            yield Mount(server, child, path, is_exact, is_gateway)


def check(server: Server, proxy_directives: ProxyDirectives, findings: Findings) -> list[Mount]:
    """Check the gateway's mounts of a server; ``proxy_directives``: of the same server. Return the server's mounts."""
    server_mounts = list(mounts(server))
    inherited = list(mounts(server.main)) if server.main and server.has_s3_variables else []
    gateway_mounts = [mount for mount in (*server_mounts, *inherited) if mount.is_gateway]
    if not gateway_mounts:
        return server_mounts
    paths = {
        mount.path.rstrip("/") for mount in (*server_mounts, *inherited) if mount.path is not None and mount.is_exact
    }
    # A ProxyPass within a mount does not belong to the gateway either.
    paths |= {
        proxy_directive.path.rstrip("/")
        for proxy_directive in (*proxy_directives.all, *proxy_directives.to_balancers)
        if proxy_directive.kind == "proxypass" and proxy_directive.path
    }
    has_other_users = _has_other_users(server)
    for mount in gateway_mounts:
        if mount.path is not None:
            reads_files = not (has_other_users and _may_be_in_daemon_mode(server, mount, mount.path))
            _check_mount(server, mount, mount.path, paths, reads_files, findings)
    if server.has_request_dependent_settings:
        for section in _sections_with_unknown_requests(server):
            check_values(findings, section.variables, not has_other_users)
    return server_mounts


def _check_mount(
    server: Server, mount: Mount, path: str, paths: set[str], reads_files: bool, findings: Findings
) -> None:
    locations_for_all_requests = server.locations_for_all_requests(path)
    inner = [
        section
        for section in server.locations_for_some_requests(path)
        if not _has_own_mount(section.argument, path, paths)
    ]
    for used_path, sections in (
        (path, locations_for_all_requests),
        *((section.argument, server.locations_for_all_requests(section.argument)) for section in inner),
    ):
        variables = merge((*(one.top_level for one in server.merge_order), *sections), keeps_spelling=True)
        holders = [section.directive for section in sections if section.has_s3_variables and section.directive]
        holder = holders[-1] if holders else mount.directive
        place = Place("gateway", used_path, server, used_path)
        # Missing settings may come from SetEnvIf or RewriteRule [E=], or from sections of inner paths.
        is_part = sections is locations_for_all_requests and inner and "s3bucketurl" not in variables
        is_computed = server.has_computed_settings_below(path)
        differs_by_request = is_computed or any(host.has_s3_variables for host in server.virtual_hosts)
        if differs_by_request or is_part or (inner and not mount.is_exact):
            check_values(findings, variables, reads_files)
            if is_computed:
                findings.buckets.append(BucketUse(place, holder, tuple(s3_variables(variables)), None, reads_files))
            else:
                # Settings that are missing here may be in a virtual host, which inherits this mount: no error.
                quiet = Findings()
                if check_settings(quiet, variables, None, holder, reads_files, place):
                    findings.buckets += quiet.buckets
            continue
        check_settings(findings, variables, None, holder, reads_files, place)


def _has_other_users(server: Server) -> bool:
    """Whether daemon processes of mod_wsgi may run as another user than httpd's children."""
    servers = (server, server.main) if server.main else (server, *server.virtual_hosts)
    return any(
        child.name == "wsgidaemonprocess" and any(word.startswith(_USER_OPTIONS) for word in child.words)
        for one in servers
        for child in one.top_level.directives
    )


def _may_be_in_daemon_mode(server: Server, mount: Mount, path: str) -> bool:
    """Whether a directive may assign a mount to daemon processes, also in a virtual host that inherits the mount.

    https://modwsgi.readthedocs.io/en/master/configuration-directives/WSGIProcessGroup.html
    """
    options = [word.removeprefix(_GROUP_OPTION) for word in mount.directive.words[2:] if word.startswith(_GROUP_OPTION)]
    if options:
        return options[-1] != _EMBEDDED
    return any(
        child.name == "wsgiprocessgroup" and child.words[:1] != (_EMBEDDED,)
        for one in (*server.merge_order, *server.virtual_hosts)
        for section in (one.top_level, *one.sections)
        if _may_contain(section, path, mount.directive.words[1])
        for child in section.directives
    )


def _may_contain(section: Section, path: str, script: str) -> bool:
    """Whether a section may apply to requests of this path, which are handled by this script."""
    if section.kind == "directory" and not section.is_pattern:
        return script.startswith(section.argument.rstrip("/") + "/")
    prefix = section.path_prefix
    return path.startswith(prefix) or prefix.startswith(path)


def _sections_with_unknown_requests(server: Server) -> list[Section]:
    return [section for one in server.merge_order for section in one.sections if section.has_unknown_requests]


def _has_own_mount(argument: str, path: str, paths: set[str]) -> bool:
    """Whether a section below a mount belongs to a mount or ProxyPass with a longer path."""
    steps = argument.rstrip("/").split("/")
    return any("/".join(steps[:end]) in paths for end in range(len(path.rstrip("/").split("/")) + 1, len(steps) + 1))
