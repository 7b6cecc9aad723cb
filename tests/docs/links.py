"""The links, headings and names of files in the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it.token import Token

from tests.docs.pages import parse_markdown


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    tokens = parse_markdown(text)
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", plain_text(content).lower()).replace(" ", "-")
            number = found[slug] = found.get(slug, -1) + 1
            if number:
                found[f"{slug}-{number}"] = 0
    return set(found)


def plain_text(inline: Token) -> str:
    """The text of a heading without its markup."""
    return "".join(child.content for child in inline.children or () if child.type in {"text", "code_inline"})


def inline_tokens(text: str) -> Iterator[tuple[int, Token]]:
    """Yield the tokens within the paragraphs, headings and tables of a page, with the line of their block, from 1."""
    line = 1
    for token in parse_markdown(text):
        line = token.map[0] + 1 if token.map else line
        for child in token.children or ():
            yield line, child


def links(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and target of the links and images of a page."""
    for line, token in inline_tokens(text):
        if token.type in {"link_open", "image"}:
            yield line, str(token.attrs.get("href") or token.attrs.get("src"))


def inline_code(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of the inline code of a page."""
    for line, token in inline_tokens(text):
        if token.type == "code_inline":
            yield line, token.content


def link_error(page: Path, target: str, root: Path) -> str:
    """What is wrong with a link; empty for a link that works, and for one to another site."""
    if re.match(r"https?://|mailto:", target):
        return ""
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if re.match(r"[a-z]+:|/", target) or not path.is_relative_to(root):
        return "is not a relative link within this repository"
    if not path.exists():
        return "is missing"
    if anchor and (path.suffix != ".md" or anchor not in slugs_of(path)):
        return f"has no heading {anchor}"
    return ""


@cache
def slugs_of(path: Path) -> set[str]:
    """The anchors of a file's headings."""
    return slugs(path.read_text("utf-8"))
