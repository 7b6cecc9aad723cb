"""The explanations of codes, from docs/errors.md as it is installed."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import click

from usp_s3_wsgi.cli import apache_config
from usp_s3_wsgi.cli.explain import layout
from usp_s3_wsgi.status.explanations import Explanations

#: What looks like a code of this package, whether there is one or not.
_OWN_CODE = re.compile("USPS[0-9]*", re.IGNORECASE)
#: A word with at least this difflib.SequenceMatcher ratio to a code is a misspelt code. Request ids have less.
_MIN_SIMILARITY = 0.75
_MAX_SUGGESTIONS = 3


class Codes:
    """All codes. Raises: click.ClickException, FileNotFoundError: docs/errors.md is not installed."""

    def __init__(self) -> None:
        self.path: Path = apache_config.share_directory() / "errors.md"
        self.explanations = Explanations.from_file(self.path)
        if not self.explanations.by_code:
            raise click.ClickException(f"{self.path} is missing or empty: install usp_s3_wsgi again")
        self._by_lowercase = {code.lower(): code for code in self.explanations.by_code}

    def find(self, word: str) -> str:
        """Return the code that is meant, in its own spelling; empty if it is none."""
        return self._by_lowercase.get(word.lower(), "")

    def similar(self, word: str) -> list[str]:
        """Return the codes that may have been meant; empty if the word looks like no code."""
        found = difflib.get_close_matches(word.lower(), self._by_lowercase, _MAX_SUGGESTIONS, _MIN_SIMILARITY)
        return [self._by_lowercase[code] for code in found]

    def print_all(self) -> None:
        """Print all codes with their titles."""
        own = [code for code in self.explanations.by_code if _OWN_CODE.fullmatch(code)]
        others = [code for code in self.explanations.by_code if code not in own]
        for heading, codes in (("Codes in the error log", own), ("S3's own codes", others)):
            width = max(map(len, codes), default=0)
            layout.paragraph(heading, "bold")
            for code in codes:
                layout.entry(code, self.explanations.by_code[code].title, width)
            layout.paragraph("")
        layout.paragraph('"usp-s3 explain CODE" says why, and what to do.')

    def print(self, code: str) -> None:
        """Print what a code means, what to do, and where to read more."""
        found = self.explanations.by_code[code]
        layout.paragraph(f"{found.code}: {found.title}", "bold")
        for label, text in (("Why", found.why), ("What to do", found.what_to_do)):
            if text:
                layout.paragraph("")
                layout.entry(label, text, len("What to do"))
        linked = [page.partition("#")[0] for page in self.explanations.links[code]]
        pages = dict.fromkeys(f"docs/{page}" for page in ("errors.md", *linked, "troubleshooting.md"))
        layout.paragraph("")
        layout.entry("Read more", ", ".join([*pages, str(self.path)]), len("What to do"))


def looks_like_own_code(word: str) -> bool:
    """Whether a word begins as the codes of this package do, so that it is not a request id."""
    return _OWN_CODE.fullmatch(word) is not None
