"""The whole chain, from what a player requests to S3, and what each link of it has done.

    player -> edge (a CDN) -> shield -> httpd (public) [-> packager] -> storage cache -> httpd (signing) -> S3

    with running(shield="varnish", origin="packager") as stage:
        stage.url(f"{ladder.PACKAGED}/main.m3u8", packaged=True)   # what a player opens
        stage.counters()["storage"].hits

Every program runs with its file of apache/chain. Each link but httpd and S3 can be left out.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tests.chain import ladder
from tests.chain.engines import NGINX, VARNISH, Engine
from tests.chain.packager import Packager
from tests.chain.programs import Nginx, Program, Varnish
from tests.chain.signing import Bucket, Signing
from tests.httpd.machine import find_program, unpacked_environment
from tests.s3 import EmbeddedS3

Cache = Literal["nginx", "varnish", "none"]
Origin = Literal["packager", "none"]
Way = Literal["gateway", "proxy"]

BUCKET = "private"
#: Paths on the public virtual host: of objects, and of what the packager makes of them. What the files of apache/chain
#: say of /media (lifetimes, CORS, what a shield stores) is valid for both.
MEDIA, PACKAGER = "/media", "/media/packaged"
#: The file of the edge, and the shield's address in it.
SHIELD = "192.0.2.20:80"
EDGE = Path(__file__).with_name("edge.conf")
#: The line of the public virtual host that has the storage cache; a comment if there is none.
OBJECTS = re.compile(r'^  (?:# )?ProxyPass "/media" "http://127.0.0.1:(?P<port>\d+)/bucket".*\n', re.MULTILINE)
LOG_FORMAT = '{\\"port\\":%{local}p,\\"method\\":\\"%m\\",\\"path\\":\\"%U\\",\\"status\\":%>s,\\"bytes\\":%B}'
LINKS = ("edge", "shield", "public", "packager", "storage", "signing", "s3")


@dataclass(frozen=True, slots=True)
class Counters:
    """What a link has done since the start of the chain, or since `Stage.clear`.

    ``hits``: answered by a cache without a request to the next link; ``revalidated``: with one that returned no body;
    ``misses``: all others. ``bytes``: of the bodies that it has sent. A link that is no cache has neither.
    """

    requests: int = 0
    hits: int = 0
    misses: int = 0
    revalidated: int = 0
    bytes: int = 0

    def __sub__(self, other: Counters) -> Counters:
        return Counters(
            self.requests - other.requests,
            self.hits - other.hits,
            self.misses - other.misses,
            self.revalidated - other.revalidated,
            self.bytes - other.bytes,
        )


class CountingNginx(Nginx):
    """nginx with an access log of its own: a line for each request, and for each slice of it."""

    FORMAT = '{"id":"$request_id","cache":"$upstream_cache_status","status":$status,"bytes":$body_bytes_sent}'

    def localized_file(self, own: Mapping[str, str]) -> str:
        log = f"log_format chain '{self.FORMAT}';\naccess_log {self.root}/access.json chain;\nlog_subrequest on;\n"
        return log + super().localized_file(own)

    def counters(self) -> Counters:
        """What it has done. A request with several slices is a hit if all of them were."""
        requests: dict[str, list[dict[str, Any]]] = {}
        for entry in json_lines(self.root / "access.json"):
            requests.setdefault(entry["id"], []).append(entry)
        kinds = [{entry["cache"] for entry in slices} - {"", "-"} for slices in requests.values()]
        hits = sum(bool(kind) and kind <= {"HIT", "STALE", "UPDATING"} for kind in kinds)
        revalidated = sum("REVALIDATED" in kind and kind <= {"HIT", "REVALIDATED"} for kind in kinds)
        sent = sum(max(entry["bytes"] for entry in slices) for slices in requests.values())
        misses = sum(bool(kind) for kind in kinds) - hits - revalidated  # without requests that pass the cache
        return Counters(len(requests), hits, misses, revalidated, sent)


class Edge(CountingNginx):
    """The place of a CDN. It has no folder for stored objects."""

    def __init__(self, shield: int) -> None:
        super().__init__(EDGE, self.backend(SHIELD, shield))

    def _own_places(self) -> dict[str, str]:
        return {old: new for old, new in super()._own_places().items() if "listen" in old}


class CountingVarnish(Varnish):
    """Varnish with its own counters. ``thread_stats_rate``: they are written after each request, not after ten."""

    options = (*Varnish.options, "-p", "thread_stats_rate=1")

    def counters(self) -> Counters:
        """What it has done. Varnish counts an object that it revalidates after it was sent (grace) as a hit."""
        command = [find_program("varnishstat"), "-n", str(self.run), "-1", "-j"]
        done = subprocess.run(command, capture_output=True, timeout=20, check=True, env=unpacked_environment())
        found = json.loads(done.stdout)
        values = {
            name: entry["value"] for name, entry in found.get("counters", found).items() if isinstance(entry, dict)
        }
        requests, hits = values["MAIN.client_req"], values["MAIN.cache_hit"]
        return Counters(requests, hits, requests - hits, 0, values["MAIN.s_resp_bodybytes"])


class Front(Signing):
    """httpd with both virtual hosts. The public one has a line more for the packager."""

    def __init__(self, way: str, s3: EmbeddedS3, *, has_storage_cache: bool) -> None:
        self.packager: Packager | None = None
        super().__init__(way, Bucket.of(s3, BUCKET))
        if not has_storage_cache:  # both read from the virtual host that signs, so that the links stay the same
            self.storage_port = self.signing_port

    def _localized(self, secret: Path) -> str:
        log = f'LogFormat "{LOG_FORMAT}" chain\nCustomLog access.json chain\n'
        text = log + super()._localized(secret)
        if self.packager is None:
            return text
        (found,) = OBJECTS.finditer(text)
        packaged = (
            found[0].replace("# ", "").replace(f"127.0.0.1:{found['port']}/bucket", f"127.0.0.1:{self.packager.port}")
        )
        return text[: found.start()] + packaged.replace(MEDIA, PACKAGER) + text[found.start() :]

    def counters(self, port: int) -> Counters:
        """What the virtual host on this port has done."""
        found = [entry for entry in json_lines(self.root / "access.json") if entry["port"] == port]
        return Counters(len(found), bytes=sum(entry["bytes"] for entry in found))


@dataclass
class Stage:
    """The running chain. ``files``: the file of each key in the bucket."""

    s3: EmbeddedS3
    httpd: Front
    storage: CountingNginx | CountingVarnish | None
    packager: Packager | None
    shield: CountingNginx | CountingVarnish | None
    edge: CountingNginx | None
    files: dict[str, Path]
    _cleared: dict[str, Counters] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """The port that players use: that of the edge, or of httpd."""
        return self.edge.port if self.edge else self.httpd.port

    @property
    def urls(self) -> dict[str, str]:
        """The URL of each link that is there; those of caches and httpd are of the first link's paths."""
        ports = {
            "edge": self.edge and self.edge.port,
            "shield": self.shield and self.shield.port,
            "public": self.httpd.port,
            "packager": self.packager and self.packager.port,
            "storage": self.storage and self.storage.port,
            "signing": self.httpd.signing_port,
            "s3": self.s3.port,
        }
        return {name: f"http://127.0.0.1:{port}" for name, port in ports.items() if port}

    def url(self, key: str, *, packaged: bool = False) -> str:
        """What a player requests: the object with this key, or what the packager makes of objects."""
        return f"http://127.0.0.1:{self.port}{PACKAGER if packaged else MEDIA}/{key}"

    def ended(self) -> list[str]:
        """The names of the links whose program has ended by itself."""
        programs = {
            "edge": self.edge, "shield": self.shield, "public": self.httpd, "packager": self.packager,
            "storage": self.storage, "s3": self.s3,
        }  # fmt: skip
        return [name for name, program in programs.items() if program and not program.running]

    def counters(self) -> dict[str, Counters]:
        """What each link has done since `clear`; only those that are there, from the player to S3.

        A program may count a moment after its response was sent.
        """
        return {name: now - self._cleared.get(name, Counters()) for name, now in self._totals().items()}

    def clear(self) -> None:
        """Count from now on. Does not empty a cache."""
        self.s3.clear()
        self._cleared = self._totals()

    def _totals(self) -> dict[str, Counters]:
        found: dict[str, Counters] = {}
        if self.edge:
            found["edge"] = self.edge.counters()
        if self.shield:
            found["shield"] = self.shield.counters()
        found["public"] = self.httpd.counters(self.httpd.port)
        if self.packager:
            requests = self.packager.requests()
            found["packager"] = Counters(len(requests), bytes=sum(entry["bytes"] for entry in requests))
        if self.storage:
            found["storage"] = self.storage.counters()
        found["signing"] = self.httpd.counters(self.httpd.signing_port)
        entries = [entry for entry in self.s3.requests() if entry["method"] in {"GET", "HEAD"}]
        sent = sum(entry["length"] for entry in entries if entry["method"] == "GET")
        revalidated = sum(entry["status"] == 304 for entry in entries)
        found["s3"] = Counters(len(entries), revalidated=revalidated, bytes=sent)
        return found


