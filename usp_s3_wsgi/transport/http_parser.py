"""Parse S3's responses with llhttp, the parser of Node.js: header and chunked transfer coding. No input or output.

Not with http.client, which accepts the end of the connection as the end of a header, an incomplete chunk size as a
whole one, ``-5`` as a size, and the bytes after a response as the next one.
https://www.rfc-editor.org/rfc/rfc9112, https://llhttp.org
"""

from __future__ import annotations

import string
from http.client import HTTPException, LineTooLong

from usp_s3_wsgi.config.limits import MAX_HEADER_SIZE

try:
    from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
except ImportError as error:
    advice = ""
    if "nterpreter" in str(error):  # its extension module is loaded into one interpreter of a process only
        advice = ". Run the gateway in WSGIApplicationGroup %{GLOBAL}, as gateway.conf sets it, or in daemon mode"
    raise ImportError(f"usp_s3_wsgi cannot load httptools: {str(error).rstrip('.')}{advice}") from error

#: Bytes of a chunked body that may be chunk extensions and trailers, as in Node.js, and further ones for each chunk.
_MAX_OVERHEAD, _CHUNK_OVERHEAD = 16_384, 256
#: The end of a chunked body, after a byte that is not of a line's end. llhttp skips further ones, as before a message.
_END_OF_CHUNKS = b"\r\n\r\n"
_END_SIZE = len(_END_OF_CHUNKS) + 1
#: llhttp also accepts other protocols and versions.
_PREFIX = b"HTTP/1."
_VERSIONS = {b"HTTP/1.0 ": 10, b"HTTP/1.1 ": 11}
#: The bytes of a header's name, https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2, and all that are printed.
_TOKEN = b"!#$%&'*+-.^_`|~" + (string.digits + string.ascii_letters).encode()
_VISIBLE = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
_CONTROL = bytes([*range(9), *range(10, 0x20), 0x7F])
#: The start of a TLS alert: how a server answers plain HTTP. https://www.rfc-editor.org/rfc/rfc8446#section-5.1.
_TLS_ALERT = b"\x15\x03"


class InvalidHTTP(HTTPException):
    """What S3 sent is not valid HTTP/1.1; the message says why."""


class TLSExpected(InvalidHTTP):
    """The server speaks TLS on this port, and the request was sent without."""


def header_length(received: bytes, searched: int = 0) -> int:
    """Return how many of the received bytes are the header with the empty line at its end, 0 if that is incomplete.

    ``searched``: how many of them an earlier call has searched.

    Raises:
        HTTPException: this is not the begin of a header of HTTP/1.x, or it is larger than 64 KiB.
    """
    if not received.startswith(_PREFIX) and received[: len(_PREFIX)] != _PREFIX[: len(received)]:
        if received.startswith(_TLS_ALERT[: len(received)]):
            raise TLSExpected("a TLS alert")
        raise InvalidHTTP("no status line")  # a server of another protocol, which may wait for us now
    start = max(0, searched - 2)
    crlf = received.find(b"\n\r\n", start)
    lf = received.find(b"\n\n", start, None if crlf < 0 else crlf + 1)
    length = lf + 2 if lf >= 0 else crlf + 3 if crlf >= 0 else 0
    if (length or len(received)) > MAX_HEADER_SIZE:
        raise LineTooLong("header")
    return length


class _Message:
    """What llhttp calls. It has no reference to the parser: that would be a cycle."""

    __slots__ = ("_repeated", "chunks", "has_next", "headers", "is_complete", "is_header_complete", "pieces")

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self._repeated: dict[str, list[str]] | None = None
        self.chunks = 0
        self.pieces: list[bytes] = []
        self.is_header_complete = self.is_complete = self.has_next = False

    def on_message_begin(self) -> None:
        self.has_next = self.is_complete

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        if self.is_header_complete:
            return  # a trailer
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name != "transfer-encoding":  # "chunked " is an unknown coding for a parser that does not strip it
            value = value.rstrip(" \t")
        if name in self.headers:
            self._repeated = self._repeated or {}
            self._repeated.setdefault(name, [self.headers[name]]).append(value)
        else:
            self.headers[name] = value

    def on_headers_complete(self) -> None:
        self.is_header_complete = True
        if self._repeated:
            self.headers.update({name: ", ".join(values) for name, values in self._repeated.items()})

    def on_chunk_header(self) -> None:
        self.chunks += 1

    def on_body(self, data: bytes) -> None:
        if not self.has_next:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        self.is_complete = True


