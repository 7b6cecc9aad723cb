"""Minimal machines: each is a chroot with a Debian of any suite, or with the layout of the official httpd image."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.fresh.network import own_network

HERE = Path(__file__).resolve().parent
IMAGE = "httpd-image"
#: What the httpd image contains, and the image that it is built on. Both lack the programs that a clone needs.
BARE_IMAGE = "httpd-image-bare"
SLIM = "trixie-slim"
#: Debian's images for containers lack these files. Without the first option of apt, build dependencies would stay.
SLIM_OPTIONS = (
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "lintian", "locale", "man")),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    '--aptopt=Apt::AutoRemove::SuggestsImportant "false"',
    '--aptopt=Acquire::Languages "none"',
)
#: The packages that a clone needs, before make installs others.
PROGRAMS = "git,make,ca-certificates"
#: The default search path, without the caller's additions.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The official image has this folder first.
IMAGE_PATH = "/usr/local/apache2/bin"
#: The variables by which pip and apt-get reach the network.
FORWARDED_VARIABLES = (
    "PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT "
    "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY"
).split()
CA_FILE = "usr/local/share/pip-ca.pem"
#: The time limit of a command in seconds, far longer than any should need.
LIMIT = 3600
UID = 1000
#: All mounts and processes in them end with the command.
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")


ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("FRESH_CACHE") or "/var/tmp/usp_s3_wsgi-fresh")


class SetupError(Exception):
    """A machine could not be set up; the message says why."""


class Machine:
    """A folder with a Debian system."""

    def __init__(self, folder: Path, suite: str, log: Path) -> None:
        self.folder, self.suite, self.log = folder, suite, log
        self._holder: subprocess.Popen[bytes] | None = None
        self._environment = {
            "PATH": f"{IMAGE_PATH}:{PATH}" if suite in (IMAGE, BARE_IMAGE) else PATH,
            "TERM": "dumb",
            **{name: os.environ[name] for name in FORWARDED_VARIABLES if os.environ.get(name)},
        }
        if ca := os.environ.get("PIP_CERT"):
            shutil.copyfile(ca, folder / CA_FILE)
            (folder / CA_FILE).chmod(0o644)
            self._environment["PIP_CERT"] = f"/{CA_FILE}"

    def run(
        self,
        command: str,
        user: str = "root",
        directory: str = "/",
        *,
        shell: str = "sh",
        has_own_network: bool = False,
    ) -> tuple[int, str]:
        """Run a shell command in the machine; returns its exit status and its output, which is also logged.

        ``has_own_network``: the machine's ports are its own; else they are those of the caller's machine.
        """
        is_root = user == "root"
        home = "/root" if is_root else f"/home/{user}"
        line = ["env", "-i", f"HOME={home}", f"USER={user}", f"LOGNAME={user}"]
        line += [f"{name}={value}" for name, value in self._environment.items()]
        line += [shell, "-c", 'cd "$1" && eval "$2"', shell, directory, command]
        namespaces = [*NAMESPACES, *(["--net"] if has_own_network else [])]
        options = [*(["--own-network"] if has_own_network else []), *([] if is_root else [f"--userspec={UID}:{UID}"])]
        inside = [str(HERE / "chroot.sh"), str(self.folder), *options, *line]
        if self._holder:
            of_holder = f"/proc/{self._holder.pid}/ns"
            namespaces = ["nsenter", f"--mount={of_holder}/mnt", f"--pid={of_holder}/pid_for_children"]
            inside = ["chroot", *options, str(self.folder), *line]
        with self.log.open("a+b") as log:
            log.write(f"\n=== {user}, {directory}: {command}\n".encode())
            log.flush()
            begin = log.tell()
            process = subprocess.Popen([*namespaces, *inside], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                with own_network(process.pid) if has_own_network else nullcontext():
                    status = process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                status = 124
                log.write(f"\n=== not finished within {LIMIT} seconds\n".encode())
            finally:
                process.kill()
                process.wait()
            log.seek(begin)
            return status, log.read().decode("utf-8", "replace")

    @contextmanager
    def kept_running(self) -> Iterator[None]:
        """Within the context, the processes that a command starts, such as a server, do not end with the command.

        The machine has the caller's network then.
        """
        # The shell is the machine's first process: it waits for processes whose parents have ended.
        inside = [str(HERE / "chroot.sh"), str(self.folder), "sh", "-c", "echo; sleep infinity & wait"]
        holder = subprocess.Popen([*NAMESPACES, *inside], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None
            if not holder.stdout.readline():
                raise SetupError("the machine cannot be kept running")
            self._holder = holder
            yield
        finally:
            self._holder = None
            holder.kill()
            holder.communicate()

    def run_checked(self, command: str) -> None:
        """Run a shell command in the machine as root. Raises: SetupError."""
        status, output = self.run(command)
        if status:
            raise SetupError(f"{command}: {last_line(output)} ({self.log})")


@contextmanager
def machine(base: Path, suite: str, log: Path) -> Iterator[Machine]:
    """A new machine from a tar file; it is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"{suite}.", dir=base.parent))
    try:
        folder.chmod(0o755)
        log.unlink(missing_ok=True)
        subprocess.run(["tar", "-xpf", str(base), "-C", str(folder)], check=True, timeout=LIMIT)
        yield Machine(folder, suite, log)
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True, timeout=LIMIT)


