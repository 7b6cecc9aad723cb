"""OpenStack Swift's S3 API: the embedded S3 of the tests."""

from __future__ import annotations

from importlib import metadata

from tests.s3 import EmbeddedS3, User
from tests.servers.program import Server


class Swift(Server):
    """Each account has its own namespace of buckets."""

    name = "Swift"

    def __init__(self) -> None:
        self._server = EmbeddedS3(
            buckets=(),
            access_key=self.keys.access_key,
            secret_key=self.keys.secret_key,
            region=self.region,
            users=[User(self.other_keys.access_key, self.other_keys.secret_key)],
        )

    @classmethod
    def missing(cls) -> str:
        return ""

    def version(self) -> str:
        return metadata.version("swift")

    def start(self) -> None:
        self._server.start()
        self.url = self._server.url

    def stop(self) -> None:
        self._server.stop()
