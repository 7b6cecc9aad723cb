"""TLS to S3: server name indication and certificate checks, which no environment variable turns off."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from tests.certificates import Certificate, make_certificate
from tests.faults.named import OBJECT, TIMEOUT, rest, truncated
from tests.faults.server import Accepted, Connection, Request, ScriptedS3, Step, answer, first, head_of, reset, stall
from tests.wsgi import call, environ, s3_settings

HELLO = answer(200, b"hello")


def at_localhost(s3: ScriptedS3, **changes: str) -> dict[str, str]:
    """Settings with the host name localhost."""
    return s3_settings(f"https://localhost:{s3.port}", **changes)


def during_handshake(end: Accepted) -> Accepted:
    """End a connection after the first byte of its handshake."""

    def read_one_byte(connection: Connection) -> None:
        connection.socket.recv(1)
        end(connection)

    return read_one_byte


def test_s3cafile_is_trusted_and_the_name_is_sent(certificate: Certificate) -> None:
    with ScriptedS3(HELLO, HELLO, tls=certificate) as s3:
        settings = at_localhost(s3, S3CAFile=str(certificate.root))
        assert [call(environ("/media/a", settings)).body for _ in range(2)] == [b"hello"] * 2
    assert s3.server_names == ["localhost"]  # one handshake for both
    assert s3.requests[0].headers["host"] == f"localhost:{s3.port}"


def test_surplus_bytes_in_a_tls_record_are_not_read_as_the_next_response(certificate: Certificate) -> None:
    """Surplus bytes in the same TLS record are already decrypted, so poll() does not report them."""
    whole = answer(200, b"hello")
    header = head_of(whole)

    def surplus(connection: Connection, request: Request) -> None:
        connection.send(header)
        connection.send(whole[len(header) :] + answer(200, b"OTHER"))

    with ScriptedS3(surplus, answer(200, b"world"), tls=certificate) as s3:
        settings = at_localhost(s3, S3CAFile=str(certificate.root))
        assert [call(environ(f"/media/{key}", settings)).body for key in "ab"] == [b"hello", b"world"]
    assert s3.requests[0].connection != s3.requests[1].connection


def test_a_large_body_in_records_of_any_size(certificate: Certificate) -> None:
    body = bytes(range(256)) * 12_000
    whole, sizes = answer(200, body), [1, 16_384, 100, 40_000, 16_383, 5, 300_000]

    def pieces(connection: Connection, request: Request) -> None:
        sent = 0
        while sent < len(whole):
            size = sizes[sent % len(sizes)]
            connection.send(whole[sent : sent + size])
            sent += size

    with ScriptedS3(pieces, HELLO, tls=certificate) as s3:
        settings = at_localhost(s3, S3CAFile=str(certificate.root))
        assert call(environ("/media/a", settings)).body == body
        assert call(environ("/media/b", settings)).body == b"hello"


def test_an_unknown_ca_is_a_502(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate) as s3:
        reply = call(environ("/media/a", at_localhost(s3)))
    assert reply.status == 502
    assert "TLS: certificate verification failed: unable to get local issuer certificate" in reply.log


def test_the_log_says_what_an_unknown_authority_needs(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate) as s3:
        reply = call(environ("/media/a", at_localhost(s3)))
    assert (
        "unable to get local issuer certificate (S3CAFile, or the system's list, must hold the authority" in reply.log
    )


def test_an_intermediate_authority_can_be_trusted(certificate: Certificate, tmp_path: Path) -> None:
    """With every version of Python, as with curl. (It is Python's default since 3.13.)"""
    end = "-----END CERTIFICATE-----\n"
    _, second, _ = certificate.chain.read_text().split(end, 2)
    (tmp_path / "second.pem").write_text(second + end)
    with ScriptedS3(HELLO, tls=certificate) as s3:
        assert call(environ("/media/a", at_localhost(s3, S3CAFile=str(tmp_path / "second.pem")))).status == 200


def test_a_private_authority_without_the_extensions_of_rfc_5280(tmp_path: Path) -> None:
    """Python 3.13 would reject it by default; mod_ssl and curl accept it."""
    private = make_certificate(tmp_path, between=0, like_rfc5280=False)
    with ScriptedS3(HELLO, tls=private) as s3:
        assert call(environ("/media/a", at_localhost(s3, S3CAFile=str(private.root)))).status == 200


@pytest.mark.parametrize("between", [0, 1, 2, 5])
def test_any_number_of_intermediate_authorities(between: int, tmp_path: Path) -> None:
    deep = make_certificate(tmp_path, between=between)
    with ScriptedS3(HELLO, tls=deep) as s3:
        assert call(environ("/media/a", at_localhost(s3, S3CAFile=str(deep.root)))).status == 200


def test_a_missing_intermediate_certificate_is_a_502(certificate: Certificate, tmp_path: Path) -> None:
    end = "-----END CERTIFICATE-----\n"
    alone = tmp_path / "alone.pem"
    alone.write_text(certificate.chain.read_text().partition(end)[0] + end)
    with ScriptedS3(tls=certificate._replace(chain=alone)) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3CAFile=str(certificate.root))))
    assert reply.status == 502 and "S3 must send the intermediate ones" in reply.log


