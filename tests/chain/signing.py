"""httpd with a file of apache/chain/storage_cache: it signs for a storage cache, and serves what that cache has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chain.programs import CHAIN, localized
from tests.demo.stage import secret_file
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

#: The two ways of signing: the names of the files.
WAYS = ("gateway", "proxy")
#: The bucket in the files.
BUCKET_URL = "https://your-bucket.s3.eu-central-1.amazonaws.com"
#: Where the lines of the bucket begin in each file.
_BUCKET_LINES = {"gateway": "  WSGIScriptAlias /bucket", "proxy": "  SSLProxyEngine on"}
#: Where the files say that httpd signs, and where the storage cache listens.
SIGNING, STORAGE = "127.0.0.1:8090", "127.0.0.1:8091"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the objects are, and the keys. ``url`` has no slash at its end."""

    url: str
    access_key: str = "ACCESSKEY"
    secret_key: str = SECRET_KEY
    region: str = "eu-central-1"

    @classmethod
    def of(cls, s3: EmbeddedS3, name: str = "bucket") -> Bucket:
        """A bucket of the embedded S3."""
        return cls(f"{s3.url}/{name}", s3.access_key, s3.secret_key, s3.region)


class Signing(Httpd):
    """``signing_port`` is the virtual host for the storage cache, ``port`` the public one."""

    def __init__(
        self, way: str, bucket: Bucket, *, has_storage_cache: bool = True, changes: Mapping[str, str] | None = None
    ) -> None:
        """``changes``: what an operator changes in the file.

        The storage cache is started by itself, on ``storage_port``. Without one the bucket is at /media of the public
        virtual host, and for everybody.
        """
        self.signing_port, self.storage_port, self._has_storage_cache = free_port(), free_port(), has_storage_cache
        self._way, self._bucket, self._changes = way, bucket, changes or {}
        super().__init__("")

    def _launch(self) -> bool:
        folder = self.root / "keys"
        folder.mkdir(exist_ok=True)
        self.config = self._localized(secret_file(folder, self._bucket.secret_key))
        return super()._launch()

    def _localized(self, secret: Path) -> str:
        replacements = {
            BUCKET_URL: self._bucket.url,
            "ACCESS_KEY": self._bucket.access_key,
            " eu-central-1\n": f" {self._bucket.region}\n",
            "/etc/apache2/s3/your-bucket.secret": str(secret),
            SIGNING: f"127.0.0.1:{self.signing_port}",
            STORAGE: f"127.0.0.1:{self.storage_port}",
            "*:80": f"127.0.0.1:{self.port}",
            **self._changes,
        }
        text = (CHAIN / "storage_cache" / f"{self._way}.conf").read_text()
        if not self._has_storage_cache:
            bucket = text[text.index(_BUCKET_LINES[self._way]) : text.index("</VirtualHost>")]
            read_from_cache = f'ProxyPass "/media" "http://{STORAGE}'
            public = bucket.replace("/bucket", "/media").replace("Require local", "Require all granted")
            assert read_from_cache in text and public != bucket
            text = text.replace(read_from_cache, f"{public}  # {read_from_cache}")
        return localized(text, replacements)
