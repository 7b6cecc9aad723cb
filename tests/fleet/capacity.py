"""What grows with the number of nodes: CPU time, memory, connections to S3, requests to STS, DNS lookups.

    make .venv/.package && tests/fleet/install.sh .venv
    unshare --net .venv/bin/python -m tests.fleet.capacity 1 2 3     # as root, about 6 minutes

docs/fleet.md has the tables of a run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import usp_s3_wsgi
from tests.bench.processes import cpu_seconds, memory
from tests.faults.server import ScriptedS3, answer
from tests.fleet.fleet import SIZES, WAYS, Fleet, Stores, bucket, fleet, keys, stores
from tests.fleet.load import MB, Load
from tests.fleet.network import HUB, Network
from tests.httpd.machine import compile_shared
from tests.identity.endpoints import ACCESS_KEY, ROLE_ARN, SECRET_KEY, STS

PROCESSES, THREADS = 4, 16
#: As mpm_event.conf, with a number of processes that does not change.
_CHILDREN = f"""
StartServers {PROCESSES}
ServerLimit {PROCESSES}
ThreadsPerChild {THREADS}
MaxRequestWorkers {PROCESSES * THREADS}
MinSpareThreads 1
MaxSpareThreads {PROCESSES * THREADS}
"""
#: Credentials are renewed after half of this time, as all that are valid for 30 minutes or less.
_LIFETIME = 20.0
_ADDRESS_TTL = 5
#: Seconds of the run that counts requests to STS and lookups, and of each load.
_COUNTED, _SECONDS = 40.0, 5.0
_ROUNDS = 3
_BODY = b"x" * 1000


class HubSTS(STS):
    """The emulated STS, where nodes can reach it."""

    host = HUB


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of a number of nodes; all nodes together, if it is not said."""

    nodes: int
    connections: dict[str, int]
    memory: float
    sts_requests: int
    lookups: dict[str, int]


def load(objects: Mapping[str, bytes], clients: int) -> Load:
    """Clients that request these objects equally often."""
    return Load(HUB, objects, [1.0] * len(objects), clients=clients, slow=0, slow_targets=[])


def run_load(objects: Mapping[str, bytes], clients: int, seconds: float) -> int:
    """Load for some seconds; returns the number of responses, which must all be right."""
    with load(objects, clients) as running:
        time.sleep(seconds)
    result = running.result
    assert (result.failed, result.truncated, result.wrong) == ([], [], []), result
    return result.responses


def pid(running: Fleet, index: int) -> int:
    process = running.nodes[index]._process
    assert process is not None
    return process.pid


def connections(running: Fleet, url: str) -> int:
    """The open connections of all nodes to the server of a URL."""
    port = url.rpartition(":")[2]
    found = 0
    for node in running.nodes:
        command = ["ip", "netns", "exec", running.stores.network.namespace(node.number), "ss", "-Htn", "state"]
        command += ["established", "dst", f"{HUB}:{port}"]
        found += (
            len(subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split("\n")) - 1
        )
    return found


def cpu_per_request(running: Fleet, way: str, size: str) -> float:
    """Milliseconds of CPU time of one node's httpd for a request."""
    objects = {f"/{way}/rclone/{size}": running.stores.objects[size]}
    run_load(objects, 8, 1)
    before = cpu_seconds(pid(running, 0))
    number = run_load(objects, 8, _SECONDS)
    return (cpu_seconds(pid(running, 0)) - before) / number * 1000


def measure(found: Stores, number: int, preload: Path, lookups: Path) -> tuple[Row, dict[tuple[str, str], float]]:
    """The figures of a number of nodes, and, for one node, the CPU time of a request by way in and size."""
    costs: dict[tuple[str, str], float] = {}
    with ExitStack() as stack:
        sts = stack.enter_context(HubSTS(lifetime=_LIFETIME))
        s3 = stack.enter_context(ScriptedS3(then=answer(200, _BODY), host=HUB))
        role = (*keys(ACCESS_KEY, SECRET_KEY, "eu-central-1"), f"SetEnv S3RoleARN {ROLE_ARN}")
        role += (f"SetEnv S3STSEndpoint {sts.url}",)
        sections = [bucket(way, "role", f"{s3.url}/{way}", *role) for way in WAYS]
        for way in WAYS:
            # A name of its own for each way in, so that its lookups are known.
            url = f"http://{way}.fleet:{s3.port}/b"
            line = f"SetEnv S3ProxySet addressttl={_ADDRESS_TTL}" if way == "gateway" else ""
            text = bucket(way, "named", url, *keys(ACCESS_KEY, SECRET_KEY, "eu-central-1"), line)
            sections.append(text.replace("ttl=300", f"ttl=300 addressttl={_ADDRESS_TTL}") if way == "proxy" else text)
        running = stack.enter_context(fleet(found, number, *sections, children=_CHILDREN, preload=preload))
        for node in running.nodes:
            node.expect_error("USPS30602")
        opened: dict[str, int] = {}
        for way in WAYS:
            run_load({f"/{way}/rclone/1k": found.objects["1k"]}, 64, _SECONDS)
            opened[way] = connections(running, found.rclone.url) - sum(opened.values())
        used = sum(memory(pid(running, index)).pss for index in range(number))
        if number == 1:
            rounds: dict[tuple[str, str], list[float]] = {}
            for _ in range(_ROUNDS):
                for way in WAYS:
                    for size in SIZES:
                        rounds.setdefault((way, size), []).append(cpu_per_request(running, way, size))
            costs = {key: median(values) for key, values in rounds.items()}
        # The first credentials take a second and more on a busy machine, and requests wait for them 5 s at most.
        with load({f"/{way}/role/1k": _BODY for way in WAYS}, 8):
            time.sleep(_SECONDS * number)
        counted = {}
        sts_before = len(sts.requests)
        for way in WAYS:
            lookups.write_bytes(b"")
            targets = {f"/{each}/role/1k": _BODY for each in WAYS} | {f"/{way}/named/1k": _BODY}
            run_load(targets, 8, _COUNTED / 2)
            counted[way] = lookups.stat().st_size
        row = Row(number, opened, used, len(sts.requests) - sts_before, counted)
    return row, costs


@contextmanager
def counted_lookups() -> Iterator[tuple[Path, Path]]:
    """The library to preload, and the file in which it counts lookups."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        file = folder / "lookups"
        file.touch()
        file.chmod(0o666)
        os.environ |= {"FLEET_LOOKUPS": str(file), "FLEET_ADDRESS": HUB}
        yield compile_shared(Path(__file__).with_name("lookups.c"), folder), file


def main() -> None:
    """Measure the numbers of nodes in the arguments, up to three, and print the figures."""
    print(
        f"usp_s3_wsgi {usp_s3_wsgi.__version__}, {time.strftime('%Y-%m-%d')}, {PROCESSES} x {THREADS} threads per node"
    )
    with Network(3) as network, stores(network) as found, counted_lookups() as (preload, lookups):
        for number in map(int, sys.argv[1:]):
            row, costs = measure(found, number, preload, lookups)
            for (way, size), cost in costs.items():
                megabytes = SIZES[size] / MB * 1000 / cost
                print(f"{way} {size}: {cost:.3f} ms CPU, {1000 / cost:.0f} requests/s, {megabytes:.0f} MB/s of a core")
            print(row, flush=True)


if __name__ == "__main__":
    main()
