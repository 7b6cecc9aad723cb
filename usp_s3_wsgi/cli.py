"""The command ``usp-s3``."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
import sysconfig
from pathlib import Path

import usp_s3_wsgi


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = options(arguments)
    try:
        print(chosen.run(chosen))
    except FileNotFoundError as error:
        print(f"usp-s3: {error}", file=sys.stderr)
        return 1
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
    return parser.parse_args(arguments)


def apache_config(options: argparse.Namespace) -> str:
    """Return the lines for Apache's main configuration, outside of any section.

    Raises:
        FileNotFoundError: the installation lacks what Apache includes, or mod_wsgi without ``--no-module``.
    """
    share = share_directory()
    module = "" if options.no_module else f'LoadModule wsgi_module "{_mod_wsgi()}"\n'
    return (
        f'{module}Define USP_S3_PYTHON_HOME "{Path(sys.prefix).resolve()}"\n'
        'WSGIPythonHome "${USP_S3_PYTHON_HOME}"\n'
        f'Define USP_S3_WSGI "{share / "usp_s3.wsgi"}"\n'
        f'Include "{share / "gateway.conf"}"\n'
        f'Include "{share / "mpm_event.conf"}"'
    )


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


def _mod_wsgi() -> Path:
    spec = importlib.util.find_spec("mod_wsgi")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for module in Path(folder, "server").glob("mod_wsgi-*.so"):
            return module.resolve()
    raise FileNotFoundError(
        f"there is no mod_wsgi in {sys.prefix}: pip install 'usp_s3_wsgi[httpd]', "
        "or give --no-module where Apache loads Debian's own"
    )
