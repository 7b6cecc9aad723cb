"""docs/_extensions/reference.py: what is missing on the pages of settings and log codes is a warning in "make docs"."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from usp_s3_wsgi.config import proxy_set, settings

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("sphinx"), reason='only "make docs" installs Sphinx')


def build(folder: Path, settings_page: str, errors_page: str) -> str:
    """Build these two pages alone, and return the warnings about names and codes."""
    docs = folder / "docs"
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "conf.py", docs)
    for name in ("_extensions", "_static"):
        shutil.copytree(ROOT / "docs" / name, docs / name)
    (docs / "index.md").write_text(
        "# Index\n\n```{toctree}\nsettings\nerrors\n```\n\n`S3FallbackRegion`, `USPS30305`\n\n## 403 for all\n"
    )
    (docs / "settings.md").write_text(settings_page)
    (docs / "errors.md").write_text(errors_page)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(docs), str(folder / "html")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return "\n".join(re.findall(r"WARNING: (.*(?:section|example|neither).*)", done.stderr))


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def without(text: str, pattern: str) -> str:
    """The text without what the pattern matches, which must be there once."""
    changed, count = re.subn(pattern, "", text, flags=re.DOTALL | re.MULTILINE)
    assert count == 1, pattern
    return changed


def test_each_name_has_its_facts_and_links(tmp_path: Path) -> None:
    assert build(tmp_path, page("settings"), page("errors")) == ""
    html = (tmp_path / "html" / "settings.html").read_text("utf-8")
    facts = re.sub(r"<[^>]+>|\s+", " ", html)
    assert facts.count("Default : ") == len(settings.TABLE) + len(proxy_set.PARAMETERS)
    assert "a whole number from 900 to 43200" in facts
    index = (tmp_path / "html" / "index.html").read_text("utf-8")
    assert re.findall(r'href="(\w+\.html#\w+)"[^>]*><code', index) == [
        "settings.html#S3FallbackURL",
        "errors.html#USPS30305",
    ]
    assert 'id="403-for-all"' in index  # GitHub's anchor
    assert '"_403"' in (tmp_path / "html" / "searchindex.js").read_text("utf-8")  # the search finds statuses


def test_what_is_missing_is_a_warning(tmp_path: Path) -> None:
    settings_page = without(page("settings"), r"^### S3Region\n.*?(?=^##)")
    settings_page = without(settings_page, r"(?<=^### S3Expires\n\n)[A-Z].*?\n\n")
    settings_page = without(settings_page, r"(?<=^SetEnv )S3Retries(?= 4$)")
    settings_page = without(settings_page, r"^### ttl\n.*?(?=^###)") + "\n### max\n\nAgain.\n"
    errors_page = without(page("errors"), r"^### USPS30402: .*?(?=^##)")
    errors_page = without(errors_page, r"(?<=^### USPS30405):[^\n]*")
    errors_page = errors_page.replace("- **Client**: 504\n", "- **Client**: 502\n")
    errors_page = errors_page.replace("- **Client**: 405\n", "- **Client**: 404, 405\n")
    errors_page = re.sub(r"(### USPS30201: .*?)not logged", r"\1error", errors_page, count=1, flags=re.DOTALL)
    errors_page = re.sub(r"(?s)(### USPS30407: .*?): error", r"\1: not logged", errors_page, count=1)
    errors_page += "\n`USPS30999`, `S3Bukcet`, `S3Fallback`, `S3CMD_CONFIG`\n"
    errors_page = re.sub(r"(### USPS30806: .*?)- \*\*Why\*\*: [^-]*", r"\1", errors_page, count=1, flags=re.DOTALL)
    assert sorted(build(tmp_path, settings_page, errors_page).splitlines()) == sorted(
        [
            "S3Region must have one section, and has 0",
            "the section of S3Expires has no text that says what it means",
            "the section of S3Retries has no example that sets it",
            "ttl must have one section, and has 0",
            "max must have one section, and has 2",
            "USPS30402 must have one section, and has 0",
            "the section of USPS30405 has no words in its heading",
            "the section of USPS30404 does not say that the client gets 504",
            "the section of USPS30203 does not say that the client gets 405",
            "the section of USPS30201 does not say whether it is logged",
            "the section of USPS30407 does not say whether it is logged",
            "USPS30999 is neither a setting nor a log code",
            "S3Bukcet is neither a setting nor a log code",
            'the section of USPS30806 has no text for "Why"',
        ]
    )
