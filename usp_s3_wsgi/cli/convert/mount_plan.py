"""Plans the mounts (``WSGIScriptAlias`` and ``<Location>``) of ``usp-s3 convert --to gateway``.

Most sections with directives of mod_unified_s3_auth become one mount each.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from usp_s3_wsgi.cli.convert.nested_lines import (
    CONFIGURATION_TIME_TESTS,
    NestedLine,
    NestedLines,
    owning_section,
    scope,
    virtual_host,
)
from usp_s3_wsgi.cli.convert.proxy_targets import BaseURLIndex, find_url
from usp_s3_wsgi.cli.convert.s3_sections import S3Section, find_s3_sections
from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.configtest.apache_syntax import Enclosing, Line, walk

#: Directives and sections that restrict access.
ACCESS_CONTROL = {
    *("require", "<requireall", "<requireany", "<requirenone", "authmerging", "authtype", "authname"),
    *("order", "allow", "deny", "satisfy", "<limit", "<limitexcept"),
}
_PROXYPASS_DIRECTIVES = {"proxypass", "ismproxypass"}
_USES_PATH = {"<location", "alias", "scriptalias", "proxypass", "wsgiscriptalias"}


@dataclass(frozen=True, eq=False)
class Mount:
    """A planned mount.

    ``replaces``: ``proxy_section`` is a ``<Proxy>``, whose requests this server sends to the mount;
    ``proxy_section_and_proxypass`` a ``<Proxy>`` and the only ``ProxyPass`` to it; ``proxypass`` is that of a
    ``<Location>``, which becomes the section of the mount; ``s3_directives`` are those of a ``<Location>``, which stays
    and sends requests to the mount, which is written after it. ``proxypass_lines`` send requests to the bucket: those
    of a loopback mount are changed to the mount's URL, others are replaced by the mount.
    ``proxypassreverse_lines``: their ``ProxyPassReverse``. ``other_lines``: others with the bucket's URL; for
    ``s3_directives`` those of the section that send requests to other URLs.
    """

    source: S3Section
    replaces: Literal["proxy_section", "proxy_section_and_proxypass", "proxypass", "s3_directives"]
    url: str
    path: str
    proxypass_lines: tuple[Line, ...]
    proxypassreverse_lines: tuple[Line, ...]
    other_lines: tuple[Line, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether only this server requests it, over HTTP at 127.0.0.1."""
        return self.replaces in {"proxy_section", "s3_directives"}


class _ProxyPassReverseLines:
    """The ProxyPassReverse lines by the URL of the mount that their URL is at or below, and by virtual host."""

    def __init__(self, lines: NestedLines, bases: Iterable[str]) -> None:
        index = BaseURLIndex((0, base, base) for base in dict.fromkeys(bases))  # one for all virtual hosts
        self._lines: dict[tuple[str, int | None], list[Line]] = defaultdict(list)
        for line, enclosing in lines:
            if line.name == "proxypassreverse":
                for base in index.bases_of(line, (0,)):
                    for host in (virtual_host(enclosing), None):  # None: all virtual hosts
                        self._lines[base, host].append(line)

    def of(self, url: str, enclosing: Enclosing) -> tuple[Line, ...]:
        """Return those at or below a URL that apply to a section in these enclosing sections."""
        return tuple(line for host in scope(enclosing) for line in self._lines.get((url, host), ()))


def plan_mounts(lines: NestedLines) -> list[Mount]:
    """Return the mounts; there is none for a section that cannot become one."""
    s3_sections = find_s3_sections(lines)
    planned = [mount for s3_section in s3_sections if (mount := _plan_mount(s3_section))]
    numbers = {s3_section.section.opening.number for s3_section in s3_sections}
    outside = [one for one in lines if not any(section.opening.number in numbers for section in one.enclosing)]
    locations = [mount for mount in planned if mount.replaces != "proxy_section"]
    proxypassreverse_lines = _ProxyPassReverseLines(lines, [mount.url for mount in locations])
    lines_of = _lines_by_mount([mount for mount in planned if mount.replaces == "proxy_section"], outside)
    mounts = [
        _with_proxypass_lines(mount, lines_of.get(id(mount), []))
        if mount.replaces == "proxy_section"
        else replace(mount, proxypassreverse_lines=proxypassreverse_lines.of(mount.url, mount.source.enclosing))
        for mount in planned
    ]
    used = {path.rstrip("/") for line, _ in lines if line.name in _USES_PATH for path in line.arguments[:1]}
    return [_with_path(mount, used) for mount in mounts]


