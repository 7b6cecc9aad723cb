"""Links lead to files and headings that exist, and so do the names of files and of make's targets in inline code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.blocks import Block, parameters
from tests.docs.links import inline_code, link_error, links, slugs
from tests.docs.pages import ROOT, linked_pages, name, pages, parse_markdown

#: Files in the tree that a page may name without their folder.
FOLDERS = ("apache", "debian", "docs", "tests", "usp_s3_wsgi")
SUFFIXES = r"\.(?:conf|py|pyi|c|h|md|sh|cfg|toml|txt|json|wsgi|svg|yaml)"
#: Files of the operator, of httpd, and of other projects.
NOT_OURS = frozenset(
    "httpd.conf apache2.conf usp_s3.conf media.conf site.conf ports.conf wsgi.conf security2.conf conf.py".split()
)
PAGES = [pytest.param(path, id=name(path)) for path in linked_pages() if path.exists()]


@cache
def files() -> frozenset[str]:
    """The paths of all files and folders in the tree."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    top = [path for path in ROOT.iterdir() if path.is_file()]
    return frozenset(str(path.relative_to(ROOT)) for path in [*found, *top, *(ROOT / folder for folder in FOLDERS)])


@pytest.mark.parametrize("path", PAGES)
def test_each_link_leads_somewhere(path: Path) -> None:
    found = [(line, target, link_error(path, target, ROOT)) for line, target in links(path.read_text("utf-8"))]
    assert [f"{name(path)}:{line}: {target} {error}" for line, target, error in found if error] == []


@pytest.mark.parametrize("path", PAGES)
def test_each_included_file_exists(path: Path) -> None:
    fences = [token for token in parse_markdown(path.read_text("utf-8")) if token.type == "fence"]
    included = [token.info.split()[1] for token in fences if re.match(r"\{(literal)?include\} ", token.info)]
    assert [file for file in included if not (path.parent / file).is_file()] == []


def is_missing(code: str) -> bool:
    """Whether inline code is the name of a file of this project, or a target of make, that does not exist."""
    if target := re.fullmatch(r"make ([a-z][a-z-]*)(?: [A-Z]+=.*)?", code):
        return not re.search(rf"^{target[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if not re.fullmatch(r"[\w.*/-]*[\w*/]", code) or code.startswith("/") or code.endswith(".so"):
        return False
    path = code.rstrip("/")
    if code.partition("/")[0] in FOLDERS and "/" in code:
        return not any(Path(file).match(path) for file in files() if file.count("/") == path.count("/"))
    if re.search(f"{SUFFIXES}$", code) and Path(code).name not in NOT_OURS:
        return not any(file == path or Path(file).match(path) for file in files())
    return False


@pytest.mark.parametrize("path", [pytest.param(path, id=name(path)) for path in [*pages(), ROOT / "tests/README.md"]])
def test_each_file_that_is_named_exists(path: Path) -> None:
    found = inline_code(path.read_text("utf-8"))
    assert [f"{name(path)}:{line}: {code}" for line, code in found if is_missing(code)] == []


@pytest.mark.parametrize("block", parameters("console", "sh", skips=False))
def test_each_target_and_file_of_a_command_exists(block: Block) -> None:
    """Also in the blocks that are not run."""
    targets = re.findall(r"^(?:\$ )?(make [a-z][a-z-]*)", block.text, re.MULTILINE)
    paths = re.findall(rf"(?<=\s)(?:{'|'.join(FOLDERS)})/[\w./*-]*", re.sub(r"(?m)\s#\s.*", "", block.text))
    assert [name for name in [*targets, *paths] if is_missing(name)] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_slugs_are_those_of_github() -> None:
    text = (
        "# Two ways in\n## Configure `<Proxy>`\nWhat's *new*, in 1.9.0?\n---\n## A_b – c\n## Twice\n## Twice\n"
        "### [A link](x.md)\n```\n# code\n```\n"
    )
    assert slugs(text) == {
        "two-ways-in",
        "configure-proxy",
        "whats-new-in-190",
        "a_b--c",
        "twice",
        "twice-1",
        "a-link",
    }


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("https://example.com/none", ""),
        ("b.md", ""),
        ("../README.md#title", ""),
        ("#here", ""),
        ("../docs", ""),
        ("#there", "has no heading there"),
        ("../README.md#Title", "has no heading Title"),
        ("c.md", "is missing"),
        ("/docs/b.md", "is not a relative link within this repository"),
        ("../../x.md", "is not a relative link within this repository"),
        ("file:///etc/passwd", "is not a relative link within this repository"),
    ],
)
def test_link_errors(target: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# Title\n")
    (tmp_path / "docs" / "a.md").write_text("# Here\n")
    (tmp_path / "docs" / "b.md").write_text("")
    assert link_error(tmp_path / "docs" / "a.md", target, tmp_path) == error


def test_links_and_code_are_found() -> None:
    text = 'A [b](c.md "t") ![d](e.svg) `f.py`\n\n| g | [h][i] |\n|---|---|\n| `j` | k |\n\n[i]: l.md\n\n    [no](m)\n'
    assert list(links(text)) == [(1, "c.md"), (1, "e.svg"), (3, "l.md")]
    assert list(inline_code(text)) == [(1, "f.py"), (5, "j")]


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("virtualhost.conf", False),
        ("apache/examples/virtualhost.conf", False),
        ("examples/virtualhost.conf", False),
        ("tests/httpd/", False),
        ("tests/httpd/test_trust_*.py", False),
        ("config/settings.py", False),
        ("/etc/apache2/none.conf", False),
        ("httpd.conf", False),
        ("make test", False),
        ("make bench OUT=folder", False),
        ("usp_s3_wsgi.application", False),
        ("ls none.conf", False),
        ("none.conf", True),
        ("apache/examples/none.conf", True),
        ("tests/none/", True),
        ("tests/httpd/test_none_*.py", True),
        ("make none", True),
    ],
)
def test_missing_files(code: str, missing: bool) -> None:
    assert is_missing(code) is missing
