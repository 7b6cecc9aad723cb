"""TLS to S3: which certificates are trusted, the handshake with its time limit, and reads of TLS records."""

from __future__ import annotations

import ssl
from typing import cast

from urllib3.connection import HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.transport.connection import S3Connection, thread_buffer
from usp_s3_wsgi.transport.network_errors import HandshakeError

#: The largest content of a TLS record: https://www.rfc-editor.org/rfc/rfc8446#section-5.1.
_MAX_RECORD = 16_384
#: How a file of certificates begins, if it has no comments before.
PEM_BEGIN = "-----BEGIN"


def context(ca_file: str | None) -> ssl.SSLContext:
    """Return the context that verifies S3's certificate.

    ``ca_file``: PEM file, None for the system's list. The command usp-s3 passes the content of other files itself.

    Raises:
        SettingError: the file cannot be used.
    """
    try:
        if ca_file is not None and ca_file.startswith(PEM_BEGIN):
            context = ssl.create_default_context(cadata=ca_file)
        else:
            context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"S3CAFile: the file cannot be used: {error.strerror or 'no certificate in it'}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The same with every Python, and with curl: 3.13 rejects authorities without the extensions that RFC 5280 demands,
    # which private ones seldom have; earlier versions trust an intermediate authority only together with its root.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class S3TLSConnection(S3Connection, HTTPSConnection):
    """A connection over TLS; a failed handshake can be told from a later failure."""

    def connect(self) -> None:
        """Connect, then shake hands: each within ``connectiontimeout``.

        Raises, besides urllib3's own errors: HandshakeError; ConnectTimeoutError, also of the handshake.
        """
        try:
            super().connect()
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no TLS handshake within the time limit") from error
        except OSError as error:  # failures of TCP are urllib3's own exceptions
            raise HandshakeError("TLS handshake") from error

    def set_timeout(self, seconds: float) -> None:
        """Limit each later read and write."""
        self.sock.settimeout(seconds)  # not by the kernel: OpenSSL would restart a read that the kernel ended

    @property
    def is_connected(self) -> bool:
        """Whether S3 has neither closed the connection nor sent anything on it since the last response."""
        # OpenSSL may hold the rest of a record that was received with the last response: poll does not see it.
        return super().is_connected and not cast("ssl.SSLSocket", self.sock).pending()

    def receive(self, size: int) -> bytes:
        """Return the bytes that are there, at most ``size``; wait if there are none. Nothing at the end."""
        first = self._receive_record(size)
        if len(first) < _MAX_RECORD:
            return first
        # Each read returns one record. Those that have arrived as well are returned with it, in one piece.
        pieces, left = [first], size - _MAX_RECORD
        self.sock.settimeout(0)
        try:
            while left > 0 and (piece := self._receive_record(left)):
                pieces.append(piece)
                left -= len(piece)
        except ssl.SSLWantReadError:
            pass
        finally:
            self.sock.settimeout(self.read_timeout)
        return b"".join(pieces)

    def _receive_record(self, size: int) -> bytes:
        length = self.sock.recv_into(thread_buffer.view, min(size, _MAX_RECORD))
        return bytes(thread_buffer.view[:length])
