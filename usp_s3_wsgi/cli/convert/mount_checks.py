"""Messages about the mounts of the mode ``gateway``, for what the operator must check or change by hand."""

from __future__ import annotations

from collections.abc import Sequence

from usp_s3_wsgi.cli.convert.line_edits import LineEdits
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import S3_DIRECTIVES, convert_directive
from usp_s3_wsgi.cli.convert.mount_plan import ACCESS_CONTROL, Mount
from usp_s3_wsgi.cli.convert.nested_lines import NestedLines, PathIndex, owning_section, scope, virtual_host
from usp_s3_wsgi.cli.convert.proxy_targets import proxy_passes
from usp_s3_wsgi.cli.convert.s3_sections import find_s3_sections, warn_of_directives_outside
from usp_s3_wsgi.configtest.apache_syntax import Enclosing, Line, Section

#: Directives that also apply to a mount if they are in a later <Location> around it.
_APPLY_TO_MOUNT = {*ACCESS_CONTROL, "proxypass", *S3_DIRECTIVES}


def check(mounts: Sequence[Mount], lines: NestedLines, edits: LineEdits) -> None:
    """Check each mount by itself, and with what is around it."""
    later_sections = _LaterSections(lines)
    exclusions = PathIndex(
        (nested.enclosing, path, nested.line) for nested, path, url in proxy_passes(lines) if url == "!"
    )
    by_path = PathIndex((mount.source.enclosing, mount.path, mount) for mount in mounts)
    aliases = PathIndex(
        (enclosing, line.arguments[0], line)
        for line, enclosing in lines
        if line.name == "wsgiscriptalias" and line.arguments
    )
    for mount in mounts:
        _check_proxypass_lines(mount, edits)
        later_sections.check(mount, edits)
        _check_exclusions(mount, exclusions, edits)
        _check_nesting(mount, by_path, aliases, edits)


def check_unconverted(mounts: Sequence[Mount], lines: NestedLines, edits: LineEdits) -> None:
    """Report directives without a mount. They stay in their section: httpd rejects them, so nothing is unsigned."""
    converted = {mount.source.section.opening.number for mount in mounts}
    for s3_section in find_s3_sections(lines):
        if s3_section.section.opening.number not in converted:
            edits.error(
                s3_section.section.opening,
                "this section cannot be converted to a mount: its S3 directives are unchanged, and httpd does not "
                "start until you move them into the <Location> of a mount",
            )
    for line, enclosing in lines:
        if line.name in S3_DIRECTIVES and not owning_section(enclosing):
            convert_directive(line, edits)
    warn_of_directives_outside(lines, edits)


def _check_proxypass_lines(mount: Mount, edits: LineEdits) -> None:
    for line in mount.other_lines:
        if line.name.startswith("<"):
            edits.warn(line, f"this section is for the same URL, but does not apply to the mount {mount.path}")
        elif mount.replaces == "s3_directives":
            edits.error(
                line,
                f"this sends requests unsigned to a URL that is not that of the mount {mount.path}: if it is that of a "
                "bucket, write a mount for it, too",
            )
        else:
            edits.error(line, f"this sends requests to the bucket unsigned: change it to use the mount {mount.path}")
    if not mount.proxypass_lines:
        edits.error(
            mount.source.section.opening,
            "no ProxyPass or IsmProxyPass here sends requests to this section: change the directive that does "
            f"to use the mount {mount.path}",
        )


class _LaterSections:
    """Sections for paths with directives that apply to a mount, too: the last section in the file has precedence."""

    def __init__(self, lines: NestedLines) -> None:
        found: dict[int, tuple[Enclosing, Section]] = {}
        for line, enclosing in lines:
            if line.name in _APPLY_TO_MOUNT and (section := owning_section(enclosing)):
                found.setdefault(section.opening.number, (enclosing, section))
        locations = [(outer, one) for outer, one in found.values() if one.name == "location"]
        paths = [(outer, one.opening.arguments[0], one) for outer, one in locations if _has_path(one)]
        self._by_path = PathIndex(paths)
        self._patterns = [
            (virtual_host(outer), one)
            for outer, one in found.values()
            if one.name == "locationmatch" or (one.name == "location" and not _has_path(one))
        ]

    def check(self, mount: Mount, edits: LineEdits) -> None:
        """Report the later sections that may apply to a mount."""
        section = mount.source.section
        number = section.closing.number if mount.replaces == "s3_directives" else section.opening.number
        (host,) = scope(mount.source.enclosing)
        sections = [section for other, section in self._patterns if host is None or host == other]
        at_or_above = self._by_path.at_or_above(mount.path, (host,))
        sections += [section for section in at_or_above if section.opening.arguments[0].rstrip("/") != mount.path]
        for section in sections:
            if section.opening.number > number:
                edits.warn(
                    section.opening,
                    f"this section comes after the mount {mount.path}, so that its access control, ProxyPass or S3 "
                    "settings may apply to the mount too: move it before the mount",
                )


def _has_path(section: Section) -> bool:
    """Whether a Location is for a path, not for a regular expression (~)."""
    return section.opening.arguments[:1] not in {(), ("~",)}


def _check_exclusions(mount: Mount, exclusions: PathIndex[Line], edits: LineEdits) -> None:
    """Report paths that mod_proxy does not proxy, and that now belong to the mount."""
    if not mount.is_loopback:
        for line in exclusions.at_or_below(mount.path, scope(mount.source.enclosing)):
            edits.warn(
                line, f"this does not exclude the path from the mount {mount.path}: deny access with Require there"
            )


def _check_nesting(mount: Mount, by_path: PathIndex[Mount], aliases: PathIndex[Line], edits: LineEdits) -> None:
    opening = mount.source.section.opening
    hosts = dict.fromkeys((0, virtual_host(mount.source.enclosing)))
    for other in by_path.at_or_above(mount.path, hosts):
        if other.path != mount.path:
            edits.error(
                opening,
                f"the mount {mount.path} is below the mount {other.path}: move its WSGIScriptAlias before the other "
                "one and its <Location> after the other one",
            )
    for line in aliases.at_or_above(mount.path, hosts):
        if line.number < opening.number:
            edits.error(line, f"this takes the requests of the mount {mount.path}: move it after that of the mount")
