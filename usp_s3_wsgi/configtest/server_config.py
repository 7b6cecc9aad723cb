"""Which settings count where: the main server, its virtual hosts, and their sections."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.prefix_index import Prefixes

#: The names of settings, in lowercase.
KNOWN = {name.lower() for name in settings.NAMES}
#: What has no configuration of its own: its directives are those of the section around it.
_TRANSPARENT = ("<limit", "<require")
#: Wildcards of <Location>, <Proxy>: as apr_fnmatch_test has them, behind what a backslash takes away.
_WILDCARD = re.compile(r"[?*]|\[.*\]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_PROXY = {"<proxy", "<proxymatch"}
#: Each is compared with each ProxyPass; where there are more, all is undecided.
_MOST_STARTS = 200


class Value(NamedTuple):
    """The value of a variable, and the directive that gave it."""

    name: str
    value: str
    directive: Directive

    def __repr__(self) -> str:
        return f"Value({self.name})"  # it may be a secret


#: Variables by their names in lowercase: httpd's tables know no case, and keep the first spelling.
Variables = dict[str, Value]


class Section:
    """A section, or what stands outside of them (``directive`` None): variables, and what else is in it.

    ``outermost``: of the sections around.
    """

    def __init__(
        self, directive: Directive | None, children: Iterable[Directive], outermost: Section | None = None
    ) -> None:
        self.directive = directive
        self.outermost = outermost or self
        self.kind = directive.name[1:] if directive else ""
        words = directive.words if directive else ()
        self.is_regex = self.kind.endswith("match") or words[:1] == ("~",)
        self.name = next(iter(words[1:] if words[:1] == ("~",) else words), "")
        if self.kind == "proxy" and self.name[:6].lower() == "proxy:":
            self.name = self.name[6:]
        self.directives = list(_flat(children))
        self.variables: Variables = {}
        self.unset: set[str] = set()
        for child in self.directives:
            self._take(child)

    @cached_property
    def is_pattern(self) -> bool:
        """Whether the name is a regular expression or has wildcards."""
        return self.is_regex or _WILDCARD.search(_ESCAPED.sub("", self.name)) is not None

    @property
    def is_location(self) -> bool:
        """Whether it is one of a path, not of a pattern."""
        return self.kind == "location" and not self.is_pattern and self.name.startswith("/")

    @property
    def is_conditional(self) -> bool:
        """Whether it cannot be known here for which requests it counts."""
        return bool(self.kind) and not self.is_location and self.kind not in {"proxy", "proxymatch"}

    @property
    def is_of_files(self) -> bool:
        """Whether it counts only where httpd looks for a file, which it does not for a ProxyPass."""
        return self.outermost.kind in {"directory", "directorymatch", "files", "filesmatch"}

    @property
    def start(self) -> str:
        """What all paths begin with for which it can count."""
        section = self.outermost
        if not section.kind.startswith("location"):
            return ""
        if not section.is_regex:
            return re.split(r"[?*\[\\]", section.name, maxsplit=1)[0].rstrip("/")
        match = re.match(r"\^(/[\w/-]*)(.?)", section.name)
        if match is None or "|" in re.sub(r"\(.*\)", "", section.name):
            return ""
        return (match[1][:-1] if match[2] and match[2] in "?*{" else match[1]).rstrip("/")

    @cached_property
    def has_settings(self) -> bool:
        """Whether it holds a setting that is known, in any case and with any value."""
        return any(name in KNOWN for name in self.variables)

    @cached_property
    def computing(self) -> list[tuple[Directive, str]]:
        """The rules that set a setting when they apply, and its name."""
        return [(child, name) for child in self.directives if (name := computed_setting(child))]

    @cached_property
    def has_any(self) -> bool:
        """Whether it changes a variable that may be a setting, or a misspelt one."""
        return any(name.startswith("s3") for name in (*self.variables, *self.unset))

    def _take(self, child: Directive) -> None:
        if child.name == "setenv" and child.words:
            name, value = child.words[0], child.words[1] if len(child.words) > 1 else ""
            self._set(name, value, child)
        elif child.name == "passenv":
            for name in child.words:
                if (raw := os.environb.get(name.encode("latin-1"))) is not None:
                    self._set(name, raw.decode("latin-1"), child)
        elif child.name == "unsetenv":
            for name in child.words:
                self.variables.pop(name.lower(), None)
                self.unset.add(name.lower())

    def _set(self, name: str, value: str, directive: Directive) -> None:
        known = self.variables.get(name.lower())
        self.variables[name.lower()] = Value(known.name if known else name, value, directive)


def _flat(children: Iterable[Directive]) -> Iterator[Directive]:
    for child in children:
        if child.name.startswith(_TRANSPARENT):
            yield from _flat(child.children)
        else:
            yield child


def merged(sections: Iterable[Section], keeps_spelling: bool = False) -> Variables:
    """Return the variables of sections that count one after the other.

    ``keeps_spelling``: the first one of a name, as mod_env does; else its last one counts.
    """
    result: Variables = {}
    for section in sections:
        for name in section.unset:
            result.pop(name, None)
        for name, value in section.variables.items():
            known = result.get(name) if keeps_spelling else None
            result[name] = value._replace(name=known.name) if known else value
    return result


@dataclass
class Server:
    """The main server (``main`` None) or a virtual host. What the main server has counts in virtual hosts, too.

    ``outside``: what stands outside of sections. ``sections``: Location, Directory and their like, in order, those
    within others behind them. ``proxies``: the Proxy and ProxyMatch sections.
    """

    main: Server | None
    outside: Section
    sections: list[Section] = field(default_factory=list)
    proxies: list[Section] = field(default_factory=list)
    hosts: list[Server] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.locations = _by_path(self.sections)
        self.below_of = Prefixes(
            {section.name: section for section in self.sections if section.is_location and section.has_any}
        )

    @property
    def visible(self) -> tuple[Server, ...]:
        """The servers whose lines count in this one, in httpd's order."""
        return (self.main, self) if self.main else (self,)

    @cached_property
    def has_settings(self) -> bool:
        """Whether settings stand in this server's own lines."""
        return any(section.has_any for section in (self.outside, *self.sections, *self.proxies))

    @cached_property
    def is_undecided(self) -> bool:
        """Whether settings may come from elsewhere.

        From rules, from sections that count for some requests alone, or, where this is the main server, from the
        virtual hosts that serve in its place.
        """
        return any(host.has_settings for host in self.hosts) or any(
            _has_rules(section) or (section.is_conditional and section.has_any)
            for server in self.visible
            for section in (server.outside, *server.sections)
        )

    @cached_property
    def _starts(self) -> list[str]:
        """What the paths begin with for which it is undecided, as far as a ProxyPass can lead from there."""
        found = [""] if any(host.has_settings for host in self.hosts) else []
        for server in self.visible:
            for section in (server.outside, *server.sections):
                if not section.is_of_files and (_has_rules(section) or (section.is_conditional and section.has_any)):
                    found.append(section.start)
        return found

    def is_undecided_below(self, path: str) -> bool:
        """Whether they may for what a ProxyPass sends from a path."""
        starts = self._starts
        return len(starts) > _MOST_STARTS or any(path.startswith(start) or start.startswith(path) for start in starts)

    def around(self, path: str) -> list[Section]:
        """The Location sections that all requests below a path fall under, in httpd's order."""
        return [section for server in self.visible for section in _covering(server.locations, path)]

    def below(self, path: str) -> list[Section]:
        """The Location sections with settings that some of them fall under."""
        top = path.rstrip("/") + "/"
        found = [section for server in self.visible for section in server.below_of.starting_with(top)]
        return [section for section in found if section.name != top]


