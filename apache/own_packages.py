"""Import the modules of this installation into httpd, with any WSGIPythonHome and beside other applications.

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
#: The folders of a virtual environment, and of Debian's pip outside of one.
_PLACES = [PREFIX / "lib" / f"python{VERSION}" / name for name in ("site-packages", "dist-packages")]
PACKAGES = next((place for place in _PLACES if (place / "usp_s3_wsgi").is_dir()), _PLACES[0])


def load(name: str, **least: str) -> ModuleType:
    """Import a module of the package usp_s3_wsgi; ``least``: the libraries that it needs, and their lowest versions.

    The module finds the libraries of this installation before those of WSGIPythonHome. Another application that shares
    the interpreter (WSGIApplicationGroup %{GLOBAL}) still finds its own libraries.

    Raises:
        ImportError: the package is not installed for the Python version of httpd, or another application has loaded a
            library into this interpreter that is too old.
    """
    for library, version in least.items():
        _check(library, version)
    if "usp_s3_wsgi" not in sys.modules:
        _load_package()
    with importlib.import_module("usp_s3_wsgi.import_path").own_packages_first():
        return importlib.import_module(name)


def _load_package() -> None:
    """Load the package itself, which is not in sys.path. Raises: ImportError."""
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
    """Check the version of a library that another application has already loaded into this interpreter.

    Raises:
        ImportError: it is too old.
    """
    loaded = sys.modules.get(library)
    version = getattr(loaded, "__version__", None)  # also None while another thread imports it
    if loaded is not None and version is not None and _numbers(version) < _numbers(least):
        raise ImportError(
            f"{library} {version} of {', '.join(loaded.__path__)} is loaded in this process, by another application in "
            f"WSGIApplicationGroup %{{GLOBAL}}, and usp_s3_wsgi needs {least} or later: run one of them in daemon mode"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2] if part.isdigit()]
