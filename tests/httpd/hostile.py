"""A hostile client, which sends raw bytes and checks what it got and what S3 got; and the data that it sends."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from tests.httpd.conftest import BUCKET, proxy_section, section, settings
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

OTHER = "other"
#: Mounts whose keys begin with "public/", signed in headers. Each proxied mount forwards the URL in another way.
PREFIXED = ["gateway", "pass", "nocanon", "rewrite"]
#: Mounts of the whole bucket, signed in the query, which forward one query parameter.
WHOLE = ["whole-gateway", "whole-pass"]
PASSED_PARAMETER = "response-content-type"
PREFIX = dict.fromkeys(PREFIXED, "public/") | dict.fromkeys(WHOLE, "")
#: The second bucket belongs to the same S3 user: these keys could read it, but no request names it.
KEYS = "a.ts public/a.ts public/b/c.ts public/public/a.ts public/private/a.ts publicity.ts secret.ts".split()
CONFIG = """
ProxyPass /pass       {url}/public
ProxyPass /nocanon    {url}/public nocanon
ProxyPass /whole-pass {localhost}
RewriteEngine On
RewriteRule ^/rewrite/(.*)$ {url}/public/$1 [P]
# A careless rule: "/nearity.ts" becomes "publicity.ts".
RewriteRule ^/near(.*)$ {url}/public$1 [P]
# With it mod_proxy would forward the client's Host.
ProxyPreserveHost On
KeepAliveTimeout 3
# The kernel buffers as little as possible of a slow client's response.
SendBufferSize 16384
# A single child, whose open files are those of the whole server, with a thread for each slow client.
StartServers 1
ServerLimit 1
ThreadLimit 256
ThreadsPerChild 256
MaxRequestWorkers 256
MinSpareThreads 1
MaxSpareThreads 256
"""

SIGNATURE = {
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature", "X-Amz-SignedHeaders",
}  # fmt: skip
CONDITIONS = {"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
OWN_HEADERS = {
    "host", "authorization", "x-amz-date", "x-amz-content-sha256", "connection", "user-agent", "accept-encoding",
}  # fmt: skip
#: Parts of responses of S3 that no client gets, and parts of signatures.
S3_ONLY = re.compile(
    rb'<\?xml|<Error>|<Code>|<ListBucket|<ListAllMy|AccessControl|Multipart.*Result|"hash":|x-amz-|Signature=|Credential=',
    re.IGNORECASE,
)


def object_body(bucket: str, key: str) -> bytes:
    """The body of an object states its bucket and key."""
    return f"[{bucket}/{key}]".encode()


def config(s3: EmbeddedS3) -> str:
    """The mounts. Those of the whole bucket use another name of the same S3, so they have their own sections."""
    url, localhost = f"{s3.url}/{BUCKET}", f"http://localhost:{s3.port}/{BUCKET}"
    whole = f"SetEnv S3PassQuery {PASSED_PARAMETER}"
    near = "\n".join([*settings(s3), f"SetEnv S3BucketURL {url}/public/"])
    return "\n".join(
        [
            CONFIG.format(url=url, localhost=localhost),
            proxy_section(f"{url}/public/", s3),
            proxy_section(f"{localhost}/", s3, whole, mode="v4-query"),
            f"<LocationMatch ^/near>\n{near}\n</LocationMatch>",
            section("/gateway", s3, path=f"{BUCKET}/public/"),
            section("/whole-gateway", s3, whole, mode="v4-query").replace(s3.url, f"http://localhost:{s3.port}"),
        ]
    )


def target_object(target: bytes) -> tuple[str, bytes] | None:
    """The mount and the key that a request target names; None if it names none: then no object may be reached."""
    path = re.sub(rb"^[A-Za-z]+://[^/?]*", b"", target).partition(b"?")[0]
    decoded = unquote_to_bytes(path)
    mount, _, key = decoded[1:].partition(b"/")
    name = mount.decode("latin-1")
    if name not in PREFIX or {b".", b".."} & set(decoded.split(b"/")) or b"\0" in decoded or not key:
        return None
    return name, key


@dataclass(frozen=True, slots=True)
class Outcome:
    """The bytes that the client got until httpd closed the connection, and the requests that S3 got."""

    response: bytes
    s3_requests: list[dict[str, Any]]

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.response)]

    @property
    def status(self) -> int:
        """The status of the only response; 0 if there is none."""
        assert len(self.statuses) < 2, self.response
        return self.statuses[0] if self.statuses else 0

    @property
    def body(self) -> bytes:
        return self.response.partition(b"\r\n\r\n")[2]

    @property
    def objects(self) -> set[bytes]:
        """The objects whose bodies the client got."""
        return set(re.findall(rb"\[(?:private|other)/[^\]]*\]", self.response))


class HostileClient:
    """A client of an httpd that sends arbitrary bytes, and checks what it and the S3 get."""

    def __init__(self, httpd: Httpd, s3: EmbeddedS3) -> None:
        self.httpd, self.s3 = httpd, s3

    def exchange(self, data: bytes) -> bytes:
        """Send bytes, close this side of the connection, and return all bytes of the response."""
        response = b""
        with socket.create_connection(("127.0.0.1", self.httpd.port), timeout=20) as client:
            with suppress(ConnectionError):  # httpd closed the connection early
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while data := client.recv(1 << 20):
                    response += data
        return response

    def send(self, data: bytes) -> Outcome:
        """Send bytes. Assert what holds for every response: no leak, and only this package's requests at S3."""
        self.s3.clear()
        response = self.exchange(data)
        s3_requests = self.s3.requests()
        assert not S3_ONLY.search(response), response
        assert self.s3.secret_key.encode() not in response
        for entry in s3_requests:
            self.assert_own_request(entry)
        return Outcome(response, s3_requests)

    def attack(self, target: bytes, *headers: bytes, method: bytes = b"GET", host: bytes = b"Host: x") -> Outcome:
        """Send one request, and assert that only the object that its target names was reached."""
        lines = [method + b" " + target + b" HTTP/1.1", host, *headers, b"Connection: close", b"", b""]
        outcome = self.send(b"\r\n".join(lines))
        self.assert_only_target_reached(outcome, target)
        return outcome

    def assert_only_target_reached(self, outcome: Outcome, target: bytes) -> None:
        """Assert that the client got, and S3 was asked for, no object but the one that the target names."""
        expected = target_object(target)
        keys: set[bytes] = set()
        if expected:
            mount, key = expected
            # ProxyPass and patterns of a path merge the slashes after the mount.
            folded = key if "gateway" in mount else key.lstrip(b"/")
            keys = {PREFIX[mount].encode() + each for each in (key, folded)}
        assert outcome.objects <= {b"[%s/%s]" % (BUCKET.encode(), key) for key in keys}, (target, outcome.response)
        for entry in outcome.s3_requests:
            path = unquote_to_bytes(entry["target"].partition("?")[0])
            assert path in {b"/%s/%s" % (BUCKET.encode(), key) for key in keys}, (target, entry)

    def assert_own_request(self, entry: dict[str, Any]) -> None:
        """Assert that a request to S3 has the method, target, headers and signature of this package's requests."""
        path, _, query = entry["target"].partition("?")
        headers = entry["headers"]
        assert entry["method"] in {"GET", "HEAD"}, entry
        assert re.fullmatch(rf"/{BUCKET}/([\w.~/-]|%[0-9A-F]{{2}})+", path, re.ASCII), entry
        names = {part.partition("=")[0] for part in query.split("&")} - {""}
        assert names <= (SIGNATURE | {PASSED_PARAMETER} if headers["host"].startswith("localhost") else set()), entry
        assert set(headers) <= OWN_HEADERS | CONDITIONS, entry
        assert headers["host"] in {self.s3.host, f"localhost:{self.s3.port}"}, entry
        # There is one signature, and S3 accepts it: the embedded S3 knows no other access key.
        signed = headers.get("authorization") == "AWS4-HMAC-SHA256" and re.fullmatch(r"\w{16}", headers["x-amz-date"])
        assert signed or (query and "authorization" not in headers and "x-amz-date" not in headers), entry
        # Swift rejects keys that are not UTF-8.
        assert entry["status"] in ({400} if "\ufffd" in unquote(path) else {200, 206, 304, 404, 412, 416}), entry

    def assert_served(self, mount: str, *headers: bytes) -> Outcome:
        """Assert that a harmless request with these headers is served, with the right bytes."""
        outcome = self.attack(f"/{mount}/a.ts".encode(), *headers)
        assert (outcome.status, outcome.body) == (200, object_body(BUCKET, PREFIX[mount] + "a.ts"))
        assert len(outcome.s3_requests) == 1
        return outcome


