"""The parser of S3's responses: what llhttp accepts, and this package does not, or the other way round."""

from __future__ import annotations

import http.client

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usp_s3_wsgi.transport.http_parser import InvalidHTTP, ResponseParser, TLSExpected, header_length

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def parse(text: bytes) -> ResponseParser:
    """Parse a response's header, as it is received in one piece."""
    length = header_length(text)
    assert length == len(text)
    return ResponseParser(text)


def decode(*received: bytes) -> tuple[bytes, ResponseParser]:
    """Decode a chunked body; return it with its parser."""
    parser = parse(CHUNKED)
    return b"".join(piece for data in received for piece in parser.decode_chunks(data)), parser


# --- the length of a header


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_the_end_of_a_header(end: bytes) -> None:
    header = b"HTTP/1.1 200 OK\r\nA: b" + end
    for body in (b"", b"body\n\n\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n", b"\n", b"\r"):
        assert header_length(header + body) == len(header)
    for received in range(len(header)):
        assert header_length(header[:received]) == 0
        assert header_length(header, received) == len(header)


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_the_limit_of_a_header(size: int) -> None:
    """llhttp has none."""
    header = b"HTTP/1.1 200 OK\r\nX: ".ljust(size - 4, b"x") + b"\r\n\r\n"
    if size > 65_536:
        for received in (header, header[:-4] + b"xxxx"):
            with pytest.raises(http.client.LineTooLong):
                header_length(received)
    else:
        assert header_length(header + b"body") == size and len(parse(header).headers["x"]) == size - 24


@pytest.mark.parametrize(
    "received", [b"S", b"SSH-2.0", b"\r\n", b" HTTP/1.1", b"HTTP/2", b"http/1.1", b"RTSP/1.0 2", b"ICE/"]
)
def test_another_protocol_is_rejected_at_its_first_bytes(received: bytes) -> None:
    with pytest.raises(InvalidHTTP):
        header_length(received)


@pytest.mark.parametrize("received", [b"\x15", b"\x15\x03\x01\x00\x02\x02\x46"])
def test_a_tls_alert(received: bytes) -> None:
    with pytest.raises(TLSExpected):
        header_length(received)


# --- the header


