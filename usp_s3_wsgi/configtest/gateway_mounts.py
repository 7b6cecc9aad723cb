"""The gateway's places: what WSGIScriptAlias leads to, with the settings around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.proxy_rules import Leads, literal_path
from usp_s3_wsgi.configtest.server_config import Section, Server, merged
from usp_s3_wsgi.configtest.settings_check import judge, judge_values

#: The script of the gateway: USP_S3_WSGI.
_SCRIPT = "usp_s3.wsgi"
_USERS = ("user=", "group=", "supplementary-groups=", "chroot=")


@dataclass(frozen=True, eq=False)
class Mount:
    """A WSGIScriptAlias. ``path``: what all its paths are below, None if that is not known."""

    server: Server
    directive: Directive
    path: str | None
    is_exact: bool
    is_ours: bool


def mounts(server: Server) -> Iterator[Mount]:
    """Return a server's own mounts, ours and others."""
    for section in (server.outside, *server.sections):
        for child in section.directives:
            if child.name not in {"wsgiscriptalias", "wsgiscriptaliasmatch"} or len(child.words) < 2:
                continue
            is_exact = child.name == "wsgiscriptalias"
            path = child.words[0] if is_exact else literal_path(child.words[0])
            is_ours = PurePosixPath(child.words[1]).name == _SCRIPT
            yield Mount(server, child, path, is_exact, is_ours)


def check(server: Server, leads: Leads, findings: Findings) -> list[Mount]:
    """Tell what is wrong with the places of a server; ``leads``: its own. Returns its own mounts."""
    own = list(mounts(server))
    inherited = list(mounts(server.main)) if server.main and server.has_settings else []
    ours = [mount for mount in (*own, *inherited) if mount.is_ours]
    if not ours:
        return own
    paths = {mount.path.rstrip("/") for mount in (*own, *inherited) if mount.path is not None and mount.is_exact}
    # Nor is a ProxyPass within a mount the gateway's.
    paths |= {lead.path.rstrip("/") for lead in (*leads.all, *leads.balanced) if lead.how == "pass" and lead.path}
    reads_files = not _has_other_users(server)
    for mount in ours:
        if mount.path is not None:
            _check(server, mount, mount.path, paths, reads_files, findings)
    if server.is_undecided:
        for section in _conditional(server):
            judge_values(findings, section.variables, reads_files)
    return own


def _check(server: Server, mount: Mount, path: str, paths: set[str], reads_files: bool, findings: Findings) -> None:
    around = server.around(path)
    inner = [section for section in server.below(path) if not _has_own_mount(section.name, path, paths)]
    for sections in (around, *(server.around(section.name) for section in inner)):
        variables = merged((*(one.outside for one in server.visible), *sections), keeps_spelling=True)
        # What is missing may come from elsewhere: from rules, or from the sections below.
        is_part = sections is around and inner and "s3bucketurl" not in variables
        if server.is_undecided or is_part or (inner and not mount.is_exact):
            judge_values(findings, variables, reads_files)
            continue
        holders = [section.directive for section in sections if section.has_any and section.directive]
        judge(findings, variables, None, holders[-1] if holders else mount.directive, reads_files)


def _has_other_users(server: Server) -> bool:
    """Whether mod_wsgi's daemons may run as somebody else than httpd's children."""
    servers = (server, server.main) if server.main else (server, *server.hosts)
    return any(
        child.name == "wsgidaemonprocess" and any(word.startswith(_USERS) for word in child.words)
        for one in servers
        for child in one.outside.directives
    )


def _conditional(server: Server) -> list[Section]:
    return [section for one in server.visible for section in one.sections if section.is_conditional]


def _has_own_mount(name: str, path: str, paths: set[str]) -> bool:
    """Whether a section below a mount belongs to a longer one."""
    steps = name.rstrip("/").split("/")
    return any("/".join(steps[:end]) in paths for end in range(len(path.rstrip("/").split("/")) + 1, len(steps) + 1))
