"""What a test httpd needs of this machine: the program, its modules, its user, free ports."""

from __future__ import annotations

import importlib.util
import os
import pwd
import random
import re
import runpy
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Thread

#: Debian packages that tests/install.sh has unpacked into the virtual environment.
UNPACKED = Path(sys.prefix).resolve() / "debian" / "usr"


class HttpdError(Exception):
    """httpd is missing, cannot run here, or does not start. The message says what to do."""


def free_port() -> int:
    """Return a port of 127.0.0.1 on which no process listens now.

    It is none that Linux gives to clients: one of their connections might use it until a program listens on it.
    """
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(10_000, first_of_clients) or range(10_000, 65_536)
    while True:
        port = random.SystemRandom().choice(candidates)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def readable_folder() -> Iterator[Path]:
    """Yield a new folder that httpd's children can read, as they cannot read those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def is_listening(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a process listens on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    """Serve in a thread of its own while the context lasts; yields the server's port."""
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def bundled_httpd() -> list[Path]:
    """The folder of the httpd that mod_wsgi-standalone contains, if it is installed in this environment."""
    spec = importlib.util.find_spec("mod_wsgi_packages")
    packages = (spec.submodule_search_locations or []) if spec else []
    folders = [Path(package, "httpd").resolve() for package in packages if package]
    return [folder for folder in folders if (folder / "bin" / "httpd").exists()]


def httpd_binary() -> str:
    """The path of httpd (Debian calls it apache2). Raises: HttpdError."""
    for folder in bundled_httpd():
        return str(folder / "bin" / "httpd")
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/apache2/bin"
    for name in ("apache2", "httpd"):
        if found := shutil.which(name, path=path):
            return found
    raise HttpdError("there is no httpd on this machine: apt-get install apache2")


def httpd_environment(preload: Path | None = None) -> dict[str, str]:
    """This process's environment; the libraries of mod_wsgi-standalone's httpd are found before the system's.

    httpd preloads the libraries in the variable HTTPD_PRELOAD, which ``make sanitize`` sets, then ``preload``.
    """
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)  # the children run the installed package, not this checkout
    for folder in bundled_httpd():
        environment["LD_LIBRARY_PATH"] = str(folder / "lib")
    libraries = [environment.get("HTTPD_PRELOAD"), str(preload) if preload else None]
    if any(libraries):
        environment["LD_PRELOAD"] = ":".join(filter(None, libraries))
    return environment


def compile_shared(source: Path, directory: Path, *options: str) -> Path:
    """Compile a C file to a shared object, with these options of gcc, and return its path."""
    target = directory / source.with_suffix(".so").name
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(target), str(source), *options, "-ldl"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target


def compile_module(source: Path, directory: Path, *options: str) -> Path:
    """Compile a module of httpd with the headers that the extension is compiled with, and return its path."""
    setup = runpy.run_path(str(Path(__file__).parents[2] / "setup.py"), run_name="setup_py")
    headers = [f"-I{folder}" for folder in setup["header_folders"]()]
    return compile_shared(source, directory, "-D_GNU_SOURCE", *headers, *options)


@cache
def has_openssl() -> bool:
    """Whether the extension is compiled with its template signer; PyPI's mod_wsgi-standalone does not need OpenSSL."""
    setup = runpy.run_path(str(Path(__file__).parents[2] / "setup.py"), run_name="setup_py")
    return bool(setup["has_openssl"]())


def modules_directory() -> Path:
    """Return the folder of httpd's modules. Raises: HttpdError."""
    usual = ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/local/apache2/modules")
    for folder in [folder / "modules" for folder in bundled_httpd()] + [Path(folder) for folder in usual]:
        if folder.is_dir():
            return folder
    raise HttpdError("httpd's modules are in none of the usual folders")


def has_module(name: str) -> bool:
    """Whether this httpd has the module. The httpd of mod_wsgi-standalone has no mod_ssl."""
    return (modules_directory() / f"mod_{name}.so").exists()


@cache
def static_modules() -> frozenset[str]:
    """The names of the modules that are compiled into httpd."""
    command = [httpd_binary(), "-l"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=httpd_environment())
    return frozenset(re.findall(r"^\s*mod_(\w+)\.c$", listed.stdout, re.MULTILINE))


def find_program(name: str) -> str:
    """The path of a program that is installed, or that tests/install.sh has unpacked; else empty."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", *(str(UNPACKED / folder) for folder in ("sbin", "bin"))]
    return shutil.which(name, path=os.pathsep.join(folders)) or ""


def unpacked_environment() -> dict[str, str]:
    """The environment in which such a program finds its libraries."""
    folders = [*map(str, UNPACKED.glob("lib/*-linux-gnu*")), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, folders))}


def mod_security() -> str:
    """The lines that load Debian's mod_security, from tests/install.sh; else empty."""
    folder = UNPACKED / "lib"
    module = folder / "apache2" / "modules" / "mod_security2.so"
    if not module.exists():
        return ""
    libraries = sorted(
        path for name in ("curl-gnutls", "lua5.1", "yajl") for path in folder.glob(f"*/lib{name}.so.[0-9]")
    )
    lines = [f'LoadModule unique_id_module "{modules_directory()}/mod_unique_id.so"']
    lines += [f'LoadFile "{library}"' for library in libraries]
    lines += [f'LoadModule security2_module "{module}"']
    with tempfile.TemporaryDirectory() as root:
        config = Path(root, "httpd.conf")
        mpm = f'LoadModule mpm_event_module "{modules_directory()}/mod_mpm_event.so"'
        config.write_text("\n".join([f'ServerRoot "{root}"', "ServerName x", "ErrorLog error.log", mpm, *lines]))
        command = [httpd_binary(), "-t", "-f", str(config)]
        tried = subprocess.run(command, capture_output=True, timeout=60, check=False, env=httpd_environment())
    return "" if tried.returncode else "\n".join(lines)


def media_types() -> Path:
    """The file that maps file name extensions to media types."""
    return next((folder / "conf" / "mime.types" for folder in bundled_httpd()), Path("/etc/mime.types"))


def apache_user() -> pwd.struct_passwd:
    """Return the user of httpd's children when root starts httpd. Raises: HttpdError."""
    for name in ("www-data", "apache", "daemon"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise HttpdError("there is no user www-data, apache or daemon that httpd's children could run as")


def check_apache_user() -> None:
    """Check that httpd's children can import the gateway with this interpreter; else they hang. Raises: HttpdError."""
    if os.geteuid() != 0:
        return
    user = apache_user()
    # The path of the virtual environment may have a link in a folder that this user cannot read.
    python = str(Path(sys.prefix).resolve() / "bin" / Path(sys.executable).name)
    try:
        tried = subprocess.run(
            [python, "-c", "import usp_s3_wsgi.gateway.handler"],
            user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", env={"PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, timeout=60, check=False, start_new_session=True,
        )  # fmt: skip
        reason = tried.stderr.strip().rpartition("\n")[2] if tried.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        raise HttpdError(
            f"httpd's children run as {user.pw_name}, who cannot use {python}: {reason}\n"
            "Use an interpreter and a virtual environment that this user can read, not one below /root "
            "(make PYTHON=/usr/bin/python3 builds one)."
        )
