"""HTTP/1.1 with S3, on urllib3's connections: what S3 broke off never passes for what it said, and no time is lost.

urllib3 connects and speaks TLS. What is sent and read is here, in place of http.client, which takes the end of a
connection for the end of a header, half a chunk size for a whole one and ``-5`` for a size, what comes after an answer
for the next one, and a header for that of an e-mail: it and urllib3 took three quarters of a request's time.
https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import fcntl
import re
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, LineTooLong, RemoteDisconnected
from typing import cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError

from usp_s3_wsgi.transport import happy_eyeballs

_STATUS_LINE = re.compile(r"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t].*)?")
#: Servers are known that end a line without CR.
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
#: http.client's own limit of a line, here of the whole.
_LARGEST_HEADER = 65_536
#: https://www.rfc-editor.org/rfc/rfc9112#section-7.1
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LONGEST_LINE = 65_536
_MOST_TRAILERS = 100
#: Bytes of one read of a header: a small object comes along with it.
_FIRST_READ = 65_536
#: How the record begins by which TLS refuses what is none: https://www.rfc-editor.org/rfc/rfc8446#section-5.1.
_TLS_ALERT = b"\x15\x03"
#: What one record of TLS holds at most: https://www.rfc-editor.org/rfc/rfc8446#section-5.1.
_TLS_RECORD = 16_384


class _Buffer(threading.local):
    """What each thread reads into."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_FIRST_READ))


_buffer = _Buffer()


class SpeaksTLS(HTTPException):
    """The server wants TLS, and was asked without."""


class HandshakeError(ssl.SSLError):
    """TLS failed before anything was asked."""


class StrictHTTPConnection(HTTPConnection):
    """urllib3's connection, on which whole requests are sent and answers are read strictly."""

    patience = 0.0
    #: When it was used last, and when it was made, by time.monotonic().
    idle_since = 0.0
    connected_since = 0.0
    _poll: select.poll

    def exchange(
        self, method: str, head: bytes, patience: float, give_back: Callable[[StrictHTTPConnection], None]
    ) -> S3Response:
        """Send a request without a body and return the answer to it, its body unread.

        ``head``: request line and header, to the empty line. ``patience``: seconds for the header, and for each read
        of the body. ``give_back`` gets the connection when the body is read or given up, and not if this raises.

        Raises:
            urllib3.exceptions.HTTPError, HandshakeError: no connection.
            TimeoutError: no answer in time. OSError: it broke off. http.client.HTTPException: it is not HTTP.
        """
        self.patience = patience
        if self.sock is None:
            self.connect()
            self.watch(patience)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # S3 may have answered before it closed
                self.sock.sendall(head)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        return S3Response(self, method, give_back)

    def _new_conn(self) -> socket.socket:
        """Connect to the host, in urllib3's place, which waits for each address as long as for all."""
        seconds = cast("float", self.timeout)
        try:
            return happy_eyeballs.connect(self.host, self.port, seconds, self.socket_options or ())
        except UnicodeError:
            raise LocationParseError(f"'{self.host}', label empty or too long") from None
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection within {seconds:g} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection: {error}") from error

    def watch(self, patience: float) -> None:
        """Begin with a connection that has just been made."""
        self.connected_since = time.monotonic()
        self.limit(patience)
        self._poll = select.poll()
        self._poll.register(self.sock, select.POLLIN)

    def limit(self, seconds: float) -> None:
        """Let each later read and write last no longer."""
        # By the kernel: with a time limit of Python's each of them would be two calls, with two turns of its lock.
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6) or 1)  # 0 would be no limit
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        except OSError:  # a machine of 32 bits whose times have 64
            self.sock.settimeout(seconds)
        else:
            self.sock.settimeout(None)

    @property
    def is_connected(self) -> bool:
        """Whether S3 has neither closed the connection nor sent what nobody asked for."""
        return self.sock is not None and not self._poll.poll(0)

    def receive(self, size: int) -> bytes:
        """Return what is there, up to ``size`` bytes; where nothing is, wait for it. Nothing at the end."""
        try:
            # In memory of just that size: what recv() gives back of a larger piece stays in glibc's arenas, where small
            # pieces keep the large ones apart, until the arenas hold several times what is in use.
            if size > _FIRST_READ and (there := self._bytes_there()) > _FIRST_READ:
                return self.sock.recv(min(size, there))
            length = self.sock.recv_into(_buffer.view, min(size, _FIRST_READ))
            return bytes(_buffer.view[:length])
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def _bytes_there(self) -> int:
        return int(struct.unpack("@i", fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4)))[0])

    def receive_within(self, seconds: float) -> bytes:
        """The same within another time than usual."""
        if seconds <= 0:
            raise TimeoutError("timed out")
        self.limit(seconds)
        try:
            return self.receive(_FIRST_READ)
        finally:
            self.limit(self.patience)


