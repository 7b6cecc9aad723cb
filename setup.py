"""Compile the extension if httpd's headers are installed, with OpenSSL if that is; the rest is in setup.cfg.

The gateway works without the extension. <Proxy> sections work without OpenSSL: Python signs each request then.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup

#: The headers that the extension needs, the apxs variables with their folders, and their Debian packages.
HEADERS = (
    ("httpd.h", "INCLUDEDIR", "apache2-dev"),
    ("apr.h", "APR_INCLUDEDIR", "libapr1-dev"),
    ("apu.h", "APU_INCLUDEDIR", "libaprutil1-dev"),
)
ROOT = Path(__file__).parent
#: The C sources of usp_s3_module.
MODULE = ROOT / "usp_s3_wsgi" / "proxy" / "mod_usp_s3"
#: The beginning of the message that says why the extension is not built.
NOT_BUILT = "usp_s3_wsgi is built without usp_s3_module"
#: The same if it is built, but without signature.c's use of OpenSSL.
NO_OPENSSL = "usp_s3_module is built without its template signer, so Python signs each request"
#: Compiles and links where signature.c does.
USES_OPENSSL = """\
#include <openssl/evp.h>
int main(void) { return !EVP_MAC_CTX_dup(EVP_MAC_CTX_new(EVP_MAC_fetch(NULL, "HMAC", NULL))); }
"""


def standalone_folders():
    """The header folders of mod_wsgi-standalone's httpd, whose apxs prints the folders of its build machine."""
    spec = importlib.util.find_spec("mod_wsgi_packages")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        include = Path(folder, "httpd", "include")
        if (include / "httpd.h").exists():
            return sorted({str(include), *(str(header.parent) for header in include.rglob("ap[ru].h"))})
    return []


def apxs_program():
    """The path of this machine's apxs, from the variable APXS or the search path; None if there is no apxs."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/apache2/bin"])
    names = [os.environ["APXS"]] if os.environ.get("APXS") else ["apxs", "apxs2"]
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def apxs_folder(apxs, variable):
    """The value of a variable of apxs, or "". Its exit status is ignored: it is 1 if APR's programs are missing."""
    try:
        done = subprocess.run(
            [apxs, "-q", variable],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def header_folders():
    """The folders of httpd's and APR's headers. If a header is missing: an empty list, and a message that says why."""
    if standalone := standalone_folders():
        return standalone
    apxs = apxs_program()
    if apxs is None:
        print(f"{NOT_BUILT}: there is no apxs, which Debian's package apache2-dev brings", file=sys.stderr)
        return []
    folders = {header: apxs_folder(apxs, variable) for header, variable, _ in HEADERS}
    missing = [
        f"{header} (Debian's package {package})"
        for header, _, package in HEADERS
        if not folders[header] or not Path(folders[header], header).is_file()
    ]
    if missing:
        print(f"{NOT_BUILT}: {apxs} leads to no {', no '.join(missing)}", file=sys.stderr)
        return []
    return list(dict.fromkeys(folders.values()))


def has_openssl():
    """Whether the compiler finds OpenSSL 3 in its usual folders. If not: a message that says what that means."""
    names = ("CPPFLAGS", "CFLAGS", "LDFLAGS")
    variables = [sysconfig.get_config_var(name) or "" for name in names] + [os.environ.get(name, "") for name in names]
    options = [option for text in variables for option in shlex.split(text)]
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "openssl.c")
        source.write_text(USES_OPENSSL)
        command = [*compiler, *options, "-o", str(source.with_suffix("")), str(source), "-lcrypto"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
        except OSError:
            return False  # without a compiler there is no extension at all
        except subprocess.TimeoutExpired:
            print(f"{NO_OPENSSL}: {compiler[0]} has not ended within a minute", file=sys.stderr)
            return False
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        message = f"{compiler[0]} cannot use OpenSSL 3 (Debian's package libssl-dev): {reason}"
        print(f"{NO_OPENSSL}: {message}", file=sys.stderr)
    return done.returncode == 0


def extensions():
    """The extension, or an empty list if the headers are missing; "usp-s3 apache-config" reports that."""
    folders = header_folders()
    if not folders:
        return []
    macros = [("_REENTRANT", None), ("_GNU_SOURCE", None)]  # required by APR's headers
    libraries = ["crypto"] if has_openssl() else []
    if not libraries:
        macros.append(("USP_S3_WITHOUT_OPENSSL", None))
    return [
        Extension(
            "usp_s3_wsgi._httpd",
            sorted(str(path.relative_to(ROOT)) for path in MODULE.glob("*.c")),
            depends=sorted(str(path.relative_to(ROOT)) for path in MODULE.glob("*.h")),
            include_dirs=folders,
            define_macros=macros,
            libraries=libraries,
            optional=True,
        )
    ]


if __name__ == "__main__":
    # Forced: what an earlier build has left may be without OpenSSL.
    setup(ext_modules=extensions(), options={"build_ext": {"force": True}})
