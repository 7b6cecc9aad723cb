"""Which mounts a configuration of mod_unified_s3_auth becomes in the plane ``gateway``: only a plan, no text.

A *home* is the section that a group of the vendor's directives is about: ``<Proxy>`` or ``<Location>``, also where an
``<IfModule>`` stands between. Most homes become one mount.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from usp_s3_wsgi.cli.convert.line_edits import KEYS, Edits, is_vendors
from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.configtest.apache_syntax import Around, Line, Section, quoted, walk

Places: TypeAlias = Sequence[tuple[Line, Around]]

#: Sections that only ask whether their lines count.
WRAPPERS = {"ifmodule", "ifdefine", "ifversion", "iffile", "ifdirective", "ifsection"}
#: Who may ask.
ACCESS = {
    *("require", "<requireall", "<requireany", "<requirenone", "authmerging", "authtype", "authname"),
    *("order", "allow", "deny", "satisfy", "<limit", "<limitexcept"),
}
PASSES = {"proxypass", "ismproxypass"}
#: Scheme and host, which may be a variable, and what follows.
_URL = re.compile(r"(?is)(https?://[^/]+|\$\{\w+\}[^/]*)(.*)")
_PROXIES = re.compile(r"(?i)(?:^|[\[,])\s*P(?:roxy)?\s*(?:[\],]|$)")
_TAKES_PATH = {"<location", "alias", "scriptalias", "proxypass", "wsgiscriptalias"}


class Home(NamedTuple):
    """The section that keys are about, the sections around it, the keys."""

    section: Section
    around: Around
    keys: tuple[Line, ...]

    @property
    def path(self) -> str | None:
        """The path of a ``<Location>`` that is one of a path."""
        return _path(self.section)


@dataclass(frozen=True)
class Mount:
    """A mount to be.

    ``form``: ``proxy`` takes the place of a ``<Proxy>``, for this server's own requests; ``path`` too, but where the
    only ``ProxyPass`` to it led; ``location`` is the ``<Location>`` as it stands; ``beside`` comes after it.
    ``passes`` lead to the mount, ``reverses`` are their ``ProxyPassReverse``, ``others`` name the bucket too.
    """

    home: Home
    form: Literal["proxy", "path", "location", "beside"]
    url: str
    path: str
    passes: tuple[Line, ...]
    reverses: tuple[Line, ...]
    others: tuple[Line, ...]

    @property
    def local(self) -> bool:
        """Whether only this server itself may ask."""
        return self.form in {"proxy", "beside"}


def homes(places: Places) -> list[Home]:
    """Every section that has keys, in the order of the first of them."""
    found: dict[int, Home] = {}
    for line, around in places:
        if line.name in KEYS and (section := owner(around)):
            home = found.get(section.opening.number, Home(section, around[: around.index(section)], ()))
            found[section.opening.number] = home._replace(keys=(*home.keys, line))
    return list(found.values())


def conditions_around(home: Home) -> dict[int, list[Section]]:
    """The conditions that each key of a home stands in, by the key's number; not those that ask for the module."""
    return {
        key.number: [section for section in around if section.name in WRAPPERS and not is_vendors(section.opening)]
        for key, around in walk(home.section.body)
        if key in home.keys
    }


def tags(section: Section) -> tuple[str, str]:
    """The tags of a section anew, in one line each."""
    name = section.opening.words[0].value
    return f"{' '.join((name, *map(quoted, section.opening.arguments)))}>", f"</{name[1:]}>"


def owner(around: Around) -> Section | None:
    """The section that a line in these sections is about; None: the virtual host or the whole server."""
    inner = [section for section in around if section.name not in {*WRAPPERS, "limit", "limitexcept"}]
    return inner[-1] if inner and inner[-1].name != "virtualhost" else None


def host(around: Around) -> int:
    """The number of the virtual host's line, 0 of the server itself."""
    return next((section.opening.number for section in around if section.name == "virtualhost"), 0)


def reach(around: Around, places: Places) -> Iterator[tuple[Line, Around]]:
    """The lines that a section in these sections counts for: of its virtual host, of all hosts if it is in none."""
    mine = host(around)
    return ((line, other) for line, other in places if not mine or host(other) == mine)


