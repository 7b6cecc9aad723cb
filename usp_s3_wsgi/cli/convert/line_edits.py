"""The edits of each line of a configuration, and the messages about them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from usp_s3_wsgi.configtest.apache_syntax import Line, Node, walk


class Message(NamedTuple):
    """What the operator must look at: a line of the old configuration, and a text without any value of it.

    An error: httpd rejects the new configuration, or every request to a bucket fails. Anything else is a warning.
    """

    line: int
    is_error: bool
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class Conversion(NamedTuple):
    """The result: the new configuration, and the messages in the order of the lines."""

    text: str
    messages: tuple[Message, ...]

    def __repr__(self) -> str:
        """Leave out the text, which contains secrets."""
        return f"Conversion(messages={self.messages!r})"

    @property
    def errors(self) -> tuple[str, ...]:
        """Why httpd rejects the new configuration, or requests: "line N: ..."."""
        return tuple(str(message) for message in self.messages if message.is_error)

    @property
    def warnings(self) -> tuple[str, ...]:
        """All other messages."""
        return tuple(str(message) for message in self.messages if not message.is_error)


class LineEdits:
    """The edits by line number. A line without an edit stays the same, byte for byte."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._lines = [line for line, _ in walk(nodes)]
        self._end = "\r\n" if self._lines and self._lines[0].text.endswith("\r\n") else "\n"
        self._text: dict[int, str] = {}
        self._before: dict[int, str] = {}
        self._after: dict[int, str] = {}
        self._origin_of_after: dict[int, int] = {}
        self._messages: dict[Message, None] = {}

    def replace(self, line: Line, text: str) -> None:
        """Replace the text of a line; the new text includes the end of line."""
        self._text[line.number] = text

    def replace_with_lines(self, line: Line, *texts: str) -> None:
        """Replace a line with these lines (without ends of line); with none of them, remove it."""
        end = re.search(r"\r?\n?\Z", line.text)
        self._text[line.number] = self._end.join(texts) + (end[0] if end and texts else "")

    def insert_before(self, line: Line, *texts: str) -> None:
        """Insert these lines (without ends of line) before a line, after those that were inserted there already."""
        self._before[line.number] = self._before.get(line.number, "") + "".join(text + self._end for text in texts)

    def insert_after(self, line: Line, *texts: str, origin: Line | None = None) -> None:
        """Insert these lines (without ends of line) after a line; ``origin``: the line for messages about them."""
        self._after[line.number] = "".join(text + self._end for text in texts)
        self._origin_of_after[line.number] = (origin or line).number

    def warn(self, line: Line, text: str) -> None:
        """Add a warning about a line; the same warning is added once."""
        self._messages[Message(line.number, False, text)] = None

    def error(self, line: Line, text: str) -> None:
        """Add an error about a line; the same error is added once."""
        self._messages[Message(line.number, True, text)] = None

    def text(self) -> str:
        """Return the new configuration."""
        return "".join(text for line in self._lines for text, _ in self._edited(line))

    def origins(self) -> list[int]:
        """Return for each line of the new configuration the number of the old line that it comes from."""
        return [
            number
            for line in self._lines
            for text, number in self._edited(line)
            for _ in re.findall(r"[^\n]*\n|[^\n]+", text)
        ]

    def messages(self) -> tuple[Message, ...]:
        """Return the messages in the order in which they were added."""
        return tuple(self._messages)

    def _edited(self, line: Line) -> list[tuple[str, int]]:
        """Return the new texts of a line, each with the number of the line that it comes from."""
        number = line.number
        text, after = self._text.get(number, line.text), self._after.get(number, "")
        if after and not text.endswith("\n"):  # the last line of a file
            text, after = text + self._end, after.removesuffix(self._end)
        return [(self._before.get(number, "") + text, number), (after, self._origin_of_after.get(number, number))]


def indent(line: Line) -> str:
    """Return the indentation of a line, for lines beside it."""
    return re.sub(r"\\\r?\n", "", line.indent)


def without_end(text: str) -> str:
    """Return a line's text without its end, and without a continuation of it by empty lines."""
    while text.endswith("\n"):
        text = text.removesuffix("\n").removesuffix("\r").removesuffix("\\")
    return text


def commented(line: Line, note: str = "") -> str:
    """Return the line as a comment that begins with a note. For httpd, its continuations belong to the comment."""
    return f"{line.indent}# {note}{line.text[len(line.indent) :]}"
