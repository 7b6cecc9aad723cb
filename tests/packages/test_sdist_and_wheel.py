"""The sdist and the wheel that is built from it: what they contain, and both ways in with the wheel alone.

Nothing is downloaded: the empty environments get copies of pip and of the libraries of this environment.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import usp_s3_wsgi
from tests.httpd.conftest import BUCKET
from tests.httpd.machine import has_openssl
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3
from usp_s3_wsgi.cli import apache_config

ROOT = Path(__file__).parents[2]
VERSION = usp_s3_wsgi.__version__
NAME = f"usp_s3_wsgi-{VERSION}"
LIMIT = 300
#: The folders and files of an sdist, besides those that setuptools adds.
SDIST = (
    "usp_s3_wsgi apache docs CHANGELOG.md CONTRIBUTING.md LICENSE MANIFEST.in NOTICE README.md SECURITY.md "
    "pyproject.toml setup.py"
).split()
#: What is not part of a checkout: caches, environments, builds.
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "build", "*.egg-info", "*.so")
#: What pip needs to compile without a download (--no-build-isolation).
BUILD_TOOLS = ("pip", "setuptools", "wheel", "packaging")
#: setuptools' warnings of files and folders that are not there, or that MANIFEST.in leaves out.
HARMLESS = re.compile(r"no previously-included files matching|byte-compiling is disabled")
DATA = bytes(range(256)) * 28


class Empty:
    """A virtual environment with copies of the given distributions, and with nothing else."""

    def __init__(self, prefix: Path, distributions: Iterable[str]) -> None:
        venv.create(prefix, with_pip=False)
        self.prefix = prefix
        (self.site_packages,) = (prefix / "lib").glob("python3.*/site-packages")
        for name in distributions:
            for file in importlib.metadata.distribution(name).files or ():
                if ".." not in file.parts and "__pycache__" not in file.parts:  # scripts have the path of their Python
                    target = self.site_packages / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(str(file.locate()), target)

    def pip(self, *arguments: str | Path, variables: Mapping[str, str] | None = None) -> str:
        """Run pip without an index; returns its output."""
        return run(self.prefix / "bin" / "python", "-m", "pip", *arguments, variables=variables)

    def usp_s3(self, *arguments: str) -> str:
        """Run the command of the installed package; returns what it prints to stdout."""
        done = subprocess.run(
            [self.prefix / "bin" / "usp-s3", *arguments],
            cwd="/", env=environment(), capture_output=True, text=True, timeout=LIMIT, check=True,
        )  # fmt: skip
        return done.stdout


class Installed(Httpd):
    """A server that loads this environment's mod_wsgi, and the package of another environment."""

    def __init__(self, config: str, lines: str) -> None:
        super().__init__(config)
        self.lines = f'LoadModule wsgi_module "{apache_config.mod_wsgi_module()}"\n{lines}'

    def gateway_lines(self) -> str:
        return self.lines


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, without what would add packages or an index."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    return {
        **kept,
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        **(variables or {}),
    }


