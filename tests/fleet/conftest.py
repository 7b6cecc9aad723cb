"""Fixtures: a network with three nodes behind HAProxy, and two S3 servers with the same kinds of objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet import haproxy, network
from tests.fleet.fleet import Fleet, Stores, fleet, stores
from tests.servers.rclone import Rclone


def missing() -> str:
    """Why these tests cannot run; empty if they can."""
    if not haproxy.program():
        return "there is no HAProxy on this machine: tests/fleet/install.sh"
    return network.missing() or Rclone.missing()


@pytest.fixture(scope="session")
def s3_stores() -> Iterator[Stores]:
    if reason := missing():
        pytest.skip(reason)
    with network.Network(3) as net, stores(net) as found:
        yield found


@pytest.fixture(scope="module")
def running_fleet(s3_stores: Stores) -> Iterator[Fleet]:
    with fleet(s3_stores, 3) as running:
        yield running


@pytest.fixture
def three_nodes(running_fleet: Fleet) -> Fleet:
    """All nodes are up, however the test before has ended."""
    for node in running_fleet.nodes:
        running_fleet.stores.network.set_cable(node.number, "up")
        node.undrain()
        if not node.running:
            node.start()
        running_fleet.haproxy.wait_for(node.number, "UP")
    return running_fleet
