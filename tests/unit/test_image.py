"""How ``make image`` and ``make test-image`` choose an engine, and read Dockerfiles and logs."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from tests.image.base import version_in
from tests.image.engine import candidates, declared_arguments, environment_file
from tests.image.httpd_tests import summary

ROOT = Path(__file__).parents[2]
LOG = """\
Server version: Apache/2.4.69 (Unix)
Python 3.13.5
..s..
"""


def test_the_variable_engine_chooses_one_engine() -> None:
    assert candidates("") == ("docker", "podman")
    assert candidates("podman") == ("podman",)
    assert candidates("none") == ()
    with pytest.raises(ValueError, match="docker, podman or none"):
        candidates("lxc")


def test_all_that_is_installed_reaches_the_build_of_the_image() -> None:
    """.dockerignore keeps everything else away from the builder."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = setup["options.data_files"]["share/usp_s3_wsgi"].split()
    passed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert installed and [name for name in installed if not {name, name.partition("/")[0]} & passed] == []


def test_a_build_gets_only_the_arguments_that_its_dockerfile_declares() -> None:
    dockerfile = "FROM httpd:2.4\nARG PIP_CERT\n# ARG OTHER\nARG VERSION=1 \\\n  REVISION\nRUN echo ARG NO\n"
    assert declared_arguments(dockerfile) == {"PIP_CERT", "VERSION", "REVISION"}


def test_a_value_with_two_lines_is_no_second_variable() -> None:
    assert environment_file({"A": "b c=#'", "B": ""}) == "A=b c=#'\nB=\n"
    with pytest.raises(ValueError, match="the value of KEY has more than one line") as error:
        environment_file({"KEY": "secret\nC=d"})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("log", "status", "expected"),
    [
        (LOG + "4 passed, 1 skipped in 2.00s\n", 0, (True, "4 passed, 0 failed, 1 skipped in 60 s")),
        (
            LOG + "FAILED tests/a.py::test_b - assert\n1 failed, 4 passed in 2.00s\n",
            1,
            (False, "4 passed, 1 failed, 0 skipped in 60 s\n    tests/a.py::test_b"),
        ),
        (LOG + "5 skipped in 2.00s\n", 0, (False, "FAILED before the first test: 5 skipped in 2.00s")),
        ("fatal: no bundle\n", 128, (False, "FAILED before the first test: fatal: no bundle")),
    ],
)
def test_the_summary_of_the_tests_of_httpd(log: str, status: int, expected: tuple[bool, str]) -> None:
    passed, line = summary(log, status, 60)
    assert (passed, line.removeprefix("httpd 2.4.69, Python 3.13.5: ")) == expected


def test_the_version_of_httpd() -> None:
    assert version_in("Server version: Apache/2.4.69 (Unix)\nServer built:   Nov 27 2026\n") == "2.4.69"
    assert version_in("") == "of an unknown version"
