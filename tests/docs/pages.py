"""The pages of the documentation."""

from __future__ import annotations

from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "tests" / "docs" / "example.md"


def pages() -> list[Path]:
    """The files whose blocks are tested: the documentation in its order, and a page with one block of each kind.

    Folders that begin with an underscore are not pages.
    """
    docs = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "/_" not in str(path.relative_to(ROOT))]
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return list(dict.fromkeys([*top, *in_order(ROOT / "docs" / "index.md"), *docs, EXAMPLE]))


def in_order(page: Path) -> list[Path]:
    """A page, and the pages below it in the order of the tables of contents."""
    found = [page] if page.exists() else []
    for token in parse_markdown(page.read_text("utf-8")) if found else []:
        if token.type == "fence" and token.info.startswith("{toctree}"):
            entries = [line for line in token.content.split() if not line.startswith(":")]
            found += [below for entry in entries for below in in_order(page.parent / f"{entry}.md")]
    return found


def linked_pages() -> list[Path]:
    """The files whose links are tested."""
    return [*pages(), ROOT / "CHANGELOG.md", ROOT / "tests" / "README.md"]


def name(path: Path) -> str:
    """The name of a file in messages."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def parse_markdown(text: str) -> list[Token]:
    """The tokens of a page, as GitHub reads it."""
    return MarkdownIt("commonmark").enable("table").parse(text)
