"""The command usp-s3: it prints lines that httpd can use, or a message, and exits with a status."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import usp_s3_wsgi
from tests.httpd.machine import compile_shared, has_openssl
from usp_s3_wsgi.cli import apache_config
from usp_s3_wsgi.cli.main import main

APACHE_FILES = (
    "usp_s3.wsgi", "own_packages.py", "gateway.conf", "mpm_event.conf", "usp_s3_access.py", "proxy.conf",
)  # fmt: skip
SIGNATURE = Path(usp_s3_wsgi.__file__).parent / "proxy" / "mod_usp_s3" / "signature.c"
QUOTED = re.compile(r'"([^"]+)"$')


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files that Apache includes, as in an installation."""
    folder = tmp_path / "share dir"
    folder.mkdir()
    for name in APACHE_FILES:
        (folder / name).touch()
    monkeypatch.setattr(apache_config, "share_directory", lambda: folder)
    monkeypatch.setattr(apache_config, "extension_module", lambda: None)
    return folder


def test_apache_config_prints_lines_whose_files_exist(capsys: pytest.CaptureFixture[str]) -> None:
    # The lines of this installation, with LoadModule if it has mod_wsgi.
    no_module = ["--no-module"] if not _has_mod_wsgi() else []
    assert main(["apache-config", *no_module]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("LoadModule wsgi_module" if not no_module else "Define USP_S3_PYTHON_HOME")
    for line in lines:
        if "${USP_S3_PYTHON_HOME}" in line or "IfModule" in line or line.startswith("#"):
            continue
        found = QUOTED.search(line)
        assert found and Path(found[1]).is_absolute() and Path(found[1]).exists(), line


def _has_mod_wsgi() -> bool:
    try:
        return apache_config.mod_wsgi_module().is_file()
    except FileNotFoundError:
        return False


def active(text: str) -> list[str]:
    """Return the lines that are no comments."""
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_the_lines(share: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apache-config", "--no-module"]) == 0
    text = capsys.readouterr().out
    # Only the gateway: no WSGIPythonHome, no MPM and no buffers, which apply to other sites too.
    assert active(text) == [
        f'Define USP_S3_PYTHON_HOME "{Path(sys.prefix).resolve()}"',
        f'Define USP_S3_WSGI "{share}/usp_s3.wsgi"',
        f'Include "{share}/gateway.conf"',
    ]
    # Without the extension, a comment says how to get it.
    assert "apt-get install apache2-dev libssl-dev" in text and "libapr1-dev" in text


TUNING = ['Include "{share}/mpm_event.conf"', "<IfModule proxy_module>", "  ProxyIOBufferSize 65536", "</IfModule>"]


def test_settings_of_the_whole_server_are_printed_with_tune(share: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [line.format(share=share) for line in TUNING]
    assert main(["apache-config", "--no-module"]) == 0
    plain = capsys.readouterr().out
    assert plain.splitlines()[-4:] == [f"# {line}" for line in expected]
    assert main(["apache-config", "--no-module", "--tune"]) == 0
    assert active(capsys.readouterr().out) == [*active(plain), *expected]


def test_with_the_extension_proxy_sections_sign(
    share: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extension = share / "_httpd.so"
    extension.touch()
    monkeypatch.setattr(apache_config, "extension_module", lambda: extension)
    assert main(["apache-config", "--no-module"]) == 0
    assert active(capsys.readouterr().out)[3:] == [
        "<IfModule proxy_module>",
        f'  LoadModule usp_s3_module "{extension}"',
        f'  Define USP_S3_ACCESS "{share}/usp_s3_access.py"',
        f'  Include "{share}/proxy.conf"',
        f'  Define USP_S3_METRICS "{share}/usp_s3_metrics.wsgi"',
        f'  Define USP_S3_STATUS "{share}/usp_s3_status.wsgi"',
        f'  Define USP_S3_HEALTH "{share}/usp_s3_health.wsgi"',
        f'  Include "{share}/metrics.conf"',
        "</IfModule>",
    ]


@pytest.mark.skipif(not has_openssl(), reason="OpenSSL's headers are not on this machine")
@pytest.mark.parametrize("options", [(), ("-DUSP_S3_WITHOUT_OPENSSL",)])
def test_a_comment_says_whether_the_module_signs_without_python(
    share: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    # Stripped, as Debian's packages are.
    extension = compile_shared(SIGNATURE, share, "-s", *options, "-lcrypto")
    monkeypatch.setattr(apache_config, "extension_module", lambda: extension)
    assert main(["apache-config", "--no-module"]) == 0
    text, warnings = capsys.readouterr()
    assert ("usp-s3: usp_s3_module was compiled without OpenSSL" in warnings) is bool(options)
    assert ("# usp_s3_module has its template signer" in text) is not bool(options)
    assert ("# usp_s3_module has no template signer" in text and "apt-get install libssl-dev" in text) is bool(options)


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_warning_of_a_file_that_other_environments_share(
    share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_linked: bool
) -> None:
    module = tmp_path / "httptools" / "parser" / "parser.cpython-311-x86_64-linux-gnu.so"
    module.parent.mkdir(parents=True)
    module.touch()
    (tmp_path / "httptools" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "httptools", raising=False)
    if is_linked:
        os.link(module, tmp_path / "cache")
    assert main(["apache-config", "--no-module"]) == 0
    warned = f"usp-s3: {module} is a hard link" in capsys.readouterr().err
    assert warned is is_linked


def test_the_module_comes_first(
    share: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(apache_config, "mod_wsgi_module", lambda: Path("/lib/mod_wsgi.so"))
    assert main(["apache-config"]) == 0
    assert capsys.readouterr().out.startswith('LoadModule wsgi_module "/lib/mod_wsgi.so"\nDefine USP_S3_PYTHON_HOME ')


def test_without_mod_wsgi_the_message_says_what_to_do(
    share: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["apache-config"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usp-s3: there is no mod_wsgi in ") and err.count("\n") == 1
    # Not by the name of the package: anybody could register that on an index.
    assert "pip install --no-cache-dir '.[httpd]'" in err and "--no-module" in err


def nothing_installed(**kind: str) -> list[importlib.metadata.Distribution]:
    return []


def test_without_the_installed_files_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", nothing_installed)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert main(["apache-config", "--no-module"]) == 1
    assert "does not hold gateway.conf: install usp_s3_wsgi with pip" in capsys.readouterr().err


def test_the_directory_is_found_without_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of a Linux distribution does not contain pip's records."""
    folder = tmp_path / "share" / "usp_s3_wsgi"
    folder.mkdir(parents=True)
    (folder / "gateway.conf").touch()
    monkeypatch.setattr(importlib.metadata, "distributions", nothing_installed)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert apache_config.share_directory() == folder


def test_an_egg_info_in_the_path_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build leaves one in the working directory: it lists the sources: gateway.conf, but no extension."""
    installed = apache_config.share_directory(), apache_config.extension_module()
    egg = tmp_path / "usp_s3_wsgi.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: usp_s3_wsgi\nVersion: 0.1\n")
    (egg / "SOURCES.txt").write_text("apache/include/gateway.conf\n")
    (tmp_path / "apache" / "include").mkdir(parents=True)
    (tmp_path / "apache" / "include" / "gateway.conf").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert next(iter(importlib.metadata.distributions(name="usp_s3_wsgi"))).version == "0.1"
    assert (apache_config.share_directory(), apache_config.extension_module()) == installed


@pytest.mark.parametrize("arguments", [["apache-konfig"], ["apache-config", "--module"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Usage: usp-s3" in capsys.readouterr().err


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """So with each version of click."""
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("Usage: usp-s3 [OPTIONS] COMMAND [ARGS]...\n") and "apache-config" in out and err == ""


@pytest.mark.parametrize(
    ("redirected", "expected"),
    [
        (">&-", (0, "")),
        ("<&- >&- 2>&-", (0, "")),
        (">/dev/full", (1, "usp-s3: No space left on device\n")),
    ],
)
@pytest.mark.parametrize("arguments", ["--version", "explain"])
def test_standard_output_that_cannot_be_written(redirected: str, expected: tuple[int, str], arguments: str) -> None:
    script = f'"$1" -c "import sys; from usp_s3_wsgi.cli.main import main; sys.exit(main())" {arguments} {redirected}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable], capture_output=True, text=True, timeout=60, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == expected


def test_a_file_error_has_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "none.conf")]) == 1
    assert capsys.readouterr().err == f"usp-s3: {tmp_path}/none.conf: No such file or directory\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{usp_s3_wsgi.__version__}\n"


def test_setup_installs_the_files_that_apache_includes() -> None:
    root = Path(__file__).parents[2]
    setup = (root / "setup.cfg").read_text("utf-8")
    for name in APACHE_FILES:
        (source,) = (root / "apache").glob(f"*/{name}")
        assert f"    {source.relative_to(root)}\n" in setup


def test_convert(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = tmp_path / "site.conf"
    old = b'# caf\xe9\r\n<Proxy "http://b.example/b/">\r\n  S3SecretKey  geheim\r\n  S3RoleARN x\r\n</Proxy>'
    file.write_bytes(old)
    assert main(["convert", str(file)]) == 3
    out, err = capfdbinary.readouterr()
    assert b"# caf\xe9\r\n" in out and out.endswith(b"</Proxy>")
    assert b"  SetEnv S3SecretKey  geheim\r\n" in out
    assert f"usp-s3: {file}: line 4: error: S3RoleARN must be the ARN of a role".encode() in err
    assert f"usp-s3: {file}: line 4: warning: S3RoleARN needs botocore".encode() in err and b"geheim" not in err
    assert file.read_bytes() == old
    assert main(["convert", "--to", "gateway", str(file)]) == 3
    assert b'WSGIScriptAlias /b ${USP_S3_WSGI}\r\n<Location "/b">\r\n' in capfdbinary.readouterr().out


def test_convert_without_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.conf"
    keys = "S3AccessKey AK\nS3SecretKey SK\nS3RoleARN arn:aws:iam::123456789012:role/reader\n"
    file.write_text(f"ProxyPass /b http://b.example/b\n<Proxy http://b.example/b/>\n{keys}</Proxy>\n")
    for mode in ("proxy", "gateway"):
        assert main(["convert", "--to", mode, str(file)]) == 0
        assert f"usp-s3: {file}: line 5: warning: S3RoleARN needs botocore" in capsys.readouterr().err


def test_the_help_of_convert_explains_its_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for status in (
        "0 httpd accepts the printed text",
        "3 the printed text must be changed",
        "1 nothing is printed",
        "2 wrong command line",
    ):
        assert status in text


def test_convert_a_missing_or_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "none.conf")]) == 1
    assert "none.conf" in capsys.readouterr().err
    file = tmp_path / "site.conf"
    file.write_text("<Proxy x>\n  S3SecretKey geheim\n")
    assert main(["convert", str(file)]) == 1
    assert capsys.readouterr().err == "usp-s3: line 1: this section is not closed\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("usp-s3 config --provider m", ["minio"]),
        ("usp-s3 config --style ", ["path", "host"]),
        ("usp-s3 config --signature v", ["v4", "v2"]),
        ("usp-s3 explain USPS3030", [f"USPS3030{number}" for number in range(1, 6)]),
        ("usp-s3 explain signature", ["SignatureDoesNotMatch"]),
        ("usp-s3 sign --method ", ["GET", "HEAD", "PUT", "POST", "DELETE"]),
        ("usp-s3 sign --method P", ["PUT", "POST"]),
        ("usp-s3 sign --method d", ["DELETE"]),
    ],
)
def test_values_are_completed(
    words: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "errors.md").write_bytes((Path(__file__).parents[2] / "docs" / "errors.md").read_bytes())
    monkeypatch.setattr(apache_config, "share_directory", lambda: tmp_path)
    monkeypatch.setenv("_USP_S3_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    assert main([]) == 0
    assert [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()] == expected


def test_completion_ends_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_USP_S3_COMPLETE", "zsh_source")
    assert main([]) == 0
    assert "compdef _usp_s3_completion usp-s3" in capsys.readouterr().out
