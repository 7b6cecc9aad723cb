"""What httpd's scripts load the package with: it finds this installation, and leaves the path as it was."""

from __future__ import annotations

import configparser
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from usp_s3_wsgi import aws

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "apache" / "own_packages.py"


@pytest.fixture
def own_packages(tmp_path: Path) -> ModuleType:
    """The script in an installation of its own."""
    script = tmp_path / "share" / "usp_s3_wsgi" / "own_packages.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT.read_text("utf-8"))
    spec = importlib.util.spec_from_file_location("_", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def packages(own_packages: ModuleType) -> Path:
    folder = Path(own_packages.PACKAGES)
    folder.mkdir(parents=True)
    return folder


def test_the_packages_are_found_and_the_path_is_as_it_was(own_packages: ModuleType, packages: Path) -> None:
    (packages / "only_here.py").write_text("import sys\nFIRST = sys.path[0]\n")
    before = list(sys.path)
    assert str(packages) == own_packages.load("only_here").FIRST
    assert sys.path == before
    del sys.modules["only_here"]


def test_a_package_for_another_python_is_told(
    own_packages: ModuleType, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.partition(".")[0] == "usp_s3_wsgi"]:
        monkeypatch.delitem(sys.modules, name)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(ImportError, match=f"not installed for Python {version}, .* it is not in {packages}"):
        own_packages.load("usp_s3_wsgi.application")
    assert sys.path == []


def test_another_missing_module_keeps_its_own_words(own_packages: ModuleType, packages: Path) -> None:
    (packages / "needs_another.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere_to_be_found'"):
        own_packages.load("needs_another")


@pytest.mark.parametrize(
    ("version", "is_too_old"), [("1.26.20", True), ("2.2.3", True), ("2.3.0", False), ("3.0", False)]
)
def test_a_library_that_is_loaded_already_must_be_new_enough(
    own_packages: ModuleType, packages: Path, version: str, is_too_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (packages / "ours.py").touch()
    loaded = ModuleType("library")
    loaded.__version__, loaded.__path__ = version, ["/elsewhere/library"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "library", loaded)
    if is_too_old:
        with pytest.raises(
            ImportError, match=rf"library {re.escape(version)} of /elsewhere/library is loaded .* needs 2\.3"
        ):
            own_packages.load("ours", library="2.3")
    else:
        own_packages.load("ours", library="2.3")
    assert str(packages) not in sys.path


def lowest(text: str, name: str) -> str:
    """The lowest version that setup.cfg allows."""
    found = re.search(rf"^{name} >= ([0-9.]+)", text, re.MULTILINE)
    assert found
    return found[1]


def test_the_lowest_versions_are_those_of_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    script = (ROOT / "apache" / "usp_s3.wsgi").read_text("utf-8")
    assert f'urllib3="{lowest(config["options"]["install_requires"], "urllib3")}"' in script
    assert ".".join(map(str, aws._OLDEST)) == lowest(config["options.extras_require"]["aws"], "botocore")
