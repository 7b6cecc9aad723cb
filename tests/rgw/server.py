"""A private Ceph RGW, and its buckets, objects, roles and temporary keys."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, final

import botocore.session
from botocore.config import Config

from tests.httpd import machine
from tests.httpd.machine import compile_shared
from tests.leaks import ACCESS_KEY, SECRET_KEY
from tests.rgw.cluster import PROGRAMS, Cluster, RgwError, available

USER = "test"
#: botocore must ignore AWS_PROFILE and ~/.aws, because some tests set them.
NO_PROFILE = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


@dataclass(frozen=True, slots=True)
class TemporaryKeys:
    """The credentials of AssumeRole."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)
    expiration: datetime


@final
class Rgw:
    """S3, STS and IAM at one URL, as a context manager; RGW accepts any region.

    The programs end with the thread that started them, so that none is left when tests are killed. Start it in a thread
    that lives as long as the tests.
    """

    access_key = ACCESS_KEY
    secret_key = SECRET_KEY
    region = "eu-central-1"
    port: int

    def __init__(self) -> None:
        self._cluster: Cluster | None = None

    def __enter__(self) -> Rgw:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- start and stop

    def start(self) -> None:
        """Start everything and wait until RGW accepts requests (one second). Raises: RgwError."""
        if not available():
            raise RgwError(f"not installed: some of {', '.join(PROGRAMS)}; tests/rgw/install.sh installs them")
        for is_last_attempt in (False, False, True):
            self._cluster = Cluster()
            try:
                self._launch(self._cluster)
                return
            except RgwError as error:
                self.stop()
                if is_last_attempt or "in use" not in str(error):  # another program took a port: retry
                    raise
            except BaseException:
                self.stop()
                raise

    def _launch(self, cluster: Cluster) -> None:
        cluster.start()
        cluster.run(
            "radosgw-admin", "user", "create", f"--uid={USER}", f"--display-name={USER}", "--caps=roles=*",
            f"--access-key={self.access_key}", f"--secret-key={self.secret_key}",
        )  # fmt: skip
        _, self.port = cluster.start_gateway()

    def stop(self) -> None:
        """Stop everything and remove its folder; does nothing if it is stopped already."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.stop()

    @property
    def cluster(self) -> Cluster:
        """The running programs; their folder ``root`` has the logs."""
        if self._cluster is None:
            raise RuntimeError("RGW is not running")
        return self._cluster

    @property
    def url(self) -> str:
        """The URL without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def gateway(self, *options: str, clock: int = 0) -> Iterator[str]:
        """Run another radosgw whose clock is ``clock`` seconds fast (negative: slow); yields its URL.

        All gateways accept each other's tokens. AssumeRole with a clock that is 890 seconds slow returns keys for 900
        seconds, which expire after 10 seconds at the other gateways. From 900 seconds on RGW rejects all requests with
        RequestTimeTooSkewed. ``options`` are those of radosgw: with ``--rgw-sts-min-session-duration=1``, STS accepts a
        DurationSeconds from 1 on.
        """
        library = self.cluster.root / "shifted_clock.so"
        if not library.exists():
            compile_shared(Path(machine.__file__).with_name("shifted_clock.c"), library.parent)
        environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(clock)} if clock else {}
        process, port = self.cluster.start_gateway(*options, environment=environment)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            self.cluster.end_gateway(process)

    # --- buckets, objects, roles

    def client(self, service: str, keys: TemporaryKeys | None = None, *, url: str = "") -> Any:
        """A botocore client for "s3", "sts" or "iam", by default with the user's keys; the caller closes it.

        It does not retry and does not validate parameters. RGW's error documents of STS and IAM have the form of S3's,
        which botocore does not expect: ``error_code`` reads both.
        """
        return botocore.session.Session(NO_PROFILE).create_client(
            service,
            region_name=self.region,
            endpoint_url=url or self.url,
            aws_access_key_id=keys.access_key if keys else self.access_key,
            aws_secret_access_key=keys.secret_key if keys else self.secret_key,
            aws_session_token=keys.token if keys else None,
            config=Config(
                parameter_validation=False, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
            ),
        )

    def create_bucket(self, name: str) -> None:
        """Create a bucket that belongs to the user."""
        with closing(self.client("s3")) as s3:
            s3.create_bucket(Bucket=name)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object."""
        with closing(self.client("s3")) as s3:
            s3.put_object(Bucket=bucket, Key=key, Body=data)

    def get(self, bucket: str, key: str, keys: TemporaryKeys | None = None, *, url: str = "") -> bytes:
        """Read an object. Raises: ClientError."""
        with closing(self.client("s3", keys, url=url)) as s3:
            data: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            return data

    def create_role(self, name: str, bucket: str) -> str:
        """Create a role that may read the bucket and that the user may assume for up to an hour; returns its ARN."""
        trust = {"Action": "sts:AssumeRole", "Principal": {"AWS": [f"arn:aws:iam:::user/{USER}"]}}
        with closing(self.client("iam")) as iam:
            role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy(trust))["Role"]
        self.allow_role(name, bucket)
        return str(role["Arn"])

    def allow_role(self, name: str, bucket: str) -> None:
        """Allow the role to read the bucket's objects."""
        document = _policy({"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"})
        with closing(self.client("iam")) as iam:
            iam.put_role_policy(RoleName=name, PolicyName="read", PolicyDocument=document)

    def deny_role(self, name: str) -> None:
        """Revoke the role's permission: this also affects keys that were issued before."""
        with closing(self.client("iam")) as iam:
            iam.delete_role_policy(RoleName=name, PolicyName="read")

    def assume_role(self, arn: str, seconds: int = 900, *, url: str = "", session: str = "tests") -> TemporaryKeys:
        """Get temporary keys of the role from STS, by default from the main gateway. Raises: ClientError."""
        with closing(self.client("sts", url=url)) as sts:
            response = sts.assume_role(RoleArn=arn, RoleSessionName=session, DurationSeconds=seconds)
        keys = response["Credentials"]
        return TemporaryKeys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], keys["Expiration"])


def error_code(response: Mapping[str, Any]) -> tuple[int, str]:
    """Status and error code of a ClientError's ``response``."""
    code = response.get("Error", {}).get("Code") or response.get("Code")
    return response["ResponseMetadata"]["HTTPStatusCode"], str(code)


def _policy(statement: Mapping[str, object]) -> str:
    # Without spaces: botocore encodes them as "+", which RGW does not decode.
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}
    return json.dumps(document, separators=(",", ":"))