# --- the data that is sent

#: Paths below a mount. None of them names an object that exists.
PATHS = {
    "control characters": [
        *(b"a.ts" + end for end in (b"\0", b"\r", b" \t", b"%00", b"%00.mp4", b"%0a", b"%0d%0a")),
        b"a.ts%0d%0aHost:%20evil", b"%00a.ts", b"a.ts%20HTTP/1.1%0d%0aX-Amz-Acl:%20x",
        b"\x7f", b"\x01", b" a.ts", b"%0d%0a%0d%0aGET%20/",
    ],
    "dots": rb"""../secret.ts %2e%2e/secret.ts %2E%2e/secret.ts .%2e/secret.ts ..%2fsecret.ts %2e%2e%2Fsecret.ts
        ..%5csecret.ts ..\secret.ts ..;/secret.ts ..%3b/secret.ts .../secret.ts ./a.ts %2e/a.ts b/./c.ts b/../a.ts b/..
        b/%2e%2e b/. .. b/../../secret.ts ../../other/secret.ts ..%2f..%2fother%2fsecret.ts ../public/a.ts""".split(),
    "dots and slashes": b"""/../secret.ts //../secret.ts ..//secret.ts b//../../secret.ts b//..//..//secret.ts
        %2f%2e%2e/secret.ts %2f..%2fsecret.ts b%2f%2f..%2f..%2fsecret.ts //other/secret.ts""".split(),
    "encoded twice": b"""%252e%252e/secret.ts %252e%252e%252fsecret.ts %25252e%25252e%25252fsecret.ts ..%252fsecret.ts
        a%252ets a%25252ets %2561.ts a.ts%253facl %%32%65%%32%65/secret.ts %zz % a.ts%2
        %u002e%u002e/secret.ts""".split(),
    "overlong": b"""%c0%ae%c0%ae/secret.ts %e0%80%ae%e0%80%ae/secret.ts %f0%80%80%ae%f0%80%80%ae/secret.ts
        %c0%2e%c0%2e/secret.ts ..%c0%afsecret.ts ..%e0%80%afsecret.ts ..%c1%9csecret.ts ..%ef%bc%8fsecret.ts %ff
        a.ts%80""".split(),
    "not the same key": b"""A.ts a.ts/ a.ts%20 a.ts. a.ts%2f a.ts;x a.ts#x a.ts%23x a.ts* b b/ private/public/secret.ts
        http://127.0.0.1/a.ts @evil.example/a.ts :80/a.ts""".split(),
    "too long": [b"x" * 1100, b"x/" * 3000, b"x" * 8000, b"x" * 9000, b"%78" * 2700, b"../" * 2500 + b"secret.ts"],
}  # fmt: skip
PIECES = [b"", *b""".. . %2e %2E%2e .%2e ..; %c0%ae%c0%ae %252e%252e a.ts b c.ts public private other secret.ts %00 ~
    %e2%98%95""".split()]  # fmt: skip
