"""Credentials from settings and key files: files are read again when they change, and secrets are never shown."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from usp_s3_wsgi.config.bucket_url import parse as bucket_url
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials.resolver import replace_rejected, resolve
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.signing.types import Credentials

URL = bucket_url("https://b.s3.amazonaws.com/")
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def from_file(path: Path) -> Settings:
    return Settings(URL, access_key="AKIA", secret_key_file=str(path))


def write(file: Path, text: str) -> None:
    """Write a file whose modification time is 5 seconds ago, so that it counts as completely written."""
    file.write_text(text)
    os.utime(file, (1_000_000_000, time.time() - 5))


def error_message(settings: Settings) -> str:
    with pytest.raises(SettingError) as caught:
        resolve(settings)
    return str(caught.value)


def test_credentials_in_the_settings() -> None:
    settings = Settings(URL, access_key="AKIA", secret_key=SECRET, security_token="token")
    assert resolve(settings) == Credentials("AKIA", SECRET, "token")


def test_credentials_in_files(tmp_path: Path) -> None:
    for name in ("access", "secret", "token"):
        (tmp_path / name).write_text(f"the-{name}\n")
    settings = Settings(
        URL,
        access_key_file=str(tmp_path / "access"),
        secret_key_file=str(tmp_path / "secret"),
        security_token_file=str(tmp_path / "token"),
    )
    assert resolve(settings) == Credentials("the-access", "the-secret", "the-token")


@pytest.mark.parametrize("text", [SECRET, f"{SECRET}\n", f"{SECRET}\r\n", f"\n\t {SECRET} \n\n"])
def test_surrounding_white_space_is_removed(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secret"
    file.write_text(text, newline="")
    assert resolve(from_file(file)).secret_key == SECRET


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("first")
    assert resolve(from_file(file)).secret_key == "first"
    write(file, "second-and-longer")
    assert resolve(from_file(file)).secret_key == "second-and-longer"


def test_a_file_modified_just_now_is_not_read_yet(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write(file, "the-first-key")
    settings = from_file(file)
    first = resolve(settings)
    file.write_text("the-sec")
    assert resolve(settings) == first
    write(file, "the-second-key")
    assert resolve(settings).secret_key == "the-second-key"


def test_rejected_credentials_are_replaced_from_a_file_modified_just_now(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("first-key")
    settings = from_file(file)
    first = resolve(settings)
    assert not replace_rejected(settings, first, 5)
    file.write_text("second-key")
    assert resolve(settings) == first
    assert replace_rejected(settings, first, 5)
    assert resolve(settings).secret_key == "second-key"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two words", b"\xff\xfe"])
def test_the_cached_value_is_used_while_the_file_holds_no_valid_key(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "secret"
    write(file, SECRET)
    settings = from_file(file)
    resolve(settings)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
        os.utime(file, (1_000_000_000, time.time() - 5))
    assert resolve(settings).secret_key == SECRET
    warning = capsys.readouterr().err
    assert warning.startswith("USPS30604: usp_s3_wsgi: S3SecretKeyFile: the ") and SECRET not in warning
    assert warning.endswith("; using the value read earlier\n") and warning.count("\n") == 1
    write(file, "second-key")
    assert resolve(settings).secret_key == "second-key"


def test_a_replaced_file_with_the_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    # As configuration management does: write a temporary file, keep the time, rename it.
    file, temporary = tmp_path / "secret", tmp_path / "secret.new"
    file.write_text("first-key")
    os.utime(file, ns=(10**18, 10**18))
    assert resolve(from_file(file)).secret_key == "first-key"
    temporary.write_text("other-key")
    os.utime(temporary, ns=(10**18, 10**18))
    os.replace(temporary, file)
    assert resolve(from_file(file)).secret_key == "other-key"


def test_a_file_rewritten_with_the_same_size_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("first-key")
    os.utime(file, ns=(10**18, 10**18))
    assert resolve(from_file(file)).secret_key == "first-key"
    file.write_text("other-key")
    os.utime(file, ns=(10**18 + 1, 10**18 + 1))
    assert resolve(from_file(file)).secret_key == "other-key"


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    resolve(from_file(file))
    monkeypatch.setattr("usp_s3_wsgi.credentials.key_files.read_key", lambda path: pytest.fail("read again"))
    assert resolve(from_file(file)).secret_key == SECRET


def test_a_changed_symbolic_link_is_followed(tmp_path: Path) -> None:
    # As Kubernetes does for mounted secrets.
    link = tmp_path / "secret"
    for name in ("one-key", "two-key"):
        write(tmp_path / name, name)
        temporary = tmp_path / "temporary"
        temporary.symlink_to(tmp_path / name)
        os.replace(temporary, link)
        assert resolve(from_file(link)).secret_key == name


def test_a_missing_file_is_named_and_read_once_it_exists(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    message = error_message(from_file(file))
    assert message == f"S3SecretKeyFile: the file cannot be read: No such file or directory: {file}"
    file.write_text(SECRET)
    assert resolve(from_file(file)).secret_key == SECRET


def test_a_directory_is_named(tmp_path: Path) -> None:
    assert error_message(from_file(tmp_path)) == f"S3SecretKeyFile: the file cannot be read: Is a directory: {tmp_path}"


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two words", b"two\nlines", b"\xff\xfe", b"caf\xc3\xa9-key", b"nul\0l"]
)
def test_invalid_content_is_rejected_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    message = error_message(from_file(file))
    assert message.startswith("S3SecretKeyFile: the content of the file must be printable ASCII")
    assert "words" not in message and "lines" not in message and "caf" not in message


def test_the_message_names_the_setting(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert error_message(Settings(URL, access_key_file=missing, secret_key="x")).startswith("S3AccessKeyFile: ")
    token = Settings(URL, access_key="x", secret_key="x", security_token_file=missing)
    assert error_message(token).startswith("S3SecurityTokenFile: ")
    assert error_message(Settings(URL, access_key="x")) == "S3SecretKeyFile is not set"


def test_the_repr_hides_secret_and_token() -> None:
    shown = repr(Credentials("AKIA", SECRET, "the-session-token"))
    assert SECRET not in shown and "the-session-token" not in shown
    assert "AKIA" in shown


def test_a_huge_file_is_not_read_completely(tmp_path: Path) -> None:
    file = tmp_path / "film"
    with file.open("wb") as film:
        film.truncate(1 << 40)
    assert "must be printable ASCII" in error_message(from_file(file))


def test_a_secret_in_place_of_a_path_is_not_shown() -> None:
    secret = "/wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    message = error_message(from_file(Path(secret)))
    assert message.startswith("S3SecretKeyFile: the file cannot be read") and "wJalr" not in message
