"""SeaweedFS: master, volume server, filer and S3 gateway in one program."""

from __future__ import annotations

import json

from tests.httpd.conftest import MODES
from tests.httpd.machine import free_port
from tests.servers.program import Keys, Program
from tests.servers.sections import DENIED, KINDS, bucket

#: Without this each bucket begins with seven volumes.
MASTER = """
[master.volume_growth]
copy_1 = 1
copy_2 = 1
copy_3 = 1
copy_other = 1
"""


class SeaweedFS(Program):
    """The first user is allowed everything in its own buckets, the other user in all buckets."""

    name = "SeaweedFS"
    program = "weed"

    def version(self) -> str:
        return self.output_of("version").split()[2]

    def start(self) -> None:
        (self.root / "master.toml").write_text(MASTER)
        own = [f":{bucket(mode, kind)}" for mode in MODES for kind in KINDS if kind not in DENIED]
        identities = [_identity("first", self.keys, own), _identity("other", self.other_keys, [""])]
        (self.root / "s3.json").write_text(json.dumps({"identities": identities}))
        ports = [
            f"-{part}.port{kind}={free_port()}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")
        ]
        port = free_port()
        self.launch(
            port, "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.root}", *ports,
            f"-s3.port={port}", f"-s3.port.grpc={free_port()}", f"-s3.config={self.root}/s3.json", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-volume.max=500", "-master.volumeSizeLimitMB=64",
        )  # fmt: skip


def _identity(name: str, keys: Keys, buckets: list[str]) -> dict[str, object]:
    pair = {"accessKey": keys.access_key, "secretKey": keys.secret_key}
    actions = [f"{action}{bucket}" for bucket in buckets for action in ("Admin", "Read", "Write", "List", "Tagging")]
    return {"name": name, "credentials": [pair], "actions": actions}
