"""setup.py: it finds httpd's headers and OpenSSL's; without them the C module, or a part of it, is not installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from usp_s3_wsgi.cli import apache_config

SETUP = Path(__file__).parents[2] / "setup.py"
FOLDERS = {"INCLUDEDIR": "httpd.h", "APR_INCLUDEDIR": "apr.h", "APU_INCLUDEDIR": "apu.h"}


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """setup.py as a module, on a machine without mod_wsgi-standalone and without the variable APXS."""
    spec = importlib.util.spec_from_file_location("setup_py", SETUP)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "standalone_folders", list)
    monkeypatch.delenv("APXS", raising=False)
    return module


def make_apxs(folder: Path, *, status: int = 0, without: str = "", name: str = "apxs") -> Path:
    """Make an apxs whose httpd has all headers but ``without``, and return its path."""
    lines = ["#!/bin/sh", 'case "$2" in']
    for variable, header in FOLDERS.items():
        include_dir = folder / variable.lower()
        include_dir.mkdir(exist_ok=True)
        if header != without:
            (include_dir / header).write_text("")
        lines.append(f"  {variable}) echo '{include_dir}' ;;")
    lines += ["esac", "echo 'apr-1-config: not found' >&2", f"exit {status}"]
    program = folder / name
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("status", [0, 1])  # 1: APR's own programs are missing, as in the httpd image
@pytest.mark.parametrize("name", ["apxs", "apxs2"])
def test_headers_are_found_by_apxs(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    make_apxs(tmp_path, status=status, name=name)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if name == "apxs2":  # otherwise the machine's apxs is used
        monkeypatch.setenv("APXS", name)
    assert setup.header_folders() == [str(tmp_path / variable.lower()) for variable in FOLDERS]
    (extension,) = setup.extensions()
    assert extension.optional and extension.include_dirs == setup.header_folders()


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize(
    ("header", "package"), [("httpd.h", "apache2-dev"), ("apr.h", "libapr1-dev"), ("apu.h", "libaprutil1-dev")]
)
def test_a_missing_header_is_named_with_its_package(
    setup: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    header: str,
    package: str,
    status: int,
) -> None:
    apxs = make_apxs(tmp_path, status=status, without=header)
    monkeypatch.setenv("APXS", str(apxs))
    assert setup.extensions() == []
    assert capsys.readouterr().err == (
        f"usp_s3_wsgi is built without usp_s3_module: {apxs} leads to no {header} (Debian's package {package})\n"
    )


@pytest.mark.parametrize(
    "text", ["", "#!/nowhere/interpreter\n", "#!/bin/sh\nkill -9 $$\n", "#!/bin/sh\necho /nowhere\n"]
)
def test_an_apxs_that_does_not_work(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    program = tmp_path / "apxs"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("APXS", str(program))
    assert setup.extensions() == []
    (line,) = capsys.readouterr().err.splitlines()
    assert all(package in line for package in ("apache2-dev", "libapr1-dev", "libaprutil1-dev"))


def test_no_apxs_at_all(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APXS", str(tmp_path / "apxs"))
    assert setup.extensions() == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no apxs" in line and "apache2-dev" in line


def make_compiler(folder: Path, status: int) -> Path:
    """Make a compiler that only exits with a status, and return its path."""
    compiler = folder / "compiler"
    compiler.write_text(f"#!/bin/sh\n[ {status} = 0 ] || echo 'x.c:1: fatal error: no such file' >&2\nexit {status}\n")
    compiler.chmod(0o755)
    return compiler


def test_with_openssl_the_module_signs_without_python(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APXS", str(make_apxs(tmp_path)))
    monkeypatch.setenv("CC", str(make_compiler(tmp_path, 0)))
    (extension,) = setup.extensions()
    assert extension.libraries == ["crypto"]
    assert [name for name, _ in extension.define_macros] == ["_REENTRANT", "_GNU_SOURCE"]
    assert capsys.readouterr().err == ""


def test_without_openssl_the_module_is_built_without_its_template_signer(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler = make_compiler(tmp_path, 1)
    monkeypatch.setenv("APXS", str(make_apxs(tmp_path)))
    monkeypatch.setenv("CC", f"{compiler} -pthread")
    (extension,) = setup.extensions()
    assert extension.libraries == []
    assert ("USP_S3_WITHOUT_OPENSSL", None) in extension.define_macros
    assert capsys.readouterr().err == (
        "usp_s3_module is built without its template signer, so Python signs each request: "
        f"{compiler} cannot use OpenSSL 3 (Debian's package libssl-dev): x.c:1: fatal error: no such file\n"
    )


def test_the_compiler_gets_the_options_of_the_environment(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL may be in a folder of its own."""
    compiler = make_compiler(tmp_path, 0)
    compiler.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/options\n')
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("CFLAGS", "-I/opt/openssl/include")
    monkeypatch.setenv("LDFLAGS", "-L/opt/openssl/lib -Wl,-rpath,/opt/openssl/lib")
    assert setup.has_openssl()
    options = (tmp_path / "options").read_text().split()
    assert {"-I/opt/openssl/include", "-L/opt/openssl/lib", "-Wl,-rpath,/opt/openssl/lib", "-lcrypto"} <= set(options)


