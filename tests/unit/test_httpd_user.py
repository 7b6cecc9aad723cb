"""Whether Apache's user can read an installation: ``usp-s3 apache-config`` warns before every request fails."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from pathlib import Path

import pytest

from tests.httpd.machine import apache_user
from usp_s3_wsgi.cli import apache_config, httpd_user
from usp_s3_wsgi.cli.main import main

#: A user who owns no file and is in no group.
STRANGER = 4_000_000_000


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A file in a directory that all users can read, apart from the directories above it."""
    file = tmp_path / "opt" / "share" / "usp_s3.wsgi"
    file.parent.mkdir(parents=True)
    file.touch()
    for path in (file.parent, file.parent.parent):
        path.chmod(0o755)
    file.chmod(0o644)
    return file


def unreadable(file: Path, below: Path) -> Path | None:
    """Return the first directory below another one, or the file itself, that a stranger cannot read."""
    parts = [part for part in (*reversed(file.parents), file) if below in part.parents]
    return next((part for part in parts if not httpd_user.is_readable(part, STRANGER, set())), None)


@pytest.mark.parametrize(("part", "mode"), [("", 0o700), ("share", 0o744), ("share/usp_s3.wsgi", 0o640)])
def test_files_installed_with_umask_077_are_found(installation: Path, part: str, mode: int) -> None:
    top = installation.parents[1]
    assert unreadable(installation, top.parent) is None
    (top / part).chmod(mode)
    assert unreadable(installation, top.parent) == top / part


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "expected"),
    [
        (0o604, 5, set(), True),
        (0o640, 5, {7}, True),
        (0o604, 5, {7}, False),  # only the bits of the group apply to its members
        (0o044, 4, set(), False),
        (0o400, 4, set(), True),
        (0o000, 0, set(), True),
    ],
)
def test_permission_bits_are_applied_as_by_the_kernel(
    mode: int, uid: int, groups: set[int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.stat_result((0o100000 | mode, 0, 0, 1, 4, 7, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda path: status)
    assert httpd_user.is_readable(Path("/file"), uid, groups) is expected


def test_apache_config_warns_of_unreadable_files(
    installation: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installation.chmod(0o600)
    monkeypatch.setattr(httpd_user, "user_id", lambda programs: STRANGER)
    monkeypatch.setattr(httpd_user, "files", lambda share: [installation])
    monkeypatch.setattr(httpd_user, "is_readable", lambda path, uid, groups: path != installation)
    assert main(["apache-config", "--no-module"]) == 0
    out, err = capsys.readouterr()
    assert "Define USP_S3_WSGI" in out
    assert err == (
        f"usp-s3: the user of Apache's children (#{STRANGER}) cannot read {installation}: they will answer 500. "
        "Install into a directory that all users can read, with umask 022 (chmod -R go+rX repairs an installation)\n"
    )


def test_this_installation_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """These are checked: Python's library, the package, its dependencies, and the scripts."""
    checked = {str(path) for path in httpd_user.files(apache_config.share_directory())}
    for part in (
        os.__file__,
        "usp_s3_wsgi/gateway/handler.py",
        "urllib3/connection.py",
        "httptools/__init__.py",
        "share/usp_s3_wsgi/usp_s3.wsgi",
    ):
        assert any(path.endswith(part) for path in checked), part
    if os.geteuid() == 0 and Path(sys.prefix).resolve().stat().st_mode & 0o005:
        user = pwd.getpwnam(apache_user().pw_name)
        assert httpd_user.first_unreadable(user.pw_uid, [apache_config.share_directory() / "usp_s3.wsgi"]) is None


def test_there_is_no_warning_without_apache(monkeypatch: pytest.MonkeyPatch, installation: Path) -> None:
    monkeypatch.setattr(httpd_user, "user_id", lambda programs: None)
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    assert httpd_user.warnings(installation.parent) == []


def test_an_apache_that_does_not_print_its_user(monkeypatch: pytest.MonkeyPatch, installation: Path) -> None:
    monkeypatch.setattr(httpd_user, "user_id", lambda programs: None)
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/usr/sbin/{name}")
    assert httpd_user.warnings(installation.parent) == [
        "could not check whether Apache's user can read this installation: /usr/sbin/apache2ctl -t -D DUMP_RUN_CFG "
        "does not print the user"
    ]


@pytest.mark.parametrize(
    ("line", "uid"),
    [
        ('User: name="www-data" id=33', 33),
        ('User: name="#1234" id=1234', 1234),
        ('User: name="www-data" id=33 not_used', None),  # run by another user than root
        ('Group: name="www-data" id=33', None),
    ],
)
def test_the_user_in_the_dump_of_httpd(line: str, uid: int | None) -> None:
    assert httpd_user.user_in(f'ServerRoot: "/etc/apache2"\n{line}\nMutex x\n') == uid


@pytest.mark.parametrize("command", ["exit 1", "sleep 0; echo no", "echo 'User: name=\"x\" id=42'"])
def test_the_user_is_that_of_a_running_httpd_otherwise(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "apachectl"
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    monkeypatch.setattr(httpd_user, "_uid_of_running_httpd", lambda: 7)
    assert httpd_user.user_id(["/nowhere/httpd", str(program)]) == (42 if "id=42" in command else 7)


def test_debians_httpd_without_its_control_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package apache2-bin has only apache2."""
    program = tmp_path / "apache2"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert httpd_user.programs()[-1] == str(program)
    monkeypatch.setattr(httpd_user, "user_id", lambda programs: None)
    monkeypatch.setattr(httpd_user, "programs", lambda: [str(program)])
    assert httpd_user.warnings(tmp_path) == []  # it has no configuration
