"""Ceph's RGW from Debian, an S3 with a real STS: roles, AssumeRole, and session tokens that it checks and lets expire.

    with Rgw() as rgw:
        rgw.create_bucket("private")
        rgw.put("private", "a.txt", b"hello")
        role = rgw.create_role("reader", "private")
        keys = rgw.assume_role(role)                        # for 900 seconds, the shortest that STS gives
        with rgw.gateway(clock=10 - 900) as sts_url:        # the same cluster by a clock that is slow:
            keys = rgw.assume_role(role, url=sts_url)       # these end in 10 seconds

``install.sh`` installs what is needed. Tests that take the fixture ``rgw`` are skipped where it is not there.
"""

from __future__ import annotations

from .cluster import MISSING, RgwError, available
from .server import Rgw, TemporaryKeys

__all__ = ["MISSING", "Rgw", "RgwError", "TemporaryKeys", "available"]
