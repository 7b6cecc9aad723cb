#!/opt/usp_s3_wsgi/bin/python -I
"""The program of the container image: the first process of a container, its health check and its drain.

    usp-s3-container run [OPTION OF HTTPD...]     the image's entrypoint
    usp-s3-container run COMMAND...               run another command, without any configuration
    usp-s3-container health                       exit status 0 if httpd is live (HEALTHCHECK)
    usp-s3-container drain [SECONDS]              fail /health/ready, then wait: before a stop behind a load balancer
    usp-s3-container undrain                      the opposite

``run`` turns the variables into configuration (variables.py), and starts itself again without them: what a process was
started with stays in /proc. Then it is the parent of httpd, because httpd alone would lose a stop signal while it
starts, cut off responses at the second one, take the resize of a terminal for one, and end at a reload of a broken
configuration.
"""

# ruff: noqa: E402  (signals are blocked before most imports)
from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence

#: A graceful stop: what has begun is finished. https://httpd.apache.org/docs/2.4/stopping.html#gracefulstop
STOP = (signal.SIGWINCH, signal.SIGTERM)
#: A graceful restart with the changed configuration.
RELOAD = (signal.SIGUSR1, signal.SIGHUP)
HANDLED = frozenset({*STOP, *RELOAD, signal.SIGINT, signal.SIGCHLD})
#: Seconds. podman passes the signal of a resized terminal on before or after the terminal has its new size.
RESIZE_SECONDS = 0.5
#: Seconds for a check of the configuration, which takes less than one.
CHECK_SECONDS = 300.0

if __name__ == "__main__":
    # Before all else, because the first process of a container ignores signals without a handler. They wait until
    # ``supervise`` reads them, also while this program starts itself again.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

import http.client
import re
import stat
import subprocess
import time
from pathlib import Path

HTTPD = "/usr/local/apache2/bin/httpd"


class StartError(Exception):
    """The container cannot start. The message is for the operator."""


def run(arguments: Sequence[str]) -> None:
    """Prepare the configuration, and start ``supervise`` without the keys. Raises: StartError, VariableError."""
    if arguments and not arguments[0].startswith("-"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        execute(arguments, os.environ)
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
    import variables

    if os.geteuid() == 0:
        raise StartError("this is root: start the container as user 33, which is the default, or as another user")
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise StartError(f"{name} is a socket, which httpd cannot open as a log: use another log driver")
    environment = variables.httpd_environment(os.environ)
    folder = variables.run_directory(os.environ)
    lock = variables.lock(folder)
    configuration = variables.configure(os.environ)
    (folder / "httpd.pid").unlink(missing_ok=True)
    (folder / "drain").unlink(missing_ok=True)
    path = folder / "variables.conf"
    variables.write_private(path, "".join(f"{line}\n" for line in configuration.lines))
    if messages := rejected(arguments, environment):
        raise StartError(explained(messages, path, configuration.variables))
    os.set_inheritable(lock, True)
    execute([sys.executable, "-I", os.path.realpath(__file__), "supervise", str(lock), *arguments], environment)


def execute(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become this command. Raises: StartError."""
    try:
        os.execvpe(command[0], list(command), dict(environment))
    except OSError as error:
        raise StartError(f"{command[0]}: {error.strerror}") from None


def rejected(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """What httpd says of its configuration, or why it could not be asked; nothing if it accepts it."""
    try:
        done = subprocess.run(
            [HTTPD, *arguments, "-t"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_SECONDS,
            check=False,
            preexec_fn=unblock_signals,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [f"httpd -t: {error}"]
    return done.stderr.strip().splitlines() or ["no message"] if done.returncode else []


def unblock_signals() -> None:
    """For a child process, which would inherit that they are blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def explained(messages: Sequence[str], path: Path, variables: Sequence[str]) -> str:
    """The messages, or the first one that is about a variable. ``variables``: the variable of each line of the file."""
    place = re.escape(str(path))
    for message, reason in zip(messages, [*messages[1:], ""], strict=True):
        match = re.search(rf"line (\d+) of {place}:|{place}:(\d+): ?(.*)", message)
        number = int(match[1] or match[2]) if match else 0
        if match and 0 < number <= len(variables) and variables[number - 1]:
            return f"{variables[number - 1]}: {match[3] or reason}"
    return "\n".join(["httpd rejects the configuration:", *messages])


def supervise(lock: int, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Start httpd, pass the signals on to it until it ends, and return its exit status."""
    os.set_inheritable(lock, False)
    command = [HTTPD, "-D", "FOREGROUND", *arguments]
    # In a session of its own, so that a terminal sends its signals only to this process.
    httpd = os.posix_spawn(HTTPD, command, dict(environment), setsigmask=[], setsid=True)
    is_stopping, size = False, terminal_size()
    while True:
        number = signal.Signals(signal.sigwait(HANDLED))
        if number == signal.SIGWINCH and size:
            time.sleep(RESIZE_SECONDS)
            old, size = size, terminal_size()
            if size and size != old:
                signal.sigtimedwait({signal.SIGWINCH}, 0)  # the kernel sends one, too
                continue
        if number == signal.SIGCHLD:
            if (status := reap(httpd)) is not None:
                return 0 if is_stopping and status == 128 + signal.SIGTERM else status
        elif number == signal.SIGINT:
            os.kill(httpd, signal.SIGTERM)
        elif number in STOP and not is_stopping:
            is_stopping = True
            # Before httpd has its handler it serves nothing, and would ignore SIGWINCH.
            os.kill(httpd, signal.SIGWINCH if has_handler(httpd, signal.SIGWINCH) else signal.SIGTERM)
        elif number in RELOAD and not is_stopping:
            if messages := rejected(arguments, environment):
                report("the changed configuration is not loaded:", *messages)
            else:
                os.kill(httpd, signal.SIGUSR1)


def terminal_size() -> os.terminal_size | None:
    """The size of the terminal that the container was started with, if there is one."""
    try:
        return os.get_terminal_size(0)
    except OSError:
        return None


def reap(httpd: int) -> int | None:
    """Wait for children that have ended; returns httpd's exit status if it was among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == httpd:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def has_handler(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal. https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"^SigCgt:\s*([0-9a-f]+)$", text, re.MULTILINE)
    return bool(match and int(match[1], 16) & 1 << (number - 1))


def health(environment: Mapping[str, str]) -> bool:
    """Whether httpd answers that it is live."""
    connection = http.client.HTTPConnection("127.0.0.1", int(environment.get("HEALTH_PORT") or 8081), timeout=5)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 204
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def drain_file(environment: Mapping[str, str]) -> Path:
    """The file that health.conf looks for."""
    return Path(environment.get("USP_S3_RUN") or "/dev/shm/usp_s3", "drain")


def report(*lines: str) -> None:
    """Write a message to the container's log."""
    print("usp-s3-container:", "\n".join(lines), file=sys.stderr, flush=True)


def main() -> int:
    """Run a command; returns the exit status."""
    command, *arguments = sys.argv[1:] or ["run"]
    try:
        if command == "run":
            run(arguments)
        elif command == "supervise":
            return supervise(int(arguments[0]), arguments[1:], os.environ)
        elif command == "health" and not arguments:
            return 0 if health(os.environ) else 1
        elif command == "drain" and len(arguments) <= 1:
            seconds = float(arguments[0]) if arguments else 0.0
            drain_file(os.environ).touch()
            time.sleep(max(0.0, seconds))
            return 0
        elif command == "undrain" and not arguments:
            drain_file(os.environ).unlink(missing_ok=True)
            return 0
    except (StartError, OSError, ValueError) as error:
        report(str(error))
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
