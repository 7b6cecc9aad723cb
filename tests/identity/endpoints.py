"""Emulated sources of temporary credentials that speak AWS's protocols over real sockets, and fail as told.

    with Metadata() as metadata:                       # EC2 instance metadata v2; v1 is refused
        ...                                            # AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url
        assert signed_with == metadata.issue(1).access_key
        metadata.fault = "500"                         # from now on, until it is None again
        metadata.wait_for_requests(4)

    with Container() as ecs: ...                       # ECS, EKS Pod Identity: ecs.uri, the Authorization ecs.token
    with STS(Role(ARN, external_id="x")) as sts: ...   # AssumeRole, AssumeRoleWithWebIdentity

All have ``url`` (without a slash at its end), ``port``, ``requests`` (each `Request` as it arrived), ``issued``
(each `Issue`, the numbered credentials; an answer with credentials always brings new ones), ``issue(n)`` from 1,
``issued_as(access_key)``, ``wait_for_requests(n)``, ``lock`` (hold it to see several of these at one moment), and
``environment()``, the variables that lead botocore there. To be set at any time, before or after the start:

- ``lifetime``: seconds that what is issued is valid (STS: None is what the client asks for).
- ``skew``: seconds that the endpoint's own clock is ahead, in Date, Expiration and all that it judges.
- ``fault``: None, or
  "slow"     answers rightly, but only when ``released`` (an Event) is set or ``delay`` seconds have passed, if not None
  "hang"     answers nothing until the endpoint closes
  "500"      answers 500 in the protocol's form
  "refuse"   answers 403 likewise
  "garbage"  answers 200 with ``garbage`` (bytes), which is nothing of the protocol unless set to what nearly is
  "expired"  issues credentials that were over a minute ago
- ``faulty`` (Metadata alone): which of its three requests the fault concerns, "token", "role", "credentials".

Requests that are wrong are refused as AWS does, faults or not. Every secret key and every token, of whatever kind,
begins with SECRET_PREFIX or TOKEN_PREFIX; ``leaks(text)`` finds them. Waits end when the endpoint closes; an error
inside an endpoint fails its ``with`` block.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tests.identity.emulated import (
    SECRET_PREFIX,
    TAIL,
    TOKEN_PREFIX,
    Answer,
    Endpoint,
    Fault,
    Issue,
    Request,
    iso8601,
    leaks,
)
from tests.identity.sts import ACCESS_KEY, ROLE_ARN, SECRET_KEY, STS, WEB_IDENTITY_TOKEN, Role

__all__ = [
    "ACCESS_KEY",
    "CONTAINER_TOKEN",
    "ROLE_ARN",
    "SECRET_KEY",
    "SECRET_PREFIX",
    "STS",
    "TOKEN_PREFIX",
    "WEB_IDENTITY_TOKEN",
    "Container",
    "Endpoint",
    "Fault",
    "Issue",
    "Metadata",
    "Request",
    "Role",
    "Step",
    "leaks",
]

Step = Literal["token", "role", "credentials"]
CONTAINER_TOKEN = f"{TOKEN_PREFIX}Container"
#: Seconds that credentials of instances and containers live.
SIX_HOURS = 21_600


class Metadata(Endpoint):
    """The instance metadata service, version 2, of an instance with a role, or without one (None).

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html
    """

    label = "EC2"

    def __init__(self, *, role: str | None = "media-instance", lifetime: float = SIX_HOURS, port: int = 0) -> None:
        super().__init__(lifetime=lifetime, port=port)
        self.role = role
        self.faulty: Step | None = None
        self._tokens: dict[str, float] = {}

    def environment(self) -> dict[str, str]:
        """Return what leads botocore here."""
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url}

    def _concerns(self, request: Request) -> bool:
        return self.faulty in (None, _step(request))

    def _answer(self, request: Request, *, expired: bool) -> Answer:
        step = _step(request)
        if step == "token":
            return self._new_token(request)
        if request.method not in ("GET", "HEAD"):
            return _page(405)
        with self.lock:
            over = self._tokens.get(request.headers.get("x-aws-ec2-metadata-token", ""), 0)
        if over <= self.now():
            return _page(401)
        if step is None or self.role is None:
            return _page(404)
        if step == "role":
            return Answer(200, self.role.encode())
        if request.path.rpartition("/")[2] != self.role:
            return _page(404)
        issue = self._issue(self.lifetime or 0, expired=expired, role=self.role)
        fields = {"Code": "Success", "LastUpdated": iso8601(self.moment()), "Type": "AWS-HMAC"}
        return Answer(200, _json(fields | _credentials(issue)))

    def _new_token(self, request: Request) -> Answer:
        ttl = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if "x-forwarded-for" in request.headers:
            return _page(403)
        if not re.fullmatch(r"\d{1,5}", ttl) or not 1 <= int(ttl) <= SIX_HOURS:
            return _page(400)
        with self.lock:
            token = f"{TOKEN_PREFIX}Session{len(self._tokens) + 1:013}{TAIL}"
            self._tokens[token] = self.now() + int(ttl)
        return Answer(200, token.encode(), headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl})

    def _error(self, status: int) -> Answer:
        return _page(status)


class Container(Endpoint):
    """What gives an ECS task its credentials and, with the token in a file, the EKS Pod Identity Agent.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
    """

    label = "ECS"
    path = "/v1/credentials"

    def __init__(self, *, token: str = CONTAINER_TOKEN, lifetime: float = SIX_HOURS, port: int = 0) -> None:
        super().__init__(lifetime=lifetime, port=port)
        self.token = token

    @property
    def uri(self) -> str:
        """The URI of the credentials."""
        return f"{self.url}{self.path}"

    def environment(self, token_file: Path | None = None) -> dict[str, str]:
        """Return what leads botocore here, as ECS does; with ``token_file``, which is written, as Pod Identity does."""
        variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.uri}
        if token_file is None:
            return variables | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token}
        token_file.write_text(self.token)
        return variables | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file)}

    def _answer(self, request: Request, *, expired: bool) -> Answer:
        if request.method != "GET":
            return self._error(405)
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode("latin-1"), self.token.encode("latin-1")):
            return self._error(401)
        if request.path != self.path:
            return self._error(404)
        issue = self._issue(self.lifetime or 0, expired=expired)
        fields = {"RoleArn": ROLE_ARN, "AccountId": ROLE_ARN.split(":")[4]}
        return Answer(200, _json(fields | _credentials(issue)), "application/json")

    def _error(self, status: int) -> Answer:
        code, message = _CONTAINER_ERRORS[status]
        return Answer(status, _json({"code": code, "message": message, "HTTPErrorCode": status}), "application/json")


_CONTAINER_ERRORS: Mapping[int, tuple[str, str]] = {
    401: ("Unauthorized", "The authorization token is missing or not the one expected"),
    403: ("AccessDenied", "No credentials for whom this token stands"),
    404: ("NotFound", "Nothing is here"),
    405: ("MethodNotAllowed", "Only GET"),
    500: ("InternalServerError", "Failed to get credentials"),
}


def _step(request: Request) -> Step | None:
    if request.method == "PUT" and request.path == "/latest/api/token":
        return "token"
    path, _, name = request.path.rpartition("/")
    if path == "/latest/meta-data/iam/security-credentials":
        return "credentials" if name else "role"
    return None


def _page(status: int) -> Answer:
    return Answer(status, f"<html><body><h1>{status}</h1></body></html>".encode(), "text/html")


def _credentials(issue: Issue) -> dict[str, object]:
    return {
        "AccessKeyId": issue.access_key,
        "SecretAccessKey": issue.secret_key,
        "Token": issue.token,
        "Expiration": iso8601(issue.expiration),
    }


def _json(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, indent=2).encode()
