"""Imports this installation's modules into httpd, whatever WSGIPythonHome says, and beside other applications.

Nothing is configured in this file.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

PREFIX = Path(__file__).resolve().parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Of a virtual environment, or where Debian's pip installs outside of one.
_PLACES = [PREFIX / "lib" / f"python{VERSION}" / name for name in ("site-packages", "dist-packages")]
PACKAGES = next((place for place in _PLACES if (place / "usp_s3_wsgi").is_dir()), _PLACES[0])


def load(name: str, **least: str) -> ModuleType:
    """Import a module of the package usp_s3_wsgi; ``least``: libraries that it needs, and their lowest versions.

    Its libraries are found before those of WSGIPythonHome, and by it alone: another application that shares the
    interpreter (WSGIApplicationGroup %{GLOBAL}) finds its own.

    Raises:
        ImportError: the package is not installed for the Python that httpd runs, or a library that another application
            has loaded into this interpreter is too old.
    """
    for library, version in least.items():
        _check(library, version)
    if "usp_s3_wsgi" not in sys.modules:
        _load_package()
    with importlib.import_module("usp_s3_wsgi.import_path").own_packages_first():
        return importlib.import_module(name)


def _load_package() -> None:
    """Load the package itself, which is in no path. Raises: ImportError."""
    spec = PathFinder.find_spec("usp_s3_wsgi", [str(PACKAGES)])
    if spec is None or spec.loader is None:
        raise ImportError(
            f"usp_s3_wsgi is not installed for Python {VERSION}, which httpd's mod_wsgi runs: it is not in {PACKAGES}. "
            f"Make the virtual environment with python{VERSION}, or load the mod_wsgi that was compiled for its Python"
        )
    package = importlib.util.module_from_spec(spec)
    sys.modules["usp_s3_wsgi"] = package
    spec.loader.exec_module(package)


def _check(library: str, least: str) -> None:
    """An interpreter has one of each library: that of the application which came first. Raises: ImportError."""
    loaded = sys.modules.get(library)
    version = getattr(loaded, "__version__", None)  # None too while another thread is at importing it
    if loaded is not None and version is not None and _numbers(version) < _numbers(least):
        raise ImportError(
            f"{library} {version} of {', '.join(loaded.__path__)} is loaded in this process, by another application in "
            f"WSGIApplicationGroup %{{GLOBAL}}, and usp_s3_wsgi needs {least} or later: run one of them in daemon mode"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2] if part.isdigit()]
