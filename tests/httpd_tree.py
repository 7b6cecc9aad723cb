"""What httpd would send of a configuration text to the process that checks it: for tests without httpd."""

from __future__ import annotations

import os
from collections.abc import Iterable

from usp_s3_wsgi.convert.apache_config import Line, Node, parse


def sent(text: str, *, purpose: str = "start", file: str = "httpd.conf") -> bytes:
    """The bytes, for a server of this process's user."""
    fields = [purpose, str(os.getuid()), str(os.getgid()), "", ""]
    fields += _fields(parse(text), 0, file)
    return "".join(f"{field}\0" for field in fields).encode("latin-1")


def _fields(nodes: Iterable[Node], depth: int, file: str) -> Iterable[str]:
    for node in nodes:
        line = node if isinstance(node, Line) else node.opening
        if line.words:
            name = line.words[0]
            yield from (str(depth), file, str(line.number), name.value, line.text[name.end :].strip())
        if not isinstance(node, Line):
            yield from _fields(node.body, depth + 1, file)
