"""httpd's parsed configuration, as ``mod_usp_s3/configtest.c`` sends it to this process.

Fields, each terminated by a zero byte: the purpose ("test" or "start"); uid, gid, user name and chroot directory of
httpd's children; "list buckets" or nothing; ServerRoot; then five for each directive: depth, file, line, name,
arguments. The directives within a section follow it, one level deeper. Includes, macros, variables and IfModule are
already resolved. Text is Latin-1, as in the environ of WSGI.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from usp_s3_wsgi.configtest.apache_syntax import split

_HEADER_FIELDS = 7
_DIRECTIVE_FIELDS = 5


@dataclass
class Directive:
    """A directive or a section. ``name`` is lowercase; that of a section begins with ``<``. ``text`` may be secret."""

    name: str
    text: str = field(repr=False)
    file: str
    line: int
    children: list[Directive] = field(default_factory=list, repr=False)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The arguments as httpd splits them; for a section, without the ``>`` at the end."""
        return split(self.text.rpartition(">")[0] if self.name.startswith("<") else self.text)

    @property
    def location(self) -> str:
        """File and line, for the message of another directive."""
        return f"{self.file}:{self.line}"

    def walk(self) -> Iterator[Directive]:
        """Yield all directives within this section, at any depth, in order."""
        for child in self.children:
            yield child
            yield from child.walk()


@dataclass
class Configuration:
    """The whole configuration: the top-level directives with their children, and the user of the child processes.

    ``lists_buckets``: httpd keeps the list of buckets. ``server_root``: relative file names are below it.
    """

    is_test: bool
    uid: int
    gid: int
    user_name: str
    chroot: str
    lists_buckets: bool = False
    server_root: str = ""
    directives: list[Directive] = field(default_factory=list, repr=False)

    @property
    def may_lack_permission(self) -> bool:
        """Whether this process neither is the user of httpd's children nor can become it."""
        return self.is_test and os.getuid() not in {0, self.uid}


def parse(data: bytes) -> Configuration:
    """Return the configuration that httpd sent. Raises: ValueError: it is truncated."""
    fields = data.decode("latin-1").split("\0")
    if fields.pop() or len(fields) < _HEADER_FIELDS or (len(fields) - _HEADER_FIELDS) % _DIRECTIVE_FIELDS:
        raise ValueError("the configuration is truncated")
    purpose, uid, gid, user_name, chroot, listing, server_root = fields[:_HEADER_FIELDS]
    configuration = Configuration(purpose == "test", int(uid), int(gid), user_name, chroot, bool(listing), server_root)
    levels = [configuration.directives]
    for index in range(_HEADER_FIELDS, len(fields), _DIRECTIVE_FIELDS):
        depth, file, line, name, text = fields[index : index + _DIRECTIVE_FIELDS]
        directive = Directive(name.lower(), text, file, int(line))
        del levels[int(depth) + 1 :]
        levels[-1].append(directive)
        levels.append(directive.children)
    return configuration