class StrictHTTPSConnection(StrictHTTPConnection, HTTPSConnection):
    """The same over TLS; what fails in its handshake is told from what fails later."""

    def connect(self) -> None:
        """Connect. Raises, besides urllib3's own errors: HandshakeError, ConnectTimeoutError of the handshake too."""
        try:
            HTTPSConnection.connect(self)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no TLS within the time limit") from error
        except OSError as error:  # what fails in TCP has a name of urllib3's own
            raise HandshakeError("TLS handshake") from error  # no words of its own: the cause has them

    def limit(self, seconds: float) -> None:
        """Let each later read and write last no longer."""
        self.sock.settimeout(seconds)  # OpenSSL would begin a read anew that the kernel ended

    @property
    def is_connected(self) -> bool:
        """Whether S3 has neither closed the connection nor sent what nobody asked for."""
        # What came in one record with an answer is with OpenSSL already, where poll does not see it.
        return super().is_connected and not cast("ssl.SSLSocket", self.sock).pending()

    def receive(self, size: int) -> bytes:
        """Return what is there, up to ``size`` bytes; where nothing is, wait for it. Nothing at the end."""
        first = self._part_of_record(size)
        if len(first) < _TLS_RECORD:
            return first
        # Each read gives one record. What has come with it goes on together with it, in one piece.
        pieces, left = [first], size - _TLS_RECORD
        self.sock.settimeout(0)
        try:
            while left > 0 and (piece := self._part_of_record(left)):
                pieces.append(piece)
                left -= len(piece)
        except ssl.SSLWantReadError:
            pass
        finally:
            self.sock.settimeout(self.patience)
        return b"".join(pieces)

    def _part_of_record(self, size: int) -> bytes:
        length = self.sock.recv_into(_buffer.view, min(size, _TLS_RECORD))
        return bytes(_buffer.view[:length])


