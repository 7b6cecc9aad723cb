"""The identity of a server at AWS, its roles, and an S3 that accepts only their temporary credentials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

from tests.certificates import Certificate
from tests.docs.names import Names, S3Server, settings_of
from tests.faults.server import Connection, Request, ScriptedS3, answer, error
from tests.identity.conftest import Aws
from tests.identity.endpoints import STS, Endpoint, Metadata, Role

#: Settings with which requests are signed with temporary credentials.
SETTINGS = frozenset({"credentialsource", "rolearn", "fallbackcredentialsource", "fallbackrolearn"})


class GuardedS3:
    """An S3 that accepts credentials of these endpoints only. It has the objects that are put into it."""

    domain = "s3.localhost"

    def __init__(self, example: S3Server, tls: Certificate | None, issuers: tuple[Endpoint, ...]) -> None:
        self.access_key, self.secret_key, self.region = example.access_key, example.secret_key, example.region
        self.server = ScriptedS3(then=self._answer, tls=tls)
        self.scheme = "https" if tls else "http"
        self.issuers = issuers
        self._objects: dict[str, bytes] = {}

    @property
    def port(self) -> int:
        """The port of the server."""
        return self.server.port

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object."""
        self._objects[f"{bucket}/{key}"] = data

    def _answer(self, connection: Connection, request: Request) -> None:
        url = urlsplit(request.target)
        query = parse_qs(url.query)
        scope = [
            *query.get("X-Amz-Credential", ()),
            request.headers.get("authorization", "").partition("Credential=")[2],
        ]
        token = [*query.get("X-Amz-Security-Token", ()), request.headers.get("x-amz-security-token", "")][0]
        issues = [issuer.issued_as(scope[0].partition("/")[0]) for issuer in self.issuers]
        if not any(issue and issue.token == token for issue in issues):
            return connection.send(error(403, "InvalidAccessKeyId"))
        data = self._objects.get(unquote(url.path).lstrip("/"))
        return connection.send(error(404, "NoSuchKey") if data is None else answer(200, data))


@contextmanager
def at_amazon(config: str, names: Names, aws: Aws) -> Iterator[Names]:
    """Within the context, this machine is a server at AWS with the roles and profiles of the configuration."""
    found = settings_of(config)
    keys = {names.servers["https"].access_key: names.servers["https"].secret_key}
    external = next(iter(found.get("roleexternalid", ())), None)
    roles = [Role(arn, external_id=external) for name in ("rolearn", "fallbackrolearn") for arn in found.get(name, ())]
    with Metadata() as metadata, STS(*roles, keys=keys, sources=[metadata]) as sts:
        aws.set(metadata.environment(), sts.environment())
        # A profile with the role of the instance, in a file that httpd's children can read.
        lines = [
            f"[profile {name}]\nrole_arn = {role.arn}\ncredential_source = Ec2InstanceMetadata\nregion = eu-central-1\n"
            for name in found.get("profile", ())
            for role in [*roles, *sts.roles.values()][:1]
        ]
        aws.set({"AWS_CONFIG_FILE": names.write("/etc/apache2/aws/config", "".join(lines))})
        servers: Mapping[str, GuardedS3] = {
            scheme: GuardedS3(server, names.certificate if scheme == "https" else None, (metadata, sts))
            for scheme, server in names.servers.items()
        }
        with servers["http"].server, servers["https"].server:
            yield Names({**servers}, names.certificate, names.folder, sts=sts.url)
