"""The locked versions: each is within the range of setup.cfg and has hashes. "make lock" updates them."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKED = ROOT / "tests" / "requirements"


def requirements(*extras: str) -> list[Requirement]:
    """Return the requirements of extras in setup.cfg; "" is the package itself."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [
        config["options.extras_require"][name] if name else config["options"]["install_requires"] for name in extras
    ]
    return [Requirement(line) for text in lists for line in text.split("\n") if line]


def locked_versions(*names: str) -> dict[str, list[Version]]:
    """Return the versions in lock files; a package may have several, for different versions of Python."""
    versions: dict[str, list[Version]] = {}
    for name in names:
        text = (LOCKED / f"{name}.txt").read_text()
        for package, version in re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", text, re.MULTILINE):
            versions.setdefault(canonicalize_name(package), []).append(Version(version))
    return versions


@pytest.mark.parametrize(
    ("extras", "files"),
    [
        (["", "test", "lint", "coverage", "aws"], ["newest/test"]),
        (["httpd"], ["newest/httpd"]),
        (["httpd"], ["lowest/httpd"]),
        (["", "test", "aws"], ["lowest/test"]),
        (["", "aws", "metrics", "status"], ["package"]),
        (["bench"], ["bench"]),
        (["servers"], ["servers"]),
        (["monitoring"], ["monitoring"]),
        (["fuzz"], ["fuzz"]),
        (["docs"], ["docs"]),
    ],
    ids=lambda value: "+".join(value),
)
def test_each_requirement_is_locked_within_its_range(extras: list[str], files: list[str]) -> None:
    versions = locked_versions(*files)
    for requirement in requirements(*extras):
        found = versions[canonicalize_name(requirement.name)]
        assert all(version in requirement.specifier for version in found), requirement


def test_the_lowest_versions_are_those_that_setup_cfg_names() -> None:
    versions = locked_versions("lowest/test", "lowest/httpd")
    for requirement in requirements("", "test", "aws", "httpd"):
        (bound,) = (part for part in requirement.specifier if part.operator in {">=", "=="})
        assert versions[canonicalize_name(requirement.name)] == [Version(bound.version)], requirement


@pytest.mark.parametrize("path", sorted(LOCKED.rglob("*.txt")), ids=lambda path: str(path.relative_to(LOCKED)))
def test_each_version_has_hashes(path: Path) -> None:
    entries = re.split(r"^(?=[a-z])", path.read_text(), flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^ ]+ ", entry) and "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("added", ["bench", "servers", "monitoring", "fuzz", "docs", "package"])
def test_lock_files_that_are_installed_together_have_the_same_versions(added: str) -> None:
    tests, others = locked_versions("newest/test"), locked_versions(added)
    assert {name: versions for name, versions in others.items() if name in tests and versions != tests[name]} == {}