class S3Response:
    """S3's answer: its header, and its body to be read.

    ``headers``: values by names in lowercase; those of one name are joined with ``, ``. ``version``: 10 or 11.
    ``chunked``: the body comes in chunks.
    """

    def __init__(
        self, connection: StrictHTTPConnection, method: str, give_back: Callable[[StrictHTTPConnection], None]
    ) -> None:
        self._connection, self._give_back = connection, give_back
        self._buffer = b""
        self._begun = time.monotonic()
        self.version, self.status, self.headers = self._final_header()
        self.closed = False
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self._chunk_left: int | None = None
        #: Bytes of the body that are still to come; None where only its end will tell.
        self.length_remaining = self._length(method)
        if self.length_remaining == 0:
            self.chunked = False
            self._end()

    def read1(self, size: int) -> bytes:
        """Return the next bytes of the body, at most ``size`` and in one read; nothing at its end.

        Raises:
            TimeoutError: nothing came in time. OSError: it broke off. http.client.HTTPException: it is not HTTP.
        """
        if self.closed:
            return b""
        if self.chunked:
            return self._of_chunk(size)
        left = self.length_remaining
        data = self._some(size if left is None or left > size else left)
        if left is None:
            if not data:
                self._end(reusable=False)
            return data
        if not data:
            raise ConnectionAbortedError(f"the connection ended {left} bytes too early")
        self.length_remaining = left - len(data)
        if left == len(data):
            self._end()
        return data

    def drain(self, seconds: float) -> None:
        """Read the rest and drop it, within that time. Raises: as :meth:`read1`."""
        deadline = time.monotonic() + seconds
        while not self.closed:
            if not self._buffer:
                self._buffer = self._connection.receive_within(deadline - time.monotonic())
            self.read1(_FIRST_READ)

    def close(self) -> None:
        """Give the connection back; where not all of the body was read, it is closed."""
        if not self.closed:
            self._end(reusable=False)

    # --- the header

    def _final_header(self) -> tuple[int, int, dict[str, str]]:
        while True:
            first, _, rest = self._header().partition("\n")
            match = _STATUS_LINE.fullmatch(first)
            if match is None:
                raise HTTPException("no status line")
            status = int(match[2])
            # https://www.rfc-editor.org/rfc/rfc9110#section-15.2: 103 and its like are to be skipped as 100 is.
            if status >= 200 or status == 101:
                return 10 + (match[1] != "0"), status, _fields(rest) if rest else {}
            if not self._buffer:
                self._buffer = self._more_within(self._begun)  # however many of them come

    def _header(self) -> str:
        """Return the lines of the next header, without the empty one that ends it."""
        received = self._buffer or self._connection.receive(_FIRST_READ)
        if not received:
            raise RemoteDisconnected("nothing came")
        searched = 0
        while (end := _END_OF_HEADER.search(received, max(0, searched - 3))) is None:
            if len(received) > _LARGEST_HEADER:
                raise LineTooLong("header")
            if received.startswith(_TLS_ALERT):
                raise SpeaksTLS("a TLS alert")
            if b"\n" in received and not received.startswith(b"HTTP/1."):
                raise HTTPException("no status line")  # a server of another kind, which may wait for us now
            searched = len(received)
            received += self._more_within(self._begun)
        if end.end() > _LARGEST_HEADER:
            raise LineTooLong("header")
        self._buffer = received[end.end() :]
        text = received[: end.start()].decode("latin-1").replace("\r\n", "\n")
        if "\r" in text:
            raise HTTPException("a CR within a line")  # another reader would take it for the line's end
        return text

    def _more_within(self, begun: float) -> bytes:
        """Return further bytes, within the time limit that began then, however many have trickled in before."""
        more = self._connection.receive_within(begun + self._connection.patience - time.monotonic())
        if not more:
            raise ConnectionAbortedError("the connection ended within a line")
        return more

    # --- the body

    def _length(self, method: str) -> int | None:
        """https://www.rfc-editor.org/rfc/rfc9112#section-6.3."""
        if method == "HEAD" or self.status in {101, 204, 304}:
            return 0
        length = self.headers.get("content-length", "")
        # More digits are refused later on, with what else is wrong in a header of that kind.
        return int(length) if length.isdecimal() and len(length) <= 18 and not self.chunked else None

    def _some(self, size: int) -> bytes:
        buffer = self._buffer
        if not buffer:
            return self._connection.receive(size)
        self._buffer = buffer[size:]
        return buffer[:size]

    def _of_chunk(self, size: int) -> bytes:
        if not self._chunk_left:
            if self._chunk_left == 0 and self._exactly(2) != b"\r\n":
                raise HTTPException("a chunk of another length than its size")
            self._chunk_left = self._size_of_chunk()
            if not self._chunk_left:
                self._skip_trailers()
                self._end()
                return b""
        data = self._some(min(size, self._chunk_left))
        if not data:
            raise ConnectionAbortedError("the connection ended within a chunk")
        self._chunk_left -= len(data)
        return data

    def _size_of_chunk(self) -> int:
        size = _CHUNK_SIZE.fullmatch(self._line())
        if size is None:
            raise HTTPException("no size of a chunk")
        return int(size[1], 16)

    def _skip_trailers(self) -> None:
        for _ in range(_MOST_TRAILERS):
            if self._line() in {b"\r\n", b"\n"}:
                return
        raise HTTPException("too many trailers")

    def _line(self) -> bytes:
        begun = time.monotonic()
        while (end := self._buffer.find(b"\n") + 1) == 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise LineTooLong("chunk")
            self._buffer += self._more_within(begun)
        if end > _LONGEST_LINE:
            raise LineTooLong("chunk")
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return line

    def _exactly(self, size: int) -> bytes:
        begun = time.monotonic()
        while len(self._buffer) < size:
            self._buffer += self._more_within(begun)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _end(self, reusable: bool = True) -> None:
        """Give the connection back, closed where the next answer would not begin where this one ended."""
        self.closed = True
        if not reusable or self._buffer or not self._is_kept():
            self._connection.close()
        self._give_back(self._connection)

    def _is_kept(self) -> bool:
        """https://www.rfc-editor.org/rfc/rfc9112#section-9.3; 101: another protocol is to follow."""
        said = self.headers.get("connection", "").lower()
        is_kept = "keep-alive" in said if self.version == 10 else "close" not in said
        return is_kept and self.status != 101 and not self._may_end_elsewhere()

    def _may_end_elsewhere(self) -> bool:
        """Whether another reader may see another end: https://www.rfc-editor.org/rfc/rfc9112#section-6.1."""
        coding = self.headers.get("transfer-encoding")
        if coding is None:
            return False
        return coding.lower() != "chunked" or "content-length" in self.headers or self.version == 10


def _fields(text: str) -> dict[str, str]:
    lines = text.split("\n")
    if text[0] in " \t" or "\n " in text or "\n\t" in text:
        raise HTTPException("a folded header")
    fields: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.rstrip(" \t").lower(), value.lstrip(" \t")
        if name != "transfer-encoding":  # "chunked " is another coding for whoever does not strip it
            value = value.rstrip(" \t")
        if not colon or not name:
            raise HTTPException("a line of the header that is none")
        if name in fields:
            several.setdefault(name, [fields[name]]).append(value)
        fields[name] = value
    fields.update({name: ", ".join(values) for name, values in several.items()})
    return fields
