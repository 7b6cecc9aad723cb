"""Emulated sources of temporary credentials with AWS's protocols over real sockets, and with faults on request.

    with Metadata() as metadata:                       # EC2 instance metadata version 2; version 1 is refused
        ...                                            # AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url
        assert signed_with == metadata.issue(1).access_key
        metadata.fault = "500"                         # from now on, until it is None again
        metadata.wait_for_requests(4)

    with Container() as ecs: ...                       # ECS, EKS Pod Identity: ecs.uri, the Authorization ecs.token
    with STS(Role(ARN, external_id="x")) as sts: ...   # AssumeRole, AssumeRoleWithWebIdentity

All have ``url`` (without a final slash), ``port``, ``requests`` (each received `Request`), ``issued`` (each `Issue`,
the numbered credentials; each response with credentials has new ones), ``issue(n)`` from 1,
``issued_as(access_key)``, ``wait_for_requests(n)``, ``lock`` (hold it for a consistent view of several of these), and
``environment()``, the environment variables that point botocore to the endpoint. These can be set at any time, before
or after the start:

- ``lifetime``: seconds that issued credentials are valid (STS: None is the requested duration).
- ``skew``: seconds that the endpoint's clock is ahead, in Date, Expiration and all its checks.
- ``fault``: None, or
  "slow"     the right response, when ``released`` (an Event) is set or after ``delay`` seconds, if that is not None
  "hang"     no response until the endpoint closes
  "500"      status 500 in the protocol's format
  "refuse"   status 403 in the protocol's format
  "garbage"  status 200 with the bytes ``garbage``, which are invalid unless set to something nearly valid
  "expired"  credentials that expired a minute ago
- ``faulty`` (Metadata only): the one of its three requests that the fault applies to, "token", "role", "credentials".

Invalid requests are refused as AWS does, with or without a fault. Every secret key and every token begins with
SECRET_PREFIX or TOKEN_PREFIX; ``leaks(text)`` finds them. Waits end when the endpoint closes. An exception inside an
endpoint fails its ``with`` block.
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
#: Seconds that credentials of instances and containers are valid.
SIX_HOURS = 21_600


class Metadata(Endpoint):
    """The instance metadata service, version 2, of an instance with a role or without one (None).

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
        """Return the environment variables that point botocore to this endpoint."""
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url}

    def _is_faulty(self, request: Request) -> bool:
        return self.faulty in (None, _step(request))

    def _answer(self, request: Request, *, expired: bool) -> Answer:
        step = _step(request)
        if step == "token":
            return self._new_token(request)
        if request.method not in ("GET", "HEAD"):
            return _page(405)
        with self.lock:
            valid_until = self._tokens.get(request.headers.get("x-aws-ec2-metadata-token", ""), 0)
        if valid_until <= self.now():
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
    """The container credentials endpoint of ECS and, with the token in a file, the EKS Pod Identity Agent.

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
        """Return the variables as ECS sets them, or with ``token_file``, which is written, as Pod Identity does."""
        variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.uri}
        if token_file is None:
            return variables | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token}
        token_file.write_text(self.token)
        return variables | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file)}

    def _answer(self, request: Request, *, expired: bool) -> Answer:
        if request.method != "GET":
            return self._error(405)
        authorization = request.headers.get("authorization", "")
        if not hmac.compare_digest(authorization.encode("latin-1"), self.token.encode("latin-1")):
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
    401: ("Unauthorized", "The authorization token is missing or wrong"),
    403: ("AccessDenied", "No credentials for this token"),
    404: ("NotFound", "No such path"),
    405: ("MethodNotAllowed", "Only GET is allowed"),
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
