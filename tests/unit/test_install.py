"""tests/install.sh tells an ordinary user what is missing, before it changes anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_setup import FOLDERS, make_apxs

TESTS = Path(__file__).parents[1]
#: The interpreter of this virtual environment, which has everything that the script requires.
PYTHON = os.path.realpath(sys.executable)
#: nobody: a user who owns no files.
UID = 65_534


@pytest.fixture
def clone() -> Iterator[Path]:
    """The files of a clone that the script reads, in a folder that every user can read, with an unusual name."""
    folder = Path(tempfile.mkdtemp(prefix="test-install-"))
    folder.chmod(0o755)
    root = folder / "somebody's clone"
    shutil.copytree(TESTS / "requirements", root / "tests" / "requirements")
    shutil.copy(TESTS / "install.sh", root / "tests")
    shutil.copy(TESTS / "remove_venv.sh", root / "tests")
    # There is no program of this name where mod_wsgi-standalone has the only httpd.
    (folder / "httpd").write_text("#!/bin/sh\n")
    (folder / "httpd").chmod(0o755)
    yield root
    shutil.rmtree(folder)


def install(clone: Path, path: str = "/usr/bin:/bin", **environment: str) -> str:
    """Run the script as an ordinary user from another folder, and return its error output."""
    is_root = os.geteuid() == 0
    done = subprocess.run(
        ["/bin/sh", str(clone / "tests" / "install.sh"), ".venv"],
        cwd="/", env={"PYTHON": PYTHON, **environment, "PATH": f"{path}:{clone.parent}"},
        capture_output=True, text=True, timeout=60, check=False,
        user=UID if is_root else None, group=UID if is_root else None, extra_groups=[] if is_root else None,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert not (clone / ".venv").exists()
    return done.stderr


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "/nowhere"])
@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("variable", FOLDERS)
def test_a_missing_header_is_named_with_its_package(clone: Path, variable: str, status: int, path: str) -> None:
    """In the httpd image apxs works but exits with status 1, and the headers of APR are missing."""
    package = {"INCLUDEDIR": "apache2-dev", "APR_INCLUDEDIR": "libapr1-dev", "APU_INCLUDEDIR": "libaprutil1-dev"}[
        variable
    ]
    apxs = make_apxs(clone.parent, status=status, without=FOLDERS[variable])
    output = install(clone, path, APXS=str(apxs))
    assert f"As root: apt-get install {package} \n" in output


def compiler_without_openssl(clone: Path) -> str:
    """A search path with a gcc that does not find OpenSSL's headers."""
    compilers = clone.parent / "compilers"
    compilers.mkdir()
    (compilers / "gcc").write_text("#!/bin/sh\nexit 1\n")
    (compilers / "gcc").chmod(0o755)
    return f"{compilers}:/usr/bin:/bin"


def test_missing_headers_of_openssl_are_named_with_the_other_packages(clone: Path) -> None:
    apxs = make_apxs(clone.parent, without="apr.h")
    output = install(clone, compiler_without_openssl(clone), APXS=str(apxs))
    assert "As root: apt-get install libapr1-dev libssl-dev\n" in output


def test_openssl_is_not_required(clone: Path) -> None:
    """Python signs then. Here the script goes on, and fails later, because this Python is too old."""
    old = clone.parent / "python3"
    old.write_text('#!/bin/sh\ncase "$*" in *version_info*) exit 1 ;; esac\n')
    old.chmod(0o755)
    path = compiler_without_openssl(clone)
    assert "is older than Python 3.11" in install(clone, path, APXS=str(make_apxs(clone.parent)), PYTHON=str(old))


def test_an_apxs_that_is_not_a_program(clone: Path) -> None:
    assert "APXS is /nowhere/apxs, which is no program" in install(clone, APXS="/nowhere/apxs")


def test_a_python_that_is_too_old(clone: Path) -> None:
    old = clone.parent / "python3"
    old.write_text('#!/bin/sh\ncase "$*" in *version_info*) exit 1 ;; esac\n')
    old.chmod(0o755)
    apxs = make_apxs(clone.parent)
    assert f"{old} is older than Python 3.11" in install(clone, APXS=str(apxs), PYTHON=str(old))


@pytest.fixture
def outside() -> Iterator[Path]:
    """A virtual environment where install.sh makes those that cannot be in the clone."""
    folder = Path(tempfile.mkdtemp(prefix="usp_s3_wsgi.", dir="/var/tmp"))
    # tempfile's names have eight characters, those of mktemp in install.sh six; "_" is not one of them.
    renamed = folder.rename(folder.with_name(f"usp_s3_wsgi.{folder.name[-8:].replace('_', 'x')[:6]}"))
    (renamed / "venv" / "bin").mkdir(parents=True)
    yield renamed / "venv"
    shutil.rmtree(renamed, ignore_errors=True)


def remove_venv(*paths: Path) -> None:
    subprocess.run([TESTS / "remove_venv.sh", *paths], check=True, timeout=60)


def test_an_environment_outside_of_the_clone_is_removed_with_its_folder(tmp_path: Path, outside: Path) -> None:
    link = tmp_path / ".venv"
    link.symlink_to(outside)
    remove_venv(link)
    assert not link.is_symlink()
    assert not outside.parent.exists()


@pytest.mark.parametrize("target", ["venvs/of-the-user", "usp_s3_wsgi.abcdef/venv", "/var/tmp/usp_s3_wsgi.a/../b/venv"])
def test_of_another_link_only_the_link_is_removed(tmp_path: Path, target: str) -> None:
    """A user may have made it: to an environment that others use as well, with other files beside it."""
    kept = tmp_path / "venvs" / "of-the-user" / "bin"
    kept.mkdir(parents=True)
    (kept.parent.parent / "another-project").mkdir()
    (tmp_path / "usp_s3_wsgi.abcdef" / "venv").mkdir(parents=True)
    link = tmp_path / ".venv"
    link.symlink_to(target)
    remove_venv(link)
    assert not link.is_symlink()
    assert kept.is_dir()
    assert (tmp_path / "venvs" / "another-project").is_dir()
    assert (tmp_path / "usp_s3_wsgi.abcdef" / "venv").is_dir()


def test_folders_and_what_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    remove_venv(tmp_path / ".venv", tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_only_this_script_removes_environments() -> None:
    makefile = (TESTS.parent / "Makefile").read_text("utf-8")
    assert "tests/remove_venv.sh .venv" in makefile
    assert not re.search(r"rm -rf[^\n]*venv", makefile + (TESTS / "install.sh").read_text("utf-8"))
