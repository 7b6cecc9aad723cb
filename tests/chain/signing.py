"""httpd with a file of apache/chain/storage_cache: it signs for a storage cache, and serves what that cache has."""

from __future__ import annotations

from pathlib import Path

from tests.chain.programs import CHAIN, localized
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd

#: The two ways of signing: the names of the files.
WAYS = ("gateway", "proxy")
#: The bucket in the files.
BUCKET_URL = "https://your-bucket.s3.eu-central-1.amazonaws.com"
#: Where the files say that httpd signs, and where the storage cache listens.
SIGNING, STORAGE = "127.0.0.1:8090", "127.0.0.1:8091"


class Signing(Httpd):
    """``signing_port`` is the virtual host for the storage cache, ``port`` the public one."""

    def __init__(
        self, way: str, bucket_url: str, access_key: str, secret_key: str, region: str, *, further: str = ""
    ) -> None:
        """``bucket_url``: with the bucket, without a slash at its end. ``further``: lines for the main configuration.

        The storage cache may be started later: its port is ``storage_port``, see `Program.port`.
        """
        self.signing_port, self.storage_port = free_port(), free_port()
        self._way, self._bucket_url = way, bucket_url
        self._keys = {"ACCESS_KEY": access_key, " eu-central-1\n": f" {region}\n"}
        self._secret_key, self._further = secret_key, further
        super().__init__("")

    def _launch(self) -> bool:
        secret = self.root / "bucket.secret"  # httpd reads it as root, before its children become another user
        secret.write_text(self._secret_key)
        secret.chmod(0o644)
        self.config = self._localized(secret) + self._further
        return super()._launch()

    def _localized(self, secret: Path) -> str:
        replacements = {
            BUCKET_URL: self._bucket_url,
            **self._keys,
            "/etc/apache2/s3/your-bucket.secret": str(secret),
            SIGNING: f"127.0.0.1:{self.signing_port}",
            STORAGE: f"127.0.0.1:{self.storage_port}",
            "*:80": f"127.0.0.1:{self.port}",
        }
        return localized((CHAIN / "storage_cache" / f"{self._way}.conf").read_text(), replacements)
