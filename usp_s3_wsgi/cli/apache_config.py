"""``usp-s3 apache-config``: print the lines that load this installation into Apache's configuration."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import click

import usp_s3_wsgi
from usp_s3_wsgi.cli import httpd_user


@click.command("apache-config", short_help="Print the lines that load this installation.")
@click.option("--no-module", is_flag=True, help="Omit LoadModule: Apache loads mod_wsgi already.")
@click.option(
    "--tune",
    is_flag=True,
    help="Set processes, threads and buffers that suit this application, for the whole server.",
)
def command(no_module: bool, tune: bool) -> None:
    """Print the lines that load this installation into Apache's configuration.

    Warnings go to standard error: a file that Apache's user cannot read, a missing OpenSSL.

    \b
    Examples:
      usp-s3 apache-config > /etc/apache2/conf-available/usp-s3.conf
      usp-s3 apache-config --no-module    if Apache loads Debian's mod_wsgi
    """
    text = render(no_module, tune)
    extension = extension_module()
    warnings = [_MISSING_OPENSSL] if extension and not has_template_signer(extension) else []
    warnings += [_LINKED.format(path=path) for path in linked_httptools()]
    for warning in (*warnings, *httpd_user.warnings(share_directory())):
        click.echo(f"usp-s3: {warning}", err=True)
    click.echo(text, nl=False)


def render(no_module: bool, tune: bool) -> str:
    """Return the lines for Apache's main configuration, outside of any section.

    Raises:
        FileNotFoundError: the installation lacks a file that Apache includes, or mod_wsgi without ``no_module``.
    """
    share = share_directory()
    module = "" if no_module else f'LoadModule wsgi_module "{mod_wsgi_module()}"\n'
    extension = extension_module()
    if extension is None:
        proxy = _NO_SIGNER
    else:
        proxy = _SIGNER.format(extension=extension, share=share)
        proxy += _TEMPLATE_SIGNER if has_template_signer(extension) else _NO_TEMPLATE_SIGNER
    tuning = _TUNING.format(share=share)
    if not tune:
        tuning = _TUNING_IS_OPTIONAL + "".join(f"# {line}\n" for line in tuning.splitlines())
    return (
        f'{module}Define USP_S3_PYTHON_HOME "{Path(sys.prefix).resolve()}"\n'
        f"{_PYTHON_HOME}"
        f'Define USP_S3_WSGI "{share / "usp_s3.wsgi"}"\n'
        f'Include "{share / "gateway.conf"}"\n'
        f"{proxy}"
        f"{tuning}"
    )


#: The signer for <Proxy> sections. It must be loaded after mod_proxy and mod_wsgi, because it uses their symbols.
_SIGNER = """\
<IfModule proxy_module>
  LoadModule usp_s3_module "{extension}"
  Define USP_S3_ACCESS "{share}/usp_s3_access.py"
  Include "{share}/proxy.conf"
  Define USP_S3_METRICS "{share}/usp_s3_metrics.wsgi"
  Define USP_S3_STATUS "{share}/usp_s3_status.wsgi"
  Define USP_S3_HEALTH "{share}/usp_s3_health.wsgi"
  Include "{share}/metrics.conf"
</IfModule>
"""
_NO_SIGNER = """\
# This installation cannot sign in <Proxy> sections, because httpd's headers or a compiler were missing: as root, run
# "apt-get install apache2-dev libssl-dev python3-dev gcc" (for an httpd that is not Debian's: libapr1-dev
# libaprutil1-dev libssl-dev python3-dev gcc), then install this package into a new virtual environment, as for an
# upgrade
"""
_TEMPLATE_SIGNER = """\
# usp_s3_module has its template signer: it signs further requests of a <Proxy> section in the same second itself.
"""
_NO_TEMPLATE_SIGNER = """\
# usp_s3_module has no template signer, because OpenSSL's headers were missing: Python signs each request of <Proxy>
# sections, which needs more CPU time. As root, run "apt-get install libssl-dev", then install this package into a new
# virtual environment, as for an upgrade
"""
_MISSING_OPENSSL = (
    "usp_s3_module was compiled without OpenSSL: Python will sign each request of <Proxy> sections (install "
    "libssl-dev, then this package into a new virtual environment)"
)
_LINKED = (
    "{path} is a hard link, as uv makes them. If another application in httpd uses httptools from the same file, in "
    "another interpreter of a process, only the first of the two is loaded: install this package with UV_LINK_MODE=copy"
)
#: Commented out: it applies to all WSGI applications of the server, and own_packages.py does not need it.
_PYTHON_HOME = """\
# Only needed if httpd's children cannot find Python's own library ("No module named 'encodings'"); it applies to all
# WSGI applications of the server:
# WSGIPythonHome "${USP_S3_PYTHON_HOME}"
"""
_TUNING_IS_OPTIONAL = """\
# Optional, because it applies to the whole server ("usp-s3 apache-config --tune" prints it without "#"): several
# processes with few threads, which suit Python, and larger buffers of mod_proxy: a segment of 6 MB needs a third less
# CPU time. Put your own values after it.
"""
_TUNING = """\
Include "{share}/mpm_event.conf"
<IfModule proxy_module>
  ProxyIOBufferSize 65536
</IfModule>
"""


def share_directory() -> Path:
    """Return the directory of the files that Apache includes. Raises: FileNotFoundError."""
    for file in _installed_files():
        if file.name == "gateway.conf" and file.is_file():
            return file.parent
    share = Path(sysconfig.get_path("data"), "share", "usp_s3_wsgi")
    if not (share / "gateway.conf").is_file():
        raise FileNotFoundError(f"{share} does not hold gateway.conf: install usp_s3_wsgi with pip")
    return share


def extension_module() -> Path | None:
    """Return the compiled C module of this installation (``mod_usp_s3``), which httpd loads."""
    files = [*_installed_files(), *Path(usp_s3_wsgi.__file__).resolve().parent.iterdir()]
    found = (file for file in files if file.name.startswith("_httpd.") and file.suffix == ".so")
    return next((file for file in found if file.is_file()), None)


def linked_httptools() -> list[Path]:
    """Return the extension module of httptools if another environment may have the same file."""
    spec = importlib.util.find_spec("httptools")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in Path(folder, "parser").glob("parser.*.so")]
    return [path for path in found if path.stat().st_nlink > 1]


def has_template_signer(extension: Path) -> bool:
    """Whether the C module signs with OpenSSL (``signature.c``). It cannot be imported here: httpd has its symbols."""
    return b"EVP_MAC_fetch" in extension.read_bytes()  # in the symbol table, which a stripped file has too


def _installed_files() -> Iterator[Path]:
    """Yield the installed files of this package that pip has recorded.

    An egg-info, which a build leaves in the working directory, has no such record: it lists the sources.
    """
    for distribution in importlib.metadata.distributions(name="usp_s3_wsgi"):
        if distribution.read_text("RECORD") is not None:
            for file in distribution.files or ():
                yield Path(str(file.locate())).resolve()


def mod_wsgi_module() -> Path:
    """Return the mod_wsgi of this Python.

    Raises:
        FileNotFoundError: it is not installed.
    """
    spec = importlib.util.find_spec("mod_wsgi")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for module in Path(folder, "server").glob("mod_wsgi-*.so"):
            return module.resolve()
    raise FileNotFoundError(
        f"there is no mod_wsgi in {sys.prefix}: run pip install --no-cache-dir '.[httpd]' in the directory of the "
        "sources, or use --no-module if Apache loads Debian's mod_wsgi"
    )