def counts_in(outer: Around, inner: Around) -> bool:
    """Whether what stands in some sections counts in others: they are the same, or around those."""
    ones, others = (tuple(one for one in sections if one.name not in WRAPPERS) for sections in (outer, inner))
    return others[: len(ones)] == ones


def check_outside(places: Places, edits: Edits) -> None:
    """Tell that keys outside of sections are defaults; where they are for nothing, configtest says so."""
    hosts: set[int] = set()
    found = homes(places)
    for line, around in places:
        if line.name in KEYS and not owner(around) and host(around) not in hosts:
            hosts.add(host(around))
            if any(host(around) in {0, host(home.around)} for home in found):
                edits.warn(
                    line,
                    "S3 directives outside of <Proxy> and <Location> are defaults for sections with S3 directives of "
                    "their own: nothing else is signed",
                )


def below(base: str, url: str) -> str | None:
    """What the URL has after a base URL, empty or with a slash at the front; None: it does not begin with that."""
    if not (one := _URL.fullmatch(base)) or not (two := _URL.fullmatch(url)):
        return None
    path = one[2].rstrip("/")
    if one[1].lower() != two[1].lower() or not f"{two[2]}/".startswith(f"{path}/"):
        return None
    return two[2][len(path) :]


def names(line: Line, base: str) -> tuple[int, str] | None:
    """Which word of a line is a URL of the bucket, and what it has after the bucket's."""
    for index, word in enumerate(line.words):
        if index and (rest := below(base, word.value)) is not None:
            return index, rest
    return None


def defined(places: Places) -> dict[str, str]:
    """Return the variables that the file itself defines."""
    defines = (line.arguments for line, _ in places if line.name == "define")
    return {words[0]: words[1] for words in defines if len(words) == 2}


def covers(outer: str, inner: str) -> bool:
    """Whether a path is at or below another."""
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def plan(places: Places) -> list[Mount]:
    """Return the mounts; a home that becomes none is not among them."""
    mounts = [mount for home in homes(places) if (mount := _mount(home, places))]
    inside = {home.section.opening.number for home in homes(places)}
    outside = [(line, around) for line, around in places if not inside & {s.opening.number for s in around}]
    mounts = [_with_targets(mount, mounts, outside) if mount.form == "proxy" else mount for mount in mounts]
    taken = {path.rstrip("/") for line, _ in places if line.name in _TAKES_PATH for path in line.arguments[:1]}
    return [_named(mount, taken) for mount in mounts]


def _mount(home: Home, places: Places) -> Mount | None:
    """What a home becomes by itself. A local mount has no path yet."""
    section, first = home.section, home.section.opening.arguments[:1]
    # Anything else around it is <Macro>, whose parameters are not known, or nothing that httpd allows.
    if not first or any(outer.name not in WRAPPERS | {"virtualhost"} for outer in home.around):
        return None
    if section.name == "proxy":
        # Apache's form of "and everything below".
        url = first[0][:-1] if first[0].endswith("/*") else first[0]
        return Mount(home, "proxy", url, "", (), (), ()) if _is_bucket(url) else None
    if section.name != "location" or len(section.opening.arguments) != 1 or not first[0].startswith("/"):
        return None
    passes = [line for line, around in places if section in around and line.name in PASSES]
    urls = [argument for line in passes for argument in line.arguments[:1]]
    if not urls or not _is_bucket(urls[0]):
        return None
    reverses = _reverses(urls[0], reach(home.around, places))
    if len(passes) == 1 and passes[0].name == "proxypass":
        return Mount(home, "location", urls[0], first[0].rstrip("/") or "/", tuple(passes), reverses, ())
    ours = tuple(line for line in passes if names(line, urls[0]))
    return Mount(home, "beside", urls[0], "", ours, reverses, tuple(line for line in passes if line not in ours))


def _is_bucket(url: str) -> bool:
    return re.fullmatch(r"(?i)(?:https?://(?![/*?])|\$\{\w+\})[^*?]*", url) is not None


def _with_targets(mount: Mount, mounts: list[Mount], outside: Places) -> Mount:
    """With the lines that lead to a <Proxy>: those that name its URL, and no other one that is longer or nearer."""
    rivals = [other for other in mounts if other.form == "proxy"]
    found = [
        (line, around)
        for line, around in reach(mount.home.around, outside)
        if names(line, mount.url) and _nearest(line, around, rivals) is mount
    ]
    passes = tuple((line, around) for line, around in found if line.name in PASSES)
    mount = replace(
        mount,
        passes=tuple(line for line, _ in passes),
        reverses=_reverses(mount.url, found),
        others=tuple(line for line, _ in found if line.name not in PASSES | {"proxypassreverse"}),
    )
    if len(passes) != 1 or not _is_plain(*passes[0], mount):
        return mount
    path, url = passes[0][0].arguments
    return replace(mount, form="path", path=path.rstrip("/") or "/", url=url)


