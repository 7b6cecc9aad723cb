"""The plane ``gateway``: mounts of the WSGI application take the place of the vendor's sections."""

from __future__ import annotations

from collections.abc import Iterable

from usp_s3_wsgi import proxy_set
from usp_s3_wsgi.convert.apache_config import Line, Node, Section, quoted, walk
from usp_s3_wsgi.convert.checks import check, check_left
from usp_s3_wsgi.convert.edits import (
    KEYS,
    Edits,
    commented,
    convert_key,
    convert_module,
    indent,
    set_env,
    warn_of_key,
)
from usp_s3_wsgi.convert.mounts import ACCESS, WRAPPERS, Mount, Places, covers, names, plan, proxied, reach

#: mod_proxy's parameters of a worker, which a warning may name; another word may be anything, also a secret.
_WORKER = set(
    "acquire addressttl connectiontimeout disablereuse enablereuse flushpackets flushwait iobuffersize keepalive lbset "
    "loadfactor max min ping receivebuffersize redirect responsefieldsize retry route secret smax status timeout ttl "
    "upgrade".split()
)


def to_gateway(nodes: tuple[Node, ...], edits: Edits) -> None:
    """Note what becomes of each line, and what the operator must look at."""
    places = tuple(walk(nodes))
    mounts = plan(places)
    for line, _ in places:
        convert_module(line, "wsgi_module", edits)
    for mount in mounts:
        _WRITE[mount.form](mount, _shielded(mount, mounts, places), edits)
        _repoint(mount, edits)
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


def _head(mount: Mount, shielded: bool, inner: str) -> list[str]:
    """The lines that begin a mount, down to its S3BucketURL."""
    outer, path = indent(mount.home.section.opening), mount.path
    return [
        _alias(mount),
        f'{outer}<Location "{path}">',
        *([f"{inner}Require local"] if mount.local else []),
        *([f"{inner}ProxyPass !"] if shielded else []),
        f"{inner}SetEnv S3BucketURL {quoted(mount.url)}",
    ]


def _alias(mount: Mount) -> str:
    return f"{indent(mount.home.section.opening)}WSGIScriptAlias {quoted(mount.path)} ${{USP_S3_WSGI}}"


def _inner(section: Section) -> str:
    """The indentation of the lines in a section."""
    lines = (line for line, _ in walk(section.body) if line.words)
    first = next(lines, None)
    return indent(first) if first else indent(section.opening) + "  "


def _proxy(mount: Mount, shielded: bool, edits: Edits) -> None:
    """<Proxy> becomes the mount, line by line."""
    section, inner = mount.home.section, _inner(mount.home.section)
    lines = [line for line, around in walk(section.body) if line.name == "proxyset" and not _foreign(around)]
    parameters = _proxy_set([(section.opening, 2), *((line, 1) for line in lines)], edits)
    head = _head(mount, shielded, inner)
    if parameters and not lines:
        head.append(f"{inner}{parameters}")
    edits.put(section.opening, *head)
    for line, around in walk(section.body):
        first = foreign.opening if (foreign := _foreign(around)) else line
        if first.name in ACCESS and not mount.local:
            continue  # means the same here
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


def _location(mount: Mount, shielded: bool, edits: Edits) -> None:
    """<Location> stays; its ProxyPass becomes the mount's URL."""
    opening = mount.home.section.opening
    edits.before(opening, _alias(mount))
    if opening.arguments[0] != mount.path:
        edits.replace(opening, opening.with_word(1, f'"{mount.path}"'))
    (line,) = mount.passes
    parameters = _proxy_set([(line, 2)], edits)
    lines = ("ProxyPass !" if shielded else "", f"SetEnv S3BucketURL {quoted(mount.url)}", parameters)
    edits.put(line, *(indent(line) + text for text in lines if text))
    for key in mount.home.keys:
        convert_key(key, edits)


def _beside(mount: Mount, shielded: bool, edits: Edits) -> None:
    """<Location> stays without its keys; they go to a mount of their own."""
    section, keys = mount.home.section, mount.home.keys
    head = _head(mount, shielded, _inner(section))
    moved = [set_env(key).rstrip("\r\n") for key in keys]
    # After it: what the <Location> says must not count for the mount, which may be below it.
    edits.after(section.closing, *head, *moved, f"{indent(section.closing)}</Location>")
    for key in keys:
        edits.put(key)
        warn_of_key(key, edits)


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


def _repoint(mount: Mount, edits: Edits) -> None:
    """What led to the bucket leads to the mount."""
    for line in mount.passes:
        if mount.form == "path":
            edits.replace(line, commented(line, f"the mount {mount.path} is in place of this: "))
        elif mount.local and (found := names(line, mount.url)):
            index, rest = found
            url = f"http://127.0.0.1{mount.path}{rest}"
            is_quoted = line.text[line.words[index].start] in "\"'"
            edits.replace(line, line.with_word(index, f'"{url}"' if is_quoted else quoted(url)))
    for line in mount.reverses:
        edits.replace(line, commented(line, f"the mount {mount.path} needs none of this: "))
