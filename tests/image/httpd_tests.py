"""The project's own tests of httpd with the httpd of the official image: its layout, its modules, its Python.

They run in a container of the base image, with a network of its own. Where no engine works, or with ENGINE=none, they
run in a chroot with the same layout, which tests/fresh makes from httpd's source.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.fresh.__main__ import counts
from tests.fresh.machine import IMAGE, LIMIT, SetupError, base_image, cache_folder, machine, pack, say, write_bundle
from tests.image.base import describe, ensure_base, install_tools
from tests.image.build import ROOT
from tests.image.engine import Engine, EngineError, tail

DOCKERFILE = Path(__file__).with_name("httpd.Dockerfile")
TESTS = ("tests/httpd", "tests/docs/test_apache_blocks.py", "tests/identity/test_httpd.py")
LOG = ROOT / "build" / "image" / "httpd.log"
NAME = "usp_s3_wsgi-httpd-tests"
CLONE = "/srv/usp_s3_wsgi"
#: What tests/install.sh reads; with these files unchanged, an installation is used again.
INSTALLATION = ("tests/install.sh", "tests/remove_venv.sh", "tests/requirements")
#: In the clone's folder, where .venv exists. make would install it again, because each file of the clone is newer.
SCRIPT = f"""\
set -e
cd {CLONE}
git init -q . 2>/dev/null
git fetch -q /clone.bundle HEAD
git checkout -q -f FETCH_HEAD
touch .venv/.installed
make .venv/.package
httpd -v
.venv/bin/python -V
make --no-print-directory test"""


def run_httpd_tests(engine: Engine | None, tests: Sequence[str]) -> bool:
    """Run these tests of HEAD (all of ``TESTS`` if there are none), and print the result; whether all succeeded."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    bundle = LOG.with_name("clone.bundle")
    write_bundle(bundle)
    script = f"{SCRIPT} TESTS={shlex.quote(' '.join(tests or TESTS))}"
    if engine:
        where, status, seconds = run_in_container(engine, bundle, script)
    else:
        where, status, seconds = run_in_chroot(bundle, script)
    passed, line = summary(LOG.read_text("utf-8", "replace"), status, seconds)
    say(f"the log is {LOG.relative_to(ROOT)}\n==> tests of httpd in {where}: {line}")
    return passed


def summary(log: str, status: int, seconds: float) -> tuple[bool, str]:
    """Whether all tests succeeded, and the line that says so: versions, numbers of tests, and what failed."""
    found = re.search(r"Apache/(\S+)", log), re.search(r"^Python (\S+)", log, re.MULTILINE)
    versions = [match[1] for match in found if match]
    passed, failed, skipped = counts(log)
    ok = status == 0 and passed > 0
    if len(versions) < 2 or not passed + failed:
        return False, f"FAILED before the first test: {tail(log, 1)}"
    failures = dict.fromkeys(re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE))
    names = "".join(f"\n    {name}" for name in failures)
    result = f"{passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s{names}"
    return ok, f"httpd {versions[0]}, Python {versions[1]}: {result}"


def installation_key(*more: str) -> str:
    """A name for an installation of what the tests need: it changes with the files that decide what is installed."""
    digest = hashlib.sha256("\0".join(more).encode())
    for name in INSTALLATION:
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                digest.update(f"\0{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


# --- in a container


def run_in_container(engine: Engine, bundle: Path, script: str) -> tuple[str, int, float]:
    """Returns where the script ran, its exit status, and how long it took. Raises: EngineError."""
    base = ensure_base(engine)
    key = installation_key(DOCKERFILE.read_text("utf-8"), engine.image(base, "{{.Id}}"))
    image = f"localhost/{NAME}:{key}"
    if engine.has_image(image):
        say("what the tests need is installed in an image of an earlier run")
    else:
        say("installing what the tests need in an image (3 minutes)")
        with tempfile.TemporaryDirectory() as context:
            copy_installation(Path(context))
            engine.build(Path(context), DOCKERFILE, image)
        remove_older(engine, key)
    container = f"{NAME}-{uuid.uuid4().hex[:12]}"
    say(f"tests of httpd: started in a container; the log is {LOG.relative_to(ROOT)}")
    try:
        # Without a network but its own loopback: all ports are free. With SYS_PTRACE tests can read /proc/PID/maps of
        # httpd's children, which run as another user. Some tests have more threads than podman allows by default.
        options = [*engine.run_options(network="none"), "--cap-add=SYS_PTRACE", "--pids-limit=-1"]
        engine.call("create", *options, "--name", container, image, "sh", "-c", script)
        engine.call("cp", str(bundle), f"{container}:/clone.bundle")
        started = time.monotonic()
        status = engine.write(LOG, "start", "--attach", container, timeout=LIMIT)
    finally:
        engine.remove(container)
    return f"a container of {base} ({describe(engine)})", status, time.monotonic() - started


def remove_older(engine: Engine, key: str) -> None:
    """Remove the images of earlier runs, which other requirements need."""
    tags = engine.call("images", "--format", "{{.Tag}}", f"localhost/{NAME}", check=False).stdout.split()
    for tag in tags:
        if tag not in (key, "<none>"):
            engine.call("rmi", f"localhost/{NAME}:{tag}", check=False)


# --- in a chroot


def run_in_chroot(bundle: Path, script: str) -> tuple[str, int, float]:
    """The same in a chroot. Raises: EngineError."""
    install_tools()
    try:
        base = prepared_machine()
        say(f"tests of httpd: started in a chroot; the log is {LOG.relative_to(ROOT)}")
        with machine(base, IMAGE, LOG) as fresh:
            shutil.copy(bundle, fresh.folder / "clone.bundle")
            started = time.monotonic()
            status, _ = fresh.run(script, has_own_network=True)
            return "a chroot with the layout of the httpd image", status, time.monotonic() - started
    except (SetupError, OSError) as error:  # OSError: no network of its own
        raise EngineError(f"the tests could not run in a chroot: {error}") from error


def prepared_machine() -> Path:
    """The tar file of a machine where what the tests need is installed. Raises: SetupError."""
    cache = cache_folder()
    base = base_image(IMAGE, cache)
    prepared = cache / f"{IMAGE}-tests-{installation_key(str(base.stat().st_mtime_ns))}.tar"
    if prepared.exists():
        return prepared
    say("installing what the tests need in a chroot (3 minutes)")
    with machine(base, IMAGE, cache / f"{IMAGE}-tests.log") as made:
        copy_installation(made.folder / CLONE.lstrip("/"))
        made.run_checked(f"cd {CLONE} && tests/install.sh .venv")
        partial = prepared.with_suffix(".partial")
        pack(made, partial)
    for older in cache.glob(f"{IMAGE}-tests-*.tar"):
        older.unlink()
    return partial.rename(prepared)


def copy_installation(folder: Path) -> None:
    """Copy tests/install.sh and what it reads into a folder."""
    for name in INSTALLATION:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-R", "--preserve=mode", str(ROOT / name), str(target)], check=True, timeout=LIMIT)
