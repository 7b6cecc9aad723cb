"""An S3 in this process that checks signatures with botocore, and answers as one of the usual servers.

It shares no code with the package's signer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials as BotoCredentials

from usp_s3_wsgi.cli.check.rejected_signature.diagnosis import ServerAnswer
from usp_s3_wsgi.signing.types import S3Request

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
MAX_SKEW = timedelta(minutes=15)
ANY_REGION = ""


class Rejected(Exception):
    """An error answer: status, code, and further elements of its document."""

    def __init__(self, status: int, code: str, **elements: str) -> None:
        super().__init__(code)
        self.status, self.code, self.elements = status, code, elements


@dataclass
class VerifyingS3:
    """A bucket ``films`` in which every key exists, and the keys that may read it.

    ``device`` changes requests on their way. ``shows_texts``: error documents have what was computed, as those of AWS
    and Swift. ``has_one_denial``: wrong signatures are AccessDenied, as in Ceph 16. ``domain``: the bucket's name may
    be in the host before it.
    """

    keys: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)
    region: str = "eu-central-1"
    versions: tuple[str, ...] = ("v4", "v2")
    places: tuple[str, ...] = ("headers", "query")
    skew: timedelta = timedelta(0)
    shows_texts: bool = True
    knows_access_keys: bool = True
    knows_regions: bool = True
    has_one_denial: bool = False
    denied: frozenset[str] = frozenset()
    denied_message: str = "Access Denied"
    bucket: str = "films"
    no_bucket: tuple[int, str] = (404, "NoSuchBucket")
    domain: str = ""
    device: Callable[[S3Request], S3Request] | None = None
    requests: list[S3Request] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return NOW + self.skew

    def __call__(self, request: S3Request) -> ServerAnswer:
        self.requests.append(request)
        headers = {"date": format_datetime(self.now, usegmt=True), "content-type": "application/xml"}
        try:
            self._handle(self.device(request) if self.device else request)
        except Rejected as rejected:
            code, status = rejected.code, rejected.status
            if self.has_one_denial and code in {"SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken"}:
                code, status, rejected.elements = "AccessDenied", 403, {}
            elements = {"Code": code, **rejected.elements}
            document = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in elements.items())
            return ServerAnswer(status, headers, f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{document}</Error>')
        return ServerAnswer(206, headers, "x")

    def _handle(self, request: S3Request) -> None:
        query = dict(parse_qsl("&".join(f"{name}={value}" for name, value in request.query), keep_blank_values=True))
        authorization = request.header("authorization") or ""
        if authorization.startswith("AWS4-HMAC-SHA256"):
            access_key = self._check_v4_headers(request, authorization)
        elif "X-Amz-Signature" in query and "query" in self.places:
            access_key = self._check_v4_query(request, query)
        elif authorization.startswith("AWS "):
            access_key = self._check_v2(request, authorization[4:].rpartition(":"), None)
        elif "Signature" in query and "query" in self.places and "v2" in self.versions:
            access_key = self._check_v2(request, (query["AWSAccessKeyId"], ":", query["Signature"]), query["Expires"])
        else:
            raise Rejected(403, "AccessDenied", Message="Access Denied")
        bucket, _ = self._bucket_and_key(request)
        if bucket != self.bucket:
            raise Rejected(*self.no_bucket, BucketName=bucket)
        if access_key in self.denied:
            raise Rejected(403, "AccessDenied", Message=self.denied_message)

    def _bucket_and_key(self, request: S3Request) -> tuple[str, str]:
        host = request.host.partition(":")[0]
        if self.domain and host.endswith(f".{self.domain}"):
            return host.removesuffix(f".{self.domain}"), request.path[1:]
        bucket, _, key = request.path[1:].partition("/")
        return bucket, key

    # --- what is checked of all

    def _secret_of(self, access_key: str) -> str:
        if access_key in self.keys:
            return self.keys[access_key]
        if self.knows_access_keys:
            raise Rejected(403, "InvalidAccessKeyId", AWSAccessKeyId=access_key)
        return "none"

    def _check_token(self, access_key: str, token: str | None) -> None:
        expected = self.tokens.get(access_key)
        if expected and not token:
            raise Rejected(403, "InvalidAccessKeyId", AWSAccessKeyId=access_key)
        if token and token != expected:
            # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; AWS repeats the token.
            raise Rejected(400, "InvalidToken", **{"Token-0": token})

    def _check_time(self, signed_at: datetime, expires: timedelta | None = None) -> None:
        server_time = {"ServerTime": f"{self.now:%Y-%m-%dT%H:%M:%SZ}"}
        if expires is None and abs(self.now - signed_at) > MAX_SKEW:
            raise Rejected(403, "RequestTimeTooSkewed", **server_time)
        if expires is not None and self.now > signed_at + expires:
            raise Rejected(403, "AccessDenied", Message="Request has expired", **server_time)

    def _mismatch(self, access_key: str, provided: str, string_to_sign: str, canonical_request: str = "") -> Rejected:
        texts = {"StringToSign": string_to_sign, "SignatureProvided": provided} if self.shows_texts else {}
        texts |= {"StringToSignBytes": string_to_sign.encode().hex(" ")} if self.shows_texts else {}
        if canonical_request and self.shows_texts:
            texts |= {
                "CanonicalRequest": canonical_request,
                "CanonicalRequestBytes": canonical_request.encode().hex(" "),
            }
        return Rejected(403, "SignatureDoesNotMatch", AWSAccessKeyId=access_key, **texts)

    # --- version 4

    def _check_v4_headers(self, request: S3Request, authorization: str) -> str:
        fields = dict(part.strip().split("=", 1) for part in authorization.partition(" ")[2].split(","))
        time, names = request.header("x-amz-date") or "", fields["SignedHeaders"].split(";")
        signed_at = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        access_key = self._scope(fields["Credential"], "AuthorizationHeaderMalformed")
        self._check_time(signed_at)
        self._check_token(access_key, request.header("x-amz-security-token"))
        headers = [(name, self._header(request, name)) for name in names]
        self._compare_v4(request, access_key, time, headers, request.query, fields["Signature"])
        return access_key

    def _check_v4_query(self, request: S3Request, query: dict[str, str]) -> str:
        time, names = query["X-Amz-Date"], query["X-Amz-SignedHeaders"].split(";")
        signed_at = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        access_key = self._scope(query["X-Amz-Credential"], "AuthorizationQueryParametersError")
        self._check_time(signed_at, timedelta(seconds=int(query["X-Amz-Expires"])))
        self._check_token(access_key, query.get("X-Amz-Security-Token"))
        headers = [(name, self._header(request, name)) for name in names]
        rest = tuple(pair for pair in request.query if pair[0] != "X-Amz-Signature")
        self._compare_v4(request, access_key, time, headers, rest, query["X-Amz-Signature"], is_query=True)
        return access_key

    def _header(self, request: S3Request, name: str) -> str:
        value = request.host if name == "host" else request.header(name)
        if value is None:
            raise Rejected(
                403, "AccessDenied", Message="There were headers not present in the request which were signed"
            )
        return value

    def _scope(self, credential: str, code: str) -> str:
        if "v4" not in self.versions:
            raise Rejected(400, "InvalidArgument", Message="Unsupported Authorization Type")
        if credential.count("/") != 4:
            raise Rejected(
                400, code, Message='the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/..."'
            )
        access_key, _, region, _, _ = credential.split("/")
        if self.region != ANY_REGION and region != self.region and self.knows_regions:
            message = f"the region '{region}' is wrong; expecting '{self.region}'"
            raise Rejected(400, code, Message=message, Region=self.region)
        self._region = region if self.knows_regions or not self.region else self.region
        return access_key

    def _compare_v4(
        self,
        request: S3Request,
        access_key: str,
        time: str,
        headers: Iterable[tuple[str, str]],
        query: Iterable[tuple[str, str]],
        provided: str,
        is_query: bool = False,
    ) -> None:
        credentials = BotoCredentials(access_key, self._secret_of(access_key))
        signer = (auth.S3SigV4QueryAuth if is_query else auth.S3SigV4Auth)(credentials, "s3", self._region)
        target = "&".join(f"{name}={value}" for name, value in query)
        aws_request = AWSRequest(
            request.method, f"{request.scheme}://{request.host}{request.path}?{target}", dict(headers)
        )
        aws_request.context["timestamp"] = time
        canonical_request = signer.canonical_request(aws_request)
        string_to_sign = signer.string_to_sign(aws_request, canonical_request)
        if signer.signature(string_to_sign, aws_request) != provided:
            raise self._mismatch(access_key, provided, string_to_sign, canonical_request)

    # --- version 2

    def _check_v2(self, request: S3Request, pair: tuple[str, str, str], expires: str | None) -> str:
        if "v2" not in self.versions:
            message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
            raise Rejected(400, "InvalidRequest", Message=message)
        access_key, _, provided = pair
        if expires is None:
            self._check_time(parsedate_to_datetime(request.header("date") or ""))
        else:
            self._check_time(datetime.fromtimestamp(int(expires), UTC), timedelta(0))
        token = request.header("x-amz-security-token") or unquote(dict(request.query).get("x-amz-security-token", ""))
        self._check_token(access_key, token or None)
        signer = auth.HmacV1Auth(BotoCredentials(access_key, self._secret_of(access_key)))
        signer._get_date = lambda: expires or request.header("date")  # botocore would sign its own time
        headers = HTTPHeaders()
        for name, value in request.headers:
            headers[name] = value
        if token and expires:
            headers["x-amz-security-token"] = token
        bucket, key = self._bucket_and_key(request)
        split = urlsplit(f"http://{request.host}{request.path}")
        string_to_sign = signer.canonical_string(
            request.method, split, headers, expires=expires, auth_path=f"/{bucket}/{key}"
        )
        if signer.sign_string(string_to_sign) != provided:
            raise self._mismatch(access_key, provided, string_to_sign)
        return access_key