def _nearest(line: Line, around: Around, mounts: Iterable[Mount]) -> Mount:
    candidates = [mount for mount in mounts if names(line, mount.url) and host(mount.home.around) in {0, host(around)}]
    return max(candidates, key=lambda mount: (len(mount.url.rstrip("/")), host(mount.home.around)))


def _is_plain(line: Line, around: Around, mount: Mount) -> bool:
    """Whether this is ``ProxyPass /path URL`` and no more, beside the <Proxy>: then the mount can be at that path."""
    return (
        line.name == "proxypass"
        and len(line.arguments) == 2
        and line.arguments[0].startswith("/")
        and owner(around) is None
        and host(around) == host(mount.home.around)
    )


def _reverses(url: str, places: Iterable[tuple[Line, Around]]) -> tuple[Line, ...]:
    return tuple(line for line, _ in places if line.name == "proxypassreverse" and names(line, url))


def proxied(places: Iterable[tuple[Line, Around]]) -> Iterator[tuple[Line, str, str]]:
    """Each ProxyPass with its path and where it leads."""
    for line, around in places:
        if line.name == "proxypass":
            section = owner(around)
            words = (*(section.opening.arguments[:1] if section else ()), *line.arguments)
            if len(words) > 1:
                yield line, words[0], words[1]


class Target(NamedTuple):
    """Where a directive sends requests, and from which path, if that is known.

    ``url``: the beginning that is literal, empty where not even the host is.
    """

    line: Line
    around: Around
    url: str
    path: str | None

    @property
    def is_pass(self) -> bool:
        """Whether httpd's own ProxyPass does it, which the settings of its path count for."""
        return self.line.name in {"proxypass", "proxypassmatch"}


def targets(places: Iterable[tuple[Line, Around]]) -> Iterator[Target]:
    """Each directive that leads to URLs."""
    for line, around in places:
        section = owner(around)
        path = _path(section) if section else None
        words = line.arguments
        if line.name in {"proxypass", "proxypassmatch"}:
            if section is None and len(words) > 1:
                path, words = (words[0] if line.name == "proxypass" else None), words[1:]
            url = words[0].partition("$1")[0] if words and words[0] != "!" else ""
        elif line.name == "ismproxypass":
            url = words[0] if words else ""
        elif line.name == "rewriterule" and len(words) > 2 and _PROXIES.search(words[2]):
            url = re.split(r"[$%][0-9{]", words[1], maxsplit=1)[0]
        elif line.name == "sethandler" and words and words[0].lower().startswith("proxy:"):
            url = words[0][6:].partition("%{")[0]
        else:
            continue
        if url or line.name not in {"proxypass", "proxypassmatch", "ismproxypass"}:
            parameters = tuple(word for one in around if one.name == "macro" for word in one.opening.arguments[1:])
            is_known = _URL.fullmatch(url) or (parameters and url.startswith(parameters))
            yield Target(line, around, url if is_known else "", path)


def _path(section: Section) -> str | None:
    words = section.opening.arguments
    is_path = section.name == "location" and len(words) == 1 and words[0].startswith("/")
    return words[0] if is_path else None


def _named(mount: Mount, taken: set[str]) -> Mount:
    """Give a local mount a path of its own: the bucket's name, numbered where that is taken."""
    if mount.path:
        return mount
    name = _bucket_name(mount.url)
    path, number = f"/{name}", 1
    while path in taken:
        number += 1
        path = f"/{name}-{number}"
    taken.add(path)
    return replace(mount, path=path)


def _bucket_name(url: str) -> str:
    try:
        name = bucket_url.parse(url).bucket or (urlsplit(url).hostname or "").split(".")[0]
    except ValueError:  # such as https://${BUCKET}.s3.amazonaws.com/
        name = re.sub(r"\A[^/$]*//(?:[^/]*@)?", "", url).split("/")[0].split(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "bucket"
