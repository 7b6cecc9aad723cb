"""All is in setup.cfg but the extension, which is compiled where httpd's headers are: the gateway needs none."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup

#: Each header that the extension needs, the variable of apxs that names its folder, and Debian's package of it.
HEADERS = (
    ("httpd.h", "INCLUDEDIR", "apache2-dev"),
    ("apr.h", "APR_INCLUDEDIR", "libapr1-dev"),
    ("apu.h", "APU_INCLUDEDIR", "libaprutil1-dev"),
)
#: The C files of the extension, by what their names have behind _httpd.
PARTS = (
    "",
    "_alike",
    "_configtest",
    "_date",
    "_framing",
    "_guard",
    "_headers",
    "_index",
    "_learned",
    "_operator",
    "_python",
    "_restart",
    "_sections",
    "_settings",
)
#: How the one line begins that says why there is no extension.
WITHOUT = "usp_s3_wsgi is built without usp_s3_module"


def standalone_folders():
    """The folders of headers of the httpd that mod_wsgi-standalone brings, whose apxs looks where it was built."""
    spec = importlib.util.find_spec("mod_wsgi_packages")
    for place in (spec.submodule_search_locations or []) if spec else []:
        include = Path(place, "httpd", "include")
        if (include / "httpd.h").exists():
            return sorted({str(include), *(str(header.parent) for header in include.rglob("ap[ru].h"))})
    return []


def apxs_program():
    """The path of this machine's apxs, or None: as the variable APXS says, or else the search path."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/apache2/bin"])
    names = [os.environ["APXS"]] if os.environ.get("APXS") else ["apxs", "apxs2"]
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def apxs_folder(apxs, variable):
    """What apxs says of a variable, or nothing. Where APR's own programs are missing it has status 1 all the same."""
    try:
        asked = subprocess.run(
            [apxs, "-q", variable],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()


def header_folders():
    """The folders of httpd's and APR's headers; none, and a line that says why, where one of them is missing."""
    if standalone := standalone_folders():
        return standalone
    apxs = apxs_program()
    if apxs is None:
        print(f"{WITHOUT}: there is no apxs, which Debian's package apache2-dev brings", file=sys.stderr)
        return []
    folders = {header: apxs_folder(apxs, variable) for header, variable, _ in HEADERS}
    missing = [
        f"{header} (Debian's package {package})"
        for header, _, package in HEADERS
        if not folders[header] or not Path(folders[header], header).is_file()
    ]
    if missing:
        print(f"{WITHOUT}: {apxs} leads to no {', no '.join(missing)}", file=sys.stderr)
        return []
    return list(dict.fromkeys(folders.values()))


def extensions():
    """The extension, or nothing where it cannot be compiled; "usp-s3 apache-config" says so then."""
    folders = header_folders()
    if not folders:
        return []
    return [
        Extension(
            "usp_s3_wsgi._httpd",
            [
                *[f"usp_s3_wsgi/_httpd{part}.c" for part in PARTS],
                "usp_s3_wsgi/_sha256.c",
            ],
            depends=["usp_s3_wsgi/_httpd.h", "usp_s3_wsgi/_httpd_sections.h", "usp_s3_wsgi/_sha256.h"],
            include_dirs=folders,
            define_macros=[("_REENTRANT", None), ("_GNU_SOURCE", None)],  # APR's headers want both
            optional=True,
        )
    ]


if __name__ == "__main__":
    setup(ext_modules=extensions())