FIRST_SLASHES = [b"/", b"/", b"//", b"%2f", b"%2F", b"?"]
SLASHES = rb"/ / // %2f %2F %5c \ %252f %c0%af ;/ /./ ? %3f %23".split()

#: They have no effect: the object is served, and they are not forwarded to S3.
HEADERS = [
    b"x-amz-copy-source: /other/secret.ts", b"x-amz-acl: public-read", b"x-amz-security-token: t", b"X-AMZ-Date: 2020",
    b"x-amz-date: 20200101T000000Z\r\nDate: Fri, 01 Jan 2010 00:00:00 GMT", b"X_Amz_Date: x", b"x-amz-meta-a: b",
    b"x-amz-content-sha256: UNSIGNED-PAYLOAD", b"x-amz-mfa: r",
    b"Authorization: AWS4-HMAC-SHA256 Credential=AKIAEVIL/20200101/eu-central-1/s3/aws4_request, SignedHeaders=host,"
    b" Signature=00", b"Authorization: AWS AKIAEVIL:AAAA", b"Authorization: Basic eDp5",
    b"Proxy-Authorization: Basic eDp5", b"Cookie: a=b", b"Via: 1.1 x",
    b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https",
    b"Forwarded: for=x;host=evil", b"X-Original-URL: /secret.ts\r\nX-Rewrite-URL: /secret.ts",
    b"Connection: authorization, x-amz-date, host, x-amz-content-sha256", b"Connection: close, connection, te",
    b"TE: trailers, chunked", b"Upgrade: websocket\r\nConnection: Upgrade", b"Trailer: x", b"Proxy: http://evil.example",
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings",
    b"X-HTTP-Method-Override: DELETE\r\nX-HTTP-Method: PUT\r\nX-Method-Override: POST", b"Expect: 100-continue",
    b"S3BucketURL: http://evil.example/", b"S3-Secret-Key: x", b"USP_S3_PATH: /secret.ts",
    b"USP-S3-PATH: /../secret.ts", b"Content-Length: 0", b"Content-Type: x\r\nContent-MD5: y", b"X: a\r\n folded",
    b"X-!#$%&'*+.^`|~: odd but allowed", b"Accept-Encoding: gzip", b"Keep-Alive: timeout=9", b"X-Swift: \xff\xfe",
    b'Connection: range\r\nIf-None-Match: "x"',
]  # fmt: skip
#: They are invalid HTTP, or exceed a limit.
BROKEN_HEADERS = [
    b"a b: c", b"a(b): c", b": c", b"a\0b: c", b"a\xffb: c", b"no colon", b" folded: x", b"X: a\0b", b"X: a\rb",
    b"X : y", b"X: " + b"x" * 9000, b"\r\n".join(b"X-%d: y" % number for number in range(150)), b"Expect: something",
]  # fmt: skip
METHODS = b"PUT POST DELETE PATCH OPTIONS PROPFIND COPY MKCOL LOCK SEARCH M-SEARCH get Get GETX PRI".split()

