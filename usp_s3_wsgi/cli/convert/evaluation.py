"""Evaluates configuration-time tests, variables, macros and includes of a file, as httpd does when it reads the file.

A value that the file does not contain is replaced by a sample: ``${REMOTE_STORAGE_URL}`` by the URL of a bucket,
``${S3_REGION}`` by a region. The result is what httpd itself sends to configtest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from usp_s3_wsgi.cli.convert.includes import INCLUDE_DIRECTIVES, read_included
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import S3_DIRECTIVES, set_env
from usp_s3_wsgi.cli.convert.nested_lines import CONFIGURATION_TIME_TESTS
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError, Line, Node, Section, parse, quoted, render, walk
from usp_s3_wsgi.configtest.parsed_config import Directive

#: What an ``<IfDefine>`` or the like tests: the section's name in lowercase and its argument without the "!".
ConfigurationTimeTest = tuple[str, str]
#: Returns the number of a line in the old configuration for its number in the text that is read.
Origin = Callable[[int], int]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
#: Directives whose arguments are URLs.
_URL_DIRECTIVES = {
    "<proxy",
    "proxypass",
    "proxypassreverse",
    "ismproxypass",
    "balancermember",
    "rewriterule",
    "proxyset",
}
#: Samples of valid values for settings with an unknown value. For any other setting, a word is valid.
_SAMPLES = {
    "s3useheaders": "on",
    "s3roleduration": "3600",
    "s3rolearn": "arn:aws:iam::123456789012:role/sample",
    "s3proxyset": "timeout=30",
}
#: Directives of other programs, which are left out: the S3 directives show that the settings are for S3.
_OTHER_PROGRAMS = {"addhandler", "addtype", "forcetype", "action", "script", "scriptalias", "scriptaliasmatch"}
_OTHER_PROGRAMS |= {"fallbackresource", "wsgihandlerscript", "wsgidispatchscript"}
_MAX_DEPTH = 8


class Macro(NamedTuple):
    """``<Macro name parameters>``; ``first``: the number of the line after that tag in the text that is read."""

    parameters: tuple[str, ...]
    body: tuple[Node, ...]
    first: int
    origin: Origin


def test_of(section: Section) -> tuple[ConfigurationTimeTest, bool]:
    """Return what a section tests, and the result for which httpd reads the lines of the section."""
    word = " ".join(section.opening.arguments)
    return (section.name, word.removeprefix("!")), not word.startswith("!")


class Evaluation:
    """One evaluation of a configuration. ``false``: the unknown tests that are false; all others are true."""

    def __init__(self, file: Path | None, false: Iterable[ConfigurationTimeTest] = ()) -> None:
        self._file, self._false = file, frozenset(false)
        self._variables: dict[str, str] = {"USP_S3_WSGI": "/usp_s3.wsgi"}
        self._defined: dict[str, bool] = {}
        self._macros: dict[str, Macro] = {}
        self._used: set[str] = set()
        self._expanding: set[str] = set()
        #: The samples in URLs, and the variable that each stands for: ``${REMOTE_STORAGE_URL}``.
        self.samples: dict[str, str] = {}

    def read(self, nodes: Iterable[Node], origin: Origin) -> list[Directive]:
        """Return the directives of a whole file as httpd would have them."""
        found = list(self._nodes(nodes, origin, 0))
        for name, macro in list(self._macros.items()):
            # It may be used in another file; the sections in it show for what.
            if name not in self._used and any(isinstance(node, Section) for node in macro.body):
                samples = [f"${{{re.sub(r'[^A-Za-z0-9_]', '', parameter)}}}" for parameter in macro.parameters]
                found += self._expanded(name, macro, samples, 0)
        return found

    def _nodes(self, nodes: Iterable[Node], origin: Origin, depth: int) -> Iterator[Directive]:
        for node in nodes:
            if isinstance(node, Line):
                yield from self._line(node, origin, depth)
            elif node.name in CONFIGURATION_TIME_TESTS:
                if self._is_true(node):
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
            name = words[0].lower()
            self._used.add(name)
            if (macro := self._macros.get(name)) and depth < _MAX_DEPTH:
                yield from self._expanded(name, macro, words[1:], depth + 1)
        elif line.name in INCLUDE_DIRECTIVES:
            number = origin(line.number)
            content = read_included(line, self._file) if depth < _MAX_DEPTH else None
            as_converted = (_as_converted(node) for node in content or ())
            yield from self._nodes(as_converted, lambda _: number, depth + 1)
        elif line.name and line.name not in _OTHER_PROGRAMS and not _is_handler(line):
            yield self._directive(line, origin, [])

    def _define(self, name: str, words: tuple[str, ...]) -> None:
        self._defined[words[0]] = name == "define"
        self._variables.pop(words[0], None)
        if name == "define" and len(words) > 1:
            self._variables[words[0]] = self._with_variables(words[1])

    def _with_variables(self, text: str) -> str:
        """Return the text with the values of the variables that the file defines."""
        return _VARIABLE.sub(lambda match: self._variables.get(match[1], match[0]), text)

    def _is_true(self, section: Section) -> bool:
        tested, expected = test_of(section)
        if tested[0] == "ifversion":
            words = section.opening.arguments
            return not words or not words[0].startswith(("<", "!"))
        if tested[0] == "ifdefine" and tested[1] in self._defined:
            return self._defined[tested[1]] is expected
        return (tested not in self._false) is expected

    def _expanded(self, name: str, macro: Macro, values: Iterable[str], depth: int) -> list[Directive]:
        if name in self._expanding:
            return []  # httpd rejects a macro that uses itself
        by_name = dict(zip(macro.parameters, values, strict=False))
        text = render(macro.body)
        if by_name:
            # If one name is the beginning of another, the longer one counts.
            names = "|".join(re.escape(name) for name in sorted(by_name, key=len, reverse=True) if name)
            text = re.sub(names, lambda match: by_name[match[0]], text) if names else text
        try:
            nodes = parse(text)
        except ApacheConfigError:
            return []
        self._expanding.add(name)
        found = list(self._nodes(nodes, lambda number: macro.origin(macro.first + number - 1), depth))
        self._expanding.remove(name)
        return found

    def _directive(self, line: Line, origin: Origin, children: list[Directive]) -> Directive:
        name, words = line.name, list(line.arguments)
        words = [self._with_variables(word) for word in words]
        if name == "setenv" and len(words) > 1 and "${" in words[1] and words[0] != "S3BucketURL":
            words[1] = _SAMPLES.get(words[0].lower(), "sample")
        has_path = name in {"proxypass", "proxypassreverse"} and len(words) > 1
        has_urls = name in _URL_DIRECTIVES or (name == "setenv" and words[:1] == ["S3BucketURL"])
        words = [
            self._with_samples(word, has_urls and not (has_path and index == 0)) for index, word in enumerate(words)
        ]
        text = " ".join(quoted(word) for word in words) + (">" if name.startswith("<") else "")
        return Directive(name, text, str(self._file or "line"), origin(line.number), children)

    def _with_samples(self, word: str, is_url: bool) -> str:
        """Return the word with samples instead of variables that the file does not define."""

        def sample(match: re.Match[str]) -> str:
            name = re.sub(r"[^a-z0-9]+", "-", match[1].lower()).strip("-") or "x"
            before, after = word[: match.start()], word[match.end() :]
            if after.startswith("://"):
                return "http"
            if before.endswith(":"):
                return "8080"
            if re.fullmatch(r"\^?[a-z]+://[^/]*", before, re.I) and re.match(r"[:/]|\Z", after):
                return f"{name}.s3.amazonaws.com"  # the end of a host name
            if before:
                return name
            if not is_url:
                return f"/{name}"
            self.samples[url := f"http://{name}.s3.amazonaws.com"] = match[0]
            return url

        return _VARIABLE.sub(sample, word)


def _as_converted(node: Node) -> Node:
    """Return a line of an included file as it will be when that file is converted, too, as a message demands."""
    if isinstance(node, Section):
        return Section(node.opening, tuple(_as_converted(inner) for inner in node.body), node.closing)
    if node.name not in S3_DIRECTIVES:
        return node
    return parse(set_env(node))[0]


def _is_handler(line: Line) -> bool:
    return line.name == "sethandler" and not any(word.startswith("proxy:") for word in line.arguments)


def _tests_for_our_module(section: Section) -> bool:
    return section.name == "ifmodule" and section.opening.arguments in {("usp_s3_module",), ("wsgi_module",)}


def tests_around_credentials(nodes: Iterable[Node]) -> Iterator[dict[ConfigurationTimeTest, bool]]:
    """Yield the tests around the credentials of each section, with the results for which httpd reads them."""
    found: dict[int, list[list[Section]]] = {}
    for line, sections in walk(nodes):
        enclosing = [section for section in sections if not _tests_for_our_module(section)]
        if line.name == "setenv" and line.arguments[:1] in {("S3AccessKey",), ("S3SecretKey",)}:
            depths = [index for index, section in enumerate(enclosing) if section.name not in CONFIGURATION_TIME_TESTS]
            if depths:
                number = enclosing[depths[-1]].opening.number
                found.setdefault(number, []).append(enclosing[depths[-1] + 1 :])
    for tests in found.values():
        if any(tests):
            yield dict(test_of(section) for sections in tests for section in sections)
