"""The main server, its virtual hosts and their sections: which settings apply where."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.prefix_index import PrefixIndex
from usp_s3_wsgi.configtest.urls import common_path

#: The names of settings, in lowercase.
SETTING_NAMES = {name.lower() for name in settings.NAMES}
#: Sections without a configuration of their own: their directives belong to the section around them.
_TRANSPARENT = ("<limit", "<require")
#: Wildcards of <Location> and <Proxy>, as apr_fnmatch_test knows them, after escaped characters are removed.
_WILDCARD = re.compile(r"[?*]|\[.*\]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_PROXY = {"<proxy", "<proxymatch"}
#: Each of _request_dependent_prefixes is compared with each ProxyPass; above this number every path may have
#: request-dependent settings.
_MAX_REQUEST_DEPENDENT_PREFIXES = 200


class Value(NamedTuple):
    """The value of a variable, and the directive that set it."""

    name: str
    value: str
    directive: Directive

    def __repr__(self) -> str:
        return f"Value({self.name})"  # the value may be secret


#: Variables by lowercase name: httpd's tables ignore case, and keep the spelling of the first name.
Variables = dict[str, Value]


class Section:
    """A section, or the directives outside of sections (``directive`` is None), with the variables that it sets.

    ``argument``: the URL, path or pattern in its tag. ``outermost``: the outermost of the sections around it.
    """

    def __init__(
        self, directive: Directive | None, children: Iterable[Directive], outermost: Section | None = None
    ) -> None:
        self.directive = directive
        self.outermost = outermost or self
        self.kind = directive.name[1:] if directive else ""
        words = directive.words if directive else ()
        self.is_regex = self.kind.endswith("match") or words[:1] == ("~",)
        self.argument = next(iter(words[1:] if words[:1] == ("~",) else words), "")
        if self.kind == "proxy" and self.argument[:6].lower() == "proxy:":
            self.argument = self.argument[6:]
        self.directives = list(_without_transparent(children))
        self.variables: Variables = {}
        self.unset: set[str] = set()
        for child in self.directives:
            self._apply(child)

    @cached_property
    def is_pattern(self) -> bool:
        """Whether the argument is a regular expression or has wildcards."""
        return self.is_regex or _WILDCARD.search(_ESCAPED.sub("", self.argument)) is not None

    @property
    def is_location(self) -> bool:
        """Whether it is a ``<Location>`` of a path, not of a pattern."""
        return self.kind == "location" and not self.is_pattern and self.argument.startswith("/")

    @property
    def has_unknown_requests(self) -> bool:
        """Whether it is not known here to which requests it applies: ``<Directory>``, ``<If>``, ``<LocationMatch>``."""
        return bool(self.kind) and not self.is_location and self.kind not in {"proxy", "proxymatch"}

    @property
    def is_for_files(self) -> bool:
        """Whether it applies only where httpd looks for a file, which it does not for a ProxyPass."""
        return self.outermost.kind in {"directory", "directorymatch", "files", "filesmatch"}

    @property
    def path_prefix(self) -> str:
        """The common prefix of all paths that it can apply to."""
        section = self.outermost
        if not section.kind.startswith("location"):
            return ""
        if not section.is_regex:
            return re.split(r"[?*\[\\]", section.argument, maxsplit=1)[0].rstrip("/")
        match = re.match(r"\^(/[\w/-]*)(.?)", section.argument)
        if match is None or "|" in re.sub(r"\(.*\)", "", section.argument):
            return ""
        return (match[1][:-1] if match[2] and match[2] in "?*{" else match[1]).rstrip("/")

    @cached_property
    def has_settings(self) -> bool:
        """Whether it sets a known setting, in upper or lower case, to any value."""
        return any(name in SETTING_NAMES for name in self.variables)

    @cached_property
    def computed_settings(self) -> list[tuple[Directive, str]]:
        """Each SetEnvIf or RewriteRule [E=] that computes a setting, and the name of that setting."""
        return [(child, name) for child in self.directives if (name := computed_setting(child))]

    @cached_property
    def has_s3_variables(self) -> bool:
        """Whether it changes a variable that is a setting, or may be a misspelled one."""
        return any(name.startswith("s3") for name in (*self.variables, *self.unset))

    def _apply(self, child: Directive) -> None:
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


def _without_transparent(children: Iterable[Directive]) -> Iterator[Directive]:
    for child in children:
        if child.name.startswith(_TRANSPARENT):
            yield from _without_transparent(child.children)
        else:
            yield child


def merge(sections: Iterable[Section], keeps_spelling: bool = False) -> Variables:
    """Return the variables of sections that httpd merges in this order.

    ``keeps_spelling``: a name is spelled as it was first, as mod_env does; otherwise as it was last.
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
    """The main server (``main`` is None) or a virtual host, which inherits the configuration of the main server.

    ``top_level``: the directives outside of sections. ``directive``: the ``<VirtualHost>``. ``sections``: Location,
    Directory and similar ones in order, inner sections after their outer ones. ``proxy_sections``: the Proxy and
    ProxyMatch sections.
    """

    main: Server | None
    top_level: Section
    directive: Directive | None = None
    sections: list[Section] = field(default_factory=list)
    proxy_sections: list[Section] = field(default_factory=list)
    virtual_hosts: list[Server] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._locations = _locations_by_path(self.sections)
        self._s3_locations = PrefixIndex(
            {section.argument: section for section in self.sections if section.is_location and section.has_s3_variables}
        )

    @property
    def merge_order(self) -> tuple[Server, ...]:
        """The servers whose directives apply in this one, in the order in which httpd merges them."""
        return (self.main, self) if self.main else (self,)

    @cached_property
    def has_s3_variables(self) -> bool:
        """Whether its own directives change variables that are settings, or may be misspelled ones."""
        return any(section.has_s3_variables for section in (self.top_level, *self.sections, *self.proxy_sections))

    @cached_property
    def has_request_dependent_settings(self) -> bool:
        """Whether there may be settings that differ by request, and so are not known here.

        They come from SetEnvIf or RewriteRule [E=], from sections that apply only to some requests or, for the main
        server, from the virtual hosts that serve instead of it.
        """
        return any(host.has_s3_variables for host in self.virtual_hosts) or self.has_computed_settings

    @cached_property
    def has_computed_settings(self) -> bool:
        """Whether settings may differ by request, where this server itself serves the requests."""
        return bool(self._computed)

    @cached_property
    def _computed(self) -> list[tuple[str, bool]]:
        """The prefixes of the paths with settings that may differ by request, and whether only files have them."""
        return [
            (prefix, section.is_for_files)
            for server in self.merge_order
            for section in (server.top_level, *server.sections)
            for prefix in _computed_prefixes(section)
        ]

    def has_computed_settings_below(self, path: str) -> bool:
        """Whether settings may differ by request for the paths below one, where this server itself serves them."""
        return len(self._computed) > _MAX_REQUEST_DEPENDENT_PREFIXES or any(
            _overlap(path, prefix) for prefix, _ in self._computed
        )

    def has_request_dependent_settings_below(self, path: str) -> bool:
        """Whether there may be request-dependent settings for the requests that a ProxyPass of this path sends."""
        if any(host.has_s3_variables for host in self.virtual_hosts):
            return True
        prefixes = [prefix for prefix, is_for_files in self._computed if not is_for_files]
        if len(prefixes) > _MAX_REQUEST_DEPENDENT_PREFIXES:
            return True
        return any(_overlap(path, prefix) for prefix in prefixes)

    def locations_for_all_requests(self, path: str) -> list[Section]:
        """Return the Location sections that apply to all requests below a path, in httpd's order."""
        return [section for server in self.merge_order for section in _locations_at_or_above(server._locations, path)]

    def locations_for_some_requests(self, path: str) -> list[Section]:
        """Return the Location sections with S3 variables that apply to some requests below a path."""
        top = path.rstrip("/") + "/"
        found = [section for server in self.merge_order for section in server._s3_locations.starting_with(top)]
        return [section for section in found if section.argument != top]


