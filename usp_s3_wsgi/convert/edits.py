"""What both planes of the converter do with the vendor's lines, and the notes of what becomes of which line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from usp_s3_wsgi.convert.apache_config import Line, Node, walk

#: The vendor's directives as they are written here, by what httpd compares: their lowercase.
KEYS = {
    name.lower(): name
    for name in (
        "S3SecretKey", "S3AccessKey", "S3Region", "S3SecurityToken", "S3UseHeaders",
        "S3RoleARN", "S3RoleSessionName", "S3RoleDuration",
    )
}  # fmt: skip
#: The vendor's module as LoadModule and as <IfModule> know it.
MODULE = "unified_s3_auth_module"
MODULE_NAMES = {MODULE, "mod_unified_s3_auth.c"}


class Converted(NamedTuple):
    """The configuration in its new form; ``warnings`` say "line N: ..." of the old one, without any value of it."""

    text: str
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        """Without the text, which holds secrets."""
        return f"Converted(warnings={self.warnings!r})"


class Edits:
    """What becomes of which line. A line without an edit stays as it is, byte for byte."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._lines = [line for line, _ in walk(nodes)]
        self._end = "\r\n" if self._lines and self._lines[0].text.endswith("\r\n") else "\n"
        self._text: dict[int, str] = {}
        self._before: dict[int, str] = {}
        self._after: dict[int, str] = {}
        self._warnings: list[tuple[int, str]] = []

    def replace(self, line: Line, text: str) -> None:
        """Give the line another text, which brings its own end of line."""
        self._text[line.number] = text

    def put(self, line: Line, *texts: str) -> None:
        """Put these lines (without ends) in place of one; none: take it away."""
        end = re.search(r"\r?\n?\Z", line.text)
        self._text[line.number] = self._end.join(texts) + (end[0] if end and texts else "")

    def before(self, line: Line, *texts: str) -> None:
        """Put these lines (without ends) before one, after those that are there already."""
        self._before[line.number] = self._before.get(line.number, "") + "".join(text + self._end for text in texts)

    def after(self, line: Line, *texts: str) -> None:
        """Put these lines (without ends) after one."""
        self._after[line.number] = "".join(text + self._end for text in texts)

    def warn(self, line: Line, message: str) -> None:
        """Tell the operator something about a line; once, however often it is said."""
        if (line.number, message) not in self._warnings:
            self._warnings.append((line.number, message))

    def result(self) -> Converted:
        """Put everything together."""
        text = "".join(self._around(line) for line in self._lines)
        warnings = sorted(self._warnings, key=lambda warning: warning[0])
        return Converted(text, tuple(f"line {number}: {message}" for number, message in warnings))

    def _around(self, line: Line) -> str:
        number = line.number
        text, after = self._text.get(number, line.text), self._after.get(number, "")
        if after and not text.endswith("\n"):  # the last line of a file
            text, after = text + self._end, after.removesuffix(self._end)
        return self._before.get(number, "") + text + after


def indent(line: Line) -> str:
    """The line's indentation, for lines beside it."""
    return re.sub(r"\\\r?\n", "", line.indent)


def commented(line: Line, note: str = "") -> str:
    """Return the line as a comment, a note before it. What continues it is in the comment, as httpd reads it."""
    return f"{line.indent}# {note}{line.text[len(line.indent) :]}"


def set_env(line: Line) -> str:
    """Return a vendor's directive as ``SetEnv`` with its name in our case; the arguments as they were written."""
    return line.with_word(0, f"SetEnv {KEYS[line.name]}")


def convert_key(line: Line, edits: Edits) -> None:
    """A vendor's directive where it is."""
    edits.replace(line, set_env(line))
    warn_of_key(line, edits)


def warn_of_key(line: Line, edits: Edits) -> None:
    """Say what is needed besides."""
    if (name := KEYS[line.name]) == "S3RoleARN":
        edits.warn(line, f"{name} needs botocore: pip install '.[aws]' in the folder of the sources")


def convert_module(line: Line, module: str, edits: Edits) -> None:
    """The vendor's LoadModule becomes a comment; an <IfModule> of it asks for the module that takes its place."""
    if line.name == "loadmodule" and line.arguments[:1] == (MODULE,):
        edits.replace(line, commented(line, 'usp_s3_wsgi takes its place ("usp-s3 apache-config"): '))
    if line.name == "<ifmodule" and line.arguments:
        name = line.arguments[0]
        if name.removeprefix("!") in MODULE_NAMES:
            quote = line.text[line.words[1].start]
            quote = quote if quote in "\"'" else ""
            edits.replace(line, line.with_word(1, f"{quote}{'!' if name.startswith('!') else ''}{module}{quote}"))


def is_vendors(line: Line) -> bool:
    """Whether the line is the vendor's: a directive, the LoadModule or an <IfModule> of the module."""
    if line.name in {"loadmodule", "<ifmodule"}:
        return any(argument.removeprefix("!") in MODULE_NAMES for argument in line.arguments[:1])
    return line.name in KEYS
