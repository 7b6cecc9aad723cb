"""What both planes of the converter do with the vendor's lines, and the notes of what becomes of which line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from usp_s3_wsgi.configtest.apache_syntax import Line, Node, Section, walk

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


_FAIL_ON_403 = (
    "403 is also an object that is denied, which clients can ask for, and a location of this server answers 502 where "
    "S3 refuses the key: write failonstatus=502"
)


class Message(NamedTuple):
    """What the operator must look at: the line of the old configuration, without any value of it.

    An error: httpd refuses the new configuration, or each request to a bucket fails. A warning: all else.
    """

    line: int
    is_error: bool
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class Converted(NamedTuple):
    """The configuration in its new form, and what is to be told of it, by line."""

    text: str
    messages: tuple[Message, ...]

    def __repr__(self) -> str:
        """Without the text, which holds secrets."""
        return f"Converted(messages={self.messages!r})"

    @property
    def errors(self) -> tuple[str, ...]:
        """Why httpd refuses the new configuration, or requests: "line N: ..."."""
        return tuple(str(message) for message in self.messages if message.is_error)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What else is to be looked at."""
        return tuple(str(message) for message in self.messages if not message.is_error)


class Edits:
    """What becomes of which line. A line without an edit stays as it is, byte for byte."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._lines = [line for line, _ in walk(nodes)]
        self._end = "\r\n" if self._lines and self._lines[0].text.endswith("\r\n") else "\n"
        self._text: dict[int, str] = {}
        self._before: dict[int, str] = {}
        self._after: dict[int, str] = {}
        self._comes_from: dict[int, int] = {}
        self._messages: dict[Message, None] = {}

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

    def after(self, line: Line, *texts: str, comes_from: Line | None = None) -> None:
        """Put these lines (without ends) after one; they may come from another."""
        self._after[line.number] = "".join(text + self._end for text in texts)
        self._comes_from[line.number] = (comes_from or line).number

    def warn(self, line: Line, text: str) -> None:
        """Tell the operator something about a line; once, however often it is said."""
        self._messages[Message(line.number, False, text)] = None

    def error(self, line: Line, text: str) -> None:
        """Tell the operator why this will not work."""
        self._messages[Message(line.number, True, text)] = None

    def text(self) -> str:
        """The new configuration."""
        return "".join(text for line in self._lines for text, _ in self._pieces(line))

    def origins(self) -> list[int]:
        """Of each line of the new text, from the first on, the number of the old one that it comes from."""
        return [
            number
            for line in self._lines
            for text, number in self._pieces(line)
            for _ in re.findall(r"[^\n]*\n|[^\n]+", text)
        ]

    def messages(self) -> tuple[Message, ...]:
        """What was told, in the order in which it was."""
        return tuple(self._messages)

    def _pieces(self, line: Line) -> list[tuple[str, int]]:
        """What becomes of a line, each piece with the number of the line that it comes from."""
        number = line.number
        text, after = self._text.get(number, line.text), self._after.get(number, "")
        if after and not text.endswith("\n"):  # the last line of a file
            text, after = text + self._end, after.removesuffix(self._end)
        return [(self._before.get(number, "") + text, number), (after, self._comes_from.get(number, number))]


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


def check_lines(nodes: Iterable[Node], edits: Edits) -> None:
    """What does not mean the same any more, wherever the vendor's directives go."""
    for line, around in walk(nodes):
        if any(re.match(r"failonstatus=(?:.*,)?403(?:,|\Z)", word, re.I) for word in line.arguments):
            edits.warn(line, _FAIL_ON_403)
        if line.name in KEYS:
            name = KEYS[line.name]
            if len(line.arguments) > 1:
                edits.error(line, f"httpd refuses {name} with more than one value")
            if name == "S3RoleARN":
                edits.warn(line, f"{name} needs botocore: pip install '.[aws]' in the folder of the sources")
            for section in around:
                if section.name == "iffile" and _names_vendors_file(section.opening):
                    edits.error(section.opening, "this holds only while mod_unified_s3_auth is there: take it away")


def _names_vendors_file(line: Line) -> bool:
    return any("unified_s3_auth" in argument for argument in line.arguments)


def convert_module(line: Line, around: Sequence[Section], module: str, edits: Edits) -> None:
    """The vendor's LoadModule becomes a comment; what asks for the vendor's module asks for the one in its place."""
    if line.name == "loadmodule" and line.arguments[:1] == (MODULE,):
        edits.replace(line, commented(line, 'usp_s3_wsgi takes its place ("usp-s3 apache-config"): '))
    if line.name == "<ifmodule" and line.arguments:
        name = line.arguments[0]
        if name.removeprefix("!") in MODULE_NAMES:
            quote = line.text[line.words[1].start]
            quote = quote if quote in "\"'" else ""
            edits.replace(line, line.with_word(1, f"{quote}{'!' if name.startswith('!') else ''}{module}{quote}"))
    if line.name.endswith("ifdirective") and _asks_for_key(around[-1].opening):
        sign = "!" if around[-1].opening.arguments[0].startswith("!") else ""
        tag = f"<IfModule {sign}{module}>" if line.name.startswith("<i") else "</IfModule>"
        edits.put(line, f"{indent(line)}{tag}")


def is_vendors(line: Line) -> bool:
    """Whether the line is the vendor's: a directive, the LoadModule, or a condition that asks for one of the two."""
    if line.name in {"loadmodule", "<ifmodule"}:
        return any(argument.removeprefix("!") in MODULE_NAMES for argument in line.arguments[:1])
    return line.name in KEYS or _asks_for_key(line)


def _asks_for_key(line: Line) -> bool:
    return line.name == "<ifdirective" and any(word.removeprefix("!").lower() in KEYS for word in line.arguments[:1])
