"""``signature.c`` signs in usp_s3_module without Python: official vectors, Amazon's examples, comparison with Python.

Only this file of the module is compiled: it needs OpenSSL, but not httpd.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import usp_s3_wsgi
from tests.httpd.machine import compile_shared, has_openssl
from tests.unit.test_sigv4 import CREDENTIALS, EMPTY_PAYLOAD_HASH, EXAMPLES, HOST, NOW, SECRET, canonical_request
from tests.unit.test_sigv4_vectors import CASES, load
from usp_s3_wsgi.proxy import callbacks
from usp_s3_wsgi.proxy.callbacks import NativeSigningTemplate, SignedRequest
from usp_s3_wsgi.proxy.proxied_request import ProxiedRequest
from usp_s3_wsgi.s3.endpoint_state import endpoint_state
from usp_s3_wsgi.signing import sigv4

SOURCE = Path(usp_s3_wsgi.__file__).parent / "proxy" / "mod_usp_s3" / "signature.c"
#: The call of OpenSSL that fails, counted from now; 0: none.
FAILING = """
static int calls_until_failure;
void fail_at(int call) { calls_until_failure = call; }
static int fails(void) { return calls_until_failure && !--calls_until_failure; }
"""


pytestmark = pytest.mark.skipif(not has_openssl(), reason="OpenSSL's headers are not on this machine")


class Parts(ctypes.Structure):
    """``usp_s3_signature_parts``."""

    _fields_ = (
        ("canonical_request", ctypes.c_char_p),
        ("string_to_sign", ctypes.c_char_p),
        ("signing_key", ctypes.c_ubyte * 32),
    )


def parts(after_path: str, string_to_sign_prefix: str, key: bytes) -> Parts:
    return Parts(after_path.encode(), string_to_sign_prefix.encode(), (ctypes.c_ubyte * 32)(*key))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.CDLL]:
    loaded = ctypes.CDLL(str(compile_shared(SOURCE, tmp_path_factory.mktemp("signature"), "-lcrypto")))
    assert loaded.usp_s3_load_algorithms() and loaded.usp_s3_has_algorithms()
    yield loaded
    loaded.usp_s3_free_algorithms()


def native_signature(library: ctypes.CDLL, template: Parts, method: str, path: str) -> str | None:
    signature = ctypes.create_string_buffer(65)
    if not library.usp_s3_compute_signature(ctypes.byref(template), method.encode(), path.encode(), signature):
        return None
    return signature.value.decode()


def split(canonical_request: str) -> tuple[str, str, str]:
    """Method, path, and what follows the path in a canonical request."""
    method, path, rest = canonical_request.split("\n", 2)
    return method, path, "\n" + rest


@pytest.mark.parametrize("place", ["header", "query"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_official_vectors(library: ctypes.CDLL, name: str, place: str) -> None:
    case = load(name)
    method, path, after_path = split(case.expected[f"{place}-canonical-request"])
    prefix = case.expected[f"{place}-string-to-sign"][:-64]
    scope = case.context
    key = sigv4.signing_key(case.credentials.secret_key, case.time[:8], scope["region"], scope["service"])
    expected = case.expected[f"{place}-signature"]
    assert native_signature(library, parts(after_path, prefix, key), method, path) == expected


@pytest.mark.parametrize("example", EXAMPLES)
def test_documented_examples(library: ctypes.CDLL, example: str) -> None:
    method, path, *_, expected = EXAMPLES[example]
    prefix = "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
    key = sigv4.signing_key(SECRET, "20130524", "us-east-1")
    after_path = split(canonical_request(example))[2]
    assert native_signature(library, parts(after_path, prefix, key), method, path) == expected


def test_documented_query_example(library: ctypes.CDLL) -> None:
    url = f"https://{HOST}/"
    variables = {"S3Expires": "86400", "S3UseHeaders": "off", "S3Region": "us-east-1"}
    first = sign(url, variables, CREDENTIALS.access_key, SECRET, "GET", "another/key", NOW)
    assert signed_natively(library, first, "GET", "/test.txt").url.endswith(
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def sign(
    url: str, variables: dict[str, str], access_key: str, secret: str, method: str, key: str, now: datetime
) -> SignedRequest:
    """The result of the callback of usp_s3_module, for the key of a bucket at this time."""
    pairs = {"S3AccessKey": access_key, "S3SecretKey": secret, **variables}
    fields = ProxiedRequest(url, tuple(pairs.items()), method, url + key, f"/{key}", False, None)
    with mock.patch.object(endpoint_state, "now", return_value=now):
        signed = callbacks.sign_request(tuple(fields))
    assert isinstance(signed, SignedRequest)
    return signed


def signed_natively(library: ctypes.CDLL, first: SignedRequest, method: str, path: str) -> SignedRequest:
    """What the module sends for another path: ``signing_template.c`` makes it from the first request's template."""
    template = first.template
    assert isinstance(template, NativeSigningTemplate)
    assert path.startswith(template.prefix)
    signature = native_signature(
        library,
        parts(template.canonical_request_after_path, template.string_to_sign_prefix, template.signing_key),
        method,
        path,
    )
    assert signature
    if template.query_prefix is not None:
        return first._replace(url=f"{template.origin}{path}?{template.query_prefix}{signature}")
    headers = [header for header in first.headers if header[0] != "Authorization"]
    headers.append(("Authorization", f"{template.authorization_prefix}{signature}"))
    return first._replace(url=template.origin + path, headers=tuple(headers))


