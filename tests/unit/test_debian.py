"""debian/: its version is that of the package, and what the pages say of its libraries is what is locked."""

from __future__ import annotations

import re
from pathlib import Path

import usp_s3_wsgi

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "debian"


def locked() -> dict[str, str]:
    """The libraries in the Debian packages, with their versions."""
    text = (ROOT / "tests" / "requirements" / "package.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", text, re.MULTILINE))


def test_the_newest_entry_of_the_changelog_is_for_this_version() -> None:
    first = (DEBIAN / "changelog").read_text().partition("\n")[0]
    assert re.fullmatch(rf"usp-s3-wsgi \({re.escape(usp_s3_wsgi.__version__)}-\d+\) \w+; urgency=\w+", first)


def test_the_documented_versions_are_those_in_the_packages() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    section = page[page.index("\n## Debian package\n") : page.index("\n## The official httpd image\n")]
    for name in ("urllib3", "httptools", "jinja2", "requests", "botocore"):
        assert f"{name} {locked()[name]}" in " ".join(section.split())


#: Where a library's folder has another name.
FOLDERS = {"markdown-it-py": "markdown_it"}


def test_each_library_is_in_one_of_the_packages_and_named() -> None:
    """The build fails if a file is in neither (dh_missing); a library of both would be in the wrong one."""
    lists = [(DEBIAN / f"{package}.install").read_text() for package in ("usp-s3-wsgi", "usp-s3-wsgi-aws")]
    control, license_notes = (DEBIAN / "control").read_text(), (DEBIAN / "copyright").read_text()
    for name in locked():
        folder = FOLDERS.get(name, name.replace("-", "_"))
        assert sum(f"/{folder}*\n" in text for text in lists) == 1, name
        assert name in control and name in license_notes, name
