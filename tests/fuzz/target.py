"""What a target is, and how an input is checked: by the target's oracle, and within a limit of time."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

#: The modules of this folder that are targets, and what each of them fuzzes.
DESCRIPTIONS = {
    "s3_responses": "the parser of S3's responses, compared with h11's",
    "object_keys": "from the client's URL to the key: the gateway compared with <Proxy>",
    "error_documents": "S3's error documents and their headers",
    "settings": "the values of SetEnv lines",
    "conversions": "usp-s3 convert, with any configuration",
    "signatures": "the signatures of all four modes, compared with botocore's",
    "c_functions": "functions in C, compared with the same ones in Python",
    "byte_ranges": "which part of an object is a valid response, and which headers are forwarded",
}
#: Seconds of CPU time for one input. No input of a target's greatest length needs a tenth of it.
MAX_SECONDS = 0.5
#: Bytes of a text: as much as the package reads of a header or an error document.
MAX_TEXT_LENGTH = 65_536
#: ASCII's record separator divides an input into its fields.
SEPARATOR = b"\x1e"
#: What is inserted as a whole: names, statuses, tags, percent-encoded bytes.
_WORD = re.compile(rb"</?[A-Za-z]{2,40}>?|%[0-9A-Fa-f]{2}|[A-Za-z0-9][A-Za-z0-9_./-]{2,40}")
_MAX_WORDS = 400
#: What ends a line, a field or a C string.
_ENDS = (b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", SEPARATOR)


@dataclass(frozen=True)
class Target:
    """``check`` raises AssertionError if the package does not treat an input as it must, and accepts any bytes.

    ``seeds``: inputs to begin with; their words are the dictionary. ``max_length``: of an input, in bytes.
    """

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    max_length: int = MAX_TEXT_LENGTH

    @property
    def words(self) -> list[bytes]:
        """The words that libFuzzer inserts: it would seldom guess the name of a header or a setting."""
        found = {word for seed in self.seeds for word in _WORD.findall(seed)}
        return [*_ENDS, *sorted(found)[:_MAX_WORDS]]


def load(name: str) -> Target:
    """Import a target: not before it is needed, because atheris instruments modules while they are imported."""
    target = importlib.import_module(f"tests.fuzz.{name}").TARGET
    assert isinstance(target, Target)
    return target


def check_input(target: Target, data: bytes) -> None:
    """Check an input, and that it takes no longer than MAX_SECONDS. Raises: what the target's check raises."""
    if (seconds := _seconds(target, data)) > MAX_SECONDS:
        # Once more: the first call may have compiled regular expressions, or collected garbage.
        seconds = min(seconds, _seconds(target, data))
    assert seconds <= MAX_SECONDS, f"{len(data)} bytes took {seconds:.2f} s of CPU time, more than {MAX_SECONDS} s"


def _seconds(target: Target, data: bytes) -> float:
    started_at = time.process_time()
    target.check(data)
    return time.process_time() - started_at


def fields(data: bytes, count: int) -> list[bytes]:
    """Divide an input into that many fields. Missing ones are empty; the last one is the rest, with its separators."""
    parts = data.split(SEPARATOR, count - 1)
    return parts + [b""] * (count - len(parts))


def join(*parts: bytes) -> bytes:
    """The input with these fields."""
    return SEPARATOR.join(parts)
