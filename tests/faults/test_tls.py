"""TLS to the bucket: the name is sent, the certificate is checked, and nothing turns that off by accident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.server import Connection, ScriptedS3, answer
from tests.httpd.machine import make_certificate
from tests.wsgi import call, environ, s3_settings

HELLO = answer(200, b"hello")
Certificate = tuple[Path, Path]


def at_localhost(s3: ScriptedS3, **changes: str) -> dict[str, str]:
    """Settings that reach the server by a name."""
    return s3_settings(f"https://localhost:{s3.port}", **changes)


def test_s3cafile_is_trusted_and_the_name_is_sent(certificate: Certificate) -> None:
    with ScriptedS3(HELLO, HELLO, tls=certificate) as s3:
        settings = at_localhost(s3, S3CAFile=str(certificate[0]))
        assert [call(environ("/media/a", settings)).body for _ in range(2)] == [b"hello"] * 2
    assert s3.server_names == ["localhost"]  # one handshake for both
    assert s3.requests[0].headers["host"] == f"localhost:{s3.port}"


def test_an_unknown_ca_is_a_502(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate) as s3:
        reply = call(environ("/media/a", at_localhost(s3)))
    assert reply.status == 502
    assert "TLS: the certificate is refused: self" in reply.log


def test_a_wrong_name_is_a_502(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "DNS:other.example")
    with ScriptedS3(tls=other) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3CAFile=str(other[0]))))
    assert reply.status == 502
    assert "TLS: the certificate is refused: Hostname mismatch" in reply.log


def test_an_expired_certificate_is_a_502(tmp_path: Path) -> None:
    expired = make_certificate(tmp_path, days=-1)
    with ScriptedS3(tls=expired) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3CAFile=str(expired[0]))))
    assert reply.status == 502
    assert "TLS: the certificate is refused: certificate has expired" in reply.log


def test_no_environment_variable_turns_the_check_off(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PYTHONHTTPSVERIFY", "0"), ("CURL_CA_BUNDLE", ""), ("REQUESTS_CA_BUNDLE", "")):
        monkeypatch.setenv(name, value)
    with ScriptedS3(tls=certificate) as s3:
        assert call(environ("/media/a", at_localhost(s3))).status == 502


def test_https_to_a_server_without_tls_is_a_502() -> None:
    with ScriptedS3(accepted=lambda connection: connection.send(b"HTTP/1.1 200 OK\r\n\r\n")) as s3:
        reply = call(environ("/media/a", at_localhost(s3)))
        assert not s3.requests
    assert reply.status == 502
    assert "SSL" in reply.log or "TLS" in reply.log


def test_a_connection_that_ends_within_the_handshake_is_a_502(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate, accepted=lambda connection: connection.reset()) as s3:
        assert call(environ("/media/a", at_localhost(s3))).status == 502


@pytest.mark.parametrize("end", [Connection.reset, Connection.close])
def test_a_handshake_that_breaks_is_tried_again(certificate: Certificate, end: Callable[[Connection], None]) -> None:
    def first_one(connection: Connection) -> None:
        if connection.number == 1:
            end(connection)

    with ScriptedS3(HELLO, tls=certificate, accepted=first_one) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3CAFile=str(certificate[0]), S3Retries="1")))
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.log.endswith("; asking again\n")


def test_a_handshake_that_stalls_ends_after_the_connection_timeout(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate, accepted=lambda connection: connection.wait()) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3ProxySet="connectiontimeout=60ms timeout=9")))
    assert reply.status == 504
    assert "TLS handshake" in reply.log


@pytest.mark.parametrize("content", [None, b"", b"no certificate\n"])
def test_an_s3cafile_that_cannot_be_used_is_a_500_and_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with ScriptedS3() as s3:
        reply = call(environ("/media/a", s3_settings(f"https://127.0.0.1:{s3.port}", S3CAFile=str(file))))
    assert reply.status == 500
    assert reply.log.count("\n") == 1
    assert "S3CAFile: the file cannot be used" in reply.log


def test_a_ca_file_that_was_repaired_is_used_without_restart(tmp_path: Path, certificate: Certificate) -> None:
    file = tmp_path / "ca.pem"
    with ScriptedS3(HELLO, tls=certificate) as s3:
        settings = at_localhost(s3, S3CAFile=str(file))
        assert call(environ("/media/a", settings)).status == 500
        file.write_bytes(certificate[0].read_bytes())
        assert call(environ("/media/a", settings)).status == 200
