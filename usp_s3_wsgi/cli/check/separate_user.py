"""Runs a part of this process as the user of httpd's children: files and the network are used as httpd uses them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from usp_s3_wsgi.cli.server.httpd_environment import environment_of
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.configtest.privileges import drop_privileges


class SeparateProcessError(Exception):
    """The process ended before it had returned all."""


def run(configuration: Configuration, function: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Yield what the function yields in a child process: values that JSON has, so that nothing else gets here.

    Raises: SeparateProcessError.
    """
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os.close(read_end)
        _run_in_child(configuration, function, write_end)
    os.close(write_end)
    try:
        with os.fdopen(read_end, encoding="ascii") as lines:
            for line in lines:
                value = json.loads(line)
                if value is None:
                    return
                yield value[0]
        raise SeparateProcessError("the process that checks has ended early")
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)  # of an interrupted command; else it has ended
        os.waitpid(process, 0)


def _run_in_child(configuration: Configuration, function: Callable[[], Iterator[Any]], write_end: int) -> None:
    status = 1
    try:
        # Not the terminal of root: what runs as another user could type into it.
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        drop_privileges(configuration)
        with environment_of(configuration), os.fdopen(write_end, "w", encoding="ascii") as lines:
            for value in function():
                print(json.dumps([value]), file=lines, flush=True)
            print("null", file=lines, flush=True)
        status = 0
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    except PermissionError:
        os.write(2, b"usp-s3: this process may not become the user of httpd's children\n")
    except BaseException as error:  # not its message: it may contain a secret
        os.write(2, f"usp-s3: internal error: {type(error).__name__}\n".encode("ascii", "replace"))
    finally:
        os._exit(status)