def _plan_mount(s3_section: S3Section) -> Mount | None:
    """Plan the mount of a section by itself. A loopback mount has no path yet."""
    section, argument = s3_section.section, s3_section.section.opening.arguments[:1]
    # Another section around it is a <Macro>, whose parameters are unknown, or one that httpd does not allow.
    if not argument or any(
        outer.name not in CONFIGURATION_TIME_TESTS | {"virtualhost"} for outer in s3_section.enclosing
    ):
        return None
    if section.name == "proxy":
        # httpd accepts "/*" for "and everything below".
        url = argument[0][:-1] if argument[0].endswith("/*") else argument[0]
        return Mount(s3_section, "proxy_section", url, "", (), (), ()) if _may_be_bucket(url) else None
    if section.name != "location" or len(section.opening.arguments) != 1 or not argument[0].startswith("/"):
        return None
    proxypass_lines = [line for line, _ in walk(section.body) if line.name in _PROXYPASS_DIRECTIVES]
    urls = [word for line in proxypass_lines for word in line.arguments[:1]]
    if not urls or not _may_be_bucket(urls[0]):
        return None
    if len(proxypass_lines) == 1 and proxypass_lines[0].name == "proxypass":
        return Mount(s3_section, "proxypass", urls[0], argument[0].rstrip("/") or "/", tuple(proxypass_lines), (), ())
    of_bucket = tuple(line for line in proxypass_lines if find_url(line, urls[0]))
    others = tuple(line for line in proxypass_lines if not find_url(line, urls[0]))
    return Mount(s3_section, "s3_directives", urls[0], "", of_bucket, (), others)


def _may_be_bucket(url: str) -> bool:
    return re.fullmatch(r"(?i)(?:https?://(?![/*?])|\$\{\w+\})[^*?]*", url) is not None


def _lines_by_mount(mounts: list[Mount], outside: NestedLines) -> dict[int, list[NestedLine]]:
    """Assign each line with the URL of a ``<Proxy>`` to the mount with the longest URL.

    Of two equally long ones, that in the virtual host of the line comes before that in the main server.
    """
    index = BaseURLIndex((virtual_host(mount.source.enclosing), mount.url, mount) for mount in mounts)
    found: dict[int, list[NestedLine]] = defaultdict(list)
    for nested in outside:
        hosts = dict.fromkeys((0, virtual_host(nested.enclosing)))
        if candidates := index.bases_of(nested.line, hosts):
            best = max(candidates, key=lambda one: (len(one.url.rstrip("/")), virtual_host(one.source.enclosing)))
            found[id(best)].append(nested)
    return found


def _with_proxypass_lines(mount: Mount, lines: list[NestedLine]) -> Mount:
    """Return the mount of a ``<Proxy>`` section with the lines that contain its URL."""
    proxypass_lines = [nested for nested in lines if nested.line.name in _PROXYPASS_DIRECTIVES]
    mount = replace(
        mount,
        proxypass_lines=tuple(line for line, _ in proxypass_lines),
        proxypassreverse_lines=tuple(line for line, _ in lines if line.name == "proxypassreverse"),
        other_lines=tuple(line for line, _ in lines if line.name not in _PROXYPASS_DIRECTIVES | {"proxypassreverse"}),
    )
    if len(proxypass_lines) != 1 or not _is_plain_proxypass(proxypass_lines[0], mount):
        return mount
    path, url = proxypass_lines[0].line.arguments
    return replace(mount, replaces="proxy_section_and_proxypass", path=path.rstrip("/") or "/", url=url)


def _is_plain_proxypass(nested: NestedLine, mount: Mount) -> bool:
    """Whether a line is just ``ProxyPass /path URL``, in the server of the ``<Proxy>``: the mount gets that path."""
    line, enclosing = nested
    return (
        line.name == "proxypass"
        and len(line.arguments) == 2
        and line.arguments[0].startswith("/")
        and owning_section(enclosing) is None
        and virtual_host(enclosing) == virtual_host(mount.source.enclosing)
    )


def _with_path(mount: Mount, used: set[str]) -> Mount:
    """Give a loopback mount a path of its own: the name of the bucket, with a number if that path is used already."""
    if mount.path:
        return mount
    name = _bucket_name(mount.url)
    path, number = f"/{name}", 1
    while path in used:
        number += 1
        path = f"/{name}-{number}"
    used.add(path)
    return replace(mount, path=path)


def _bucket_name(url: str) -> str:
    try:
        name = bucket_url.parse(url).bucket or (urlsplit(url).hostname or "").split(".")[0]
    except ValueError:  # such as https://${BUCKET}.s3.amazonaws.com/
        name = re.sub(r"\A[^/$]*//(?:[^/]*@)?", "", url).split("/")[0].split(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "bucket"
