"""apache/chain/haproxy.cfg: three caches in front of a server. Under load one is killed, and comes back."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.chain.client import fetch
from tests.chain.engines import CDN_SECRET, NGINX, VARNISH
from tests.chain.haproxy import HaProxy
from tests.chain.programs import WAIT, Program
from tests.chain.signing import Bucket, Signing
from tests.fleet.load import KB, MB, Load
from tests.s3 import EmbeddedS3

SEGMENTS = 240
#: An object that is read slowly: its responses have begun when its cache is killed.
FILM = "/media/several/film.mp4"
SECRET = {"X-Cdn-Secret": CDN_SECRET}
pytestmark = [
    pytest.mark.skipif(bool(program.missing()), reason=program.missing()) for program in (HaProxy, NGINX.program)
]


@dataclass(frozen=True)
class Front:
    """``port``: HAProxy's. ``objects``: what each target has."""

    haproxy: HaProxy
    caches: list[Program]
    signing: Signing
    s3: EmbeddedS3
    objects: Mapping[str, bytes]

    def load(self) -> Load:
        """16 clients that read the segments, and 6 that read the film slowly."""
        weights = [0 if target == FILM else 1 for target in self.objects]
        return Load(
            "127.0.0.1", self.objects, weights, clients=16, slow=6, slow_targets=[FILM],
            port=self.haproxy.port, headers={**SECRET, "Host": "media.example.com"},
        )  # fmt: skip

    def read_all(self) -> None:
        """Read each object once."""

        def read(target: str) -> None:
            reply = fetch(self.haproxy.port, target, x_cdn_secret=CDN_SECRET)
            assert (reply.status, reply.body) == (200, self.objects[target])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, self.objects))

    def cache_of(self, target: str) -> int:
        """The number of the cache (1 to 3) that gets the requests for an object."""
        before = self.shares()
        fetch(self.haproxy.port, target, "HEAD", x_cdn_secret=CDN_SECRET)
        return [new - old for old, new in zip(before, self.shares(), strict=True)].index(1) + 1

    def shares(self) -> list[int]:
        """How many requests each cache has got."""
        return [int(self.haproxy.statistics(number)["stot"]) for number in (1, 2, 3)]

    def take_requests(self) -> Counter[tuple[str, str]]:
        """How often each object, or slice of a film, was read from S3 since the last call."""
        counted = Counter((entry["target"], entry["headers"].get("range", "")) for entry in self.s3.requests())
        self.s3.clear()
        return counted


@contextmanager
def front(s3: EmbeddedS3, changes: Mapping[str, str] | None = None) -> Iterator[Front]:
    """Start a server, three caches in front of it, and HAProxy in front of them."""
    random_bytes = random.Random(1).randbytes
    objects = {f"/media/several/{number:04}.ts": random_bytes(50 * KB) for number in range(SEGMENTS)}
    objects[FILM] = random_bytes(24 * MB)
    for target, data in objects.items():
        s3.put("bucket", target.removeprefix("/media/"), data)
    s3.clear()
    with ExitStack() as stack:
        stack.enter_context(signing := Signing("gateway", Bucket.of(s3), has_storage_cache=False))
        caches = [stack.enter_context(NGINX.shield(signing.port)) for _ in range(3)]
        haproxy = stack.enter_context(HaProxy([cache.port for cache in caches], changes))
        yield Front(haproxy, caches, signing, s3, objects)
    assert signing.unexpected == []


@pytest.fixture(scope="module")
def several(bucket_server: EmbeddedS3) -> Iterator[Front]:
    with front(bucket_server) as started:
        yield started


def test_each_object_has_one_cache(several: Front) -> None:
    several.read_all()
    first = several.take_requests()
    assert set(first.values()) == {1}
    several.read_all()
    assert several.take_requests() == Counter()
    shares = several.shares()
    assert all(share > sum(shares) * 0.2 for share in shares), shares