_Locations = dict[str, list[tuple[int, Section]]]


def _locations_by_path(sections: list[Section]) -> _Locations:
    found: _Locations = {}
    for index, section in enumerate(sections):
        if section.is_location:
            found.setdefault(section.argument.rstrip("/"), []).append((index, section))
    return found


def _locations_at_or_above(locations: _Locations, path: str) -> list[Section]:
    path = path.rstrip("/")
    ends = [match.start() for match in re.finditer("/", path)] + [len(path)]
    found = [entry for end in ends for entry in locations.get(path[:end], ())]
    return [section for _, section in sorted(found, key=lambda entry: entry[0])]


#: For SetEnvIf and similar directives: the index of the first argument that is a variable.
_FIRST_VARIABLE = {"setenvif": 2, "setenvifnocase": 2, "browsermatch": 1, "browsermatchnocase": 1, "setenvifexpr": 1}
_NOT_COMPUTED = {"setenv", "passenv", "unsetenv"}
_REWRITE_FLAG = re.compile(r"(?:^|[\[,])\s*E(?:NV)?=!?\s*(?:S3|[$%])", re.IGNORECASE)


def _overlap(path: str, prefix: str) -> bool:
    """Whether some paths begin with both."""
    return path.startswith(prefix) or prefix.startswith(path)


