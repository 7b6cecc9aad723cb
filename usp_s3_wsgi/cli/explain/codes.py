"""The explanations of codes, from docs/errors.md as it is installed."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import click

from usp_s3_wsgi.cli import apache_config
from usp_s3_wsgi.cli.explain import layout
from usp_s3_wsgi.status.explanations import Explanations
from usp_s3_wsgi.status.snapshot import Explanation

#: What looks like a code of this package, whether there is one or not.
_OWN_CODE = re.compile("USPS[0-9]*", re.IGNORECASE)
#: The number of such a code alone, a code of httpd such as AH00898, and a status of HTTP.
_DIGITS, _CODE_OF_HTTPD, _STATUS = re.compile("30[0-9]{3}"), re.compile("AH[0-9]{5}"), re.compile("[1-5][0-9]{2}")
#: An explanation that is that of another code.
_REFERENCE = re.compile("As (?:for )?(USPS[0-9]+)")
_LIST = "usp-s3 explain lists all codes"
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

    def why_none(self, word: str) -> str:
        """Return why a word is no code, and which one may be meant; empty if it looks like a request id."""
        if _STATUS.fullmatch(word):
            return f"{word} is a status, not a code: see docs/responses.md"
        if _CODE_OF_HTTPD.fullmatch(word):
            return f"{word}: AH... codes are httpd's own, and explained by the line itself; {_LIST}"
        if _DIGITS.fullmatch(word):
            meant = [code] if (code := self.find(f"USPS{word}")) else self.similar(f"USPS{word}")
        elif not (meant := self.similar(word)) and not _OWN_CODE.fullmatch(word):
            return ""
        if not meant:
            return f"{word} is not a code ({_LIST})"
        start = word if _DIGITS.fullmatch(word) else f"{word} is not a code"
        return f"{start}: did you mean {' or '.join(meant)}? ({_LIST})"

    def similar(self, word: str) -> list[str]:
        """Return the codes that may have been meant; empty if the word looks like no code."""
        found = difflib.get_close_matches(word.lower(), self._by_lowercase, _MAX_SUGGESTIONS, _MIN_SIMILARITY)
        return [self._by_lowercase[code] for code in found]

    def referred(self, text: str) -> list[Explanation]:
        """Return the explanations that a text names: "As USPS30809, and ..."."""
        codes = dict.fromkeys(code for code in _REFERENCE.findall(text) if code in self.explanations.by_code)
        return [self.explanations.by_code[code] for code in codes]

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
        self._print(found)
        referred = self.referred(f"{found.why} {found.what_to_do}")
        for each in referred:
            layout.paragraph("")
            self._print(each)
        linked = [page.partition("#")[0] for one in (found, *referred) for page in self.explanations.links[one.code]]
        pages = dict.fromkeys(self.path.parent / name for name in ("errors.md", *linked, "troubleshooting.md") if name)
        layout.paragraph("")
        layout.entry("Read more", ", ".join(str(page) for page in pages if page.is_file()), len("What to do"))

    def _print(self, found: Explanation) -> None:
        layout.paragraph(f"{found.code}: {found.title}", "bold")
        for label, text in (("Why", found.why), ("What to do", found.what_to_do)):
            if text:
                layout.paragraph("")
                layout.entry(label, text, len("What to do"))
