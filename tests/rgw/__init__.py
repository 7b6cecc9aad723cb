"""Ceph's RGW from Debian, an S3 with a real STS: roles, AssumeRole, and session tokens that expire.

    with Rgw() as rgw:
        rgw.create_bucket("private")
        rgw.put("private", "a.txt", b"hello")
        role = rgw.create_role("reader", "private")
        keys = rgw.assume_role(role)                        # valid for 900 seconds, the minimum of STS
        with rgw.gateway(clock=10 - 900) as sts_url:        # the same cluster with a slow clock:
            keys = rgw.assume_role(role, url=sts_url)       # these expire in 10 seconds

``install.sh`` installs what is needed. Tests that use the fixture ``rgw`` are skipped if it is not installed.
"""

from __future__ import annotations

from .cluster import MISSING, RgwError, available
from .server import Rgw, TemporaryKeys

__all__ = ["MISSING", "Rgw", "RgwError", "TemporaryKeys", "available"]
