"""The container engine of this machine: docker, or podman. The variable ENGINE chooses one; ``none`` is none.

An engine works if it can run a container. Options that only some machines need are found by trying: a probe image, made
of a program of this machine, is run with the default options first.
"""

from __future__ import annotations

import functools
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


def allowed(limit: int, enough: int) -> int:
    """A value of this limit that this process may set."""
    hard = resource.getrlimit(limit)[1]
    return enough if hard == resource.RLIM_INFINITY else min(enough, hard)


#: Seconds until an engine has answered a question, and until a build has ended.
LIMIT, BUILD_LIMIT = 60.0, 3600.0
#: By default podman sets higher limits than some machines allow.
LIMITS = tuple(
    f"--ulimit={name}={limit}:{limit}"
    for name, limit in (
        ("nofile", allowed(resource.RLIMIT_NOFILE, 20_000)),
        ("nproc", allowed(resource.RLIMIT_NPROC, 10_000)),
    )
)
#: (options of the engine, options of "run") in the order in which they are tried. Not each machine has systemd, or its
#: cgroups, and crun does not run on all.
RUN_OPTIONS: Mapping[str, Sequence[tuple[Sequence[str], Sequence[str]]]] = {
    "docker": [((), ())],
    "podman": [
        ((), ()),
        ((), LIMITS),
        (("--cgroup-manager=cgroupfs",), LIMITS),
        (("--cgroup-manager=cgroupfs", "--runtime", "runc"), LIMITS),
    ],
}
#: Options of "build" that are always used. docker's format keeps all that a Dockerfile can say.
BUILD_OPTIONS: Mapping[str, Sequence[str]] = {
    "docker": (),
    "podman": ("--pull=never", "--layers", "--format", "docker"),
}
#: Options of "build" in the order in which they are tried.
BUILD_TRIALS: Mapping[str, Sequence[Sequence[str]]] = {"docker": [()], "podman": [(), ("--isolation", "chroot")]}
#: How the caller reaches Python's package index. A build gets those that its Dockerfile declares with ARG.
INDEX_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
#: Engines know these without ARG, and do not keep them in the image.
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
#: The caller's certificates (PIP_CERT) in a build.
CERTIFICATES = "/run/caller-ca.crt"
SHOWN_LINES = 40


class EngineError(Exception):
    """The engine failed; the message has its last lines."""


class Container:
    """A container that runs in the background."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name

    def logs(self) -> str:
        """Its stdout and stderr, in the order in which it wrote them."""
        return self.engine.run(["logs", self.name], timeout=LIMIT, merge=True).stdout

    def stdout(self) -> str:
        return self.engine.call("logs", self.name).stdout

    def stderr(self) -> str:
        return self.engine.call("logs", self.name).stderr

    def execute(
        self, *command: str, user: str = "", check: bool = True, timeout: float = LIMIT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        options = ["--user", user] if user else []
        return self.engine.call("exec", *options, self.name, *command, check=check, timeout=timeout)

    def inspect(self, template: str) -> str:
        """A part of the container's description, such as ``{{.State.Status}}``."""
        return self.engine.call("inspect", "--type", "container", "--format", template, self.name).stdout.strip()

    def is_running(self) -> bool:
        return self.inspect("{{.State.Running}}") == "true"

    def pid(self) -> int:
        """The id of its first process on this machine; 0 if it has ended."""
        return int(self.inspect("{{.State.Pid}}"))

    def stop(self, grace: float) -> float:
        """Stop it as an operator does, and kill it after ``grace`` seconds; returns how long it took."""
        started = time.monotonic()
        self.engine.call("stop", "-t", str(round(grace)), self.name, timeout=LIMIT + grace)
        return time.monotonic() - started

    def kill(self, signal: str) -> None:
        """Send a signal, such as ``KILL`` or ``USR1``, to its first process."""
        self.engine.call("kill", "--signal", signal, self.name)

    def wait(self, timeout: float) -> int:
        """Wait until it ends; returns its exit status. Raises: EngineError if it does not end in time."""
        return int(self.engine.call("wait", self.name, timeout=timeout).stdout)


