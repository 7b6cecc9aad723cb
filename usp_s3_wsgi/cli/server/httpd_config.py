"""Reads httpd's configuration as httpd itself sees it: includes, macros, variables and IfModule are resolved.

``httpd -t`` reads the files, and usp_s3_module sends what httpd has parsed through a socket
(``mod_usp_s3/configtest.c``), because it contains secrets. Where the module is not loaded, mod_info prints it to a
pipe.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from usp_s3_wsgi.cli import httpd_user
from usp_s3_wsgi.cli.server import mod_info_dump
from usp_s3_wsgi.cli.server.httpd_text import to_shown
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.configtest.parsed_config import Configuration

#: The variable with the number of the socket, as ``mod_usp_s3/configtest.c`` has it.
_FD_VARIABLE = "USP_S3_CONFIGURATION_FD"
#: Seconds that httpd may take to read its configuration.
_TIMEOUT = 60
#: Where mod_info.so is, if httpd does not load it.
_MODULE_FOLDERS = ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/local/apache2/modules")
#: mod_info's output for a server that loads it; else nothing is printed.
_DUMP = ("-D", "DUMP_CONFIG")


class HttpdConfigError(click.ClickException):
    """httpd's configuration could not be read. The message says what to do, and contains no text of it."""

    exit_code = 2


class HttpdCommand(NamedTuple):
    """How httpd reads its configuration.

    ``program``: apache2ctl, apachectl or httpd itself, which Debian names apache2; empty for the first one that is
    found. ``config_file``: empty for httpd's own default. ``defines``: of -D.
    """

    program: str = ""
    config_file: str = ""
    defines: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the program and its options. Raises: HttpdConfigError: there is no httpd."""
        program = self.program or next(iter(httpd_user.programs()), "")
        if not program:
            raise HttpdConfigError(
                f"there is no httpd on this machine: {httpd_user.looked_for()}; name its program with --httpd"
            )
        options = ["-f", str(Path(self.config_file).absolute())] if self.config_file else []
        return [program, *options, *(word for name in self.defines for word in ("-D", name))]


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which httpd is meant; the function gets an HttpdCommand as ``httpd``."""

    @click.option("-f", "--config-file", metavar="FILE", default="", help="httpd's configuration, if not the default.")
    @click.option("--httpd", "program", metavar="PROGRAM", default="", help="apache2ctl, apachectl, httpd or apache2.")
    @click.option("-D", "--define", "defines", metavar="NAME", multiple=True, help="As httpd's option -D.")
    @wraps(function)
    def with_httpd(config_file: str, program: str, defines: tuple[str, ...], **values: Any) -> Any:
        return function(httpd=HttpdCommand(program, config_file, defines), **values)

    return with_httpd


def read(httpd: HttpdCommand) -> Configuration:
    """Return the configuration. Raises: HttpdConfigError."""
    arguments = httpd.arguments()
    data = _read_from_module([*arguments, "-t"])
    if data:
        try:
            return parsed_config.parse(data)
        except ValueError as error:
            raise HttpdConfigError(f"{arguments[0]} -t: {error}: is usp_s3_module of another version?") from None
    return _read_from_mod_info(arguments)


def run_configuration(httpd: HttpdCommand) -> str:
    """Return what httpd prints of its ServerRoot, error log and user. Raises: HttpdConfigError."""
    return _run([*httpd.arguments(), "-t", "-D", "DUMP_RUN_CFG"])


def _read_from_module(command: Sequence[str]) -> bytes:
    """Return what usp_s3_module sends; nothing if it is not loaded."""
    ours, theirs = socket.socketpair()
    received = bytearray()

    def receive() -> None:
        with suppress(OSError):  # httpd cannot read its configuration, and this end is closed
            while part := ours.recv(65_536):
                received.extend(part)

    with ours:
        with theirs:
            environment = {**os.environ, _FD_VARIABLE: str(theirs.fileno())}
            receiver = threading.Thread(target=receive, daemon=True)
            receiver.start()
            _run(command, environment, (theirs.fileno(),))
        receiver.join(_TIMEOUT)  # the connection is closed when both ends of httpd's are
    return bytes(received)


def _read_from_mod_info(arguments: Sequence[str]) -> Configuration:
    output = _run([*arguments, "-t", *_DUMP])
    if not output.strip():
        module = next((path for folder in _MODULE_FOLDERS if (path := Path(folder, "mod_info.so")).exists()), None)
        if module is not None:
            output = _run([*arguments, "-C", f"LoadModule info_module {module}", "-t", *_DUMP])
    if not output.strip():
        raise HttpdConfigError(
            f"{arguments[0]} loads neither usp_s3_module nor mod_info, which can show its configuration: load one"
            " of them"
        )
    user = _run([*arguments, "-t", "-D", "DUMP_RUN_CFG"])
    name, uid = _identity("User", user)
    _, gid = _identity("Group", user)
    root = re.search(r'^ServerRoot: "([^"]*)"', user, re.MULTILINE)
    return Configuration(True, uid, gid, name, "", False, root[1] if root else "", mod_info_dump.parse(output))


def _identity(kind: str, dump: str) -> tuple[str, int]:
    match = re.search(rf'^{kind}: name="([^"]*)" id=(\d+)', dump, re.MULTILINE)
    return (match[1], int(match[2])) if match else ("", os.getuid() if kind == "User" else os.getgid())


def _run(command: Sequence[str], environment: dict[str, str] | None = None, files: Sequence[int] = ()) -> str:
    """Return the output of ``httpd -t``. Raises: HttpdConfigError: httpd cannot read its configuration."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False, env=environment,
            pass_fds=files,
        )  # fmt: skip
    except OSError as error:
        raise HttpdConfigError(f"{command[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise HttpdConfigError(f"{command[0]} -t did not end within {_TIMEOUT} s") from None
    if done.returncode:
        reason = "\n".join(map(to_shown, done.stderr.decode("latin-1").strip().split("\n")))
        advice = "" if os.getuid() == 0 else "\nIf a file could not be read, run this command as root."
        raise HttpdConfigError(f"httpd cannot read its configuration: {command[0]} -t says:\n{reason}{advice}")
    return done.stdout.decode("latin-1")
