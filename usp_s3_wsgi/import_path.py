"""Lets imports of this package find the libraries of its own installation inside httpd, in the importing thread alone.

It does not change sys.path: another application in the interpreter would find these libraries instead of its own, and
an import that iterates over the list while an entry is removed skips the next entry.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: The directory that this package is installed in.
_SITE_PACKAGES = str(Path(__file__).resolve().parents[1])
_thread = threading.local()
#: Two threads that import modules which import each other may get one of them in part, because Python does not let both
#: wait: https://github.com/python/cpython/issues/83065
_lock = threading.RLock()


class _SitePackagesFinder:
    """A meta path finder: inside of :func:`own_packages_first` it finds the libraries of this installation first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a top-level module, None to leave it to the other finders."""
        if path is None and getattr(_thread, "is_active", False):
            return PathFinder.find_spec(fullname, [_SITE_PACKAGES])
        return None


_finder = _SitePackagesFinder()


@contextmanager
def own_packages_first() -> Iterator[None]:
    """Let imports of this thread find the libraries of this installation first, whatever sys.path holds.

    One thread at a time.
    """
    with _lock:
        # Never removed: an import in another thread that iterates over the list would skip the next finder.
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        was_active = getattr(_thread, "is_active", False)
        _thread.is_active = True
        try:
            yield
        finally:
            _thread.is_active = was_active
