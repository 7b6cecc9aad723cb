"""What the operator must look at after a conversion to the plane ``gateway``: messages only, no change."""

from __future__ import annotations

from collections.abc import Sequence

from usp_s3_wsgi.cli.convert.line_edits import KEYS, Edits, convert_key
from usp_s3_wsgi.cli.convert.mount_plan import (
    ACCESS,
    Mount,
    Places,
    check_outside,
    covers,
    homes,
    host,
    owner,
    proxied,
    reach,
)
from usp_s3_wsgi.configtest.apache_syntax import Line

#: What in a later <Location> around a mount would count for the mount too.
_COUNTS = {*ACCESS, "proxypass", *KEYS}


def check(mounts: Sequence[Mount], places: Places, edits: Edits) -> None:
    """Each mount by itself, and with what is around it."""
    for mount in mounts:
        _leading_to(mount, edits)
        _later_sections(mount, places, edits)
        _exclusions(mount, places, edits)
        _nested(mount, mounts, places, edits)


def check_left(mounts: Sequence[Mount], places: Places, edits: Edits) -> None:
    """Keys that no mount was made for. In a section they stay: httpd refuses them, and so no request goes unsigned."""
    done = {mount.home.section.opening.number for mount in mounts}
    for home in homes(places):
        if home.section.opening.number not in done:
            edits.error(
                home.section.opening,
                "this section cannot become a mount: its S3 directives are left, and httpd does not start "
                "until they are moved into the <Location> of one by hand",
            )
    for line, around in places:
        if line.name in KEYS and not owner(around):
            convert_key(line, edits)
    check_outside(places, edits)


def _leading_to(mount: Mount, edits: Edits) -> None:
    for line in mount.others:
        if line.name.startswith("<"):
            edits.warn(line, f"this section is about the same URL, and nothing of it counts for the mount {mount.path}")
        else:
            edits.error(line, f"this goes to the bucket unsigned: let it lead to the mount {mount.path} by hand")
    if not mount.passes:
        edits.error(
            mount.home.section.opening,
            f"no ProxyPass or IsmProxyPass here leads to this section: let what does lead to the mount {mount.path}",
        )


def _later_sections(mount: Mount, places: Places, edits: Edits) -> None:
    """Of the sections about a path the last one in the file counts, also for who may ask."""
    own = mount.home.section
    place = own.closing.number if mount.form == "beside" else own.opening.number
    for line, around in reach(mount.home.around, places):
        section = owner(around)
        if section is None or section.opening.number <= place or line.name not in _COUNTS:
            continue
        if section.name == "locationmatch" or (section.name == "location" and _is_about(section.opening, mount)):
            edits.warn(
                section.opening,
                f"this section comes after the mount {mount.path} and its access rules, ProxyPass or S3 settings may "
                "count there too: put it before",
            )


def _is_about(opening: Line, mount: Mount) -> bool:
    path = opening.arguments[:1]
    # "~" comes before a regular expression.
    return not path or path[0] == "~" or (covers(path[0], mount.path) and path[0].rstrip("/") != mount.path)


def _exclusions(mount: Mount, places: Places, edits: Edits) -> None:
    """A path that mod_proxy left alone is now a path of the mount."""
    if mount.local:
        return
    for line, path, target in proxied(reach(mount.home.around, places)):
        if target == "!" and covers(mount.path, path):
            edits.warn(line, f"this keeps nothing from the mount {mount.path}: close the path there with Require")


def _nested(mount: Mount, mounts: Sequence[Mount], places: Places, edits: Edits) -> None:
    opening = mount.home.section.opening
    around = mount.home.around
    for other in mounts:
        together = host(other.home.around) in {0, host(around)}
        if together and other.path != mount.path and covers(other.path, mount.path):
            edits.error(
                opening,
                f"the mount {mount.path} is within {other.path}: write its WSGIScriptAlias before the other one and "
                "its <Location> after the other one",
            )
    for line, other_around in places:
        before = line.number < opening.number and host(other_around) in {0, host(around)}
        if before and line.name == "wsgiscriptalias" and line.arguments and covers(line.arguments[0], mount.path):
            edits.error(line, f"this takes the requests of the mount {mount.path}: put it after that")