CACHES: dict[str, Engine] = {
    "nginx": replace(NGINX, program=CountingNginx),
    "varnish": replace(VARNISH, program=CountingVarnish),
}


def missing(*, shield: Cache = "nginx", origin: Origin = "packager", storage: Cache = "nginx") -> str:
    """Why such a chain cannot run here; empty if it can."""
    programs = [CACHES[name].program for name in (shield, storage) if name != "none"]
    if origin == "packager":
        programs.append(Packager)
    return next(filter(None, [program.missing() for program in programs]), "") or ladder.missing()


@contextmanager
def running(
    *, shield: Cache = "nginx", origin: Origin = "packager", storage: Cache = "nginx", way: Way = "gateway"
) -> Iterator[Stage]:
    """Start the chain with the ladder in the bucket. Raises: HttpdError, S3Error, AssertionError: a program's log."""
    with ExitStack() as stack:
        s3 = stack.enter_context(EmbeddedS3([BUCKET], secret_key=secrets.token_hex(20)))
        files = ladder.upload(s3, BUCKET)
        httpd = Front(way, s3, has_storage_cache=storage != "none")
        packager = cache = front = edge = None
        if storage != "none":
            cache = _counting(CACHES[storage].storage_cache(httpd))
            stack.enter_context(cache)
        if origin == "packager":
            read_from = cache.port if cache else httpd.signing_port
            packager = httpd.packager = stack.enter_context(Packager(f"http://127.0.0.1:{read_from}/bucket/"))
        stack.enter_context(httpd)
        if shield != "none":
            front = _counting(CACHES[shield].shield(httpd.port))
            stack.enter_context(front)
            edge = stack.enter_context(Edge(front.port))
        stage = Stage(s3, httpd, cache, packager, front, edge, files)
        stage.clear()
        yield stage


def _counting(cache: Program) -> CountingNginx | CountingVarnish:
    assert isinstance(cache, CountingNginx | CountingVarnish)
    return cache


def json_lines(file: Path) -> list[dict[str, Any]]:
    """The complete lines of a log."""
    if not file.exists():
        return []
    lines = file.read_text(errors="replace").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
