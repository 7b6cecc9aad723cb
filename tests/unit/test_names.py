"""Identifiers are words of the field; some that only our own history explains are not allowed to come back."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Words of former names, of which none says what it is: compare docs/decisions/0001-the-tree.md.
BANNED = frozenset({"told", "alike", "patience", "doubt", "doubted", "learned", "learns", "remedy", "remedies"})
FOLDERS = ("usp_s3_wsgi", "tests", "apache")
C_COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def python_names(text: str) -> Iterator[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return (token.string for token in tokens if token.type == tokenize.NAME)


def c_names(text: str) -> Iterator[str]:
    return (match[0] for match in re.finditer(r"[A-Za-z_]\w*", C_COMMENT_OR_STRING.sub(" ", text)))


def words(name: str) -> set[str]:
    """The words of an identifier: ``is_toldSo`` has is, told and so."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def sources() -> list[Path]:
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    return [path for path in [*found, ROOT / "setup.py"] if path.suffix in {".py", ".pyi", ".wsgi", ".c", ".h"}]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_identifier_is_one_of_the_banned_words(path: Path) -> None:
    text = path.read_text("utf-8")
    names = c_names(text) if path.suffix in {".c", ".h"} else python_names(text)
    assert {name for name in names if words(name) & BANNED} == set()
    assert not words(path.stem) & BANNED


def test_names_are_found() -> None:
    assert set(python_names("answer = told  # alike\n'learned'\n")) == {"answer", "told"}
    assert not words("untold") & BANNED
    assert set(c_names('int usp_s3_learned; /* told */ char *s = "remedy";')) == {"int", "usp_s3_learned", "char", "s"}
    assert words("SigningTemplate_isTold") == {"signing", "template", "is", "told"}