@pytest.mark.parametrize(
    "start", [b"HTTP/1.2 200 OK", b"HTTP/1.9 200 OK", b"HTTP/1. 200 OK", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1  200 OK",
    b"HTTP/1.1 099 x", b"HTTP/1.1 000 x", b"HTTP/1.1 2000 x", b"HTTP/1.1 20 x", b"HTTP/1.1 200\tOK", b"HTTP/1.1 200\0"]
)  # fmt: skip
def test_invalid_status_lines(start: bytes) -> None:
    with pytest.raises(InvalidHTTP):
        ResponseParser(start + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("text", [b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.0 200 \r\n\r\n", b"HTTP/1.1 200 \xe9\tx\r\n\r\n"])
def test_valid_status_lines(text: bytes) -> None:
    parser = parse(text)
    assert (parser.version, parser.status, parser.headers) == (10 + (text[7:8] == b"1"), 200, {})


def test_whitespace_around_a_value_is_removed() -> None:
    """llhttp keeps that at the end."""
    assert parse(b"HTTP/1.1 200 OK\r\nETag: \t a  b \t \r\nX:\r\nY: \r\n\r\n").headers == {
        "etag": "a  b",
        "x": "",
        "y": "",
    }


def test_whitespace_after_a_transfer_coding_is_kept() -> None:
    """For a parser that does not remove it, this is a coding that it does not know."""
    assert parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \r\n\r\n").headers == {"transfer-encoding": "chunked "}


def test_lines_that_end_in_lf_alone() -> None:
    parser = parse(b"HTTP/1.1 200 OK\nETag: a\nETag: b\n\n")
    assert parser.headers == {"etag": "a, b"}


@pytest.mark.parametrize(
    "line", [b"A: b\rC: d", b"A: b\r\r", b"\rA: b", b"A: \0", b"A: \x0b", b"A b: c", b"A", b"A\0: b", b" A: b"]
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_invalid_lines(line: bytes, end: bytes) -> None:
    for lines in (line, b"X: y" + end + line, line + end + b"X: y"):
        with pytest.raises(InvalidHTTP):
            ResponseParser(b"HTTP/1.1 200 OK" + end + lines + end + end)


@pytest.mark.parametrize(
    "name", [b"x-amz-meta-a(b)", b"x-amz-meta-\xe9", b"(", b'"x"', b"Content-Length\xa0", b"[::1]"]
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_lines_with_names_that_are_not_tokens_are_ignored(name: bytes, end: bytes) -> None:
    """Some servers allow them in an object's metadata; llhttp rejects the response."""
    lines = (b"HTTP/1.1 200 OK", name + b": 1", b"ETag: a", name + b":", b"Content-Length: 5", b"", b"")
    assert parse(end.join(lines)).headers == {"etag": "a", "content-length": "5"}


@pytest.mark.parametrize("value", [b"caf\x7f", b"a\x0bb", b"\0", b"\x1b[0m"])
def test_metadata_with_control_characters_is_ignored(value: bytes) -> None:
    lines = b"x-amz-meta-note: " + value + b"\r\nETag: a\r\n"
    assert parse(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n").headers == {"etag": "a"}
    with pytest.raises(InvalidHTTP):
        parse(b"HTTP/1.1 200 OK\r\n" + lines.replace(b"x-amz-meta-note", b"Content-Type") + b"\r\n")


@pytest.mark.parametrize("value", [b"a\rContent-Length: 5", b"\r\r", b"\rb"])
def test_a_cr_in_an_ignored_line_is_invalid(value: bytes) -> None:
    """Another parser may take it for the end of the line: https://www.rfc-editor.org/rfc/rfc9112#section-2.2."""
    with pytest.raises(InvalidHTTP):
        ResponseParser(b"HTTP/1.1 304 x\r\nx(y): " + value + b"\r\n\r\n")


@pytest.mark.parametrize("after", [b" folded: b", b"\tfolded", b" "])
def test_a_folded_line_after_an_ignored_one_is_invalid(after: bytes) -> None:
    with pytest.raises(InvalidHTTP):
        ResponseParser(b"HTTP/1.1 200 OK\r\nETag: a\r\nx(y): z\r\n" + after + b"\r\n\r\n")


@pytest.mark.parametrize("value", [b"5, 5", b"+5", b"-5", b"5x", b"0x5", b"", b"5 5", b"99999999999999999999999"])
def test_an_invalid_content_length(value: bytes) -> None:
    with pytest.raises(InvalidHTTP):
        ResponseParser(b"HTTP/1.1 200 OK\r\nContent-Length: " + value + b"\r\n\r\n")


@pytest.mark.parametrize("values", [(b"5", b"5"), (b"5", b"6")])
def test_two_content_lengths(values: tuple[bytes, bytes]) -> None:
    with pytest.raises(InvalidHTTP):
        ResponseParser(b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\nContent-Length: %s\r\n\r\n" % values)


@pytest.mark.parametrize("lines", [b"", b"Upgrade: h2c\r\nConnection: upgrade\r\n"])
def test_switching_protocols(lines: bytes) -> None:
    """llhttp raises an exception then."""
    assert parse(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n").status == 101


# --- chunks


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    size=st.integers(1, 500),
    extension=st.sampled_from([b"", b";a", b" ;a=b", b';a="b c"', b" ", b"\t"]),
    trailers=st.sampled_from([b"", b"A: b\r\n", b"Content-Length: 7\r\nTransfer-Encoding: x\r\n"]),
)
def test_chunks_are_decoded_in_any_pieces(chunks: list[bytes], size: int, extension: bytes, trailers: bytes) -> None:
    text = (
        b"".join(b"%X%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"
    )
    received = [text[start : start + size] for start in range(0, len(text), size)]
    body, parser = decode(*received)
    assert body == b"".join(chunks)
    assert (parser.is_complete, parser.has_excess, parser.failure) == (True, False, None)
    assert parser.headers == {"transfer-encoding": "chunked"}  # trailers are not headers


@pytest.mark.parametrize(
    "excess",
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"\r" * 9,
        b"\n" * 9,
        b"\r\n" * 9,
        b"H",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"0\r\n\r\n",
        b"x",
        b"\0",
    ],
)
@pytest.mark.parametrize("last", [b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"000;a\r\n\r\n"])
def test_bytes_after_the_last_chunk(excess: bytes, last: bytes) -> None:
    text = b"5\r\nhello\r\n" + last + excess
    for cut in range(len(text) + 1):
        body, parser = decode(text[:cut], text[cut:]) if cut < len(text) else decode(text)
        assert (body, parser.is_complete, parser.failure) == (b"hello", True, None)
        assert parser.has_excess


@pytest.mark.parametrize(
    "line", [b"-5", b"+5", b"0x5", b"1_0", b" 5", b"5;a\rb", b"", b"g", b"5 5", b"f" * 17, b"5\r", b"5;a\0"]
)
def test_what_precedes_a_malformed_chunk_is_decoded(line: bytes) -> None:
    body, parser = decode(b"5\r\nhello\r\n" + line + b"\r\nhello\r\n0\r\n\r\n")
    assert body == b"hello" and parser.failure and not parser.is_complete


@pytest.mark.parametrize("end", [b"X\r\n", b"\n", b"\r", b"\r\r\n", b"X", b"0\r\n"])
def test_a_chunk_longer_than_its_size(end: bytes) -> None:
    body, parser = decode(b"5\r\nhello" + end + b"0\r\n\r\n")
    assert body == b"hello" and (parser.failure or not parser.is_complete)


@pytest.mark.parametrize(
    "text", [b"5;" + b"a" * 20_000, b"5;a=" + b"a" * 20_000, b'5;a="' + b"a" * 20_000, b"0\r\nA: " + b"a" * 20_000,
    b"0\r\n" + b"A: b\r\n" * 4_000, b"1;%s\r\nx\r\n" % (b"a" * 2_000) * 20, b"0" * 20_000]
)  # fmt: skip
def test_extensions_and_trailers_have_a_limit(text: bytes) -> None:
    """llhttp has none. They are not kept, but S3 could send them for ever."""
    assert decode(*[text[start : start + 1_000] for start in range(0, len(text), 1_000)])[1].failure


def test_the_limit_does_not_grow_with_the_pieces_in_which_a_chunk_arrives() -> None:
    body = b"3e8\r\n%s\r\n" % bytes(1_000)
    trailer = b"0\r\nA: " + b"a" * 17_000 + b"\r\n\r\n"
    text = body + trailer
    assert decode(*[text[start : start + 1] for start in range(len(text))])[1].failure


def test_bytes_after_the_last_chunk_do_not_count_for_the_limit() -> None:
    body, parser = decode(b"5\r\nhello\r\n0\r\n\r\n" + bytes(60_000))
    assert (body, parser.is_complete, parser.has_excess, parser.failure) == (b"hello", True, True, None)


def test_many_small_chunks_are_within_the_limit() -> None:
    body, parser = decode(b"1\r\nx\r\n" * 100_000, b"0\r\n\r\n")
    assert body == b"x" * 100_000 and parser.is_complete and parser.failure is None
