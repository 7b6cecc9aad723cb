"""Store the objects in a server with botocore, and keep what requests need to know about them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.httpd.conftest import MODES
from tests.rgw.server import error_code
from tests.servers.battery import OBJECTS
from tests.servers.battery.case import Object
from tests.servers.botocore_client import BotocoreClient, encoded
from tests.servers.program import Server
from tests.servers.response import Response
from tests.servers.sections import DENIED, KINDS, bucket


class Rejected(Exception):
    """The server rejects an object; the message is botocore's response."""


class StoredObjects:
    """``placeholders``: values for requests by bucket and key: an object's ETag, date and version IDs.

    ``rejected``: botocore's response for each object that could not be stored.
    """

    def __init__(self, server: Server) -> None:
        self.placeholders: dict[tuple[str, bytes], dict[str, str]] = {}
        self.rejected: dict[tuple[str, bytes], str] = {}
        self._server = server

    def store_all(self) -> None:
        """Create all buckets and store all objects."""
        objects = defaultdict(list)
        for stored in OBJECTS:
            objects[stored.kind].append(stored)
        for kind in (kind for kind in KINDS if kind != "missing"):
            botocore = BotocoreClient(self._server, self._server.other_keys if kind in DENIED else self._server.keys)
            with closing(botocore.client()) as client:
                for mode in MODES:
                    self._fill_bucket(botocore, client, bucket(mode, kind), objects[kind])

    def _fill_bucket(self, botocore: BotocoreClient, client: Any, name: str, objects: list[Object]) -> None:
        location = {"LocationConstraint": self._server.location} if self._server.location else {}
        client.create_bucket(Bucket=name, **({"CreateBucketConfiguration": location} if location else {}))
        if any(stored.earlier is not None for stored in objects):
            try:
                client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            except (ClientError, BotoCoreError) as error:
                self.rejected |= {(name, stored.key): f"PutBucketVersioning: {_describe(error)}" for stored in objects}
                return
        for stored in objects:
            try:
                self.placeholders[name, stored.key] = _store(botocore, client, name, stored)
            except Rejected as error:
                self.rejected[name, stored.key] = str(error)

    def placeholders_for(self, name: str, key: bytes) -> dict[str, str]:
        """The values that a request may contain; ``other`` is a version of another object."""
        values = self.placeholders.get((name, key), {})
        others = (more for (_, other), more in self.placeholders.items() if other != key)
        version = next((more["first"] for more in others if "first" in more), "")
        return {"other": version, **values}


def _store(botocore: BotocoreClient, client: Any, name: str, stored: Object) -> dict[str, str]:
    if stored.parts:
        return _upload(client, name, stored) | _validators(botocore, name, stored)
    placeholders = {}
    if stored.earlier is not None:
        placeholders["first"] = _version(_put(botocore, name, stored, stored.earlier))
        placeholders["second"] = _version(_put(botocore, name, stored, stored.body))
    else:
        _put(botocore, name, stored, stored.body)
    if stored.is_deleted:
        placeholders["marker"] = _version(_send(botocore, "DELETE", name, stored))
        return placeholders
    return placeholders | _validators(botocore, name, stored)


def _put(botocore: BotocoreClient, name: str, stored: Object, body: bytes) -> Response:
    return _send(botocore, "PUT", name, stored, body)


def _send(botocore: BotocoreClient, method: str, name: str, stored: Object, body: bytes = b"") -> Response:
    headers = {**stored.headers, "Content-Length": str(len(body))} if method == "PUT" else {}
    response = botocore.send(method, f"/{name}/{encoded(stored.key)}", headers=headers, body=body)
    if response.status not in {200, 204}:
        raise Rejected(f"{method}: {response}")
    return response


def _version(response: Response) -> str:
    if "x-amz-version-id" not in response.headers:
        raise Rejected("no x-amz-version-id")
    return response.headers["x-amz-version-id"]


def _validators(botocore: BotocoreClient, name: str, stored: Object) -> dict[str, str]:
    response = botocore.send("HEAD", f"/{name}/{encoded(stored.key)}")
    return {"etag": response.headers.get("etag", '"none"'), "modified": response.headers.get("last-modified", "none")}


def _upload(client: Any, name: str, stored: Object) -> dict[str, str]:
    """Store an object as a multipart upload."""
    target = {"Bucket": name, "Key": stored.key.decode()}
    try:
        upload = client.create_multipart_upload(**target)["UploadId"]
        done, begin = [], 0
        for number, size in enumerate(stored.parts, 1):
            body = stored.body[begin : begin + size]
            part = client.upload_part(**target, UploadId=upload, PartNumber=number, Body=body)
            done.append({"PartNumber": number, "ETag": part["ETag"]})
            begin += size
        client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": done})
    except (ClientError, BotoCoreError) as error:
        raise Rejected(f"multipart upload: {_describe(error)}") from None
    return {}


def _describe(error: ClientError | BotoCoreError) -> str:
    if isinstance(error, ClientError):
        return " ".join(map(str, error_code(error.response)))
    return type(error).__name__
