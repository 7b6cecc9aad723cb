"""httpd and a storage cache, both with the files of apache/chain/storage_cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.chain.engines import Engine
from tests.chain.programs import Program
from tests.chain.signing import Bucket, Signing

#: Short times in place of those in the files of apache/chain, for tests that wait until they are over.
SHORT_TIMES = {
    "nginx": {"200 206 10m": "200 206 1s", "404 416 5s": "404 416 1s"},
    "Varnish": {"ttl = 10m": "ttl = 1s", "ttl = 5s": "ttl = 1s"},
}
#: The lines of httpd's log if S3 or a cache fails.
FAILURES = "USPS3|AH00957|AH01114|AH01102|AH00898|AH01110|AH01086|AH10463"


@dataclass(frozen=True)
class StorageChain:
    """A running chain with a storage cache. ``port``: the public virtual host."""

    engine: Engine
    signing: Signing
    cache: Program

    @property
    def port(self) -> int:
        return self.signing.port


@contextmanager
def storage_chain(
    engine: Engine, way: str, bucket: Bucket, changes: Mapping[str, str] | None = None, *, fails: bool = False
) -> Iterator[StorageChain]:
    """Start httpd and a storage cache. ``fails``: S3 or the cache fails in the test, and httpd's log says so."""
    signing = Signing(way, bucket)
    if fails:
        signing.expect_error(FAILURES)
    with signing, engine.storage_cache(signing, changes) as cache:
        yield StorageChain(engine, signing, cache)
    assert signing.unexpected == []
