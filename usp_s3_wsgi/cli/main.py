"""The entry point of the command ``usp-s3``: it parses the command line and runs a subcommand."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module

import click

import usp_s3_wsgi
from usp_s3_wsgi.cli import console
from usp_s3_wsgi.cli.exit_status import ExitStatus
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError

#: Each subcommand and the module with its ``command``, which is not imported before it is needed: all together take
#: half a second.
SUBCOMMANDS = {
    "apache-config": "apache_config",
    "check": "check.command",
    "config": "config.command",
    "convert": "convert.command",
    "explain": "explain.command",
    "get": "get.command",
    "sign": "sign.command",
}
#: As a shell has it for a command that SIGINT ended, and for one that SIGPIPE ended.
_INTERRUPTED, _BROKEN_PIPE = 130, 141
_STDIN, _STDOUT, _STDERR = range(3)


class Subcommands(click.Group):
    """https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a subcommand, None if there is none of that name."""
        if cmd_name not in SUBCOMMANDS:
            return None
        command: click.Command = import_module(f"usp_s3_wsgi.cli.{SUBCOMMANDS[cmd_name]}").command
        return command


@click.group(
    cls=Subcommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,  # versions of click differ in where the help then goes, and in the status
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(usp_s3_wsgi.__version__, message="%(version)s")
@click.pass_context
def usp_s3(context: click.Context) -> None:
    """Serve private S3 buckets from Apache httpd."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(ExitStatus.USAGE)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status. Messages go to standard error, without a traceback."""
    _open_missing_streams()
    try:
        status = usp_s3.main(arguments, prog_name="usp-s3", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:  # of the command line, or of a command that has failed
        console.print_error(error)
        return error.exit_code
    except click.Abort:
        click.echo("usp-s3: interrupted", err=True)
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit) as end:  # such as "usp-s3 check | head": click exits
        if isinstance(end, SystemExit) and not end.code:  # it also exits after it has printed words for completion
            return ExitStatus.OK
        _discard_output()
        return _BROKEN_PIPE
    except (OSError, ApacheConfigError) as error:
        click.echo(f"usp-s3: {_describe(error)}", err=True)
        try:
            sys.stdout.flush()
        except OSError:  # such as of a full disk
            _discard_output()
        return ExitStatus.FAILED
    except Exception as error:  # not its message and no traceback: they may contain a secret
        place = traceback.extract_tb(error.__traceback__)[-1]
        click.echo(
            f"usp-s3: internal error: {type(error).__name__} in {place.filename}:{place.lineno}; please report it",
            err=True,
        )
        return ExitStatus.FAILED
    return int(status or 0)


def _open_missing_streams() -> None:
    """Open /dev/null in the place of a closed standard stream, as of ``usp-s3 check >&-``.

    Python has None for such a stream, and the next file that is opened would get its number.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(_STDIN, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(_STDOUT, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(_STDERR, "w", encoding="utf-8")


def _describe(error: Exception) -> str:
    """Return the message of an error, without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _discard_output() -> None:
    """Python flushes at its exit, and would fail: https://docs.python.org/3/library/signal.html#note-on-sigpipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
