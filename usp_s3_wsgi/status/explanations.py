"""What error codes mean: the sections of docs/errors.md, which is installed beside the scripts that httpd runs."""

from __future__ import annotations

import re
from pathlib import Path

from usp_s3_wsgi.status.snapshot import Explanation

_SECTION = re.compile(r"^### ([A-Za-z0-9]+): (.*)\n", re.MULTILINE)
#: A list item with its continuation lines: "- **Why**: ..."
_ITEM = re.compile(r"^- \*\*([^*]+)\*\*: (.*(?:\n  .*)*)", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)]*)\)")
#: S3's codes say more than ours, but for these of ours, which have one cause.
_OWN_CODE_SAYS_MORE = frozenset({"USPS30302", "USPS30304", "USPS30401"})


class Explanations:
    """The explanations of error codes: USPS3nnnn, and S3's own, such as SignatureDoesNotMatch."""

    def __init__(self, document: str) -> None:
        """``document``: the text of docs/errors.md; empty if it is not installed."""
        self.by_code: dict[str, Explanation] = {}
        #: The pages to which the section of a code links, such as "security.md".
        self.links: dict[str, tuple[str, ...]] = {}
        parts = _SECTION.split(document)
        for code, title, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            section = body.partition("\n## ")[0]
            items = {name: _plain(text) for name, text in _ITEM.findall(section)}
            self.links[code] = tuple(dict.fromkeys(target for _, target in _LINK.findall(section)))
            self.by_code[code] = Explanation(code, _plain(title), items.get("Why", ""), items.get("What to do", ""))

    @classmethod
    def from_file(cls, path: Path) -> Explanations:
        """Read docs/errors.md. Without it, each code explains nothing."""
        try:
            return cls(path.read_text("utf-8"))
        except OSError:
            return cls("")

    def of(self, error: str, s3_code: str) -> Explanation:
        """Return the explanation of a failure: of S3's code, where there is one, else of our own."""
        if s3_code in self.by_code and error not in _OWN_CODE_SAYS_MORE:
            return self.by_code[s3_code]
        return self.by_code.get(error) or Explanation(error, "", "", "")


def _plain(markdown: str) -> str:
    text = _LINK.sub(r"\1", " ".join(markdown.split()))
    return text.replace("`", "").replace("**", "")
