"""An httpd for tests, with its own root, free ports and its own logs. The system's httpd is not used."""

from __future__ import annotations

import copy
import http.client
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.httpd.machine import (
    HttpdError,
    apache_user,
    check_apache_user,
    free_port,
    has_module,
    httpd_binary,
    httpd_environment,
    media_types,
    modules_directory,
)
from tests.leaks import leaks
from usp_s3_wsgi.cli import apache_config

MPM = "event"
#: The modules that the shipped configuration and its examples need, besides an MPM.
MODULES = (
    "unixd authn_core authz_core authz_host mime dir alias env headers setenvif include filter rewrite cache "
    "cache_disk substitute proxy proxy_http proxy_balancer lbmethod_byrequests slotmem_shm socache_shmcb ssl status "
    "info log_config deflate authn_file auth_basic authz_user http2 sed proxy_fcgi"
).split()
#: httpd's parent logs this when it handles signals and, at a start, has its children. It listens long before that.
READY = "resuming normal operations"
#: Lines that httpd logs at every start and stop, and AH00708: a request came while mod_cache_disk stored the same
#: object, whose headers it renames into place before the body. The request is then passed on to S3.
ROUTINE_LINES = re.compile(
    rf"{READY}|Command line:|caught SIG|SIGUSR1 received|Graceful restart requested|"
    r"AH00170|AH00493|AH00494|AH01882|AH01873|AH01887|AH00292|AH00171|AH00708"
)
#: Reports of the sanitizers in an error log (``make sanitize``): AddressSanitizer's, UndefinedBehaviorSanitizer's.
SANITIZER_REPORT = re.compile(r"^==\d+==|: runtime error: ", re.MULTILINE)
WAIT = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The response that the client got."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Httpd:
    """An httpd with the gateway loaded, as ``usp-s3 apache-config`` says, and the given configuration."""

    def __init__(
        self,
        config: str,
        *,
        port: int = 0,
        mod_wsgi: Path | None = None,
        preload: Path | None = None,
        prefix: str = "httpd-",
        tune: bool = False,
        address: str = "127.0.0.1",
        namespace: str = "",
    ) -> None:
        """``mod_wsgi``: the module to load instead of the environment's own; ``preload``: for LD_PRELOAD.

        ``tune``: with the numbers of processes and threads, and the buffers, that suit the gateway. ``address``: where
        it listens, in the network ``namespace`` if one is given.
        """
        self.config, self.mod_wsgi, self.preload, self.tune = config, mod_wsgi, preload, tune
        self.address = address
        self._in_namespace = ["ip", "netns", "exec", namespace] if namespace else []
        self._wanted_port, self._prefix = port, prefix
        self._expected: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Httpd:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- start and stop

    def start(self) -> None:
        """Start httpd and wait until it has its children and can be stopped. Raises: HttpdError."""
        self.root = Path(tempfile.mkdtemp(prefix=self._prefix))
        self.root.chmod(0o755)  # the children run as another user
        try:
            for _ in range(3):
                self.port = self._wanted_port or free_port()
                if self._launch():
                    return
                if self._wanted_port or "AH00072" not in self._all_errors():
                    break
                # Another program took the port meanwhile: retry with another port.
                (self.root / "error.log").unlink()
            raise HttpdError(f"httpd does not start:\n{self._all_errors()}")
        except BaseException:
            self.stop()
            raise

    def _launch(self) -> bool:
        for name in ("run", "htdocs"):
            (self.root / name).mkdir(exist_ok=True)
        (self.root / "httpd.conf").write_text(self._whole_config())
        check_apache_user()
        with (self.root / "error.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._in_namespace, *self._command()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=httpd_environment(self.preload),
            )  # fmt: skip
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._times_ready():
                return True
            time.sleep(0.02)
        return False

    def _command(self) -> list[str]:
        """The program that is started."""
        return [httpd_binary(), "-f", str(self.root / "httpd.conf"), "-DFOREGROUND"]

    def configtest(self, *options: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``httpd -t``. Its output is in ``stdout``, where files in the root are named without its path.

        ``options``: options instead of ``-t``; ``user``: the user who runs it, if not this process's user.
        """
        self.root = Path(tempfile.mkdtemp(prefix=self._prefix))
        self.root.chmod(0o755)
        self.port = self._wanted_port or free_port()
        try:
            for name in ("run", "htdocs"):
                (self.root / name).mkdir()
            (self.root / "httpd.conf").write_text(self._whole_config())
            done = subprocess.run(
                [httpd_binary(), *(options or ("-t",)), "-f", str(self.root / "httpd.conf")],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                check=False, user=user, env=httpd_environment(self.preload), cwd="/",
            )  # fmt: skip
        finally:
            shutil.rmtree(self.root, ignore_errors=True)
        done.stdout = done.stdout.replace(f"{self.root}/", "")
        assert not leaks(done.stdout.encode())
        assert not SANITIZER_REPORT.search(done.stdout), done.stdout
        return done

    @property
    def first_line(self) -> int:
        """The number of the line of httpd.conf on which the test's configuration begins."""
        other = copy.copy(self)  # this one may not have been started
        other.root, other.port = Path("/none"), 0
        whole = other._whole_config()
        return whole[: whole.index(self.config)].count("\n") + 1

    def stop(self) -> None:
        """Stop httpd and its children, and remove its root.

        Raises: AssertionError if a file holds a secret, or the error log a report of a sanitizer.
        """
        process, self._process = self._process, None
        if process is not None:
            # First "graceful-stop": at a hard stop the event MPM closes sockets that threads use. They log
            # errors, and once in a few hundred stops the child crashes.
            for number, seconds in ((signal.SIGWINCH, 5), (signal.SIGTERM, WAIT), (signal.SIGKILL, WAIT)):
                process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=seconds)
                    break
            with suppress(ProcessLookupError):  # children survive a parent that was killed, and keep its port
                os.killpg(process.pid, signal.SIGKILL)
        self.unexpected = self.unexpected_errors()
        leaked = {path.name: found for path in self.written() if (found := leaks(path.read_bytes()))}
        log = self._all_errors()
        shutil.rmtree(self.root, ignore_errors=True)
        assert not leaked, leaked
        assert not SANITIZER_REPORT.search(log), log

    def written(self) -> list[Path]:
        """The files that httpd has written: its logs, and files of modules, such as a cache."""
        return [path for path in (*self.root.glob("*.log"), *(self.root / "run").rglob("*")) if path.is_file()]

    @property
    def running(self) -> bool:
        """Whether httpd is running."""
        return self._process is not None and self._process.poll() is None

    def reload(self) -> None:
        """Read the configuration again, as ``apachectl graceful`` does, and wait for the new children."""
        assert self._process is not None
        (self.root / "httpd.conf").write_text(self._whole_config())
        old, before = set(self.children()), self._times_ready()
        self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + WAIT
        while old & set(self.children()) and time.monotonic() < deadline:
            time.sleep(0.02)
        # At a reload the children are started after this line is logged.
        while (self._times_ready() == before or not self.children()) and time.monotonic() < deadline:
            time.sleep(0.02)

    def begin_reload(self) -> None:
        """Reload, and wait until httpd has read the configuration; children of before may still send responses."""
        assert self._process is not None
        before, deadline = self._times_ready(), time.monotonic() + WAIT
        self._process.send_signal(signal.SIGUSR1)
        while self._times_ready() == before:
            assert time.monotonic() < deadline, self._all_errors()
            time.sleep(0.02)

    def reload_and_list_leftover_children(self) -> list[int]:
        """Reload, and return the old children that were still running when httpd began with the new configuration."""
        assert self._process is not None
        old, before = self.children(), self._times_ready()
        self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + WAIT
        while self._times_ready() == before and time.monotonic() < deadline:
            time.sleep(0.001)
        left = [child for child in old if _is_running(child)]
        while not set(self.children()) - set(old) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    def children(self) -> list[int]:
        """The pids of httpd's child processes."""
        assert self._process is not None
        text = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    # --- the configuration

    def _whole_config(self) -> str:
        unwanted = {"http2"} if MPM == "prefork" else set()  # with prefork it logs a warning
        modules = [name for name in (f"mpm_{MPM}", *MODULES) if has_module(name) and name not in unwanted]
        lines = [f'LoadModule {name}_module "{modules_directory()}/mod_{name}.so"' for name in modules]
        if os.geteuid() == 0:
            lines += [f"User {apache_user().pw_name}", f"Group #{apache_user().pw_gid}"]
        return f"""
ServerRoot "{self.root}"
ServerName 127.0.0.1
PidFile run/httpd.pid
DefaultRuntimeDir run
Mutex file:run
ErrorLog error.log
ErrorLogFormat "[%t] [%-m:%l] %E: %M"
LogLevel warn
Listen {self.address}:{self.port}
{chr(10).join(lines)}
TypesConfig "{media_types()}"
Define ROOT "{self.root}"
Define PORT "{self.port}"
DocumentRoot "${{ROOT}}/htdocs"
<Directory "${{ROOT}}/htdocs">
  Require all granted
</Directory>
{self.gateway_lines()}
<IfModule wsgi_module>
  WSGISocketPrefix run/wsgi
</IfModule>
{self.config}
"""

    def gateway_lines(self) -> str:
        """The lines that ``usp-s3 apache-config`` prints, or the same lines for another mod_wsgi."""
        lines = apache_config.render(no_module=bool(self.mod_wsgi), tune=self.tune)
        return f'LoadModule wsgi_module "{self.mod_wsgi}"\n{lines}' if self.mod_wsgi else lines

    # --- requests

    @property
    def url(self) -> str:
        """The server's URL, without a slash at the end."""
        return f"http://{self.address}:{self.port}"

    def fetch(self, target: str, *, method: str = "GET", timeout: float = 30, **headers: str) -> Reply:
        """Send one request with exactly this target; ``if_range="x"`` sends the header If-Range."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        try:
            connection.putrequest(method, target, skip_host="host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            reply = Reply(response.status, response.headers, response.read())
            assert not leaks(str(reply.headers)) and not leaks(reply.body)
            return reply
        finally:
            connection.close()

    # --- the error log

    def expect_error(self, pattern: str) -> None:
        """Allow lines that match in the error log."""
        self._expected.append(pattern)

    def errors(self) -> list[str]:
        """The lines of the error log without those of every start and stop."""
        lines = self._all_errors().splitlines()
        return [line for line in lines if line.strip() and not ROUTINE_LINES.search(line)]

    def wait_for_error(self, pattern: str) -> str:
        """Wait for a line that matches, allow it, and return it."""
        self.expect_error(pattern)
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            for line in self.errors():
                if re.search(pattern, line):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line in the error log matches {pattern!r}:\n{self._all_errors()}")

    def _times_ready(self) -> int:
        return self._all_errors().count(READY)

    def unexpected_errors(self) -> list[str]:
        """The lines of the error log that no test has allowed."""
        return [line for line in self.errors() if not any(re.search(pattern, line) for pattern in self._expected)]

    def _all_errors(self) -> str:
        log = self.root / "error.log"
        return log.read_text("utf-8", "replace") if log.exists() else ""


def _is_running(process: int) -> bool:
    """Whether a process is running. A zombie is not: it has ended, and its parent has not waited for it yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Unsigned(Httpd):
    """An httpd whose configuration lacks some of the lines that ``usp-s3 apache-config`` prints."""

    lacks = ""

    def gateway_lines(self) -> str:
        return re.sub(self.lacks, "", super().gateway_lines())


class WithoutModule(Unsigned):
    """Without usp_s3_module, as it is where mod_proxy is not loaded or httpd's headers were missing at installation."""

    lacks = r"LoadModule usp_s3_module .*|Include .*proxy.conf.*"