unreserved = st.text("ABCXYZabcxyz0189-._~", min_size=1, max_size=20).filter(lambda name: not name.startswith("."))
simple_keys = st.lists(unreserved, min_size=1, max_size=6).map("/".join)
printable = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
urls = st.sampled_from(
    [
        "https://mybucket.s3.eu-central-1.amazonaws.com/",
        "https://s3.amazonaws.com/my-bucket/",
        "http://127.0.0.1:9000/my-bucket/videos/",
        "https://[::1]:8443/my-bucket/",
    ]
)


@given(
    url=urls,
    keys=st.tuples(simple_keys, simple_keys),
    methods=st.tuples(*[st.sampled_from(["GET", "HEAD"])] * 2),
    access_key=printable,
    secret=printable,
    token=st.none() | printable,
    region=st.sampled_from(["us-east-1", "eu-central-1", "default"]),
    mode=st.sampled_from(["on", "off"]),
    requester_pays=st.booleans(),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC)),
)
def test_another_key_is_signed_as_python_signs_it(
    library: ctypes.CDLL,
    url: str,
    keys: tuple[str, str],
    methods: tuple[str, str],
    access_key: str,
    secret: str,
    token: str | None,
    region: str,
    mode: str,
    requester_pays: bool,
    now: datetime,
) -> None:
    variables = {"S3Region": region, "S3UseHeaders": mode}
    if token:
        variables["S3SecurityToken"] = token
    if requester_pays:
        variables["S3RequesterPays"] = "on"
    first, expected = (
        sign(url, variables, access_key, secret, method, key, now) for method, key in zip(methods, keys, strict=True)
    )
    path = "/" + url.split("/", 3)[3] + keys[1]
    native = signed_natively(library, first, methods[1], path)
    assert native.url == expected.url
    assert sorted(native.headers) == sorted(expected.headers)
    assert native.host == expected.host


def test_threads_sign_at_the_same_time(library: ctypes.CDLL) -> None:
    key = bytes(range(32))

    def expected(path: str) -> str:
        canonical = sigv4.canonical_request("GET", path, "", "host:h\n", "host", EMPTY_PAYLOAD_HASH)
        return sigv4.signature(key, sigv4.string_to_sign("t", "s", canonical))

    after_path = split(sigv4.canonical_request("GET", "/", "", "host:h\n", "host", EMPTY_PAYLOAD_HASH))[2]
    template = parts(after_path, sigv4.string_to_sign("t", "s", "")[:-64], key)
    paths = [f"/{number}" * 50 for number in range(2000)]
    with ThreadPoolExecutor(8) as pool:
        signatures = list(pool.map(lambda path: native_signature(library, template, "GET", path), paths))
    assert signatures == [expected(path) for path in paths]


def test_without_openssl_nothing_is_signed(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(compile_shared(SOURCE, tmp_path, "-DUSP_S3_WITHOUT_OPENSSL")))
    assert not library.usp_s3_load_algorithms() and not library.usp_s3_has_algorithms()
    assert native_signature(library, parts("", "", bytes(32)), "GET", "/") is None


#: OpenSSL's functions that can fail, as signature.c calls them.
CAN_FAIL = (
    "EVP_MAC_fetch EVP_MD_fetch EVP_MAC_CTX_new EVP_MAC_init EVP_MD_CTX_new EVP_DigestInit_ex2 EVP_DigestUpdate "
    "EVP_DigestFinal_ex EVP_MAC_CTX_dup EVP_MAC_update EVP_MAC_final".split()
)


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library with calls of OpenSSL that fail on request."""
    folder = tmp_path_factory.mktemp("failing")
    lines = ["#include <openssl/core_names.h>", "#include <openssl/err.h>", "#include <openssl/evp.h>", FAILING]
    lines += [f"#define {name}(...) (fails() ? 0 : {name}(__VA_ARGS__))" for name in CAN_FAIL]
    source = folder / "failing.c"
    source.write_text("\n".join([*lines, SOURCE.read_text("utf-8")]))
    return ctypes.CDLL(str(compile_shared(source, folder, f"-I{SOURCE.parent}", "-lcrypto")))


def test_if_openssl_fails_nothing_is_signed(failing: Any) -> None:
    """Python signs this request, and the next request is signed again."""
    template = parts("\n\nhost:h\n\nhost\nUNSIGNED-PAYLOAD", "AWS4-HMAC-SHA256\nt\ns\n", bytes(32))

    def sign_with_failure(call: int) -> str | None:
        failing.fail_at(call)
        signature = native_signature(failing, template, "GET", "/")
        failing.fail_at(0)
        return signature

    for call in range(1, 5):
        failing.fail_at(call)
        assert not failing.usp_s3_load_algorithms() and not failing.usp_s3_has_algorithms()
        assert sign_with_failure(0) is None
    assert failing.usp_s3_load_algorithms()
    expected = sign_with_failure(0)
    assert expected
    for call in range(1, 13):
        assert sign_with_failure(call) is None
        assert sign_with_failure(0) == expected
    assert sign_with_failure(13) == expected  # there are 12 calls
    failing.usp_s3_free_algorithms()
    assert sign_with_failure(0) is None
