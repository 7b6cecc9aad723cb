"""What becomes of requests while the server changes around them: reloads, children that go, keys that are exchanged, a
bucket that is away. Both ways in, real S3."""

from __future__ import annotations

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
BOTH = ["/media", "/proxied"]


def both(s3: EmbeddedS3, *lines: str) -> str:
    """A mount of the gateway and one of ``<Proxy>``, for the same bucket."""
    url = f"{s3.url}/{BUCKET}"
    return section("/media", s3) + f"ProxyPass /proxied {url}\n" + proxy_section(f"{url}/", s3) + "\n".join(lines)


@contextmanager
def load(httpd: Httpd, clients: int = 4) -> Iterator[set[tuple[str, int, bytes]]]:
    """Clients that ask all the time; yields what they have got so far, each kind of answer once."""
    seen: set[tuple[str, int, bytes]] = set()
    done, begun = threading.Event(), threading.Barrier(clients + 1)

    def ask(mount: str) -> None:
        begun.wait(20)
        while not done.is_set():
            reply = httpd.fetch(f"{mount}/a.ts")
            seen.add((mount, reply.status, reply.body))

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask, BOTH[number % 2]) for number in range(clients)]
        begun.wait(20)
        try:
            yield seen
        finally:
            done.set()
        for each in asking:
            each.result()


def test_reload_under_load(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = Httpd(both(s3))
    checked.append(httpd)
    httpd.start()
    with load(httpd) as seen:
        for _ in range(2):
            httpd.reload()
    assert seen == {(mount, 200, DATA) for mount in BOTH}


def test_a_reload_waits_for_idle_children_and_not_for_httpds_clock(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """httpd replaces at once the children that have ended when it looks, and all others a second later."""
    s3.put(BUCKET, "a.ts", DATA)
    httpd = Httpd(both(s3, "StartServers 2"))
    checked.append(httpd)
    httpd.start()
    for _ in range(5):  # a busy machine may take longer than is waited for
        for mount in BOTH * 2:
            assert httpd.fetch(f"{mount}/a.ts").body == DATA
        if not httpd.reload_and_list_leftover_children():
            return
    pytest.fail("children of before were still running")


def test_children_that_go_under_load(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    s3.put(BUCKET, "a.ts", DATA)
    httpd = Httpd(both(s3, "StartServers 2", "MaxConnectionsPerChild 15"))
    checked.append(httpd)
    httpd.start()
    first = set(httpd.children())
    with load(httpd) as seen:
        with ThreadPoolExecutor(4) as pool:
            bodies = list(pool.map(lambda number: httpd.fetch(f"{BOTH[number % 2]}/a.ts").body, range(150)))
    assert bodies == [DATA] * 150
    assert seen == {(mount, 200, DATA) for mount in BOTH}
    assert not first & set(httpd.children())


class Guard:
    """An S3 that knows these keys, now."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def __call__(self, connection: Connection, request: Request) -> None:
        known = any(f"Credential={key}/" in request.headers["authorization"] for key in self.keys)
        connection.send(answer(200, DATA) if known else error(403, "InvalidAccessKeyId"))


@pytest.mark.parametrize("how", ["file", "graceful"])
def test_keys_that_are_exchanged_under_load(how: str, checked: list[Httpd], tmp_path: Path) -> None:
    """New keys, then the old ones end: nobody notices, though connections to S3 are kept all the time."""
    guard = Guard("OLDKEY")
    with ScriptedS3(then=guard) as s3:
        httpd = Httpd("")
        checked.append(httpd)

        def config(key: str) -> str:
            given = "SetEnv S3AccessKeyFile ${ROOT}/key" if how == "file" else f"SetEnv S3AccessKey {key}"
            lines = f"{given}\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\nSetEnv S3UseHeaders on"
            return (
                f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\nSetEnv S3BucketURL {s3.url}/b/\n{lines}\n"
                f'</Location>\nProxyPass /proxied {s3.url}/b\n<Proxy "{s3.url}/b/">\n{lines}\n</Proxy>\n'
            )

        def exchange(key: str) -> None:
            (httpd.root / "new").write_text(key)
            (httpd.root / "new").chmod(0o644)
            (httpd.root / "new").rename(httpd.root / "key")

        httpd.config = config("OLDKEY")
        httpd.expect_error(r"httpd\.conf:\d+: S3AccessKeyFile: .* No such file or directory")  # not yet
        httpd.start()
        exchange("OLDKEY")
        with load(httpd) as seen:
            guard.keys = ("OLDKEY", "NEWKEY")
            exchange("NEWKEY")
            if how == "graceful":
                httpd.config = config("NEWKEY")
                httpd.reload()
            # The old keys end when they are not used any more.
            while any("NEWKEY" not in request.headers["authorization"] for request in s3.requests[-40:]):
                for mount in BOTH * 8:
                    assert httpd.fetch(f"{mount}/a.ts").status == 200
            guard.keys = ("NEWKEY",)
            for mount in BOTH * 8:
                assert httpd.fetch(f"{mount}/a.ts").status == 200
        assert seen == {(mount, 200, DATA) for mount in BOTH}


def test_a_second_bucket(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """The first one's server goes away and comes back; the second has other keys, another region and a copy."""
    s3.put(BUCKET, "a.ts", b"the first")
    with EmbeddedS3(("copies",), access_key="OTHERKEY", secret_key="other/secret+key", region="us-east-9") as copies:
        copies.put("copies", "films/a.ts", b"the copy")
        copies.put("copies", "films/only-here.ts", b"only here")
        lines = [
            f"SetEnv S3FallbackURL {copies.url}/copies/films/", f"SetEnv S3FallbackAccessKey {copies.access_key}",
            f"SetEnv S3FallbackSecretKey {copies.secret_key}", f"SetEnv S3FallbackRegion {copies.region}",
        ]  # fmt: skip
        with EmbeddedS3(buckets=(BUCKET,)) as away:
            away.put(BUCKET, "a.ts", b"the first")
            httpd = Httpd(section("/media", away, *lines) + section("/on404", s3, *lines, "SetEnv S3FallbackOn404 on"))
            checked.append(httpd)
            httpd.start()
            assert httpd.fetch("/media/a.ts").body == b"the first"
            assert httpd.fetch("/media/only-here.ts").status == 404
        httpd.expect_error("usp_s3_wsgi: /media: .*; retrying")
        assert httpd.fetch("/media/a.ts").body == b"the copy"
        assert httpd.fetch("/media/a.ts", range="bytes=4-").body == b"copy"
        # What a copy has not got may well be in the bucket itself.
        assert httpd.fetch("/media/missing.ts").status == 502
        httpd.wait_for_error("usp_s3_wsgi: /media: .*Connection refused.*; using S3FallbackURL")
        assert httpd.fetch("/on404/a.ts").body == b"the first"
        assert httpd.fetch("/on404/only-here.ts").body == b"only here"