_Locations = dict[str, list[tuple[int, Section]]]


def _by_path(sections: list[Section]) -> _Locations:
    found: _Locations = {}
    for index, section in enumerate(sections):
        if section.is_location:
            found.setdefault(section.name.rstrip("/"), []).append((index, section))
    return found


def _covering(locations: _Locations, path: str) -> list[Section]:
    path = path.rstrip("/")
    ends = [match.start() for match in re.finditer("/", path)] + [len(path)]
    found = [entry for end in ends for entry in locations.get(path[:end], ())]
    return [section for _, section in sorted(found, key=lambda entry: entry[0])]


#: Of SetEnvIf and its like, which argument is the first variable.
_SETTERS = {"setenvif": 2, "setenvifnocase": 2, "browsermatch": 1, "browsermatchnocase": 1, "setenvifexpr": 1}
_NO_RULES = {"setenv", "passenv", "unsetenv"}
_REWRITE_FLAG = re.compile(r"(?:^|[\[,])\s*E(?:NV)?=!?\s*(?:S3|[$%])", re.IGNORECASE)


def _has_rules(section: Section) -> bool:
    """Whether rules in it may set settings."""
    for child in section.directives:
        if child.name == "rewriterule":
            if len(child.words) > 2 and _REWRITE_FLAG.search(child.words[2]):
                return True
        elif child.name in _NO_RULES or child.name.startswith("<"):
            continue
        elif (first := _SETTERS.get(child.name)) is not None and any(
            re.match(r"!?(?:S3|[$])", word, re.IGNORECASE) for word in child.words[first:]
        ):
            return True
        elif "s3" in child.text.lower() and any(_name(word) in KNOWN for word in child.words):
            return True  # of another module, such as PerlSetEnv
    return False


def computed_setting(directive: Directive) -> str:
    """Return the setting that a rule sets when it applies, empty for none."""
    words = directive.words if directive.name in _SETTERS or directive.name == "rewriterule" else ()
    if directive.name == "rewriterule":
        flags = words[2].strip("[]").split(",") if len(words) > 2 else []
        names = [flag.partition("=")[2] for flag in flags if re.match(r"\s*e(?:nv)?=", flag, re.IGNORECASE)]
        names = [name.partition(":")[0] for name in names]
    else:
        names = [word.partition("=")[0] for word in words[_SETTERS.get(directive.name, 0) :]]
    return next((name for one in names if (name := one.removeprefix("!")).lower() in KNOWN), "")


def _name(word: str) -> str:
    return word.partition("=")[0].lower()


def build(directives: list[Directive]) -> list[Server]:
    """Return the main server and the virtual hosts."""
    hosts = [directive for directive in directives if directive.name == "<virtualhost"]
    main = _server(None, [directive for directive in directives if directive.name != "<virtualhost"])
    main.hosts = [_server(main, host.children) for host in hosts]
    return [main, *main.hosts]


def _server(main: Server | None, directives: list[Directive]) -> Server:
    sections: list[Section] = []
    proxies: list[Section] = []
    for directive in _flat(directives):
        if directive.name in _PROXY:
            proxies.append(Section(directive, directive.children))
        if directive.name.startswith("<"):
            sections.extend(_sections(directive))
    return Server(main, Section(None, directives), sections, proxies)


def _sections(directive: Directive, outermost: Section | None = None) -> Iterator[Section]:
    section = Section(directive, directive.children, outermost)
    if directive.name not in _PROXY:
        yield section
    for child in _flat(directive.children):
        if child.name.startswith("<"):
            yield from _sections(child, section.outermost)
