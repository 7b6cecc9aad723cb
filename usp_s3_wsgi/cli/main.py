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


@click.group(cls=Subcommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(usp_s3_wsgi.__version__, message="%(version)s")
def usp_s3() -> None:
    """Serve private S3 buckets from Apache httpd."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status. Messages go to standard error, without a traceback."""
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
        # Python flushes standard output at its exit: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (OSError, ApacheConfigError) as error:
        click.echo(f"usp-s3: {error}", err=True)
        return ExitStatus.FAILED
    except Exception as error:  # not its message and no traceback: they may contain a secret
        place = traceback.extract_tb(error.__traceback__)[-1]
        click.echo(
            f"usp-s3: internal error: {type(error).__name__} in {place.filename}:{place.lineno}; please report it",
            err=True,
        )
        return ExitStatus.FAILED
    return int(status or 0)