def test_no_compiler(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CC", "/nowhere/compiler")
    assert not setup.has_openssl()
    assert capsys.readouterr().err == ""  # setuptools says that the module was not built


def test_a_compiler_that_does_not_end(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("cc", 60)

    monkeypatch.setattr(subprocess, "run", run)
    assert not setup.has_openssl()
    assert "has not ended within a minute" in capsys.readouterr().err


def has_openssl_3() -> bool:
    """Whether OpenSSL 3 is on this machine, by its own header."""
    text = "#include <openssl/opensslv.h>\n#if OPENSSL_VERSION_NUMBER < 0x30000000L\n#error\n#endif\n"
    done = subprocess.run(["gcc", "-E", "-"], input=text, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not has_openssl_3(), reason="OpenSSL's headers are not on this machine")
def test_a_second_build_uses_openssl_that_was_installed_meanwhile(setup: ModuleType, tmp_path: Path) -> None:
    """setuptools would reuse the object files: no source has changed."""
    if not setup.extensions():
        pytest.skip("httpd's headers are not on this machine, or those of mod_wsgi-standalone")
    assert setup.has_openssl()
    for name in ("setup.py", "setup.cfg", "README.md"):
        shutil.copy(SETUP.with_name(name), tmp_path)
    for name in ("usp_s3_wsgi", "apache"):
        shutil.copytree(SETUP.with_name(name), tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    without = tmp_path / "compiler"
    without.write_text('#!/bin/sh\ncase "$*" in *-lcrypto*) exit 1 ;; esac\nexec gcc "$@"\n')
    without.chmod(0o755)
    for compiler, is_used in ((f"{without} -pthread", False), ("gcc -pthread", True)):
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "build/lib"],
            cwd=tmp_path, env={**os.environ, "CC": compiler, "CFLAGS": "-O0"},
            capture_output=True, timeout=300, check=True,
        )  # fmt: skip
        (module,) = tmp_path.glob("build/lib/usp_s3_wsgi/_httpd*.so")
        assert apache_config.has_template_signer(module) is is_used


@pytest.mark.parametrize("macro", [(), ("USP_S3_WITHOUT_OPENSSL",)])
def test_the_extension_compiles_without_a_warning(setup: ModuleType, macro: tuple[str, ...]) -> None:
    """The headers of httpd and Python are system headers: their warnings are ignored."""
    extensions = setup.extensions()
    if not extensions:
        pytest.skip("httpd's headers are not on this machine, or those of mod_wsgi-standalone")
    (extension,) = extensions
    headers = [*extension.include_dirs, sysconfig.get_path("include")]
    command = [
        "gcc", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
        *(f"-D{name}" for name in (*dict(extension.define_macros), *macro)),
        *(part for folder in headers for part in ("-isystem", folder)),
        *extension.sources,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=SETUP.parent, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