#: Framing that two servers could interpret differently (request smuggling); %d is the length of the body.
FRAMINGS = [
    b"Content-Length: %d", b"Transfer-Encoding: chunked", b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0", b"Transfer-Encoding: xchunked", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", b"Content-Length: 0\r\nContent-Length: %d",
    b"Content-Length: +%d", b"Content-Length: -1", b"Content-Length: %d, 0", b"Content-Length: 0x10",
    b"Content-Length: 99999999999999999999999", b"Content-Length: %d\r\nExpect: 100-continue",
    b"Connection: content-length\r\nContent-Length: %d", b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
]  # fmt: skip
RANGES = [
    b"bytes=0-3\r\nRange: bytes=5-7", b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(200)), b"9" * 7000, b"",
    *b"""bytes=0-3 bytes=-5 bytes=0-10,5-15,0-99 bytes=0-0,-1 bytes=-0 bytes=--5 bytes=5-3 bytes=1-2x bytes=,,, bytes
    bytes= =0-3 bytes=99999999999999999999- bytes=0-99999999999999999999 bytes=-99999999999999999999 bytes=0x1-0x5
    lines=1-2 BYTES=0-3 bytes=1-5;x=y bytes=1-5%0d%0a""".split(),
    b"bytes=\xff", b"bytes=\xc2\xb2-3", b"bytes=0-" + b"9" * 5000, b"bytes= 1 - 2", b'bytes=1-5\r\nIf-Range: "x"',
    b"bytes=1-5\r\nIf-Range: garbage\xff", b"bytes=1-5\r\nIf-Range: Thu, 01 Jan 1970 00:00:00 GMT",
    b"bytes=1-5\r\nIf-Range:", b'lines=1-5\r\nIf-Range: "x"', b'bytes=5-3\r\nIf-Range: W/"x"',
    b'bytes=9999999-\r\nIf-Range: "x"', b'bytes=1-5\r\nIf-Range: "a"\r\nIf-Range: "b"', b"bytes=1-5\r\nIf-Match: \xff",
    b"bytes=0-3\r\nRequest-Range: bytes=5-7",
]  # fmt: skip
SUBRESOURCES = [b"", *b"""acl %61cl ac%6C= uploads list-type=2 delimiter=/ prefix= versions policy torrent
    select&select-type=2 format=json multipart-manifest=get symlink=get partNumber=1 versionId=null location tagging
    attributes uploadId=x restore legal-hold X-Amz-Signature=0&X-Amz-Expires=9
    X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAEVIL/x&X-Amz-Signature=0 AWSAccessKeyId=AKIAEVIL&Signature=x
    response-content-disposition=attachment x-amz-acl=public-read temp_url_sig=0&temp_url_expires=9 ?acl x=y&acl x;acl
    &&acl &amp;acl acl&acl=&acl acl=%00 acl%0d%0aX:y a=%zz&acl acl#x""".split()]  # fmt: skip
PARAMETERS = b"""text/html%0d%0aX:%20y a%0aX:%20y a&acl a;acl a%26acl a=b %zz a&X-Amz-Expires=9 a&X-Amz-Signature=0
    a%23b a&%72esponse-content-type=b %E2%98%95""".split()  # fmt: skip
