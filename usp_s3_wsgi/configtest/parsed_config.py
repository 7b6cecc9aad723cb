"""httpd's parse result, as ``_httpd_configtest.c`` sends it.

Fields that end with a zero byte: what for ("test" or "start"), then uid, gid, user and chroot folder of httpd's
children, then five for each directive: depth, file, line, name, arguments. Sections have what is in them behind them,
one deeper. Includes, macros, variables and IfModule are resolved. Text is Latin-1, as WSGI has it in its environ.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from usp_s3_wsgi.configtest.apache_syntax import split

_HEADER = 5
_FIELDS = 5


@dataclass
class Directive:
    """A directive or a section. ``name`` is lowercase, of a section with the ``<``. The arguments may be secrets."""

    name: str
    text: str = field(repr=False)
    file: str
    line: int
    children: list[Directive] = field(default_factory=list, repr=False)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The arguments as httpd takes them one by one, of a section without what ends the tag."""
        return split(self.text.rpartition(">")[0] if self.name.startswith("<") else self.text)

    @property
    def place(self) -> str:
        """Where it stands, for a message about another one."""
        return f"{self.file}:{self.line}"

    def walk(self) -> Iterator[Directive]:
        """All that is in this section, however deep, in order."""
        for child in self.children:
            yield child
            yield from child.walk()


@dataclass
class Configuration:
    """What httpd says: the directives outside of any section with all they hold, and whose files it will read."""

    is_test: bool
    uid: int
    gid: int
    user_name: str
    chroot: str
    directives: list[Directive] = field(default_factory=list, repr=False)

    @property
    def may_lack_permission(self) -> bool:
        """Whether this process is not the user of httpd's children, and cannot become it."""
        return self.is_test and os.getuid() not in {0, self.uid}


def parse(data: bytes) -> Configuration:
    """Return what was sent. Raises: ValueError."""
    fields = data.decode("latin-1").split("\0")
    if fields.pop() or len(fields) < _HEADER or (len(fields) - _HEADER) % _FIELDS:
        raise ValueError("the configuration is cut off")
    purpose, uid, gid, user_name, chroot = fields[:_HEADER]
    configuration = Configuration(purpose == "test", int(uid), int(gid), user_name, chroot)
    levels = [configuration.directives]
    for index in range(_HEADER, len(fields), _FIELDS):
        depth, file, line, name, text = fields[index : index + _FIELDS]
        directive = Directive(name.lower(), text, file, int(line))
        del levels[int(depth) + 1 :]
        levels[-1].append(directive)
        levels.append(directive.children)
    return configuration