class Engine:
    """A container engine; ``find`` returns one that works."""

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self._command: tuple[str, ...] = (program,)
        self._run_options: tuple[str, ...] = ()
        #: Containers share the network of this machine, so tests choose free ports instead of publishing them.
        self.host_network = sys.platform == "linux"

    # --- commands

    @property
    def command(self) -> tuple[str, ...]:
        """The program, with the options that this machine needs."""
        return self._command

    def call(
        self, *arguments: str, timeout: float = LIMIT, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Call the engine. Raises: EngineError if it fails (with ``check``), or does not end in time."""
        done = self.run(arguments, timeout=timeout, stdin=stdin)
        if check and done.returncode:
            raise EngineError(
                f"{self.name} {arguments[0]}: status {done.returncode}\n{tail(done.stderr or done.stdout)}"
            )
        return done

    def run(
        self,
        arguments: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        merge: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Call the engine, whatever its exit status is. ``merge``: stderr is part of stdout."""
        try:
            return subprocess.run(
                [*self._command, *arguments],
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merge else subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                env={**os.environ, **(environment or {})},
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{self.name} {arguments[0]}: not finished after {timeout:g} seconds") from error

    def write(self, log: Path, *arguments: str, timeout: float) -> int:
        """Call the engine, and append its output to a file at once; returns its exit status. Raises: EngineError."""
        with log.open("ab") as output:
            try:
                command = [*self._command, *arguments]
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise EngineError(f"{self.name} {arguments[0]}: not finished after {timeout:g} seconds") from error
        return done.returncode

    def has_image(self, image: str) -> bool:
        """Whether this machine has the image."""
        return self.call("image", "inspect", image, check=False).returncode == 0

    def image(self, image: str, template: str) -> str:
        """A part of the image's description, such as ``{{.Size}}`` or ``{{json .Config.Labels}}``."""
        return self.call("image", "inspect", "--format", template, image).stdout.strip()

    # --- builds

    def build(
        self, context: Path, dockerfile: Path, tag: str, *, target: str = "", arguments: Mapping[str, str] | None = None
    ) -> None:
        """Build an image. It never contains the caller's certificates or package index. Raises: EngineError."""
        options = [*BUILD_OPTIONS[self.name], *self._build_options, "--file", str(dockerfile), "--tag", tag]
        if target:
            options += ["--target", target]
        for name, value in (arguments or {}).items():
            options += ["--build-arg", f"{name}={value}"]
        options += self._caller_options(declared_arguments(dockerfile.read_text("utf-8")))
        done = self.run(["build", *options, str(context)], timeout=BUILD_LIMIT, merge=True)
        if done.returncode:
            raise EngineError(f"{self.name} build of {tag}: status {done.returncode}\n{tail(done.stdout)}")

    def _caller_options(self, declared: frozenset[str]) -> list[str]:
        """The options by which a build reaches the network as the caller does.

        Without a value the engine takes that of its own environment: a URL may have a password.
        """
        options = []
        for name in (*(declared & frozenset(INDEX_VARIABLES)), *PROXY_VARIABLES):
            if os.environ.get(name):
                options += ["--build-arg", name]
        certificates = os.environ.get("PIP_CERT")
        if certificates and "PIP_CERT" in declared and self.name == "podman":  # docker cannot mount a file in a build
            options += ["--volume", f"{Path(certificates).resolve()}:{CERTIFICATES}:ro"]
            options += ["--build-arg", f"PIP_CERT={CERTIFICATES}"]
        return options

    @functools.cached_property
    def _build_options(self) -> Sequence[str]:
        """The first options with which a build succeeds. Raises: EngineError."""
        trials = BUILD_TRIALS[self.name]
        if len(trials) == 1:
            return trials[0]
        with self.probe_image() as image, tempfile.TemporaryDirectory() as folder:
            Path(folder, "Dockerfile").write_text(f'FROM {image}\nRUN ["/bin/true"]\n', "utf-8")
            for options in trials:
                arguments = ["build", *BUILD_OPTIONS[self.name], "--no-cache", *options, "--tag", f"{image}-built"]
                done = self.run([*arguments, folder], timeout=LIMIT, merge=True)
                if not done.returncode:
                    self.call("rmi", f"{image}-built")
                    return options
        raise EngineError(f"{self.name} cannot build images here\n{tail(done.stdout)}")

    # --- containers

    @contextmanager
    def container(
        self, image: str, *options: str, environment: Mapping[str, str] | None = None, command: Sequence[str] = ()
    ) -> Iterator[Container]:
        """A container that runs in the background within the context, with these options of ``run``.

        The environment may have secrets: it is not part of a command line.
        """
        name = f"usp-s3-{uuid.uuid4().hex[:12]}"
        with ExitStack() as stack:
            stack.callback(self.remove, name)
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".env"))
            file.write(environment_file(environment or {}))
            file.flush()
            more = ("--env-file", file.name, *options)
            self.call("run", "--detach", "--name", name, *self.run_options(), *more, image, *command)
            yield Container(self, name)

    def run_options(self, network: str = "") -> tuple[str, ...]:
        """The options of ``run`` that this machine needs, with its network or another one."""
        network = network or ("host" if self.host_network else "")
        return (*self._run_options, *(("--network", network) if network else ()))

    def remove(self, name: str) -> None:
        """Remove a container with its volumes, if it exists. Killed first: podman would wait for its end."""
        self.call("kill", name, check=False)
        self.call("rm", "--force", "--volumes", name, check=False)

    # --- which options this machine needs

    def try_options(self) -> str:
        """Find options with which a container runs; returns why there are none, else an empty string."""
        program = self._command
        reason = ""
        try:
            with self.probe_image() as image:
                for engine_options, run_options in RUN_OPTIONS[self.name]:
                    self._command, self._run_options = (*program, *engine_options), tuple(run_options)
                    done = self.call("run", "--rm", *self.run_options(), image, "/bin/true", check=False)
                    if not done.returncode:
                        return ""
                    reason = tail(done.stderr, 1)
        except EngineError as error:
            reason = str(error)
        return reason

    @contextmanager
    def probe_image(self) -> Iterator[str]:
        """An image that has only the program /bin/true of this machine; no registry is needed."""
        image = f"localhost/usp-s3-probe:{uuid.uuid4().hex[:12]}"
        with tempfile.TemporaryDirectory() as folder:
            tar = Path(folder, "probe.tar")
            write_program(tar, Path("/bin/true"))
            self.call("import", str(tar), image)
        try:
            yield image
        finally:
            self.call("rmi", "--force", image, check=False)