def base_image(suite: str, cache: Path) -> Path:
    """The tar file of a base machine, made if it is not cached. Raises: SetupError."""
    base, partial = cache / f"{suite}.tar", cache / f"{suite}.partial.tar"
    if base.exists():
        return base
    say(f"{suite}: making the base machine")
    if suite == IMAGE:
        install = f"apt-get install -y -q --no-install-recommends {PROGRAMS.replace(',', ' ')}"
        with machine(base_image(BARE_IMAGE, cache), suite, cache / f"{suite}.log") as made:
            made.run_checked(f"apt-get update -q && DEBIAN_FRONTEND=noninteractive {install} && apt-get dist-clean")
            pack(made, partial)
    elif suite == BARE_IMAGE:
        with machine(base_image(SLIM, cache), suite, cache / f"{suite}.log") as made:
            shutil.copy(HERE / "httpd_image.sh", made.folder / "root")
            made.run_checked("sh /root/httpd_image.sh && rm /root/httpd_image.sh")
            pack(made, partial)
    else:
        options = SLIM_OPTIONS if suite == SLIM else (f"--include={PROGRAMS}",)
        command = ["mmdebstrap", "--variant=minbase", *options, suite.removesuffix("-slim"), str(partial)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        if done.returncode:
            raise SetupError(f"mmdebstrap {suite}: {last_line(done.stderr)}")
    partial.rename(base)
    return base


def pack(made: Machine, tar: Path) -> None:
    """Write the machine's files into a tar file, without those that are the caller's."""
    excluded = [f"--exclude=./{name}" for name in (CA_FILE, "etc/hostname", "etc/hosts", "etc/resolv.conf")]
    command = ["tar", "--numeric-owner", *excluded, "-cf", str(tar), "-C", str(made.folder), "."]
    subprocess.run(command, check=True, timeout=LIMIT)


def cache_folder() -> Path:
    """The folder where machines and logs are kept."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE


def write_bundle(path: Path) -> None:
    """Write HEAD of this clone to a file that ``git clone`` reads in a machine."""
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    subprocess.run([*git, "bundle", "create", "-q", str(path), "HEAD"], check=True, timeout=LIMIT)
    if subprocess.run([*git, "status", "--porcelain"], capture_output=True, check=True, timeout=LIMIT).stdout:
        say("Uncommitted changes are not tested: the machines get a clone of HEAD.")


def last_line(text: str) -> str:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")


def say(progress: str) -> None:
    """Print a progress message."""
    print(f"==> {progress}", flush=True)
