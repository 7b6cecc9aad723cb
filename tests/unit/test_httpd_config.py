"""How usp-s3 reads httpd's configuration, with programs in the place of httpd; tests/httpd has the real one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
import pytest

from tests.configurations import configtest_input
from usp_s3_wsgi.cli import httpd_user
from usp_s3_wsgi.cli.main import main
from usp_s3_wsgi.cli.server import buckets, httpd_config, mod_info_dump
from usp_s3_wsgi.cli.server.httpd_config import HttpdCommand, HttpdConfigError
from usp_s3_wsgi.cli.server.httpd_text import from_argument, to_shown

CONFIG = """WSGIScriptAlias /films ${USP_S3_WSGI}
<Location /films>
  SetEnv S3BucketURL https://s3.example/films/
  SetEnv S3AccessKey AK
  SetEnv S3SecretKey SK
  SetEnv S3Region r
</Location>
"""
#: What mod_info prints of it.
DUMP = """# In file: /etc/apache2/apache2.conf
#   1:
WSGIScriptAlias /films "/opt/share/usp_s3_wsgi/usp_s3.wsgi"
# In file: /etc/apache2/films.conf
#   7:
<Location /films>
  #   8:
  SetEnv S3BucketURL https://s3.example/films/
  #   9:
  SetEnv S3AccessKey AK
  #  10:
  SetEnv S3SecretKey SK
  #  11:
  SetEnv S3Region r
  #  12:
  <RequireAny >
    #  13:
    Require all granted
  </RequireAny>
</Location>
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """httpd as a script of bash, because dash knows no file above 9; further lines are appended to it."""
    path = tmp_path / "httpd"
    path.write_text("#!/bin/bash\n")
    path.chmod(0o755)
    return path


def append(program: Path, text: str) -> HttpdCommand:
    program.write_text(program.read_text() + text)
    return HttpdCommand(str(program))


def with_module(program: Path) -> HttpdCommand:
    """httpd with usp_s3_module: it sends its configuration to the socket."""
    data = program.with_name("data")
    data.write_bytes(configtest_input(CONFIG))
    return append(program, f'cat "{data}" >&"$USP_S3_CONFIGURATION_FD"\n')


def with_mod_info(program: Path) -> HttpdCommand:
    dump = program.with_name("dump")
    dump.write_text(DUMP)
    return append(
        program,
        f"""case "$*" in
  *DUMP_CONFIG*) cat "{dump}" ;;
  *DUMP_RUN_CFG*) printf 'User: name="www-data" id=33\\nGroup: name="www-data" id=34\\n' ;;
esac
""",
    )


@pytest.mark.parametrize("kind", ["usp_s3_module", "mod_info"])
def test_the_settings_of_a_bucket(program: Path, kind: str) -> None:
    httpd = with_module(program) if kind == "usp_s3_module" else with_mod_info(program)
    for name in ("/films", "/films/1.mp4"):
        assert buckets.find(httpd_config.read(httpd), name).settings.secret_key == "SK"
    with pytest.raises(click.ClickException, match="Configured are:\n  /films"):
        buckets.find(httpd_config.read(httpd), "/filmsx")


def test_the_user_of_mod_infos_server(program: Path) -> None:
    found = httpd_config.read(with_mod_info(program))
    assert (found.user_name, found.uid, found.gid, found.is_test) == ("www-data", 33, 34, True)


def test_files_and_lines_of_a_dump() -> None:
    alias, location = mod_info_dump.parse(DUMP)
    assert (alias.name, alias.words[0], alias.location) == ("wsgiscriptalias", "/films", "/etc/apache2/apache2.conf:1")
    assert (location.name, location.words, location.location) == ("<location", ("/films",), "/etc/apache2/films.conf:7")
    assert [child.line for child in location.children] == [8, 9, 10, 11, 12]
    assert [child.words for child in location.children[-1].children] == [("all", "granted")]


def as_httpd_has_it(text: str) -> str:
    return text.encode().decode("latin-1")


def test_names_in_utf_8_in_a_dump() -> None:
    """Their bytes include 0x85 and 0xA0, which are line ends and spaces of Latin-1."""
    mounts = [mod_info_dump.parse(as_httpd_has_it(f"WSGIScriptAlias x /{name}"))[0] for name in ("Åland", "voilà")]
    assert [to_shown(mount.words[1]) for mount in mounts] == ["/Åland", "/voilà"]