def test_https_by_ip_address(certificate: Certificate) -> None:
    with ScriptedS3(HELLO, tls=certificate) as s3:
        settings = s3_settings(f"https://127.0.0.1:{s3.port}", S3CAFile=str(certificate.root))
        assert call(environ("/media/a", settings)).status == 200


def test_a_wrong_name_is_a_502(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "DNS:other.example")
    with ScriptedS3(tls=other) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3CAFile=str(other.root))))
    assert reply.status == 502
    assert "TLS: certificate verification failed: Hostname mismatch" in reply.log


def test_an_expired_certificate_is_a_502(tmp_path: Path) -> None:
    expired = make_certificate(tmp_path, days=-1)
    with ScriptedS3(tls=expired) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3CAFile=str(expired.root))))
    assert reply.status == 502
    assert "TLS: certificate verification failed: certificate has expired" in reply.log


def test_no_environment_variable_disables_verification(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_reset_during_the_handshake_is_a_502(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate, accepted=during_handshake(Connection.reset)) as s3:
        assert call(environ("/media/a", at_localhost(s3))).status == 502


@pytest.mark.parametrize("end", [Connection.reset, Connection.close])
def test_a_failed_handshake_is_retried(certificate: Certificate, end: Accepted) -> None:
    def break_first_handshake(connection: Connection) -> None:
        if connection.number == 1:
            during_handshake(end)(connection)

    with ScriptedS3(HELLO, tls=certificate, accepted=break_first_handshake) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3CAFile=str(certificate.root), S3Retries="1")))
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.log.endswith("; retrying\n")


def test_a_stalled_handshake_ends_after_the_connection_timeout(certificate: Certificate) -> None:
    with ScriptedS3(tls=certificate, accepted=lambda connection: connection.wait()) as s3:
        reply = call(environ("/media/a", at_localhost(s3, S3ProxySet="connectiontimeout=60ms timeout=9")))
    assert reply.status == 502
    assert "no connection within 0.06 s" in reply.log


ACCEPTED: dict[str, Accepted | None] = {
    "unknown": None,
    "wrong name": None,
    "no TLS": lambda connection: connection.send(b"HTTP/1.1 200 OK\r\n\r\n"),
    "closed": during_handshake(Connection.close),
    "reset": during_handshake(Connection.reset),
}


@pytest.mark.parametrize("flaw", ACCEPTED)
def test_a_host_with_tls_failures_is_not_tried_for_retry_seconds(
    certificate: Certificate, tmp_path: Path, clock: list[float], flaw: str
) -> None:
    served = make_certificate(tmp_path, "DNS:other.example") if flaw == "wrong name" else certificate
    trusted = {} if flaw == "unknown" else {"S3CAFile": str(served.root)}
    with ScriptedS3(tls=served, accepted=ACCEPTED[flaw]) as s3:
        settings = at_localhost(s3, S3ProxySet="retry=10", **trusted)
        assert call(environ("/media/a", settings)).status == 502
        in_error_state = call(environ("/media/a", settings))
        assert (in_error_state.status, in_error_state.headers["Retry-After"]) == (503, "10")
        clock[0] = 11
        assert call(environ("/media/a", settings)).status == 502