class ResponseParser:
    """A response's header, and the decoder of a body with the chunked transfer coding.

    ``version``: 10 or 11. ``status``: three digits. ``headers``: values by name in lowercase; several of one name are
    joined with ``, ``.
    """

    __slots__ = ("_end", "_message", "_overhead", "_parser", "failure", "headers", "status", "version")

    def __init__(self, header: bytes) -> None:
        """``header``: with its empty line. Raises: InvalidHTTP."""
        version = _VERSIONS.get(header[:9])
        if version is None:
            raise InvalidHTTP("no status line")
        try:
            self._message, self._parser = _feed_header(header)
        except InvalidHTTP:
            valid = _without_invalid_metadata(header)
            if len(valid) == len(header):
                raise
            self._message, self._parser = _feed_header(valid)
        status = self._parser.get_status_code()
        if not self._message.is_header_complete or status < 100:
            raise InvalidHTTP("malformed header")
        self.version, self.status, self.headers = version, status, self._message.headers
        self.failure: str | None = None
        self._overhead, self._end = 0, b""

    @property
    def is_complete(self) -> bool:
        """Whether the last chunk and the trailers were decoded."""
        return self._message.is_complete

    @property
    def has_excess(self) -> bool:
        """Whether bytes follow the end of the body in what was decoded."""
        return self._message.has_next or self._end.rstrip(b"\r\n") + _END_OF_CHUNKS != self._end

    def decode_chunks(self, data: bytes) -> list[bytes]:
        """Return the pieces of the body that are in the next received bytes; then look at the three attributes.

        To be called until ``is_complete``, or until there is a ``failure``: why what follows the returned pieces is not
        the chunked transfer coding.
        """
        message = self._message
        try:
            self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=False)
            self._parser.feed_data(data)
        except HttpParserError as error:
            if message.is_complete:
                message.has_next = True
            else:
                self.failure = str(error)
        pieces, message.pieces = message.pieces, []
        self._end = (self._end + data[-_END_SIZE:])[-_END_SIZE:]
        self._overhead += len(data) - sum(map(len, pieces))
        if not message.is_complete and self._overhead > _MAX_OVERHEAD + message.chunks * _CHUNK_OVERHEAD:
            self.failure = "chunk extensions or trailers are too large"
        return pieces


def _feed_header(header: bytes) -> tuple[_Message, HttpResponseParser]:
    """Let llhttp parse a header. Raises: InvalidHTTP."""
    message = _Message()
    parser = HttpResponseParser(message)
    parser.set_dangerous_leniencies(
        lenient_optional_cr_before_lf=True,  # some servers end lines without CR
        lenient_spaces_after_chunk_size=True,  # https://www.rfc-editor.org/rfc/rfc9112#section-7.1.1: "BWS"
        lenient_chunked_length=True,  # S3Response rejects the body then, and an error's status still counts
    )
    try:
        parser.feed_data(header)
    except (HttpParserError, HttpParserUpgrade) as error:
        if parser.get_status_code() != 101:  # after a 101 llhttp expects another protocol
            raise InvalidHTTP(str(error)) from None
    return message, parser


def _without_invalid_metadata(header: bytes) -> bytes:
    """Return a header without lines that some servers allow in an object's metadata, and that llhttp rejects.

    Their names are not tokens, or their values have control characters, and their names begin with ``x-``. One with
    white space or a control character in its name, or a CR in its value, stays, and is rejected.
    """
    return b"\n".join([line for line in header.split(b"\n") if not _is_invalid_metadata(line)])


def _is_invalid_metadata(line: bytes) -> bool:
    name, colon, value = line.removesuffix(b"\r").partition(b":")
    others = name.translate(None, _TOKEN)
    if not colon or others.translate(None, _VISIBLE) or b"\r" in value:
        return False
    return bool(others) or (name.lower().startswith(b"x-") and value.translate(None, _CONTROL) != value)
