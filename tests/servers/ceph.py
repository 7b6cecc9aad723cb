"""Ceph's RADOS gateway, from Debian's packages."""

from __future__ import annotations

import subprocess

from tests.rgw import MISSING, Rgw, available
from tests.servers.program import WAIT, Server


class Ceph(Server):
    """A new Ceph cluster, in memory."""

    name = "Ceph RGW"
    location = ""

    def __init__(self) -> None:
        self._server = Rgw()

    @classmethod
    def missing(cls) -> str:
        return "" if available() else MISSING

    def version(self) -> str:
        done = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, timeout=WAIT, check=True)
        return done.stdout.split()[2]

    def start(self) -> None:
        self._server.start()
        self.url = self._server.url
        self._server.cluster.run(
            "radosgw-admin", "user", "create", "--uid=other", "--display-name=other",
            f"--access-key={self.other_keys.access_key}", f"--secret-key={self.other_keys.secret_key}",
        )  # fmt: skip

    def stop(self) -> None:
        self._server.stop()
