"""Checks the mounts of the gateway (WSGIScriptAlias) with the settings that apply to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.proxy_rules import ProxyRules
from usp_s3_wsgi.configtest.server_config import Section, Server, merge
from usp_s3_wsgi.configtest.settings_check import check_settings, check_values
from usp_s3_wsgi.configtest.urls import common_path

#: The gateway's script, ${USP_S3_WSGI}.
_SCRIPT = "usp_s3.wsgi"
_USER_OPTIONS = ("user=", "group=", "supplementary-groups=", "chroot=")


@dataclass(frozen=True, eq=False)
class Mount:
    """A WSGIScriptAlias. ``path``: all its paths are below it, None if it is unknown. ``is_ours``: of the gateway."""

    server: Server
    directive: Directive
    path: str | None
    is_exact: bool
    is_ours: bool


def mounts(server: Server) -> Iterator[Mount]:
    """Yield a server's own mounts, of the gateway and of other applications."""
    for section in (server.top_level, *server.sections):
        for child in section.directives:
            if child.name not in {"wsgiscriptalias", "wsgiscriptaliasmatch"} or len(child.words) < 2:
                continue
            is_exact = child.name == "wsgiscriptalias"
            path = child.words[0] if is_exact else common_path(child.words[0])
            is_ours = PurePosixPath(child.words[1]).name == _SCRIPT
            yield Mount(server, child, path, is_exact, is_ours)


def check(server: Server, rules: ProxyRules, findings: Findings) -> list[Mount]:
    """Check the gateway's mounts of a server; ``rules``: its own. Return its own mounts."""
    own = list(mounts(server))
    inherited = list(mounts(server.main)) if server.main and server.has_s3_variables else []
    ours = [mount for mount in (*own, *inherited) if mount.is_ours]
    if not ours:
        return own
    paths = {mount.path.rstrip("/") for mount in (*own, *inherited) if mount.path is not None and mount.is_exact}
    # A ProxyPass within a mount does not belong to the gateway either.
    paths |= {rule.path.rstrip("/") for rule in (*rules.all, *rules.to_balancers) if rule.kind == "pass" and rule.path}
    reads_files = not _has_other_users(server)
    for mount in ours:
        if mount.path is not None:
            _check_mount(server, mount, mount.path, paths, reads_files, findings)
    if server.has_unknown_settings:
        for section in _conditional_sections(server):
            check_values(findings, section.variables, reads_files)
    return own


def _check_mount(
    server: Server, mount: Mount, path: str, paths: set[str], reads_files: bool, findings: Findings
) -> None:
    covering = server.locations_covering(path)
    inner = [section for section in server.locations_below(path) if not _has_own_mount(section.argument, path, paths)]
    for sections in (covering, *(server.locations_covering(section.argument) for section in inner)):
        variables = merge((*(one.top_level for one in server.merge_order), *sections), keeps_spelling=True)
        # Missing settings may come from rules, or from the sections below.
        is_part = sections is covering and inner and "s3bucketurl" not in variables
        if server.has_unknown_settings or is_part or (inner and not mount.is_exact):
            check_values(findings, variables, reads_files)
            continue
        holders = [section.directive for section in sections if section.has_s3_variables and section.directive]
        check_settings(findings, variables, None, holders[-1] if holders else mount.directive, reads_files)


def _has_other_users(server: Server) -> bool:
    """Whether daemon processes of mod_wsgi may run as another user than httpd's children."""
    servers = (server, server.main) if server.main else (server, *server.virtual_hosts)
    return any(
        child.name == "wsgidaemonprocess" and any(word.startswith(_USER_OPTIONS) for word in child.words)
        for one in servers
        for child in one.top_level.directives
    )


def _conditional_sections(server: Server) -> list[Section]:
    return [section for one in server.merge_order for section in one.sections if section.is_conditional]


def _has_own_mount(argument: str, path: str, paths: set[str]) -> bool:
    """Whether a section below a mount belongs to a mount or ProxyPass with a longer path."""
    steps = argument.rstrip("/").split("/")
    return any("/".join(steps[:end]) in paths for end in range(len(path.rstrip("/").split("/")) + 1, len(steps) + 1))
