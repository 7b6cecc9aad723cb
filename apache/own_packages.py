"""Imports this installation's modules into httpd, whatever WSGIPythonHome says, and beside other applications.

Nothing is configured in this file.
"""

import importlib
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

PREFIX = Path(__file__).resolve().parents[2]
PACKAGES = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(PREFIX)}))


def load(name: str, **least: str) -> ModuleType:
    """Import a module of the package usp_s3_wsgi; ``least``: libraries that it needs, and their lowest versions.

    Its packages come first in the path, before those of WSGIPythonHome, and only meanwhile: another application that
    shares the interpreter (WSGIApplicationGroup %{GLOBAL}) must find its own there, not ours.

    Raises:
        ImportError: the package is not installed for the Python that httpd runs, or a library that another application
            has loaded into this interpreter is too old.
    """
    for library, version in least.items():
        _check(library, version)
    sys.path.insert(0, str(PACKAGES))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "usp_s3_wsgi":
            raise
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ImportError(
            f"usp_s3_wsgi is not installed for Python {version}, which httpd's mod_wsgi runs: it is not in {PACKAGES}. "
            f"Make the virtual environment with python{version}, or load the mod_wsgi that was compiled for it"
        ) from None
    finally:
        sys.path.remove(str(PACKAGES))


def _check(library: str, least: str) -> None:
    """An interpreter has one of each library: that of the application which came first. Raises: ImportError."""
    loaded = sys.modules.get(library)
    version = str(getattr(loaded, "__version__", ""))
    if loaded is not None and _numbers(version) < _numbers(least):
        raise ImportError(
            f"{library} {version} of {', '.join(loaded.__path__)} is loaded in this process, by another application in "
            f"WSGIApplicationGroup %{{GLOBAL}}, and usp_s3_wsgi needs {least} or later: run one of them in daemon mode"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2] if part.isdigit()]
