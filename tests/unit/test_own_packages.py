"""own_packages.py, which imports the package in httpd: it finds this installation and does not change sys.path."""

from __future__ import annotations

import configparser
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from usp_s3_wsgi import import_path
from usp_s3_wsgi.credentials import aws

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "apache" / "scripts" / "own_packages.py"


@pytest.fixture
def own_packages(tmp_path: Path) -> ModuleType:
    """The script, as a copy in an empty installation."""
    script = tmp_path / "share" / "usp_s3_wsgi" / "own_packages.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT.read_text("utf-8"))
    spec = importlib.util.spec_from_file_location("_", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_package_for_another_python_is_named(own_packages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "usp_s3_wsgi"]:
        monkeypatch.delitem(sys.modules, name)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    message = f"not installed for Python {version}, .* it is not in {own_packages.SITE_PACKAGES}"
    with pytest.raises(ImportError, match=message):
        own_packages.load("usp_s3_wsgi.gateway.handler")
    assert "usp_s3_wsgi" not in sys.modules


#: Two installations of a library: this package's, and another application's in sys.path. Two threads import at once.
TWO_INSTALLATIONS = """
import importlib.util, sys, threading
before = list(sys.path)
spec = importlib.util.spec_from_file_location("_", sys.argv[1])
own = importlib.util.module_from_spec(spec)
spec.loader.exec_module(own)
found = {}

def import_in_other_application():
    import theirs_alone, shared_name
    found["theirs"] = theirs_alone.__file__, shared_name.__file__

package = own.load("usp_s3_wsgi")
package.waiting, package.go_on = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: found.update(ours=own.load("usp_s3_wsgi.part").ours_alone.__file__))
thread.start()
assert package.waiting.wait(20)
import_in_other_application()
package.go_on.set()
thread.join(20)
assert sys.path == before
try:
    import ours_alone_too
    print("found without load()")
except ImportError:
    pass
print(found["ours"], *found["theirs"])
"""


def test_only_imports_of_this_package_find_its_libraries(tmp_path: Path) -> None:
    """A concurrent import in another thread does not find them."""
    script = tmp_path / "share" / "usp_s3_wsgi" / "own_packages.py"
    packages = tmp_path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    theirs = tmp_path / "theirs"
    for folder in (script.parent, packages / "usp_s3_wsgi", theirs):
        folder.mkdir(parents=True)
    script.write_text(SCRIPT.read_text("utf-8"))
    (packages / "usp_s3_wsgi" / "__init__.py").touch()
    (packages / "usp_s3_wsgi" / "import_path.py").write_text(Path(import_path.__file__).read_text("utf-8"))
    part = "import usp_s3_wsgi as package\npackage.waiting.set()\nassert package.go_on.wait(20)\nimport ours_alone\n"
    (packages / "usp_s3_wsgi" / "part.py").write_text(part)
    for name in ("ours_alone", "ours_alone_too", "shared_name"):
        (packages / f"{name}.py").touch()
    for name in ("theirs_alone", "shared_name"):
        (theirs / f"{name}.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", TWO_INSTALLATIONS, str(script)],
        env={"PYTHONPATH": str(theirs)}, capture_output=True, text=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip
    assert done.stderr == ""
    expected = packages / "ours_alone.py", theirs / "theirs_alone.py", theirs / "shared_name.py"
    assert done.stdout.split() == [str(path) for path in expected]


#: Two threads import modules of a library that import each other: each waits for the module that the other one loads.
TWO_THREADS = """
import importlib.util, sys, threading
own = []
for _ in range(2):  # as two scripts of httpd do
    spec = importlib.util.spec_from_file_location("_", sys.argv[1])
    own.append(importlib.util.module_from_spec(spec))
    spec.loader.exec_module(own[-1])
threads = [
    threading.Thread(target=module.load, args=[name])
    for module, name in zip(own, ["usp_s3_wsgi.first", "usp_s3_wsgi.second"])
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(20)
print(*sorted(name for name in sys.modules if name.startswith("library.")))
"""


def test_two_threads_may_import_at_once(tmp_path: Path) -> None:
    """A new child of httpd gets a request for the gateway, and fetches credentials for another bucket.

    Python ends such a wait with a module that is loaded in part: https://github.com/python/cpython/issues/83065
    """
    script = tmp_path / "share" / "usp_s3_wsgi" / "own_packages.py"
    packages = tmp_path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for folder in (script.parent, packages / "usp_s3_wsgi", packages / "library"):
        folder.mkdir(parents=True)
    script.write_text(SCRIPT.read_text("utf-8"))
    for path, text in {
        "usp_s3_wsgi/__init__.py": "",
        "usp_s3_wsgi/import_path.py": Path(import_path.__file__).read_text("utf-8"),
        "usp_s3_wsgi/first.py": "import library.one\nassert library.one.two.VALUE == 1\n",
        "usp_s3_wsgi/second.py": "import library.two\nassert library.two.one.VALUE == 1\n",
        "library/__init__.py": "",
        # Alone, either of the two may be imported first.
        "library/one.py": "import time\ntime.sleep(0.5)\nimport library.two as two\ntime.sleep(0.5)\nVALUE = 1\n",
        "library/two.py": "import time\ntime.sleep(0.5)\nimport library.one as one\ntime.sleep(0.5)\nVALUE = 1\n",
    }.items():
        (packages / path).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", TWO_THREADS, str(script)],
        capture_output=True, text=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == ["library.one", "library.two"]


@pytest.mark.parametrize(
    ("version", "is_too_old"), [("1.26.20", True), ("2.2.3", True), ("2.3.0", False), ("3.0", False)]
)
def test_a_loaded_library_must_have_the_lowest_version(
    own_packages: ModuleType, version: str, is_too_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = ModuleType("library")
    loaded.__version__, loaded.__path__ = version, ["/elsewhere/library"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "library", loaded)
    if is_too_old:
        with pytest.raises(
            ImportError, match=rf"library {re.escape(version)} of /elsewhere/library is loaded .* needs 2\.3"
        ):
            own_packages.load("usp_s3_wsgi.config.parsers", library="2.3")
    else:
        own_packages.load("usp_s3_wsgi.config.parsers", library="2.3")


def lowest_version(text: str, name: str) -> str:
    """Return the lowest version that setup.cfg allows."""
    found = re.search(rf"^{name} >= ([0-9.]+)", text, re.MULTILINE)
    assert found
    return found[1]


def test_the_lowest_versions_are_those_of_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    script = (ROOT / "apache" / "scripts" / "usp_s3.wsgi").read_text("utf-8")
    for name in ("urllib3", "httptools"):
        lowest = lowest_version(config["options"]["install_requires"], name)
        assert f'{name}="{".".join(lowest.split(".")[:2])}"' in script
    assert ".".join(map(str, aws.MIN_BOTOCORE)) == lowest_version(config["options.extras_require"]["aws"], "botocore")
