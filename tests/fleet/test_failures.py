"""What clients see while nodes restart, stop, are killed, or lose their network. Each byte is checked."""

from __future__ import annotations

import http.client
import time

from tests.fleet.fleet import WAYS, Fleet
from tests.fleet.load import Result
from tests.fleet.network import CLIENT, HUB

#: Requests of each scenario, at least.
REQUESTS = 10_000
ROUNDS = 9
#: Seconds until a response begins, when a node is not reachable any more: the probes end a connection after 4 s, a new
#: one is given up after 1 s. The rest is for a busy machine.
LIMIT = 20.0


def assert_nothing_failed(result: Result) -> None:
    """Every response was whole and right, by both ways in and from both S3 servers."""
    print(f"\n{result}")
    assert (result.failed, result.truncated, result.wrong) == ([], [], [])
    assert result.responses >= REQUESTS
    assert {target.rpartition("/")[0] for target in result.by_target} == {
        f"/{way}/{store}" for way in WAYS for store in ("rclone", "swift")
    }


def assert_only_begun_responses_failed(result: Result) -> None:
    """No request failed before its response began, and the others were truncated where the client notices it."""
    print(f"\n{result}")
    assert (result.failed, result.wrong) == ([], [])
    assert result.truncated, "a slow client always reads from each node"
    assert result.responses >= REQUESTS
    assert sum(result.by_target.values()) + len(result.truncated) == result.responses
    assert result.slowest < LIMIT


def test_rolling_graceful_restarts(three_nodes: Fleet) -> None:
    with three_nodes.load() as load:
        for _ in range(ROUNDS):
            for node in three_nodes.nodes:
                node.restart_gracefully()
                three_nodes.haproxy.wait_for(node.number, "UP")
        load.wait_for(REQUESTS)
    assert_nothing_failed(load.result)
    assert [node.unexpected_errors() for node in three_nodes.nodes] == [[], [], []]


def test_rolling_stop_and_start_with_the_drain_file(three_nodes: Fleet) -> None:
    with three_nodes.load() as load:
        for node in three_nodes.nodes:
            node.drain()
            three_nodes.haproxy.wait_for(node.number, "DOWN")
            node.stop_gracefully()
            node.start()
            node.undrain()
            three_nodes.haproxy.wait_for(node.number, "UP")
        load.wait_for(REQUESTS)
    assert_nothing_failed(load.result)


def test_graceful_stop_without_the_drain_file(three_nodes: Fleet) -> None:
    with three_nodes.load() as load:
        for node in three_nodes.nodes:
            node.stop_gracefully()
            three_nodes.haproxy.wait_for(node.number, "DOWN")
            node.start()
            three_nodes.haproxy.wait_for(node.number, "UP")
        load.wait_for(REQUESTS)
    assert_nothing_failed(load.result)


def test_killed_nodes(three_nodes: Fleet) -> None:
    with three_nodes.load() as load:
        load.wait_for(200)
        for node in three_nodes.nodes:
            node.kill()
            three_nodes.haproxy.wait_for(node.number, "DOWN")
            node.start()
            three_nodes.haproxy.wait_for(node.number, "UP")
        load.wait_for(REQUESTS)
    assert_only_begun_responses_failed(load.result)


def test_nodes_without_a_network(three_nodes: Fleet) -> None:
    with three_nodes.load() as load:
        load.wait_for(200)
        for node in three_nodes.nodes:
            node.expect_error(".")  # the node cannot reach S3 and its clients either
            three_nodes.stores.network.set_cable(node.number, "down")
            three_nodes.haproxy.wait_for(node.number, "DOWN")
            # The responses that had begun end, and the requests that wait for a response go to another node.
            three_nodes.haproxy.wait_for_no_requests(node.number)
            three_nodes.stores.network.set_cable(node.number, "up")
            three_nodes.haproxy.wait_for(node.number, "UP")
        load.wait_for(REQUESTS)
    assert_only_begun_responses_failed(load.result)


def test_nodes_know_the_address_of_the_client(three_nodes: Fleet) -> None:
    connection = http.client.HTTPConnection(HUB, timeout=30, source_address=(CLIENT, 0))
    try:
        connection.request("GET", "/gateway/rclone/1k", headers={"X-Forwarded-For": "203.0.113.7"})
        assert connection.getresponse().status == 200
    finally:
        connection.close()
    deadline = time.monotonic() + 30
    line = f"{CLIENT} /gateway/rclone/1k\n"
    # The line is written after the response has been sent.
    while not any(line in (node.root / "access.log").read_text() for node in three_nodes.nodes):
        assert time.monotonic() < deadline
        time.sleep(0.02)