def test_all_requests_of_an_object_go_to_its_cache(several: Front) -> None:
    before = several.shares()
    for path, method, headers in (
        (FILM, "GET", {}),
        (FILM, "HEAD", {}),
        (f"{FILM}?session=1", "GET", {}),
        (FILM, "GET", {"range": "bytes=0-"}),
        (FILM, "GET", {"range": "bytes=3000000-3000099", "host": "other.example.com"}),
    ):
        reply = fetch(several.haproxy.port, path, method, x_cdn_secret=CDN_SECRET, **headers)
        assert reply.status in {200, 206}
    assert sorted(new - old for old, new in zip(before, several.shares(), strict=True)) == [0, 0, 5]


@pytest.mark.chain
def test_a_cache_is_killed_and_comes_back(several: Front) -> None:
    """Only its objects are read from S3 again, and only responses that had begun are truncated."""
    several.read_all()
    number = several.cache_of(FILM)
    lost_cache = several.caches[number - 1]
    several.take_requests()
    with several.load() as load:
        load.wait_for(1000)
        lost_cache.kill()
        several.haproxy.wait_for(number, "DOWN")
        several.read_all()
        retried = int(several.haproxy.statistics(number)["wredis"])
        share = several.take_requests()
        targets = {target for target, _ in share}
        assert 0.2 < len(targets) / len(several.objects) < 0.5
        # Before HAProxy knew that the cache was down, it tried requests on any of the two others.
        assert set(share.values()) <= {1, 2}
        assert sum(share.values()) - len(share) <= retried

        lost_cache.start()  # with what it had
        several.haproxy.wait_for(number, "UP")
        load.wait_for(load.result.responses + 3000)
        assert several.take_requests() == Counter()

        lost_cache.kill()
        several.haproxy.wait_for(number, "DOWN")
        load.wait_for(load.result.responses + 1000)
        shutil.rmtree(lost_cache.root / "shield")
        several.take_requests()
        lost_cache.start()  # with nothing
        several.haproxy.wait_for(number, "UP")
        several.read_all()
        again = several.take_requests()
        assert again.keys() == share.keys()
        assert set(again.values()) == {1}
    print(
        f"{load.result}; read again: {len(targets)}, {len(share)} with slices, retried: {retried}; back: {len(again)}"
    )
    assert load.result.wrong == []
    assert load.result.failed == []
    # Twice killed, with six responses of the film in transfer.
    assert {failure.target for failure in load.result.truncated} == {f"GET {FILM}"}


@pytest.mark.chain
@pytest.mark.skipif(bool(VARNISH.program.missing()), reason=VARNISH.program.missing())
def test_clients_cannot_remove_objects(s3: EmbeddedS3) -> None:
    """To a cache on the machine of HAProxy, all clients are on this machine, from where PURGE is allowed."""
    s3.put("bucket", "film.ts", b"a film")
    with ExitStack() as stack:
        stack.enter_context(signing := Signing("gateway", Bucket.of(s3), has_storage_cache=False))
        cache = stack.enter_context(VARNISH.shield(signing.port))
        haproxy = stack.enter_context(HaProxy([cache.port] * 3))
        for _ in range(2):
            assert fetch(haproxy.port, "/media/film.ts", x_cdn_secret=CDN_SECRET).body == b"a film"
            for method in ("PURGE", "PUSH"):
                assert fetch(haproxy.port, "/media/film.ts", method, x_cdn_secret=CDN_SECRET).status == 405
        assert sum(entry["method"] == "GET" for entry in s3.requests()) == 1
        assert fetch(haproxy.port, "/media/film.ts", "OPTIONS", x_cdn_secret=CDN_SECRET).status == 204
    assert signing.unexpected == []


def test_caches_stay_while_the_server_is_away(several: Front) -> None:
    """They answer HAProxy's checks, and serve what they have. The last test: the server does not come back."""
    several.read_all()
    several.signing.stop()
    for number, cache in enumerate(several.caches, 1):
        before, deadline = checks(cache), time.monotonic() + WAIT
        while checks(cache) < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert several.haproxy.statistics(number)["status"] == "UP"
    several.read_all()
    assert fetch(several.haproxy.port, "/media/unknown.ts", x_cdn_secret=CDN_SECRET).status == 502


def checks(cache: Program) -> int:
    """How often HAProxy has checked a cache."""
    return cache.log().count('"HEAD / ')
