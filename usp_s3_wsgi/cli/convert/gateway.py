"""The plane ``gateway``: mounts of the WSGI application take the place of the vendor's sections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from usp_s3_wsgi.cli.convert.line_edits import (
    KEYS,
    Edits,
    commented,
    convert_key,
    convert_module,
    indent,
    set_env,
)
from usp_s3_wsgi.cli.convert.mount_checks import check, check_left
from usp_s3_wsgi.cli.convert.mount_plan import (
    ACCESS,
    WRAPPERS,
    Mount,
    Places,
    conditions_around,
    counts_in,
    covers,
    defined,
    names,
    plan,
    proxied,
    reach,
    tags,
    targets,
)
from usp_s3_wsgi.config import proxy_set
from usp_s3_wsgi.configtest.apache_syntax import Line, Node, Section, quoted, walk

#: mod_proxy's parameters of a worker, which a warning may name; another word may be anything, also a secret.
_WORKER = set(
    "acquire addressttl connectiontimeout disablereuse enablereuse flushpackets flushwait iobuffersize keepalive lbset "
    "loadfactor max min ping receivebuffersize redirect responsefieldsize retry route secret smax status timeout ttl "
    "upgrade".split()
)
#: Providers whose certificates every list of authorities is for.
_PUBLIC = re.compile(r"(?i)https://[^/:]+\.(?:amazonaws\.com(?:\.cn)?|googleapis\.com)(?=[:/]|\Z)")


def to_gateway(nodes: tuple[Node, ...], edits: Edits) -> None:
    """Note what becomes of each line, and what the operator must look at."""
    places = tuple(walk(nodes))
    mounts = plan(places)
    for line, around in places:
        convert_module(line, around, "wsgi_module", edits)
    path_of = {target.line.number: target.path or "" for target in targets(places)}
    for mount in mounts:
        settings = [f"SetEnv S3BucketURL {quoted(mount.url)}", *_authority(mount, places, edits)]
        _WRITE[mount.form](mount, ["ProxyPass !"] * _shielded(mount, mounts, places) + settings, edits)
        _repoint(mount, path_of, edits)
    local = [line.number for mount in mounts if mount.local for line in mount.passes]
    for line, _ in places:
        if line.number == min(local, default=0):
            edits.warn(line, "the port is 80 here; adapt it to this server's own, where its first virtual host answers")
    check(mounts, places, edits)
    check_left(mounts, places, edits)


def _shielded(mount: Mount, mounts: Iterable[Mount], places: Places) -> bool:
    """Whether a ProxyPass would take the mount's requests, and send those of this server itself round in circles."""
    gone = {line.number for other in mounts if not other.local for line in other.passes}
    return any(
        target != "!" and line.number not in gone and covers(path, mount.path)
        for line, path, target in proxied(reach(mount.home.around, places))
    )


def _authority(mount: Mount, places: Places, edits: Edits) -> list[str]:
    """Return what says whose certificates the bucket's may be. The gateway verifies them whatever httpd does."""
    url = re.sub(r"\A\$\{(\w+)\}", lambda match: defined(places).get(match[1], match[0]), mount.url)
    if not re.match(r"https:|\$", url, re.I):
        return []
    here = (*mount.home.around, mount.home.section)
    lines = [line for line, around in places if line.name.startswith("sslproxy") and counts_in(around, here)]
    for line in lines:
        if line.name.startswith(("sslproxycacertificatepath", "sslproxymachinecertificate")):
            edits.warn(line, f"this does not count for the mount {mount.path}, which has S3CAFile alone")
    files = [line.arguments[0] for line in lines if line.name == "sslproxycacertificatefile" and line.arguments]
    is_verified = any(line.name == "sslproxyverify" and line.arguments[:1] == ("require",) for line in lines)
    if not is_verified and not _PUBLIC.match(url):
        edits.warn(
            mount.home.section.opening,
            "the gateway verifies certificates of https:// URLs, and httpd did not: where the authority is none of the "
            "system's, write SetEnv S3CAFile",
        )
    return [f"SetEnv S3CAFile {quoted(files[-1])}"] if files else []


def _head(mount: Mount, settings: list[str], inner: str) -> list[str]:
    """The lines that begin a mount, down to the settings that are none of the vendor's."""
    outer, path = indent(mount.home.section.opening), mount.path
    return [
        _alias(mount),
        f'{outer}<Location "{path}">',
        *([f"{inner}Require local"] if mount.local else []),
        *(f"{inner}{setting}" for setting in settings),
    ]


def _alias(mount: Mount) -> str:
    return f"{indent(mount.home.section.opening)}WSGIScriptAlias {quoted(mount.path)} ${{USP_S3_WSGI}}"


def _inner(section: Section) -> str:
    """The indentation of the lines in a section."""
    lines = (line for line, _ in walk(section.body) if line.words)
    first = next(lines, None)
    return indent(first) if first else indent(section.opening) + "  "


