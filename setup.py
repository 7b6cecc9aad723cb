"""Everything is in setup.cfg but the extension, which is compiled where httpd's headers are: the gateway needs none."""

import importlib.util
import os
import shutil
import subprocess

from setuptools import Extension, setup


def find_apxs():
    """The program that knows this machine's httpd: of the variable APXS, of mod_wsgi-standalone, or on the path."""
    spec = importlib.util.find_spec("mod_wsgi_packages")
    own = [os.path.join(place, "httpd", "bin") for place in (spec.submodule_search_locations or [])] if spec else []
    path = os.pathsep.join([*own, os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/apache2/bin"])
    return os.environ.get("APXS") or shutil.which("apxs", path=path) or shutil.which("apxs2", path=path)


def extensions():
    """The extension, or nothing where it cannot be compiled; "usp-s3 apache-config" says so then."""
    apxs = find_apxs()
    if not apxs:
        return []

    def query(name):
        return subprocess.run([apxs, "-q", name], check=True, capture_output=True, text=True).stdout.strip()

    return [
        Extension(
            "usp_s3_wsgi._httpd",
            ["usp_s3_wsgi/_httpd.c"],
            include_dirs=[query(name) for name in ("INCLUDEDIR", "APR_INCLUDEDIR", "APU_INCLUDEDIR")],
            extra_compile_args=query("EXTRA_CPPFLAGS").split(),
            optional=True,
        )
    ]


setup(ext_modules=extensions())
