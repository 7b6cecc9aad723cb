"""What is stored in a server, by botocore, and what it says of it."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.httpd.conftest import MODES
from tests.rgw.server import error_code
from tests.servers.answer import Answer
from tests.servers.battery import OBJECTS
from tests.servers.battery.case import Object
from tests.servers.direct import Direct, encoded
from tests.servers.program import Server
from tests.servers.sections import DENIED, KINDS, bucket


class Refused(Exception):
    """The server does not take this; the message is what botocore met."""


class Stock:
    """``facts``: what requests name of an object, by bucket and key: its ETag, its date, its versions.

    ``refused``: what botocore met where the server took it not.
    """

    def __init__(self, server: Server) -> None:
        self.facts: dict[tuple[str, bytes], dict[str, str]] = {}
        self.refused: dict[tuple[str, bytes], str] = {}
        self._server = server

    def fill(self) -> None:
        """Make all buckets and store all objects."""
        objects = defaultdict(list)
        for stored in OBJECTS:
            objects[stored.kind].append(stored)
        for kind in (kind for kind in KINDS if kind != "missing"):
            direct = Direct(self._server, self._server.others if kind in DENIED else self._server.keys)
            with closing(direct.client()) as client:
                for mode in MODES:
                    self._fill_bucket(direct, client, bucket(mode, kind), objects[kind])

    def _fill_bucket(self, direct: Direct, client: Any, name: str, objects: list[Object]) -> None:
        place = {"LocationConstraint": self._server.location} if self._server.location else {}
        client.create_bucket(Bucket=name, **({"CreateBucketConfiguration": place} if place else {}))
        if any(stored.earlier is not None for stored in objects):
            try:
                client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            except (ClientError, BotoCoreError) as error:
                self.refused |= {(name, stored.key): f"PutBucketVersioning: {_said(error)}" for stored in objects}
                return
        for stored in objects:
            try:
                self.facts[name, stored.key] = _store(direct, client, name, stored)
            except Refused as error:
                self.refused[name, stored.key] = str(error)

    def known(self, name: str, key: bytes) -> dict[str, str]:
        """What a request may name: of the object, or where there is none, of nothing."""
        facts = self.facts.get((name, key), {})
        other = next((fact["first"] for (_, one), fact in self.facts.items() if one != key and "first" in fact), "")
        return {"other": other, **facts}


def _store(direct: Direct, client: Any, name: str, stored: Object) -> dict[str, str]:
    if stored.parts:
        return _upload(client, name, stored) | _validators(direct, name, stored)
    facts = {}
    if stored.earlier is not None:
        facts["first"] = _version(_put(direct, name, stored, stored.earlier))
        facts["second"] = _version(_put(direct, name, stored, stored.body))
    else:
        _put(direct, name, stored, stored.body)
    if stored.is_deleted:
        facts["marker"] = _version(_asked(direct, "DELETE", name, stored))
        return facts
    return facts | _validators(direct, name, stored)


def _put(direct: Direct, name: str, stored: Object, body: bytes) -> Answer:
    return _asked(direct, "PUT", name, stored, body)


def _asked(direct: Direct, method: str, name: str, stored: Object, body: bytes = b"") -> Answer:
    headers = {**stored.headers, "Content-Length": str(len(body))} if method == "PUT" else {}
    answer = direct.ask(method, f"/{name}/{encoded(stored.key)}", headers=headers, body=body)
    if answer.status not in {200, 204}:
        raise Refused(f"{method}: {answer}")
    return answer


def _version(answer: Answer) -> str:
    if "x-amz-version-id" not in answer.headers:
        raise Refused("no x-amz-version-id")
    return answer.headers["x-amz-version-id"]


def _validators(direct: Direct, name: str, stored: Object) -> dict[str, str]:
    answer = direct.ask("HEAD", f"/{name}/{encoded(stored.key)}")
    return {"etag": answer.headers.get("etag", '"none"'), "modified": answer.headers.get("last-modified", "none")}


def _upload(client: Any, name: str, stored: Object) -> dict[str, str]:
    """A multipart upload, part by part."""
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
        raise Refused(f"multipart upload: {_said(error)}") from None
    return {}


def _said(error: ClientError | BotoCoreError) -> str:
    if isinstance(error, ClientError):
        return " ".join(map(str, error_code(error.response)))
    return type(error).__name__