def _proxy(mount: Mount, settings: list[str], edits: Edits) -> None:
    """<Proxy> becomes the mount, line by line."""
    section, inner = mount.home.section, _inner(mount.home.section)
    lines = [line for line, around in walk(section.body) if line.name == "proxyset" and not _foreign(around)]
    parameters = _proxy_set([(section.opening, 2), *((line, 1) for line in lines)], edits)
    head = _head(mount, settings, inner)
    if parameters and not lines:
        head.append(f"{inner}{parameters}")
    edits.put(section.opening, *head)
    for line, around in walk(section.body):
        first = foreign.opening if (foreign := _foreign(around)) else line
        if first.name in ACCESS and not mount.local:  # means the same here
            if line.name in KEYS:
                convert_key(line, edits)
            continue
        if foreign:
            _keep_as_comment(line, first, edits)
        elif line in lines and parameters:
            # Several become one: the first has all of them.
            edits.put(line, *([f"{indent(line)}{parameters}"] if line is lines[0] else []))
        elif line.name in KEYS:
            convert_key(line, edits)
        elif not line.name.startswith("<"):
            _keep_as_comment(line, None if line in lines else line, edits)
    edits.put(section.closing, f"{indent(section.closing)}</Location>")


def _foreign(around: Iterable[Section]) -> Section | None:
    """The outermost section that has no place in a mount."""
    return next((section for section in around if section.name not in WRAPPERS), None)


def _keep_as_comment(line: Line, why: Line | None, edits: Edits) -> None:
    if not line.words:
        return
    edits.replace(line, commented(line))
    if why and why.name in ACCESS:
        edits.warn(why, "this is kept as a comment: say who may ask in the sections that lead to the mount by hand")
    elif why:
        # Without the name: a line that was broken in two may begin with a secret.
        edits.warn(why, "this has no place in a mount and is kept as a comment: move what it is for by hand")


def _location(mount: Mount, settings: list[str], edits: Edits) -> None:
    """<Location> stays; its ProxyPass becomes the mount's URL."""
    opening = mount.home.section.opening
    edits.before(opening, _alias(mount))
    if opening.arguments[0] != mount.path:
        edits.replace(opening, opening.with_word(1, f'"{mount.path}"'))
    (line,) = mount.passes
    parameters = _proxy_set([(line, 2)], edits)
    edits.put(line, *(indent(line) + text for text in (*settings, parameters) if text))
    for key in mount.home.keys:
        convert_key(key, edits)


def _beside(mount: Mount, settings: list[str], edits: Edits) -> None:
    """<Location> stays without its keys; they go to a mount of their own."""
    section, keys = mount.home.section, mount.home.keys
    head = _head(mount, settings, _inner(section))
    moved = []
    for key in keys:
        pairs = [tags(condition) for condition in conditions_around(mount.home)[key.number]]
        moved += [f"{indent(key)}{opening}" for opening, _ in pairs]
        moved.append(set_env(key).rstrip("\r\n"))
        moved += [f"{indent(key)}{closing}" for _, closing in reversed(pairs)]
    # After it: what the <Location> says must not count for the mount, which may be below it.
    mount_lines = (*head, *moved, f"{indent(section.closing)}</Location>")
    edits.after(section.closing, *mount_lines, comes_from=section.opening)
    for key in keys:
        edits.put(key)


_WRITE = {"proxy": _proxy, "path": _proxy, "location": _location, "beside": _beside}


def _proxy_set(parts: Iterable[tuple[Line, int]], edits: Edits) -> str:
    """Return the SetEnv of mod_proxy's parameters, those from a word of each line on; empty if there are none."""
    kept: dict[str, str] = {}
    line = None
    for line, start in parts:
        for argument in line.arguments[start - 1 :]:
            name, equals, value = argument.partition("=")
            name = name.lower()
            try:
                proxy_set.parse(f"{name}{equals}{value}")
            except ValueError as error:
                shown = name if name in _WORKER else "a parameter"
                edits.warn(line, f"{shown} of mod_proxy is left out: S3ProxySet {error}")
            else:
                kept[name] = f"{name}={value}"
    try:
        proxy_set.parse(text := " ".join(kept.values()))
    except ValueError as error:
        assert line
        edits.warn(line, f"S3ProxySet {error}")
    return f'SetEnv S3ProxySet "{text}"' if text else ""


def _repoint(mount: Mount, path_of: Mapping[int, str], edits: Edits) -> None:
    """What led to the bucket leads to the mount; ``path_of``: from which path, by the number of the line."""
    for line in mount.passes:
        if mount.form == "path":
            edits.replace(line, commented(line, f"the mount {mount.path} is in place of this: "))
        elif mount.local and (found := names(line, mount.url)):
            index, rest = found
            if line.words[index].value.endswith("}") and mount.url.endswith("}"):
                rest = "/" if path_of[line.number].endswith("/") else ""  # the variable ends so, as the path does
            url = f"http://127.0.0.1{mount.path}{rest}"
            is_quoted = line.text[line.words[index].start] in "\"'"
            edits.replace(line, line.with_word(index, f'"{url}"' if is_quoted else quoted(url)))
    for line in mount.reverses:
        edits.replace(line, commented(line, f"the mount {mount.path} needs none of this: "))
