"""How many requests get to an S3 that fails for all nodes in the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.server import ScriptedS3, error
from tests.fleet.client import send, send_many
from tests.fleet.fleet import WAYS, Stores, bucket, fleet, keys
from tests.fleet.haproxy import FAILURE_LIMIT, RETRIES
from tests.fleet.network import HUB
from tests.httpd.conftest import BUCKET
from tests.identity.emulated import SECRET_PREFIX
from tests.s3 import EmbeddedS3

CLIENTS = 4
#: S3Retries if it is not set.
S3_RETRIES = 2


@dataclass(frozen=True, slots=True)
class FailingStores:
    """Each node has the buckets "slow", whose S3 answers 503, and "wrong", whose S3 rejects the key."""

    slow: ScriptedS3
    wrong: EmbeddedS3


@pytest.fixture(scope="module")
def failing(s3_stores: Stores) -> Iterator[FailingStores]:
    with (
        ScriptedS3(then=error(503, "SlowDown"), host=HUB) as slow,
        EmbeddedS3(buckets=(BUCKET,), address=HUB) as wrong,
    ):
        settings = keys(wrong.access_key, f"{SECRET_PREFIX}Wrong", wrong.region)
        sections = [bucket(way, "slow", f"{slow.url}/{way}", *settings) for way in WAYS]
        sections += [bucket(way, "wrong", f"{wrong.url}/{BUCKET}", *settings) for way in WAYS]
        with fleet(s3_stores, 3, *sections) as running:
            for node in running.nodes:
                node.expect_error("USPS30305|USPS30405|USPS30409")
            yield FailingStores(slow, wrong)


def test_a_wrong_key_on_all_nodes(failing: FailingStores) -> None:
    failing.wrong.clear()
    responses = send_many([f"/{way}/wrong/{way}" for way in WAYS] * 60, CLIENTS)
    assert {status for status, _, _ in responses} == {502}
    # Requests that have begun before the limit is reached are retried as well.
    requests = Counter(request["target"].rpartition("/")[2] for request in failing.wrong.requests())
    assert requests.keys() == set(WAYS)
    for found in requests.values():
        assert 60 + RETRIES * (FAILURE_LIMIT + 1) <= found <= 60 + RETRIES * (FAILURE_LIMIT + CLIENTS)
    # Other buckets are served meanwhile.
    assert [send("GET", f"/{way}/rclone/1k")[0] for way in WAYS] == [200, 200]


def test_an_s3_that_asks_for_fewer_requests_does_not_get_more(failing: FailingStores) -> None:
    for status, headers, _ in send_many([f"/{way}/slow/1k" for way in WAYS] * 60, CLIENTS):
        assert (status, "Retry-After" in headers) == (503, True)
    found = Counter(request.target.split("/")[1] for request in failing.slow.requests)
    assert found == {"gateway": 60 * (1 + S3_RETRIES), "proxy": 60}
