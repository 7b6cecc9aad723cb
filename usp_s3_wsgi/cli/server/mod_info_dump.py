"""Parses the configuration that mod_info prints with ``httpd -t -D DUMP_CONFIG``.

It is used where usp_s3_module is not loaded, which hands over the same directives without printing them.
https://httpd.apache.org/docs/2.4/mod/mod_info.html#startup
"""

from __future__ import annotations

import re

from usp_s3_wsgi.configtest.parsed_config import Directive

_FILE = re.compile(r"# In file: (.*)")
_LINE = re.compile(r"\s*#\s*(\d+):")
#: Not 0xA0, which ends characters of UTF-8.
_SPACES = " \t\r"


def parse(text: str) -> list[Directive]:
    """Return the top-level directives, with their children."""
    levels: list[list[Directive]] = [[]]
    file, number = "", 0
    for line in text.split("\n"):  # str.splitlines() would split at bytes of UTF-8, which are Latin-1 characters here
        if match := _FILE.fullmatch(line):
            file = match[1]
        elif match := _LINE.fullmatch(line):
            number = int(match[1])
        elif (stripped := line.strip(_SPACES)).startswith("</"):
            del levels[-1:]
        elif stripped:
            name, _, arguments = stripped.partition(" ")
            if name.startswith("<") and name.endswith(">"):
                name, arguments = name[:-1], ">"
            directive = Directive(name.lower(), arguments, file, number)
            levels[-1].append(directive)
            if name.startswith("<"):
                levels.append(directive.children)
    return levels[0]