def find() -> Engine | None:
    """The engine that works here; None if there is none."""
    return search()[0]


def why_none() -> str:
    """Why no engine works here, a line for each."""
    return "\n".join(search()[1])


@functools.cache
def search() -> tuple[Engine | None, tuple[str, ...]]:
    """The first engine that works, and the reasons why those before it do not."""
    reasons: list[str] = []
    for name in candidates(os.environ.get("ENGINE", "")):
        program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/bin:/usr/bin")
        if program is None:
            reasons.append(f"{name}: not installed")
            continue
        engine = Engine(name, program)
        try:
            done = engine.call("info", check=False, timeout=LIMIT)
            reason = tail(done.stderr or done.stdout, 1) if done.returncode else engine.try_options()
        except EngineError as error:
            reason = str(error)
        if not reason:
            return engine, tuple(reasons)
        reasons.append(f"{name}: {reason}")
    return None, tuple(reasons)


# --- pure functions


def candidates(chosen: str) -> tuple[str, ...]:
    """The engines to try for this value of ENGINE, best first. Raises: ValueError."""
    if chosen == "none":
        return ()
    if chosen and chosen not in RUN_OPTIONS:
        raise ValueError(f"ENGINE is {chosen!r}; it can be {', '.join(RUN_OPTIONS)} or none")
    return (chosen,) if chosen else tuple(RUN_OPTIONS)


def declared_arguments(dockerfile: str) -> frozenset[str]:
    """The names that a Dockerfile declares with ARG."""
    lines = re.findall(r"^\s*ARG\s+(.*)$", re.sub(r"\\\n", " ", dockerfile), re.MULTILINE | re.IGNORECASE)
    return frozenset(word.partition("=")[0] for line in lines for word in line.split())


def environment_file(environment: Mapping[str, str]) -> str:
    """The text of a file for ``--env-file``. Raises: ValueError for a value that such a file cannot have."""
    for name, value in environment.items():
        if "\n" in value:
            raise ValueError(f"the value of {name} has more than one line")
    return "".join(f"{name}={value}\n" for name, value in environment.items())


def tail(text: str, lines: int = SHOWN_LINES) -> str:
    """The last lines that are not empty."""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:]) or "no output"


def write_program(tar: Path, program: Path) -> None:
    """Write a tar file with a program and its libraries."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=LIMIT, check=False)
    with tarfile.open(tar, "w") as archive:
        for path in [str(program), *re.findall(r"(/\S+) \(0x", done.stdout)]:
            archive.add(os.path.realpath(path), path.lstrip("/"))
