"""The same requests signed by botocore, in all four modes: both implementations must produce the same signature.

botocore signs every header of a request, this package only those that S3 requires: so botocore gets only those.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any
from unittest import mock

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import example, given
from hypothesis import strategies as st

from usp_s3_wsgi.config.settings import Settings, from_environ
from usp_s3_wsgi.signing.percent_encoding import percent_encode
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request

UNUSUAL_TIMES = [
    datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
]
printable = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
moments = st.sampled_from(UNUSUAL_TIMES) | st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
keys = (
    st.binary(max_size=40)
    | st.text(alphabet=st.characters(codec="utf-8"), max_size=30).map(str.encode)
    | st.lists(st.sampled_from([b"/", b"+", b"%", b"%2F", b" ", b"a", b"~", b".", "é".encode()]), max_size=12).map(
        b"".join
    )
)
names = st.sampled_from(
    "versionId partNumber acl torrent tagging uploadId response-content-type response-content-disposition "
    "response-cache-control response-expires prefix max-keys x-id".split()
)
values = st.text(alphabet=st.characters(codec="utf-8"), max_size=12)
queries = st.dictionaries(names, values, max_size=5).map(lambda query: tuple(query.items()))
credentials = st.builds(
    Credentials,
    access_key=st.text(alphabet=printable, min_size=1, max_size=24),
    secret_key=st.text(alphabet=printable, min_size=1, max_size=44),
    security_token=st.none() | st.text(alphabet=printable, min_size=1, max_size=60),
)
hosts = st.sampled_from(
    [
        ("https://mybucket.s3.eu-central-1.amazonaws.com/", "mybucket"),
        ("http://mybucket.s3.eu-central-1.amazonaws.com/", "mybucket"),
        ("https://s3.amazonaws.com/my-bucket/", None),
        ("http://127.0.0.1:9000/my-bucket/", None),
        ("https://[::1]:8443/my-bucket/", None),
        ("http://localhost:443/my-bucket/", None),
    ]
)
hosts_without_name = st.sampled_from(
    [
        ("http://films.s3.example:9000/", None),
        ("https://my.films.s3.example/", None),
        ("http://films.s3.localhost", None),
    ]
)
ranges = st.sampled_from([(), (("Range", "bytes=0-"),), (("range", "bytes=-500"), ("If-Range", '"etag"'))])
amz_headers = st.sampled_from(
    [
        (),
        (("x-amz-request-payer", "requester"),),
        (("X-Amz-Meta-B", "  two "), ("x-amz-checksum-mode", "ENABLED"), ("Content-Type", "text/plain; charset=utf-8")),
    ]
)


Pairs = tuple[tuple[str, str], ...]


@dataclass
class Scenario:
    """A request for both implementations. ``bucket``: its URL, and its name if that is in the host."""

    method: str
    bucket: tuple[str, str | None]
    key: bytes
    query: Pairs
    unsigned: Pairs
    signed: Pairs
    moment: datetime
    credentials: Credentials
    region: str | None
    expires: int = 300

    @property
    def request(self) -> S3Request:
        url = self.settings(use_headers=True).bucket_url
        query = tuple((name, percent_encode(value.encode(), "")) for name, value in self.query)
        path = url.prefix + percent_encode(self.key)
        return S3Request(self.method, url.scheme, url.authority, path, query, self.unsigned + self.signed)

    def settings(self, *, use_headers: bool) -> Settings:
        environ = {
            "S3BucketURL": self.bucket[0],
            "S3AccessKey": "A",
            "S3SecretKey": "S",
            "S3UseHeaders": "on" if use_headers else "off",
            "S3Expires": str(self.expires),
        }
        return from_environ(environ | ({"S3Region": self.region} if self.region else {}))

    def sign(self, *, use_headers: bool, payload_hash: str | None = None) -> S3Request:
        settings = self.settings(use_headers=use_headers)
        return sign(self.request, settings.signing, self.credentials, self.moment, payload_hash)

    def boto_credentials(self) -> Any:
        keys = self.credentials
        return BotoCredentials(keys.access_key, keys.secret_key, keys.security_token)

    def boto_sign(self, signer: Any, context: dict[str, Any] | None = None) -> Any:
        """Sign with botocore at the same time, and return its request."""
        request = self.request
        # In Signature v2 botocore keeps the "=" of a parameter without value; Swift, Ceph and minio-go omit it.
        query = "&".join(f"{name}={value}" if value or self.region else name for name, value in request.query)
        url = f"{request.scheme}://{request.host}{request.path}" + (f"?{query}" if query else "")
        name = self.bucket[1]
        path = f"/{name}{request.path}" if name else None
        boto_request = AWSRequest(request.method, url, headers=dict(self.signed), auth_path=path)
        boto_request.context.update(context or {})
        seconds = calendar.timegm(self.moment.timetuple())
        with (
            mock.patch.object(auth, "get_current_datetime", return_value=self.moment.replace(tzinfo=None)),
            mock.patch.object(auth, "time", SimpleNamespace(time=self.moment.timestamp)),
            mock.patch.object(auth, "formatdate", lambda usegmt: formatdate(seconds, usegmt=usegmt)),
        ):
            signer.add_auth(boto_request)
        return boto_request


def scenarios(regions: st.SearchStrategy[Any], buckets: st.SearchStrategy[Any] = hosts) -> st.SearchStrategy[Scenario]:
    return st.builds(
        Scenario,
        method=st.sampled_from(["GET", "HEAD"]),
        bucket=buckets,
        key=keys,
        query=queries,
        unsigned=ranges,
        signed=amz_headers,
        moment=moments,
        credentials=credentials,
        region=regions,
        expires=st.sampled_from([1, 300, 604_800]),
    )


# Signature v4 signs only the host: the bucket's name is not required.
v4_scenarios = scenarios(st.sampled_from(["us-east-1", "eu-central-1", "default"]), hosts | hosts_without_name)
v2_scenarios = scenarios(st.none())
UNUSUAL = Scenario(
    "GET",
    ("https://[::1]:8443/my-bucket/", None),
    b"//a+b%2F \xff",
    (("versionId", "a+b/c=&d"), ("acl", ""), ("response-content-disposition", 'attachment; filename="é+.mp4"')),
    (("Range", "bytes=0-"),),
    (("x-amz-request-payer", "requester"),),
    UNUSUAL_TIMES[0],
    Credentials(access_key="AK/IA", secret_key="s+/=", security_token="t+/=="),
    None,
    300,
)
UNUSUAL_V4 = replace(UNUSUAL, region="eu-central-1")


def header(request: S3Request, name: str) -> str:
    (value,) = [value for key, value in request.headers if key.lower() == name.lower()]
    return value


def parameters(query: str) -> list[str]:
    return sorted(query.split("&"))


def check_v4_headers(scenario: Scenario, unsigned_payload: bool) -> None:
    # By default botocore hashes the (empty) body here, with http and https. With this option it does not.
    context = {"client_config": SimpleNamespace(s3={"payload_signing_enabled": not unsigned_payload})}
    boto_signed = scenario.boto_sign(auth.S3SigV4Auth(scenario.boto_credentials(), "s3", scenario.region), context)
    signed = scenario.sign(use_headers=True, payload_hash="UNSIGNED-PAYLOAD" if unsigned_payload else None)
    for name in ("Authorization", "X-Amz-Date", "X-Amz-Content-SHA256"):
        assert header(signed, name) == boto_signed.headers[name]
    if scenario.credentials.security_token:
        assert header(signed, "x-amz-security-token") == boto_signed.headers["X-Amz-Security-Token"]
    assert signed.target == scenario.request.target
    assert set(scenario.request.headers) <= set(signed.headers)


@given(v4_scenarios, st.booleans())
@example(UNUSUAL_V4, False)
def test_v4_headers(scenario: Scenario, unsigned_payload: bool) -> None:
    check_v4_headers(scenario, unsigned_payload)


def check_v4_query(scenario: Scenario) -> None:
    signer = auth.S3SigV4QueryAuth(scenario.boto_credentials(), "s3", scenario.region, expires=scenario.expires)
    boto_signed = scenario.boto_sign(signer)
    signed = scenario.sign(use_headers=False)
    path, _, query = signed.target.partition("?")
    assert path == scenario.request.path
    assert parameters(query) == parameters(boto_signed.url.partition("?")[2])
    assert signed.headers == scenario.request.headers


@given(v4_scenarios)
@example(UNUSUAL_V4)
def test_v4_query(scenario: Scenario) -> None:
    check_v4_query(scenario)


def check_v2_headers(scenario: Scenario) -> None:
    boto_signed = scenario.boto_sign(auth.HmacV1Auth(scenario.boto_credentials()))
    signed = scenario.sign(use_headers=True)
    assert header(signed, "Authorization") == boto_signed.headers["Authorization"]
    assert header(signed, "Date") == boto_signed.headers["Date"]
    assert signed.target == scenario.request.target
    assert set(scenario.request.headers) <= set(signed.headers)


@given(v2_scenarios)
@example(UNUSUAL)
def test_v2_headers(scenario: Scenario) -> None:
    check_v2_headers(scenario)


def check_v2_query(scenario: Scenario) -> None:
    boto_signed = scenario.boto_sign(auth.HmacV1QueryAuth(scenario.boto_credentials(), expires=scenario.expires))
    signed = scenario.sign(use_headers=False)
    # botocore also copies the signed headers into the query; this package does not.
    copied = {name.lower() for name, _ in scenario.signed}
    expected = [pair for pair in parameters(boto_signed.url.partition("?")[2]) if pair.partition("=")[0] not in copied]
    signed_query = [f"{name}={value}" if value else name for name, value in signed.query]
    assert sorted(signed_query) == expected
    assert signed.headers == scenario.request.headers


@given(v2_scenarios)
@example(UNUSUAL)
def test_v2_query(scenario: Scenario) -> None:
    check_v2_query(scenario)


def test_a_request_just_after_midnight_is_signed_with_the_new_days_key() -> None:
    # If the old key stayed in the cache, every request of the new day would fail.
    scenario = Scenario(
        "GET", ("https://b.s3.amazonaws.com/", "b"), b"k", (), (), (), UNUSUAL_TIMES[2], UNUSUAL.credentials, "r"
    )
    for moment in (UNUSUAL_TIMES[2], UNUSUAL_TIMES[2] + timedelta(seconds=1)):
        scenario.moment = moment
        boto_signed = scenario.boto_sign(auth.S3SigV4Auth(scenario.boto_credentials(), "s3", scenario.region))
        assert header(scenario.sign(use_headers=True), "Authorization") == boto_signed.headers["Authorization"]
