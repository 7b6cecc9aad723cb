"""The files that a configuration includes: they are looked into, and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

from usp_s3_wsgi.cli.convert.line_edits import Edits, is_vendors
from usp_s3_wsgi.cli.convert.mount_plan import owner
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError, Line, Node, parse, walk

INCLUDES = {"include", "includeoptional"}
#: httpd's own limit is 128. What is nested deeper than this is not looked into.
_DEEPEST = 8


def included(line: Line, file: Path | None) -> list[Node] | None:
    """Return what an ``Include`` of a file's brings; None where that cannot be known.

    httpd looks below its ServerRoot, which is one of the folders above the file.
    """
    pattern = line.arguments[0] if line.arguments else ""
    if file is None or not pattern or "$" in pattern:
        return None
    for folder in file.absolute().parents:
        paths = [path for name in sorted(glob(str(folder / pattern))) for path in _files(Path(name))]
        if paths:
            try:
                return [node for path in paths for node in parse(path.read_text("utf-8", "surrogateescape"))]
            except (OSError, ApacheConfigError):
                return None
    return [] if line.name == "includeoptional" else None


def _files(path: Path) -> list[Path]:
    """A folder is included whole."""
    return sorted(one for one in (path.rglob("*") if path.is_dir() else [path]) if one.is_file())


def check(nodes: Iterable[Node], file: Path | None, edits: Edits) -> None:
    """Tell which included files are the vendor's too: one file is converted at a time."""
    for line, around in walk(nodes):
        if line.name not in INCLUDES:
            continue
        content = included(line, file)
        if content is not None and any(is_vendors(one) for one in _all(content, file)):
            edits.error(line, "what this includes has directives of mod_unified_s3_auth: convert those files, too")
        elif content is None and owner(around):
            edits.warn(line, "could not look into what this includes: convert it too, if it has S3 directives")


def _all(nodes: Iterable[Node], file: Path | None, depth: int = 0) -> Iterator[Line]:
    for line, _ in walk(nodes):
        yield line
        if line.name in INCLUDES and depth < _DEEPEST:
            yield from _all(included(line, file) or (), file, depth + 1)
