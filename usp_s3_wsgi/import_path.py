"""Where this installation's libraries are found inside httpd: for the time of an import of ours, in its thread alone.

Not by sys.path: another application in the interpreter would find our libraries there instead of its own, and one that
looks through that list just when an entry is taken away misses the next one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: What stands beside this package.
_PACKAGES = str(Path(__file__).resolve().parents[1])
_thread = threading.local()


class _OwnPackages:
    """Finds our libraries before all others, where they are asked for by us."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a top-level module, None for what is left to the finders of the interpreter."""
        if path is None and getattr(_thread, "is_ours", False):
            return PathFinder.find_spec(fullname, [_PACKAGES])
        return None


_finder = _OwnPackages()


@contextmanager
def own_packages_first() -> Iterator[None]:
    """Let the imports of this thread find what stands beside this package, whatever else is in the path."""
    # Never taken away again: who looks through the list meanwhile would miss the next finder.
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    before = getattr(_thread, "is_ours", False)
    _thread.is_ours = True
    try:
        yield
    finally:
        _thread.is_ours = before
