"""What httpd will read in a configuration, as far as a file alone says: conditions, variables, macros, includes.

What it does not say gets a sample: ``${REMOTE_STORAGE_URL}`` is the URL of some bucket, ``${S3_REGION}`` some region.
The result is what httpd itself sends to configtest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from usp_s3_wsgi.cli.convert.includes import INCLUDES, included
from usp_s3_wsgi.cli.convert.line_edits import KEYS, set_env
from usp_s3_wsgi.cli.convert.mount_plan import WRAPPERS
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError, Line, Node, Section, parse, quoted, render, walk
from usp_s3_wsgi.configtest.parsed_config import Directive

#: What an ``<IfDefine>`` or the like asks for: the section's name in lowercase and its argument without the "!".
Condition = tuple[str, str]
#: The number of a line of the old configuration, by its number in the text that is read.
Origin = Callable[[int], int]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
#: Directives whose arguments are URLs.
_OF_URLS = {"<proxy", "proxypass", "proxypassreverse", "ismproxypass", "balancermember", "rewriterule", "proxyset"}
#: Values that are allowed, for settings whose own is not known. Of any other setting a word is.
_SAMPLES = {
    "s3useheaders": "on",
    "s3roleduration": "3600",
    "s3rolearn": "arn:aws:iam::123456789012:role/sample",
    "s3proxyset": "timeout=30",
}
#: Other ways to programs: settings here are for S3, which the vendor's directives show.
_OTHER_PROGRAMS = {"addhandler", "addtype", "forcetype", "action", "script", "scriptalias", "scriptaliasmatch"}
_OTHER_PROGRAMS |= {"fallbackresource", "wsgihandlerscript", "wsgidispatchscript"}
_DEEPEST = 8


class Macro(NamedTuple):
    """``<Macro name parameters>``; ``first``: the number of the line behind that tag in the text that is read."""

    parameters: tuple[str, ...]
    body: tuple[Node, ...]
    first: int
    origin: Origin


def condition(section: Section) -> tuple[Condition, bool]:
    """What a section asks for, and whether it wants that to be so."""
    word = " ".join(section.opening.arguments)
    return (section.name, word.removeprefix("!")), not word.startswith("!")


class Evaluation:
    """One way to read a configuration. ``false``: what is assumed not to be so; all else that is not known is."""

    def __init__(self, file: Path | None, false: Iterable[Condition] = ()) -> None:
        self._file, self._false = file, frozenset(false)
        self._variables: dict[str, str] = {"USP_S3_WSGI": "/usp_s3.wsgi"}
        self._defined: dict[str, bool] = {}
        self._macros: dict[str, Macro] = {}
        self._used: set[str] = set()
        #: The samples that stand in URLs, and what they are for: ``${REMOTE_STORAGE_URL}``.
        self.samples: dict[str, str] = {}

    def read(self, nodes: Iterable[Node], origin: Origin) -> list[Directive]:
        """Return what httpd would have of a whole file."""
        found = list(self._nodes(nodes, origin, 0))
        for name, macro in list(self._macros.items()):
            # Used elsewhere, perhaps: with sections in it that says how.
            if name not in self._used and any(isinstance(node, Section) for node in macro.body):
                samples = [f"${{{re.sub(r'[^A-Za-z0-9_]', '', parameter)}}}" for parameter in macro.parameters]
                found += self._expanded(macro, samples, 0)
        return found

    def _nodes(self, nodes: Iterable[Node], origin: Origin, depth: int) -> Iterator[Directive]:
        for node in nodes:
            if isinstance(node, Line):
                yield from self._line(node, origin, depth)
            elif node.name in WRAPPERS:
                if self._holds(node):
                    yield from self._nodes(node.body, origin, depth)
            elif node.name == "macro":
                words = node.opening.arguments
                first = node.opening.number + node.opening.text.count("\n")
                self._macros[words[0].lower() if words else ""] = Macro(words[1:], node.body, first, origin)
            else:
                inner = list(self._nodes(node.body, origin, depth))
                yield self._directive(node.opening, origin, inner)

    def _line(self, line: Line, origin: Origin, depth: int) -> Iterator[Directive]:
        words = line.arguments
        if line.name in {"define", "undefine"} and words:
            self._define(line.name, words)
        elif line.name == "use" and words:
            self._used.add(words[0].lower())
            if (macro := self._macros.get(words[0].lower())) and depth < _DEEPEST:
                yield from self._expanded(macro, words[1:], depth + 1)
        elif line.name in INCLUDES:
            number = origin(line.number)
            content = included(line, self._file) if depth < _DEEPEST else None
            as_converted = (_as_converted(node) for node in content or ())
            yield from self._nodes(as_converted, lambda _: number, depth + 1)
        elif line.name and line.name not in _OTHER_PROGRAMS and not _is_handler(line):
            yield self._directive(line, origin, [])

    def _define(self, name: str, words: tuple[str, ...]) -> None:
        self._defined[words[0]] = name == "define"
        self._variables.pop(words[0], None)
        if name == "define" and len(words) > 1:
            self._variables[words[0]] = self._known(words[1])

    def _known(self, text: str) -> str:
        """The text with the variables that the file defines."""
        return _VARIABLE.sub(lambda match: self._variables.get(match[1], match[0]), text)

    def _holds(self, section: Section) -> bool:
        asked, wanted = condition(section)
        if asked[0] == "ifversion":
            return not section.opening.arguments[:1] or section.opening.arguments[0][0] not in "<!"
        if asked[0] == "ifdefine" and asked[1] in self._defined:
            return self._defined[asked[1]] is wanted
        return (asked not in self._false) is wanted

    def _expanded(self, macro: Macro, values: Iterable[str], depth: int) -> list[Directive]:
        by_name = dict(zip(macro.parameters, values, strict=False))
        text = render(macro.body)
        if by_name:
            # Of two names that begin alike the longer one counts.
            names = "|".join(re.escape(name) for name in sorted(by_name, key=len, reverse=True) if name)
            text = re.sub(names, lambda match: by_name[match[0]], text) if names else text
        try:
            nodes = parse(text)
        except ApacheConfigError:
            return []
        return list(self._nodes(nodes, lambda number: macro.origin(macro.first + number - 1), depth))

    def _directive(self, line: Line, origin: Origin, children: list[Directive]) -> Directive:
        name, words = line.name, list(line.arguments)
        words = [self._known(word) for word in words]
        if name == "setenv" and len(words) > 1 and "${" in words[1] and words[0] != "S3BucketURL":
            words[1] = _SAMPLES.get(words[0].lower(), "sample")
        has_path = name in {"proxypass", "proxypassreverse"} and len(words) > 1
        is_of_urls = name in _OF_URLS or (name == "setenv" and words[:1] == ["S3BucketURL"])
        words = [self._sampled(word, is_of_urls and not (has_path and index == 0)) for index, word in enumerate(words)]
        text = " ".join(quoted(word) for word in words) + (">" if name.startswith("<") else "")
        return Directive(name, text, str(self._file or "line"), origin(line.number), children)

    def _sampled(self, word: str, is_url: bool) -> str:
        def sample(match: re.Match[str]) -> str:
            name = re.sub(r"[^a-z0-9]+", "-", match[1].lower()).strip("-") or "x"
            before, after = word[: match.start()], word[match.end() :]
            if after.startswith("://"):
                return "http"
            if before.endswith(":"):
                return "8080"
            if re.fullmatch(r"\^?[a-z]+://[^/]*", before, re.I) and re.match(r"[:/]|\Z", after):
                return f"{name}.s3.amazonaws.com"  # the end of a host's name
            if before:
                return name
            if not is_url:
                return f"/{name}"
            self.samples[url := f"http://{name}.s3.amazonaws.com"] = match[0]
            return url

        return _VARIABLE.sub(sample, word)


def _as_converted(node: Node) -> Node:
    """What an included file will say when it is converted, too: that it must be is told."""
    if isinstance(node, Section):
        return Section(node.opening, tuple(_as_converted(inner) for inner in node.body), node.closing)
    if node.name not in KEYS:
        return node
    return parse(set_env(node))[0]


def _is_handler(line: Line) -> bool:
    return line.name == "sethandler" and not any(word.startswith("proxy:") for word in line.arguments)


def _is_ours(section: Section) -> bool:
    return section.name == "ifmodule" and section.opening.arguments in {("usp_s3_module",), ("wsgi_module",)}


def conditions_of_keys(nodes: Iterable[Node]) -> Iterator[dict[Condition, bool]]:
    """For each section with keys, under which conditions in it they stand, if there are some; and what these want."""
    found: dict[int, list[list[Section]]] = {}
    for line, sections in walk(nodes):
        around = [section for section in sections if not _is_ours(section)]
        if line.name == "setenv" and line.arguments[:1] in {("S3AccessKey",), ("S3SecretKey",)}:
            depths = [index for index, section in enumerate(around) if section.name not in WRAPPERS]
            if depths:
                found.setdefault(around[depths[-1]].opening.number, []).append(around[depths[-1] + 1 :])
    for wrappers in found.values():
        if any(wrappers):
            yield dict(condition(section) for ones in wrappers for section in ones)
