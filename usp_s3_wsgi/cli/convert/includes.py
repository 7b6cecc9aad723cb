"""The files that a configuration includes. They are read, and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

from usp_s3_wsgi.cli.convert.line_edits import LineEdits
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import is_mod_unified_s3_auth_line
from usp_s3_wsgi.cli.convert.nested_lines import owning_section
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError, Line, Node, parse, walk

INCLUDE_DIRECTIVES = {"include", "includeoptional"}
#: httpd's own limit is 128. Files that are nested deeper than this are not read.
_MAX_DEPTH = 8


def read_included(line: Line, file: Path | None) -> list[Node] | None:
    """Return the content of the files that a line of ``file`` includes; None if it cannot be known.

    Relative paths are below httpd's ServerRoot, which is one of the directories above the file.
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
    """Return the file, or all files of a directory, which httpd includes as a whole."""
    return sorted(one for one in (path.rglob("*") if path.is_dir() else [path]) if one.is_file())


def check(nodes: Iterable[Node], file: Path | None, edits: LineEdits) -> None:
    """Report included files with directives of mod_unified_s3_auth: only one file is converted at a time."""
    for line, enclosing in walk(nodes):
        if line.name not in INCLUDE_DIRECTIVES:
            continue
        content = read_included(line, file)
        if content is not None and any(is_mod_unified_s3_auth_line(one) for one in _all_lines(content, file)):
            edits.error(line, "the included files contain directives of mod_unified_s3_auth: convert them, too")
        elif content is None and owning_section(enclosing):
            edits.warn(line, "could not read the included files: convert them, too, if they contain S3 directives")


def _all_lines(nodes: Iterable[Node], file: Path | None, depth: int = 0) -> Iterator[Line]:
    for line, _ in walk(nodes):
        yield line
        if line.name in INCLUDE_DIRECTIVES and depth < _MAX_DEPTH:
            yield from _all_lines(read_included(line, file) or (), file, depth + 1)
