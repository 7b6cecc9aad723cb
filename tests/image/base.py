"""The base image ``httpd:2.4``: the one that is here, that of the registry, or a stand-in made from source.

The stand-in has the layout and the metadata of the official image; tests/fresh makes its files. Its label says what it
is. It is for tests on machines without a registry.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from tests.fresh.machine import BARE_IMAGE, HERE, IMAGE_PATH, LIMIT, PATH, SetupError, base_image, cache_folder
from tests.image.engine import Engine, EngineError

IMAGE = "httpd:2.4"
#: The label that only a stand-in has.
LABEL = "usp_s3_wsgi.stand-in"
STAND_IN = "made-from-source"
VERSION_LABEL = "org.opencontainers.image.version"
PREFIX = "/usr/local/apache2"
#: Seconds until a registry has sent the image. Where there is none, the engine may try again for minutes.
PULL_LIMIT = 120.0
#: https://github.com/docker-library/httpd/blob/master/2.4/httpd-foreground
FOREGROUND = """\
#!/bin/sh
set -e

# Apache gets grumpy about PID files pre-existing
rm -f /usr/local/apache2/logs/httpd.pid

exec httpd -DFOREGROUND "$@"
"""
#: The instructions of https://github.com/docker-library/httpd/blob/master/2.4/Dockerfile that are not files.
INSTRUCTIONS = (
    f"ENV HTTPD_PREFIX={PREFIX}",
    f"ENV PATH={IMAGE_PATH}:{PATH}",
    f"WORKDIR {PREFIX}",
    "STOPSIGNAL SIGWINCH",
    "EXPOSE 80",
    'CMD ["httpd-foreground"]',
)


def ensure_base(engine: Engine) -> str:
    """Make sure that the base image is here, and print which it is; returns its name. Raises: EngineError."""
    if engine.has_image(IMAGE):
        origin = "already here"
    elif not (reason := pull(engine)):
        origin = "from the registry"
    else:
        print(f"==> {IMAGE} is not available from a registry ({reason}): making a stand-in from source", flush=True)
        make_stand_in(engine)
        origin = "made from source"
    print(f"==> base image {IMAGE}: {origin}, {describe(engine)}", flush=True)
    return IMAGE


def describe(engine: Engine) -> str:
    """Which base image this machine has, and its version of httpd."""
    official = "the official image" if not is_stand_in(engine) else "a stand-in for the official image"
    return f"{official}, httpd {httpd_version(engine)}"


def is_stand_in(engine: Engine) -> bool:
    """Whether the base image on this machine was made by ``make_stand_in``."""
    return engine.image(IMAGE, f'{{{{index .Config.Labels "{LABEL}"}}}}') == STAND_IN


def httpd_version(engine: Engine, image: str = IMAGE) -> str:
    """The version of httpd in an image."""
    return version_in(engine.call("run", "--rm", *engine.run_options(), image, "httpd", "-v").stdout)


def version_in(output: str) -> str:
    """The version in the output of ``httpd -v``."""
    match = re.search(r"Apache/(\S+)", output)
    return match[1] if match else "of an unknown version"


def pull(engine: Engine) -> str:
    """Pull the image; returns why that failed, else an empty string."""
    name = IMAGE if engine.name == "docker" else f"docker.io/library/{IMAGE}"
    try:
        done = engine.call("pull", "--quiet", name, timeout=PULL_LIMIT, check=False)
    except EngineError as error:
        return str(error)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return ""


def make_stand_in(engine: Engine) -> None:
    """Make the image from the source of httpd, as root. Raises: EngineError."""
    if os.geteuid():
        raise EngineError(f"only root can make a stand-in for {IMAGE}")
    install_tools()
    cache = cache_folder()
    try:
        files = base_image(BARE_IMAGE, cache)
    except (SetupError, FileNotFoundError) as error:
        raise EngineError(f"{IMAGE} could not be made from source: {error}") from error
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        script = Path(folder, "usr/local/bin/httpd-foreground")
        script.parent.mkdir(parents=True)
        script.write_text(FOREGROUND, "utf-8")
        script.chmod(0o755)
        tar = Path(folder, "image.tar")
        subprocess.run(["cp", "--reflink=auto", str(files), str(tar)], check=True, timeout=LIMIT)
        add = ["tar", "--owner=0", "--group=0", "-rf", str(tar), "-C", folder, "./usr/local/bin/httpd-foreground"]
        subprocess.run(add, check=True, timeout=LIMIT)
        version = source_version(files)
        labels = (f"LABEL {LABEL}={STAND_IN}", f"LABEL {VERSION_LABEL}={version}")
        changes = [f"--change={line}" for line in (*INSTRUCTIONS, f"ENV HTTPD_VERSION={version}", *labels)]
        engine.call("import", *changes, str(tar), IMAGE, timeout=LIMIT)


def install_tools() -> None:
    """Install the programs that make the files. Raises: EngineError."""
    if subprocess.run([str(HERE / "install.sh")], timeout=LIMIT, check=False).returncode:
        raise EngineError("without them no machine with the layout of the httpd image can be made")


def source_version(files: Path) -> str:
    """The version of httpd in a tar file of the image, from its header ap_release.h."""
    command = ["tar", "-xOf", str(files), f".{PREFIX}/include/ap_release.h"]
    header = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    parts = "MAJORVERSION|MINORVERSION|PATCHLEVEL"
    numbers = re.findall(rf"^#define AP_SERVER_(?:{parts})_NUMBER +(\d+)", header, re.MULTILINE)
    return ".".join(numbers)