def _computed_prefixes(section: Section) -> set[str]:
    """Return the prefixes of the paths for which a section may set other settings by request."""
    if section.has_unknown_requests and section.has_s3_variables:
        return {section.path_prefix}
    computing = [child for child in section.directives if _may_compute_setting(child)]
    if section.directive is not None or any(_rewrites_path(child) for child in section.directives):
        return {section.path_prefix} if computing else set()
    return {_path_of_rule(child) for child in computing}


def _may_compute_setting(directive: Directive) -> bool:
    """Whether it is a SetEnvIf, RewriteRule [E=] or the like that may compute a setting."""
    if directive.name == "rewriterule":
        return len(directive.words) > 2 and _REWRITE_FLAG.search(directive.words[2]) is not None
    if directive.name in _NOT_COMPUTED or directive.name.startswith("<"):
        return False
    first = _FIRST_VARIABLE.get(directive.name)
    if first is not None and any(re.match(r"!?(?:S3|[$])", word, re.IGNORECASE) for word in directive.words[first:]):
        return True
    # Or a directive of another module, such as PerlSetEnv.
    is_named = "s3" in directive.text.lower()
    return is_named and any(_variable_name(word) in SETTING_NAMES for word in directive.words)


def _rewrites_path(directive: Directive) -> bool:
    """Whether a RewriteRule replaces the path, so that the patterns of other rules are not about the client's."""
    return directive.name == "rewriterule" and len(directive.words) > 1 and directive.words[1] != "-"


def _path_of_rule(directive: Directive) -> str:
    """Return a prefix of all paths to which a RewriteRule outside of sections applies."""
    return (common_path(directive.words[0]) or "") if directive.name == "rewriterule" else ""


def computed_setting(directive: Directive) -> str:
    """Return the name of the setting that a SetEnvIf or RewriteRule [E=] computes, or an empty string."""
    words = directive.words if directive.name in _FIRST_VARIABLE or directive.name == "rewriterule" else ()
    if directive.name == "rewriterule":
        flags = words[2].strip("[]").split(",") if len(words) > 2 else []
        names = [flag.partition("=")[2] for flag in flags if re.match(r"\s*e(?:nv)?=", flag, re.IGNORECASE)]
        names = [name.partition(":")[0] for name in names]
    else:
        names = [word.partition("=")[0] for word in words[_FIRST_VARIABLE.get(directive.name, 0) :]]
    return next((name for one in names if (name := one.removeprefix("!")).lower() in SETTING_NAMES), "")


def _variable_name(word: str) -> str:
    return word.partition("=")[0].lower()


def build_servers(directives: list[Directive]) -> list[Server]:
    """Return the main server and its virtual hosts."""
    hosts = [directive for directive in directives if directive.name == "<virtualhost"]
    main = _server(None, [directive for directive in directives if directive.name != "<virtualhost"])
    main.virtual_hosts = [_server(main, host.children, host) for host in hosts]
    return [main, *main.virtual_hosts]


def _server(main: Server | None, directives: list[Directive], host: Directive | None = None) -> Server:
    sections: list[Section] = []
    proxy_sections: list[Section] = []
    for directive in _without_transparent(directives):
        if directive.name in _PROXY:
            proxy_sections.append(Section(directive, directive.children))
        if directive.name.startswith("<"):
            sections.extend(_sections(directive))
    return Server(main, Section(None, directives), host, sections, proxy_sections)


def _sections(directive: Directive, outermost: Section | None = None) -> Iterator[Section]:
    section = Section(directive, directive.children, outermost)
    if directive.name not in _PROXY:
        yield section
    for child in _without_transparent(directive.children):
        if child.name.startswith("<"):
            yield from _sections(child, section.outermost)
