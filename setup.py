"""All is in setup.cfg but the extension, which is compiled where httpd's headers are: the gateway needs none."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup


def standalone_headers():
    """The folders of headers of the httpd that mod_wsgi-standalone brings, whose apxs looks where it was built."""
    spec = importlib.util.find_spec("mod_wsgi_packages")
    for place in (spec.submodule_search_locations or []) if spec else []:
        include = Path(place, "httpd", "include")
        if (include / "httpd.h").exists():
            return sorted({str(include), *(str(header.parent) for header in include.rglob("ap[ru].h"))})
    return []


def apxs_headers():
    """The folders of headers of this machine's httpd: as the program of the variable APXS says, or that of the path."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/apache2/bin"])
    apxs = os.environ.get("APXS") or shutil.which("apxs", path=path) or shutil.which("apxs2", path=path)
    if not apxs:
        return []
    names = ("INCLUDEDIR", "APR_INCLUDEDIR", "APU_INCLUDEDIR")
    return [subprocess.check_output([apxs, "-q", name], text=True).strip() for name in names]


def extensions():
    """The extension, or nothing where it cannot be compiled; "usp-s3 apache-config" says so then."""
    headers = standalone_headers() or apxs_headers()
    if not headers:
        return []
    return [
        Extension(
            "usp_s3_wsgi._httpd",
            [
                *[f"usp_s3_wsgi/_httpd{part}.c" for part in ("", "_alike", "_guard", "_python", "_sections")],
                "usp_s3_wsgi/_sha256.c",
            ],
            depends=["usp_s3_wsgi/_httpd.h", "usp_s3_wsgi/_sha256.h"],
            include_dirs=headers,
            define_macros=[("_REENTRANT", None), ("_GNU_SOURCE", None)],  # APR's headers want both
            optional=True,
        )
    ]


setup(ext_modules=extensions())
