"""All servers, by their names on the command line of ``python -m tests.servers``."""

from __future__ import annotations

from tests.servers.ceph import Ceph
from tests.servers.moto import Moto
from tests.servers.program import Server
from tests.servers.rclone import Rclone
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.swift import Swift

SERVERS: dict[str, type[Server]] = {
    "swift": Swift,
    "ceph": Ceph,
    "seaweedfs": SeaweedFS,
    "rclone": Rclone,
    "moto": Moto,
}
