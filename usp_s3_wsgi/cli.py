"""The command ``usp-s3``."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
import sysconfig
from pathlib import Path

import usp_s3_wsgi
from usp_s3_wsgi.convert import convert
from usp_s3_wsgi.convert.apache_config import ApacheConfigError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = options(arguments)
    try:
        text = chosen.run(chosen)
    except (OSError, ApacheConfigError) as error:
        print(f"usp-s3: {error}", file=sys.stderr)
        return 1
    # Bytes, for a configuration may hold any.
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
    return 0


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; ``run`` of the result is the command's function."""
    parser = argparse.ArgumentParser(prog="usp-s3", description="Serve private S3 buckets from Apache httpd.")
    parser.add_argument("--version", action="version", version=usp_s3_wsgi.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    config = commands.add_parser(
        "apache-config", help="print the lines that load this installation into Apache's configuration"
    )
    config.add_argument("--no-module", action="store_true", help="leave out LoadModule: Apache has mod_wsgi already")
    config.set_defaults(run=apache_config)
    conversion = commands.add_parser(
        "convert", help="print a configuration of mod_unified_s3_auth as one of usp_s3_wsgi; warnings go to stderr"
    )
    conversion.add_argument(
        "--to",
        choices=("proxy", "gateway"),
        default="proxy",
        help="who carries the bytes: mod_proxy in the sections as they are (the default), or the gateway in mounts",
    )
    conversion.add_argument("file", metavar="FILE", help="a file of Apache's configuration; it is only read")
    conversion.set_defaults(run=converted)
    return parser.parse_args(arguments)


def apache_config(options: argparse.Namespace) -> str:
    """Return the lines for Apache's main configuration, outside of any section.

    Raises:
        FileNotFoundError: the installation lacks what Apache includes, or mod_wsgi without ``--no-module``.
    """
    share = share_directory()
    module = "" if options.no_module else f'LoadModule wsgi_module "{_mod_wsgi()}"\n'
    extension = _extension()
    proxy = _SIGNER.format(extension=extension, share=share) if extension else _NO_SIGNER
    return (
        f'{module}Define USP_S3_PYTHON_HOME "{Path(sys.prefix).resolve()}"\n'
        'WSGIPythonHome "${USP_S3_PYTHON_HOME}"\n'
        f'Define USP_S3_WSGI "{share / "usp_s3.wsgi"}"\n'
        f'Include "{share / "gateway.conf"}"\n'
        f'Include "{share / "mpm_event.conf"}"\n'
        f"{proxy}\n"
    )


def converted(options: argparse.Namespace) -> str:
    """Return the file's text with usp_s3_wsgi in the vendor's place, and print what the operator must look at.

    Raises:
        OSError: the file cannot be read.
        ApacheConfigError: its sections do not close as they open.
    """
    with open(options.file, encoding="utf-8", errors="surrogateescape", newline="") as file:
        text, warnings = convert(file.read(), options.to)
    for warning in warnings:
        print(f"usp-s3: {options.file}: {warning}", file=sys.stderr)
    return text


#: For <Proxy> sections, after mod_proxy and mod_wsgi: it is linked with both.
_SIGNER = """\
<IfModule proxy_module>
  LoadModule usp_s3_module "{extension}"
  Define USP_S3_ACCESS "{share}/usp_s3_access.py"
  Include "{share}/proxy.conf"
</IfModule>"""
_NO_SIGNER = """\
# Signing in <Proxy> sections is not in this installation, for httpd's headers or a compiler were missing:
# apt-get install apache2-dev python3-dev gcc, then install this package again (pip install --force-reinstall ...)"""


def share_directory() -> Path:
    """Return the folder that holds what Apache includes. Raises: FileNotFoundError."""
    try:
        files = importlib.metadata.files("usp_s3_wsgi") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        # An installation without wheel lists the files of the sources, which are not there.
        if file.name == "gateway.conf" and (found := Path(str(file.locate())).resolve()).is_file():
            return found.parent
    share = Path(sysconfig.get_path("data"), "share", "usp_s3_wsgi")
    if not (share / "gateway.conf").is_file():
        raise FileNotFoundError(f"{share} does not hold gateway.conf: install usp_s3_wsgi with pip")
    return share


def _extension() -> Path | None:
    """The compiled ``_httpd.c`` of this installation, which httpd loads as a module of its own."""
    try:
        files = importlib.metadata.files("usp_s3_wsgi") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = (
        Path(str(file.locate())).resolve() for file in files if file.name.startswith("_httpd.") and file.suffix == ".so"
    )
    return next((path for path in found if path.is_file()), None)


def _mod_wsgi() -> Path:
    spec = importlib.util.find_spec("mod_wsgi")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for module in Path(folder, "server").glob("mod_wsgi-*.so"):
            return module.resolve()
    raise FileNotFoundError(
        f"there is no mod_wsgi in {sys.prefix}: pip install 'usp_s3_wsgi[httpd]', "
        "or give --no-module where Apache loads Debian's own"
    )
