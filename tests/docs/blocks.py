"""The blocks of code in the documentation, and the comments that say how each is tested.

A comment ``<!-- test: key=value; key=value -->``, or ``<!-- test: none because REASON -->``, stands in the line before
its block. tests/README.md explains the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from markdown_it.token import Token

from tests.docs.pages import name, pages, parse_markdown

COMMENT = re.compile(r"<!--\s*test:(.*?)-->\s*", re.DOTALL)
BEGIN = re.compile(r"<!--\s*test:")
NONE = re.compile(r"none because (\S.*)")
#: For each language of a block, the keys that its comment may have.
KEYS: Mapping[str, frozenset[str]] = {
    "apache": frozenset({"in", "with", "modules", "get", "file", "fresh"}),
    "console": frozenset({"server", "fresh", "status", "file", "input"}),
    "sh": frozenset({"server", "fresh", "status", "file", "input"}),
    "python": frozenset({"file"}),
    "json": frozenset({"file"}),
    "vcl": frozenset({"file"}),
    "nginx": frozenset({"file"}),
    "ini": frozenset({"file"}),
    # Not tested: a picture, a line of a log.
    "text": frozenset({"file"}),
    # Drawn when the pages are built.
    "{graphviz}": frozenset(),
    "{mermaid}": frozenset(),
    # Directives of the builder. test_links.py tests the files that they include.
    "{toctree}": frozenset(),
    "{include}": frozenset(),
    "{literalinclude}": frozenset(),
}
#: The form of a key's value.
VALUES: Mapping[str, re.Pattern[str]] = {
    "in": re.compile("gateway|proxy"),
    "with": re.compile("gateway|proxy"),
    "server": re.compile("gateway|proxy"),
    "modules": re.compile(r"[a-z0-9_]+( [a-z0-9_]+)*"),
    "get": re.compile(r"([A-Z]+ )?/\S* [1-5]\d\d(, ([A-Z]+ )?/\S* [1-5]\d\d)*"),
    "fresh": re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"),
    "status": re.compile(r"\d+( \d+)*"),
    "input": re.compile(r".*\S"),
    "file": re.compile(r"/?[\w.-]+(/[\w.-]+)*"),
}


class BlockError(ValueError):
    """A block or its comment is wrong. The message begins with file and line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code. ``line`` is that of its fence, from 1; ``keys`` are those of its comment."""

    file: str
    line: int
    language: str
    text: str
    keys: Mapping[str, str] = field(default_factory=dict)
    untested_because: str = ""

    @property
    def id(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


def find_blocks(text: str, file: str) -> Iterator[Block]:
    """Yield the blocks of a page. Raises: BlockError."""
    comment: Token | None = None
    for token in parse_markdown(text):
        if token.type == "fence":
            if comment is not None and end(comment) != start(token):
                raise BlockError(f"{file}:{start(comment) + 1}: the comment is not in the line before its block")
            yield make_block(token, COMMENT.fullmatch(comment.content) if comment else None, file)
            comment = None
            continue
        if comment is not None:
            raise BlockError(f"{file}:{start(comment) + 1}: no block follows the comment")
        if token.type == "html_block" and BEGIN.match(token.content):
            if not COMMENT.fullmatch(token.content):
                raise BlockError(f"{file}:{start(token) + 1}: not in the form <!-- test: ... -->")
            comment = token
        if any(child.type == "html_inline" and BEGIN.match(child.content) for child in token.children or ()):
            raise BlockError(f"{file}:{start(token) + 1}: the comment is not in a line of its own")
    if comment is not None:
        raise BlockError(f"{file}:{start(comment) + 1}: no block follows the comment")


def indented_blocks(text: str) -> list[int]:
    """The lines of a page, from 1, on which an indented block of code begins: it cannot name its language."""
    return [start(token) + 1 for token in parse_markdown(text) if token.type == "code_block"]


def start(token: Token) -> int:
    """The first line of a token, from 0."""
    assert token.map is not None
    return token.map[0]


def end(token: Token) -> int:
    """The line after a token, from 0."""
    assert token.map is not None
    return token.map[1]


def make_block(fence: Token, comment: re.Match[str] | None, file: str) -> Block:
    """Return the block of a fence. Raises: BlockError."""
    line, language = start(fence) + 1, fence.info.strip().partition(" ")[0]
    if language not in KEYS:
        raise BlockError(f"{file}:{line}: the language {language!r} is none of {', '.join(KEYS)}")
    try:
        keys, reason = parse_comment(comment[1], language) if comment else ({}, "")
    except ValueError as error:
        raise BlockError(f"{file}:{line}: {error}") from None
    return Block(file, line, language, fence.content, keys, reason)


def parse_comment(text: str, language: str) -> tuple[dict[str, str], str]:
    """Return the keys of a comment, and the reason why its block is not tested. Raises: ValueError."""
    text = " ".join(text.split())
    if text.startswith("none"):
        if not (none := NONE.fullmatch(text)):
            raise ValueError("not in the form none because REASON")
        return {}, none[1]
    keys: dict[str, str] = {}
    for pair in text.split(";"):
        key, equals, value = pair.strip().partition("=")
        if not equals or key not in KEYS[language]:
            raise ValueError(f"{key!r} is none of the keys of {language}: {', '.join(sorted(KEYS[language]))}")
        if not VALUES[key].fullmatch(value):
            raise ValueError(f"the value of {key} is not in its form: {value!r}")
        if key in keys:
            raise ValueError(f"{key} is there twice")
        keys[key] = value
    return keys, ""


@cache
def blocks_of(path: Path) -> tuple[Block, ...]:
    """The blocks of a file. Raises: BlockError."""
    return tuple(find_blocks(path.read_text("utf-8"), name(path)))


def all_blocks() -> Iterator[Block]:
    """Yield the blocks of all pages. A page with an error has none: test_blocks.py fails for it."""
    for path in pages():
        try:
            yield from blocks_of(path)
        except BlockError:
            continue


def parameters(*languages: str, skips: bool = True) -> list[ParameterSet]:
    """The blocks in these languages as pytest's parameters.

    ``skips``: those that are not tested are skipped, with the reason.
    """
    found = []
    for block in all_blocks():
        if block.language in languages:
            reason = block.untested_because
            marks = [pytest.mark.skip(reason=f"{block.id}: {reason}")] if reason and skips else []
            found.append(pytest.param(block, id=block.id, marks=marks))
    return found