@pytest.mark.parametrize("kind", ["usp_s3_module", "mod_info"])
def test_a_mount_with_a_non_ascii_name(program: Path, kind: str) -> None:
    httpd = with_module(program) if kind == "usp_s3_module" else with_mod_info(program)
    for file in (program.with_name("data"), program.with_name("dump")):
        if file.exists():
            file.write_bytes(re.sub(rb"(?<!example)/films", "/médiaÅ".encode(), file.read_bytes()))
    configuration = httpd_config.read(httpd)
    assert buckets.find(configuration, "/médiaÅ/1.mp4").settings.secret_key == "SK"
    with pytest.raises(click.ClickException, match=r"at /é\. Configured are:\n  /médiaÅ"):
        buckets.find(configuration, "/é")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (as_httpd_has_it("/médias/Å"), "/médias/Å"),
        ("/m\xe9dias", "/médias"),  # httpd's configuration is in Latin-1
        ("/a\x1b[2J\x9b\x85", r"/a\u{1b}[2J\u{9b}\u{85}"),
        (as_httpd_has_it("/a\u202e"), r"/a\u{202e}"),
        ("/☃", "/☃"),
    ],
)
def test_a_text_of_the_configuration_is_shown(text: str, shown: str) -> None:
    assert to_shown(text) == shown


def test_an_argument_is_compared_as_bytes() -> None:
    assert from_argument("/médias/\udcff") == "/m\xc3\xa9dias/\xff"


def test_httpd_that_can_show_nothing(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpd_config, "_MODULE_FOLDERS", ())
    with pytest.raises(HttpdConfigError, match="loads neither usp_s3_module nor mod_info"):
        httpd_config.read(HttpdCommand(str(program)))


def test_mod_info_is_loaded_if_it_is_installed(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mod_info.so").touch()
    monkeypatch.setattr(httpd_config, "_MODULE_FOLDERS", (str(tmp_path),))
    dump = tmp_path / "dump"
    dump.write_text(DUMP)
    httpd = append(program, f'case "$*" in *"LoadModule info_module {tmp_path}/mod_info.so"*) cat "{dump}" ;; esac\n')
    found = httpd_config.read(httpd)
    assert len(found.directives) == 2 and found.uid == os.getuid()


@pytest.mark.parametrize("sent", [b"test\0" + b"33\0" * 3, b"x"])
def test_a_truncated_configuration(program: Path, sent: bytes) -> None:
    data = program.with_name("data")
    data.write_bytes(sent)
    httpd = append(program, f'cat "{data}" >&"$USP_S3_CONFIGURATION_FD"\n')
    with pytest.raises(HttpdConfigError, match="truncated"):
        httpd_config.read(httpd)


def test_an_error_of_httpd(program: Path) -> None:
    with pytest.raises(HttpdConfigError, match=r"-t says:\nSyntax error on line 1"):
        httpd_config.read(append(program, "echo 'Syntax error on line 1' >&2; exit 1\n"))


def test_httpd_that_hangs(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpd_config, "_TIMEOUT", 0.2)
    with pytest.raises(HttpdConfigError, match="did not end within"):
        httpd_config.read(append(program, "exec sleep 20\n"))


def test_without_httpd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(httpd_user, "programs", list)
    assert main(["check"]) == 2
    assert capsys.readouterr().err == (
        "usp-s3: there is no httpd on this machine: neither apache2ctl nor apachectl nor httpd nor apache2 is in PATH, "
        "/usr/sbin or /usr/local/apache2/bin; name its program with --httpd\n"
    )
    assert main(["check", "--httpd", "/no/httpd"]) == 2
    assert "/no/httpd cannot be run: No such file" in capsys.readouterr().err


def test_the_options_of_httpd(program: Path, tmp_path: Path) -> None:
    command = HttpdCommand(str(program), "conf/a.conf", ("ONE", "TWO"))
    assert command.arguments() == [str(program), "-f", str(Path.cwd() / "conf/a.conf"), "-D", "ONE", "-D", "TWO"]


def test_settings_that_are_not_known_or_not_valid(program: Path) -> None:
    data = program.with_name("data")
    httpd = append(program, f'cat "{data}" >&"$USP_S3_CONFIGURATION_FD"\n')
    data.write_bytes(configtest_input(CONFIG.replace("S3Region r", "S3Retries many")))
    with pytest.raises(click.ClickException, match="not valid"):
        buckets.find(httpd_config.read(httpd), "/films")
    data.write_bytes(configtest_input(CONFIG + "SetEnvIf Host x S3Region=y\n"))
    with pytest.raises(click.ClickException, match="rules compute the settings"):
        buckets.find(httpd_config.read(httpd), "/films")
