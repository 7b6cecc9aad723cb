"""Imports the modules of this installation into httpd, whatever WSGIPythonHome is, and beside other applications.

There is nothing to configure in this file.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

PREFIX = Path(__file__).resolve().parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
#: In a virtual environment, and where Debian's pip installs outside of one.
_CANDIDATES = [PREFIX / "lib" / f"python{VERSION}" / name for name in ("site-packages", "dist-packages")]
SITE_PACKAGES = next((path for path in _CANDIDATES if (path / "usp_s3_wsgi").is_dir()), _CANDIDATES[0])


def load(name: str, **min_versions: str) -> ModuleType:
    """Import a module of the package usp_s3_wsgi. ``min_versions``: the lowest versions of libraries that it needs.

    The package finds its libraries before those of WSGIPythonHome. Another application in the same interpreter
    (WSGIApplicationGroup %{GLOBAL}) finds its own.

    Raises:
        ImportError: the package is not installed for httpd's Python, or another application in this interpreter has
            loaded a library that is too old.
    """
    for library, min_version in min_versions.items():
        _check_version(library, min_version)
    if "usp_s3_wsgi" not in sys.modules:
        _load_package()
    with importlib.import_module("usp_s3_wsgi.import_path").own_packages_first():
        return importlib.import_module(name)


def _load_package() -> None:
    """Load the package itself, which is not in sys.path. Raises: ImportError."""
    spec = PathFinder.find_spec("usp_s3_wsgi", [str(SITE_PACKAGES)])
    if spec is None or spec.loader is None:
        raise ImportError(
            f"usp_s3_wsgi is not installed for Python {VERSION}, which httpd's mod_wsgi runs: it is not in "
            f"{SITE_PACKAGES}. Create the virtual environment with python{VERSION}, or load a mod_wsgi that was "
            "compiled for the environment's Python"
        )
    package = importlib.util.module_from_spec(spec)
    if sys.modules.setdefault("usp_s3_wsgi", package) is package:  # else another thread was faster
        spec.loader.exec_module(package)


def _check_version(library: str, min_version: str) -> None:
    """Check a library that is loaded already: an interpreter has one version of each library. Raises: ImportError."""
    loaded = sys.modules.get(library)
    version = getattr(loaded, "__version__", None)  # also None while another thread imports the library
    if loaded is not None and version is not None and _version_numbers(version) < _version_numbers(min_version):
        raise ImportError(
            f"{library} {version} of {', '.join(loaded.__path__)} is loaded in this process, by another application in "
            f"WSGIApplicationGroup %{{GLOBAL}}, and usp_s3_wsgi needs {min_version} or later: run one of the two "
            "applications in daemon mode"
        )


def _version_numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2] if part.isdigit()]