# --- TLS connections that break within a body


def close_without_notify(connection: Connection, request: Request) -> None:
    """Close the connection without close_notify, as an attacker can."""
    connection.close()


def close_with_notify(connection: Connection, request: Request) -> None:
    assert isinstance(connection.socket, ssl.SSLSocket)
    with suppress(OSError):
        connection.socket.unwrap()
    connection.close()


def garbage(connection: Connection, request: Request) -> None:
    """Send bytes that are not a TLS record."""
    os.write(connection.socket.fileno(), b"no record" * 9)
    connection.wait()


@pytest.mark.parametrize("end", [close_without_notify, close_with_notify, garbage, reset, stall])
def test_a_body_is_resumed_after_any_tls_failure(certificate: Certificate, end: Step) -> None:
    assert callable(end)
    with ScriptedS3(first(truncated(2000), end), rest(2000), tls=certificate) as s3:
        settings = at_localhost(s3, S3CAFile=str(certificate.root), S3Retries="1", S3ProxySet=TIMEOUT)
        reply = call(environ("/media/a", settings))
        s3.release()
    assert (reply.status, reply.body, reply.truncated) == (200, OBJECT, None)
    assert "3000 bytes are missing" in reply.log and reply.log.endswith("; retrying\n")
    assert s3.requests[1].headers["range"] == "bytes=2000-4999"
    assert [request.connection for request in s3.requests] == [1, 2]


@pytest.mark.parametrize("content", [None, b"", b"no certificate\n"])
def test_an_unusable_s3cafile_is_a_500_and_logged(tmp_path: Path, content: bytes | None) -> None:
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
        file.write_bytes(certificate.root.read_bytes())
        assert call(environ("/media/a", settings)).status == 200


def broken_record(connection: Connection, request: Request) -> None:
    """Send a TLS record that cannot be decrypted."""
    os.write(connection.socket.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)


def test_a_tls_failure_after_the_handshake_sets_no_error_state(certificate: Certificate) -> None:
    """The request is retried on another connection, and the host is not in error state."""
    with ScriptedS3(HELLO, broken_record, HELLO, HELLO, tls=certificate) as s3:
        settings = at_localhost(s3, S3CAFile=str(certificate.root), S3ProxySet="retry=60 timeout=5", S3Retries="1")
        replies = [call(environ("/media/a", settings)) for _ in range(3)]
    assert [reply.body for reply in replies] == [b"hello"] * 3
    assert [request.connection for request in s3.requests] == [1, 1, 2, 2]
    assert "SSL" in replies[1].log and "; retrying" in replies[1].log


def test_https_to_a_port_without_tls() -> None:
    def not_tls(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        connection.close()

    with ScriptedS3(accepted=not_tls) as s3:
        reply = call(environ("/media/a", s3_settings(s3.url.replace("http://", "https://"))))
    assert reply.status == 502
    assert (
        "TLS: the server does not speak TLS on this port: write http:// in the URL, or another port (GET https"
        in reply.log
    )


def test_http_to_a_port_with_tls() -> None:
    with ScriptedS3(b"\x15\x03\x01\x00\x02\x02\x46") as s3:
        reply = call(environ("/media/a", s3_settings(s3.url)))
    assert (reply.status, "S3 speaks TLS on this port: write https:// in the URL (GET http://" in reply.log) == (
        502,
        True,
    )


@pytest.mark.parametrize(
    "page",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
        b"<p>You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ],
)
def test_http_to_a_port_with_tls_that_answers_with_an_error_page(page: bytes) -> None:
    with ScriptedS3(answer(400, page)) as s3:
        reply = call(environ("/media/a", s3_settings(s3.url)))
    assert (reply.status, "the server speaks TLS on this port: write https:// in the URL" in reply.log) == (502, True)
