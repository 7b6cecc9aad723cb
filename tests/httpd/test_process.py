"""Requests while the server changes: reloads, children that end, keys that are replaced, a bucket that is down.

For the gateway and ``<Proxy>``, with a real S3.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.server import Connection, Request, ScriptedS3, answer, error
from tests.httpd.conftest import BUCKET, proxy_section, section
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY
from tests.s3 import EmbeddedS3

DATA = bytes(range(256)) * 400
MOUNTS = ["/media", "/proxied"]


def mounts(s3: EmbeddedS3, *settings: str) -> str:
    """A mount of the gateway and one of ``<Proxy>``, for the same bucket."""
    url = f"{s3.url}/{BUCKET}"
    return section("/media", s3) + f"ProxyPass /proxied {url}\n" + proxy_section(f"{url}/", s3) + "\n".join(settings)


@contextmanager
def load(httpd: Httpd, clients: int = 4) -> Iterator[set[tuple[str, int, bytes]]]:
    """Clients that fetch all the time; yields the set of distinct responses so far."""
    responses: set[tuple[str, int, bytes]] = set()
    done, started = threading.Event(), threading.Barrier(clients + 1)

    def fetch_until_done(mount: str) -> None:
        started.wait(20)
        while not done.is_set():
            reply = httpd.fetch(f"{mount}/a.ts")
            responses.add((mount, reply.status, reply.body))

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(fetch_until_done, MOUNTS[number % 2]) for number in range(clients)]
        started.wait(20)
        try:
            yield responses
        finally:
            done.set()
        for future in futures:
            future.result()


def test_reload_under_load(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = Httpd(mounts(s3))
    checked.append(httpd)
    httpd.start()
    with load(httpd) as responses:
        for _ in range(2):
            httpd.reload()
    assert responses == {(mount, 200, DATA) for mount in MOUNTS}


@pytest.mark.unsanitized
def test_a_reload_waits_for_idle_children_to_end(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """httpd replaces at once the children that have ended when it checks them, and the others a second later."""
    s3.put(BUCKET, "a.ts", DATA)
    httpd = Httpd(mounts(s3, "StartServers 2"))
    checked.append(httpd)
    httpd.start()
    for _ in range(12):
        for mount in MOUNTS * 2:
            assert httpd.fetch(f"{mount}/a.ts").body == DATA
        if not httpd.reload_and_list_leftover_children():
            return
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        pytest.skip("this machine is busy: children need more than the 200 ms that httpd waits for them")
    pytest.fail("old children were still running")


def test_children_that_end_under_load(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = Httpd(mounts(s3, "StartServers 2", "MaxConnectionsPerChild 15"))
    checked.append(httpd)
    httpd.start()
    first_children = set(httpd.children())
    with load(httpd) as responses:
        with ThreadPoolExecutor(4) as pool:
            bodies = list(pool.map(lambda number: httpd.fetch(f"{MOUNTS[number % 2]}/a.ts").body, range(150)))
    assert bodies == [DATA] * 150
    assert responses == {(mount, 200, DATA) for mount in MOUNTS}
    assert not first_children & set(httpd.children())


class KnownKeys:
    """A handler of the scripted S3 that accepts these access keys; they can be replaced at any time."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def __call__(self, connection: Connection, request: Request) -> None:
        is_known = any(f"Credential={key}/" in request.headers["authorization"] for key in self.keys)
        connection.send(answer(200, DATA) if is_known else error(403, "InvalidAccessKeyId"))


@pytest.mark.parametrize("source", ["file", "graceful"])
def test_keys_are_replaced_under_load(source: str, checked: list[Httpd], tmp_path: Path) -> None:
    """New keys are added, then the old ones removed: no request fails, though connections to S3 stay open."""
    known_keys = KnownKeys("OLDKEY")
    with ScriptedS3(then=known_keys) as s3:
        httpd = Httpd("")
        checked.append(httpd)

        def config(key: str) -> str:
            access_key = "SetEnv S3AccessKeyFile ${ROOT}/key" if source == "file" else f"SetEnv S3AccessKey {key}"
            settings = f"{access_key}\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\nSetEnv S3UseHeaders on"
            return (
                "WSGIScriptAlias /media ${USP_S3_WSGI}\n"
                f"<Location /media>\nSetEnv S3BucketURL {s3.url}/b/\n{settings}\n</Location>\n"
                f'ProxyPass /proxied {s3.url}/b\n<Proxy "{s3.url}/b/">\n{settings}\n</Proxy>\n'
            )

        def replace_key_file(key: str) -> None:
            (httpd.root / "new").write_text(key)
            (httpd.root / "new").chmod(0o644)
            (httpd.root / "new").rename(httpd.root / "key")

        httpd.config = config("OLDKEY")
        httpd.expect_error(r"httpd\.conf:\d+: S3AccessKeyFile: .* No such file or directory")  # not yet
        httpd.start()
        replace_key_file("OLDKEY")
        with load(httpd) as responses:
            known_keys.keys = ("OLDKEY", "NEWKEY")
            replace_key_file("NEWKEY")
            if source == "graceful":
                httpd.config = config("NEWKEY")
                httpd.reload()
            # The old keys are removed when they are not used any more.
            while any("NEWKEY" not in request.headers["authorization"] for request in s3.requests[-40:]):
                for mount in MOUNTS * 8:
                    assert httpd.fetch(f"{mount}/a.ts").status == 200
            known_keys.keys = ("NEWKEY",)
            for mount in MOUNTS * 8:
                assert httpd.fetch(f"{mount}/a.ts").status == 200
        assert responses == {(mount, 200, DATA) for mount in MOUNTS}


def test_the_fallback_bucket(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """The first bucket's server is stopped; the fallback bucket has other keys, another region and a copy."""
    s3.put(BUCKET, "a.ts", b"the first")
    with EmbeddedS3(("copies",), access_key="OTHERKEY", secret_key="other/secret+key", region="us-east-9") as fallback:
        fallback.put("copies", "films/a.ts", b"the copy")
        fallback.put("copies", "films/only-here.ts", b"only here")
        settings = [
            f"SetEnv S3FallbackURL {fallback.url}/copies/films/", f"SetEnv S3FallbackAccessKey {fallback.access_key}",
            f"SetEnv S3FallbackSecretKey {fallback.secret_key}", f"SetEnv S3FallbackRegion {fallback.region}",
        ]  # fmt: skip
        with EmbeddedS3(buckets=(BUCKET,)) as primary:
            primary.put(BUCKET, "a.ts", b"the first")
            httpd = Httpd(
                section("/media", primary, *settings) + section("/on404", s3, *settings, "SetEnv S3FallbackOn404 on")
            )
            checked.append(httpd)
            httpd.start()
            assert httpd.fetch("/media/a.ts").body == b"the first"
            assert httpd.fetch("/media/only-here.ts").status == 404
        httpd.expect_error("usp_s3_wsgi: /media: .*; retrying")
        assert httpd.fetch("/media/a.ts").body == b"the copy"
        assert httpd.fetch("/media/a.ts", range="bytes=4-").body == b"copy"
        # An object that the copy lacks may exist in the bucket itself, so it is not 404.
        assert httpd.fetch("/media/missing.ts").status == 502
        httpd.wait_for_error("usp_s3_wsgi: /media: .*Connection refused.*; using S3FallbackURL")
        assert httpd.fetch("/on404/a.ts").body == b"the first"
        assert httpd.fetch("/on404/only-here.ts").body == b"only here"
