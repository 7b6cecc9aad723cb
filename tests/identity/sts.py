"""An emulated AWS Security Token Service: AssumeRole and AssumeRoleWithWebIdentity.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

from tests.identity.emulated import SECRET_PREFIX, TAIL, TOKEN_PREFIX, Answer, Endpoint, Issue, Request, iso8601
from tests.identity.signature import Signature, is_signed, signature_of

#: The default long-lived key pair.
ACCESS_KEY, SECRET_KEY = "AKIAEMULATEDSTS00001", f"{SECRET_PREFIX}LongLived{TAIL}"
WEB_IDENTITY_TOKEN = f"{TOKEN_PREFIX}WebIdentity"
ACCOUNT = "123456789012"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/media-reader"

VERSION = "2011-06-15"
NAMESPACE = f"https://sts.amazonaws.com/doc/{VERSION}/"
#: DurationSeconds: its default, minimum, maximum, and maximum for role chaining.
DEFAULT_DURATION, MIN_DURATION, MAX_DURATION, MAX_CHAINED_DURATION = 3600, 900, 43_200, 3600
#: Seconds that a signature's time may differ from the service's clock.
TOLERANCE = 15 * 60
#: Parameter, whether it is required, minimum and maximum length, and pattern, as in the API model.
CONSTRAINTS = (
    ("RoleArn", True, 20, 2048, r".*"),
    ("RoleSessionName", True, 2, 64, r"[\w+=,.@-]*"),
    ("ExternalId", False, 2, 1224, r"[\w+=,.@:\/-]*"),
)
_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Role:
    """A role that every signed request may assume, or with ``external_id`` only requests that send it."""

    arn: str = ROLE_ARN
    external_id: str | None = None
    max_duration: int = MAX_DURATION


class Refusal(Exception):
    """An error response of STS."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class STS(Endpoint):
    """The service. ``roles`` by ARN, ``keys`` and the web identity tokens can be changed at any time.

    It accepts signatures with temporary credentials that it or one of ``sources`` has issued, too. Issued credentials
    are valid for the requested DurationSeconds, or for ``lifetime``, which may be shorter than AWS allows.
    """

    label = "STS"

    def __init__(
        self,
        *roles: Role,
        keys: Mapping[str, str] | None = None,
        sources: Sequence[Endpoint] = (),
        region: str | None = None,
        web_identity_token: str = WEB_IDENTITY_TOKEN,
        lifetime: float | None = None,
        port: int = 0,
    ) -> None:
        """``keys``: secret keys by access key id. ``region``: the only region in a credential scope, None for any."""
        super().__init__(lifetime=lifetime, port=port)
        self.roles = {role.arn: role for role in roles or (Role(),)}
        self.keys = dict({ACCESS_KEY: SECRET_KEY} if keys is None else keys)
        self.sources: tuple[Endpoint, ...] = (self, *sources)
        self.region = region
        self.web_identity_token = web_identity_token
        self.expired_web_identity_tokens: set[str] = set()

    def environment(self, token_file: Path | None = None) -> dict[str, str]:
        """Return the environment variables for botocore; with ``token_file``, which is written, for IRSA (EKS)."""
        variables = {"AWS_ENDPOINT_URL_STS": self.url}
        if token_file is not None:
            token_file.write_text(self.web_identity_token)
            variables |= {"AWS_ROLE_ARN": next(iter(self.roles)), "AWS_WEB_IDENTITY_TOKEN_FILE": str(token_file)}
        return variables

    def _answer(self, request: Request, *, expired: bool) -> Answer:
        parameters = request.parameters
        action = parameters.get("Action", "")
        try:
            if request.path != "/" or request.method not in ("GET", "POST"):
                raise Refusal(404, "UnknownOperationException", "")
            if action not in ("AssumeRole", "AssumeRoleWithWebIdentity") or parameters.get("Version") != VERSION:
                raise Refusal(400, "InvalidAction", f"Could not find operation {action} for version {VERSION}")
            chained = self._check_signature(request) if action == "AssumeRole" else False
            _check_constraints(parameters)
            duration = int(parameters.get("DurationSeconds", DEFAULT_DURATION))
            role = self._role(action, parameters)
            if duration > role.max_duration:
                words = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
                raise Refusal(400, "ValidationError", words)
            if chained and duration > MAX_CHAINED_DURATION:
                words = (
                    "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
                )
                raise Refusal(400, "ValidationError", words)
        except Refusal as refusal:
            return self._refused(refusal)
        lifetime = duration if self.lifetime is None else self.lifetime
        issue = self._issue(lifetime, expired=expired, role=role.arn, session_name=parameters["RoleSessionName"])
        return self._document(200, f"{action}Response", _result(action, issue), inner="ResponseMetadata")

    def _check_signature(self, request: Request) -> bool:
        """Return whether temporary credentials signed the request. Raises: Refusal: the signature is not accepted."""
        if "authorization" not in request.headers:
            raise Refusal(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
        found = signature_of(request)
        if found is None:
            raise Refusal(400, "IncompleteSignature", "Authorization header is not one of Signature Version 4.")
        if found.service != "sts":
            raise _mismatch("Credential should be scoped to correct service: 'sts'. ")
        if self.region not in (None, found.region):
            raise _mismatch("Credential should be scoped to a valid region. ")
        temporary, secret_key = self._find_key(found.access_key, request.headers.get("x-amz-security-token"))
        self._check_time(found)
        if not is_signed(request, found, secret_key):
            words = "The request signature we calculated does not match the signature you provided. Check your AWS "
            raise _mismatch(
                f"{words}Secret Access Key and signing method. Consult the service documentation for details."
            )
        if temporary is not None and temporary.expiration.timestamp() <= self.now():
            raise Refusal(403, "ExpiredToken", "The security token included in the request is expired")
        return temporary is not None

    def _find_key(self, access_key: str, token: str | None) -> tuple[Issue | None, str]:
        """Return the issued credentials with this access key id, None for a long-lived key, and its secret key."""
        found = (issue for source in self.sources if (issue := source.issued_as(access_key)) is not None)
        temporary = next(found, None)
        expected = temporary.token if temporary else None
        secret_key = temporary.secret_key if temporary else self.keys.get(access_key)
        if secret_key is None or token != expected:
            raise Refusal(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        return temporary, secret_key

    def _check_time(self, found: Signature) -> None:
        """Raises: Refusal: the time of a signature differs too much from the service's clock."""
        now = self.now()
        if found.moment < now - TOLERANCE:
            limit = f"{_basic(now - TOLERANCE)} ({_basic(now)} - 15 min.)"
            raise _mismatch(f"Signature expired: {found.time} is now earlier than {limit}")
        if found.moment > now + TOLERANCE:
            limit = f"{_basic(now + TOLERANCE)} ({_basic(now)} + 15 min.)"
            raise _mismatch(f"Signature not yet current: {found.time} is still later than {limit}")

    def _role(self, action: str, parameters: Mapping[str, str]) -> Role:
        """Return the requested role. Raises: Refusal: the request may not assume it."""
        arn = parameters["RoleArn"]
        if not _ARN.fullmatch(arn):
            raise Refusal(400, "ValidationError", f"{arn} is invalid")
        role = self.roles.get(arn)
        if action == "AssumeRole":
            if role is None or (role.external_id is not None and parameters.get("ExternalId") != role.external_id):
                who = f"User: arn:aws:iam::{ACCOUNT}:user/emulated is not authorized to perform"
                raise Refusal(403, "AccessDenied", f"{who}: sts:{action} on resource: {arn}")
            return role
        token = parameters["WebIdentityToken"]
        if token in self.expired_web_identity_tokens:
            words = f"Token expired: current date/time {int(self.now())} must be before the expiration date/time"
            raise Refusal(400, "ExpiredTokenException", f"{words} {int(self.now()) - 1}")
        if not hmac.compare_digest(token.encode(), self.web_identity_token.encode()):
            raise Refusal(400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT.")
        if role is None:
            raise Refusal(403, "AccessDenied", f"Not authorized to perform sts:{action}")
        return role

    def _error(self, status: int) -> Answer:
        if status == 403:
            who = f"User: arn:aws:iam::{ACCOUNT}:user/emulated is not authorized to perform: sts:AssumeRole"
            return self._refused(Refusal(403, "AccessDenied", who))
        words = "The request processing has failed because of an unknown error, exception or failure."
        return self._refused(Refusal(status, "InternalFailure", words))

    def _refused(self, refusal: Refusal) -> Answer:
        kind = "Receiver" if refusal.status >= 500 else "Sender"
        words = f"<Type>{kind}</Type><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
        return self._document(refusal.status, "ErrorResponse", f"<Error>{words}</Error>")

    def _document(self, status: int, name: str, content: str, inner: str = "") -> Answer:
        with self.lock:
            request_id = f"c6104cbe-af31-11e0-8154-{len(self.requests):012}"
        end = f"<RequestId>{request_id}</RequestId>"
        end = f"<{inner}>{end}</{inner}>" if inner else end
        document = f'<{name} xmlns="{NAMESPACE}">{content}{end}</{name}>'
        return Answer(status, document.encode(), "text/xml", {"x-amzn-RequestId": request_id})


def _mismatch(message: str) -> Refusal:
    return Refusal(403, "SignatureDoesNotMatch", message)


def _basic(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=UTC).strftime("%Y%m%dT%H%M%SZ")


def _check_constraints(parameters: Mapping[str, str]) -> None:
    """Raises: Refusal: it names every parameter that violates the API model, in the words of STS."""
    rules = [*CONSTRAINTS]
    if parameters["Action"] == "AssumeRoleWithWebIdentity":
        rules.append(("WebIdentityToken", True, 4, 20_000, r".*"))
    found = [words for rule in rules for words in _violations(parameters.get(rule[0]), *rule)]
    seconds = parameters.get("DurationSeconds", str(DEFAULT_DURATION))
    if not re.fullmatch(r"-?\d{1,9}", seconds):
        raise Refusal(400, "MalformedInput", "DurationSeconds is not a number")
    if not MIN_DURATION <= int(seconds) <= MAX_DURATION:
        bound = (
            f"greater than or equal to {MIN_DURATION}"
            if int(seconds) < MIN_DURATION
            else f"less than or equal to {MAX_DURATION}"
        )
        found.append(_violation(f"'{seconds}'", "DurationSeconds", f"have value {bound}"))
    if found:
        plural = "s" if len(found) > 1 else ""
        raise Refusal(400, "ValidationError", f"{len(found)} validation error{plural} detected: {'; '.join(found)}")


def _violations(
    value: str | None, name: str, required: bool, min_length: int, max_length: int, pattern: str
) -> list[str]:
    if value is None:
        return [_violation("null", name, "not be null")] if required else []
    shown = "" if name == "WebIdentityToken" else f"'{value}'"
    found = []
    if not re.fullmatch(pattern, value, re.ASCII | re.DOTALL):
        found.append(_violation(shown, name, f"satisfy regular expression pattern: {pattern}"))
    if len(value) < min_length:
        found.append(_violation(shown, name, f"have length greater than or equal to {min_length}"))
    if len(value) > max_length:
        found.append(_violation(shown, name, f"have length less than or equal to {max_length}"))
    return found


def _violation(value: str, name: str, must: str) -> str:
    return f"Value {value} at '{name[0].lower()}{name[1:]}' failed to satisfy constraint: Member must {must}"


def _result(action: str, issue: Issue) -> str:
    name = issue.role.rpartition("/")[2]
    subject = "<SubjectFromWebIdentityToken>system:serviceaccount:media:origin</SubjectFromWebIdentityToken>"
    return (
        f"<{action}Result>{subject if action == 'AssumeRoleWithWebIdentity' else ''}<AssumedRoleUser>"
        f"<AssumedRoleId>AROAEMULATEDROLE00001:{issue.session_name}</AssumedRoleId>"
        f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{issue.session_name}</Arn></AssumedRoleUser><Credentials>"
        f"<AccessKeyId>{issue.access_key}</AccessKeyId><SecretAccessKey>{issue.secret_key}</SecretAccessKey>"
        f"<SessionToken>{issue.token}</SessionToken><Expiration>{iso8601(issue.expiration)}</Expiration>"
        f"</Credentials></{action}Result>"
    )