def run(*command: str | Path, cwd: Path = Path("/"), variables: Mapping[str, str] | None = None) -> str:
    """Run a command; returns what it prints to stdout and stderr."""
    done = subprocess.run(
        command, cwd=cwd, env=environment(variables),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def warnings(output: str) -> list[str]:
    """The warnings in the output of a build, without the harmless ones."""
    lines = [line for line in output.splitlines() if re.search(r"warning|deprecated", line, re.IGNORECASE)]
    return [line for line in lines if not HARMLESS.search(line)]


def without_headers(folder: Path) -> dict[str, str]:
    """The variables of a build on a machine without httpd's headers."""
    (folder / "bin").mkdir(exist_ok=True)
    variables = {"PATH": str(folder / "bin")}
    if any(Path(other, "apxs").exists() for other in ("/usr/sbin", "/usr/local/apache2/bin")):
        variables["APXS"] = "/nowhere/apxs"  # setup.py looks there in any case
    return variables


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that httpd's children can read."""
    with tempfile.TemporaryDirectory(prefix="packages-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def checkout(folder: Path) -> Path:
    """A copy of the sources: a build leaves files in them."""
    return Path(shutil.copytree(ROOT, folder / "checkout", ignore=LEFT_OUT))


@pytest.fixture(scope="module")
def sdist(folder: Path, checkout: Path) -> Path:
    """The sdist, made as a frontend such as "python -m build" does."""
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    output = run(sys.executable, "-W", "default", "-c", code, folder / "dist", cwd=checkout)
    assert warnings(output) == []
    return folder / "dist" / f"{NAME}.tar.gz"


@pytest.fixture(scope="module")
def make_wheel(folder: Path, sdist: Path) -> Callable[..., tuple[Path, str]]:
    """Builds a wheel from the sdist; returns it, and what pip and setuptools have printed."""

    def make(name: str, variables: Mapping[str, str] | None = None) -> tuple[Path, str]:
        command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-build-isolation", "--no-deps"]
        output = run(*command, "--wheel-dir", folder / name, sdist, variables=variables)
        (wheel,) = (folder / name).iterdir()
        return wheel, output

    return make


@pytest.fixture(scope="module")
def wheel(make_wheel: Callable[..., tuple[Path, str]]) -> Path:
    if apache_config.extension_module() is None:
        pytest.skip("httpd's headers are not on this machine")
    path, output = make_wheel("wheel")
    assert warnings(output) == []
    return path


def files_below(root: Path, *names: str) -> set[str]:
    """The paths of all files of these folders and files, relative to the root."""
    paths = [path for name in names for path in (root / name, *(root / name).rglob("*"))]
    return {path.relative_to(root).as_posix() for path in paths if path.is_file()}


def content_of_wheel(module: Iterable[str]) -> set[str]:
    """What a wheel must contain; ``module``: the name of the compiled C module, if there is one."""
    suffixes = {".py", ".pyi", ".typed", ".html", ".css", ".js"}
    sources = {name for name in files_below(ROOT, "usp_s3_wsgi") if Path(name).suffix in suffixes}
    shared = {Path(name).name for name in files_below(ROOT, "apache/scripts", "apache/include")}
    metadata = "METADATA RECORD WHEEL entry_points.txt top_level.txt licenses/LICENSE licenses/NOTICE".split()
    return {
        *sources,
        f"{NAME}.data/data/share/usp_s3_wsgi/errors.md",
        *(f"{NAME}.data/data/share/man/man1/{Path(name).name}" for name in files_below(ROOT, "docs/man")),
        *(f"{NAME}.data/data/share/usp_s3_wsgi/{name}" for name in shared if not name.endswith(".pyc")),
        *(f"{NAME}.dist-info/{name}" for name in metadata),
        *(f"usp_s3_wsgi/{name}" for name in module),
    }


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def dependencies() -> list[str]:
    """The distributions that this package requires, and those that they require, without extras."""
    found: dict[str, None] = {}
    waiting = ["usp_s3_wsgi"]
    while waiting:
        for requirement in importlib.metadata.requires(waiting.pop()) or ():
            match = re.match(r"[\w.-]+", requirement)
            assert match
            if "extra ==" not in requirement and match[0] not in found:
                found[match[0]] = None
                waiting.append(match[0])
    return list(found)


@contextmanager
def serving(lines: str, *, has_module: bool) -> Iterator[Httpd]:
    """A real httpd with both ways to the bucket of an embedded S3 that has an object."""
    with EmbeddedS3(buckets=(BUCKET,)) as s3:
        s3.put(BUCKET, "film.mp4", DATA)
        keys = f"SetEnv S3AccessKey {s3.access_key}\nSetEnv S3SecretKey {s3.secret_key}\nSetEnv S3Region {s3.region}\n"
        config = (
            f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n"
            f"<Location /media>\nSetEnv S3BucketURL {s3.url}/{BUCKET}/\n{keys}</Location>\n"
        )
        if has_module:
            config += f'ProxyPass /proxied {s3.url}/{BUCKET}\n<Proxy "{s3.url}/{BUCKET}/">\n{keys}</Proxy>\n'
        with Installed(config, lines) as httpd:
            yield httpd
            assert httpd.unexpected_errors() == []


def test_the_sdist_has_all_sources(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.removeprefix(f"{NAME}/") for member in archive.getmembers() if member.isfile()}
    generated = {"PKG-INFO", "setup.cfg", *(name for name in names if name.startswith("usp_s3_wsgi.egg-info/"))}
    assert names - generated == files_below(sdist.parents[1] / "checkout", *SDIST)
    assert any(name.endswith("mod_usp_s3/mod_usp_s3.h") for name in names)


def test_the_wheel_has_all_files(wheel: Path) -> None:
    extension = apache_config.extension_module()
    assert extension is not None
    assert names_in(wheel) == content_of_wheel([extension.name])
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{tag}-{tag}-linux_" in wheel.name  # not for another Python


def test_the_wheel_serves_both_ways_in(wheel: Path, folder: Path) -> None:
    empty = Empty(folder / "installed", ("pip", *dependencies()))
    empty.pip("install", wheel)  # it finds its dependencies in the environment, else it fails: there is no index
    empty.pip("check")
    assert empty.usp_s3("--version") == f"{VERSION}\n"
    lines = empty.usp_s3("apache-config", "--no-module")
    assert str(Path(sys.prefix).resolve()) not in lines
    assert ("usp_s3_module has its template signer" in lines) is has_openssl()
    assert (empty.site_packages / "usp_s3_wsgi" / "py.typed").exists()
    with serving(lines, has_module=True) as httpd:
        for mount in ("/media", "/proxied"):
            assert httpd.fetch(f"{mount}/film.mp4").body == DATA
            assert httpd.fetch(f"{mount}/none").status == 404


def test_without_httpds_headers(
    make_wheel: Callable[..., tuple[Path, str]], sdist: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip says why; the gateway works, and the lines for Apache say what does not."""
    if importlib.util.find_spec("mod_wsgi_packages"):
        pytest.skip("mod_wsgi-standalone has httpd's headers")
    monkeypatch.delenv("APXS", raising=False)
    variables = without_headers(folder)
    wheel, output = make_wheel("without", variables)
    reason = "usp_s3_wsgi is built without usp_s3_module: there is no apxs, which Debian's package apache2-dev brings"
    assert reason in output and warnings(output) == []
    assert names_in(wheel) == content_of_wheel([])
    assert wheel.name == f"{NAME}-py3-none-any.whl"
    empty = Empty(folder / "without_module", (*BUILD_TOOLS, *dependencies()))
    assert reason in empty.pip("install", "-v", "--no-build-isolation", sdist, variables=variables)
    lines = empty.usp_s3("apache-config", "--no-module")
    assert "# This installation cannot sign in <Proxy> sections" in lines and "usp_s3_module" not in lines
    with serving(lines, has_module=False) as httpd:
        assert httpd.fetch("/media/film.mp4").body == DATA
