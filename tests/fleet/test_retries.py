"""When HAProxy tries another node, with scripted nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import IncompleteRead
from itertools import pairwise

import pytest

from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, close, first, reset, stall
from tests.fleet.client import send
from tests.fleet.fleet import Stores
from tests.fleet.haproxy import FAILURE_LIMIT as LIMIT
from tests.fleet.haproxy import RETRIES, HaProxy
from tests.fleet.network import Network

BODY = b"segment" * 100


def play(step: Step, connection: Connection, request: Request) -> None:
    """Do what a step of a script says."""
    if callable(step):
        step(connection, request)
    else:
        connection.send(step)


@contextmanager
def scripted_nodes(*steps: Step | None) -> Iterator[list[ScriptedS3]]:
    """Nodes that answer each request with this step, at addresses of the loopback interface. None: nothing listens."""
    with ExitStack() as stack:
        nodes = []
        for number, step in enumerate(steps, 1):
            address = f"127.0.0.{10 + number}"
            stack.enter_context(ScriptedS3(then=answer(204), host=address, port=8081))
            node = ScriptedS3(then=step, host=address, port=80)
            nodes.append(stack.enter_context(node) if step else node)
        yield nodes


@pytest.fixture
def own_network(s3_stores: Stores) -> Network:
    """The network namespace of this process, in which port 80 is free."""
    return s3_stores.network


#: What the first node does, and how many nodes get a GET, a HEAD and a POST if all of them do the same.
NODES_ASKED: dict[str, tuple[Step, int, int]] = {
    "502": (answer(502), 3, 1),
    "closed": (close, 3, 1),
    "reset": (reset, 3, 1),
    "503": (answer(503, b"", ("Retry-After", "1")), 1, 1),
    "504": (answer(504), 1, 1),
    "500": (answer(500), 1, 1),
    "404": (answer(404), 1, 1),
}


@pytest.mark.parametrize("fault", NODES_ASKED)
def test_how_many_nodes_get_a_request(own_network: Network, fault: str) -> None:
    step, reads, others = NODES_ASKED[fault]
    asked: list[int] = []

    def node(number: int) -> Step:
        def record(connection: Connection, request: Request) -> None:
            asked.append(number)
            play(step, connection, request)

        return record

    with scripted_nodes(node(1), node(2), node(3)), HaProxy(*(f"127.0.0.{n}" for n in (11, 12, 13))):
        # Fewer requests than the limit of failed responses.
        for method, expected in (*[("GET", reads)] * 10, ("HEAD", reads), ("POST", others), ("PUT", others)):
            asked.clear()
            status, _, _ = send(method)
            assert len(asked) == expected, method
            assert all(before != after for before, after in pairwise(asked)), asked
            assert status == (502 if fault in ("closed", "reset") else int(fault))


@pytest.mark.parametrize("step", [answer(502), close, reset], ids=["502", "closed", "reset"])
def test_a_client_notices_nothing_of_one_faulty_node(own_network: Network, step: Step) -> None:
    good = answer(200, BODY)
    with scripted_nodes(step, good, good) as nodes, HaProxy("127.0.0.11", "127.0.0.12", "127.0.0.13"):
        assert {send("GET")[::2] for _ in range(40)} == {(200, BODY)}
        assert nodes[0].requests


def test_other_methods_use_another_node_only_if_nothing_was_sent(own_network: Network) -> None:
    good = answer(200, BODY)
    with scripted_nodes(None, good, good) as nodes, HaProxy("127.0.0.11", "127.0.0.12", "127.0.0.13"):
        assert [send("POST")[0] for _ in range(20)] == [200] * 20
        assert sum(len(node.requests) for node in nodes) == 20


def test_a_node_that_hangs(own_network: Network) -> None:
    good = answer(200, BODY)
    addresses = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
    with scripted_nodes(stall, good, good) as nodes, HaProxy(*addresses, server_timeout="500ms"):
        assert {send("GET")[::2] for _ in range(20)} == {(200, BODY)}
        hanging = len(nodes[0].requests)
        assert {send("POST")[0] for _ in range(30)} == {200, 504}
        posts = [node.requests[count:] for node, count in zip(nodes, (hanging, 0, 0), strict=True)]
        assert sum(request.method == "POST" for requests in posts for request in requests) == 30


@pytest.mark.parametrize("step", [close, reset], ids=["closed", "reset"])
def test_a_response_that_has_begun_is_not_repeated(own_network: Network, step: Step) -> None:
    assert callable(step)
    truncated = first(answer(200, BODY, length=10 * len(BODY)), step)
    with scripted_nodes(truncated, truncated, truncated) as nodes, HaProxy("127.0.0.11", "127.0.0.12", "127.0.0.13"):
        for number in range(1, 11):
            with pytest.raises((IncompleteRead, ConnectionResetError)):
                send("GET")
            assert sum(len(node.requests) for node in nodes) == number


@pytest.mark.parametrize("step", [answer(502), close], ids=["502", "closed"])
def test_each_request_goes_to_one_node_when_another_one_did_not_help(own_network: Network, step: Step) -> None:
    def other_mount(connection: Connection, request: Request) -> None:
        if request.target.startswith("/other/"):
            connection.send(answer(200, BODY))
        else:
            play(step, connection, request)

    with scripted_nodes(step, other_mount, other_mount) as nodes, HaProxy("127.0.0.11", "127.0.0.12", "127.0.0.13"):
        assert {send("GET", "/media/a.mp4")[0] for _ in range(100)} == {502}
        assert sum(len(node.requests) for node in nodes) == 100 + RETRIES * (LIMIT + 1)
        # Nothing has changed for another bucket.
        assert {send("GET", "/other/a.mp4")[::2] for _ in range(40)} == {(200, BODY)}


def test_all_objects_of_a_bucket_at_the_root_count_as_one(own_network: Network) -> None:
    step = answer(502)
    with scripted_nodes(step, step, step) as nodes, HaProxy("127.0.0.11", "127.0.0.12", "127.0.0.13", at_root=True):
        assert {send("GET", f"/{number}.mp4")[0] for number in range(100)} == {502}
        assert sum(len(node.requests) for node in nodes) == 100 + RETRIES * (LIMIT + 1)
