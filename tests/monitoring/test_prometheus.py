"""A real Prometheus reads a real httpd: the alerts of planted faults, and the queries of the dashboard."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.server import ScriptedS3, answer, error
from tests.httpd.conftest import section
from tests.httpd.machine import free_port
from tests.httpd.server import Httpd
from tests.monitoring import files
from tests.monitoring.programs import NEEDS_PROMETHEUS, ROOT, promtool
from tests.monitoring.prometheus import Prometheus
from tests.s3 import EmbeddedS3

pytestmark = NEEDS_PROMETHEUS

PAGE = ROOT / "docs" / "monitoring.md"
DATA = b"0123456789" * 100
SERVED, MISSING, WRONG_KEY = "served", "missing", "wrong-key"
#: A bucket with a wrong key that is requested once.
ONCE = "once"
#: Buckets of other servers.
CLOSED, THROTTLED, CUT = "closed", "throttled", "cut"
#: Buckets of which a request fails from the beginning, and the alert of each, with the code in its text.
FAULTS = {
    WRONG_KEY: ("UspS3RequestRejected", "USPS30305"),
    "unreadable": ("UspS3SettingInvalid", "USPS30101"),
    CLOSED: ("UspS3ConnectionFailing", "USPS3040"),
    THROTTLED: ("UspS3Throttled", "USPS30405"),
    CUT: ("UspS3BodyTruncated", "USPS30501"),
}
#: Panels that have no data here: there are no temporary credentials, and no fault of the client that is corrected.
WITHOUT_DATA = {"Credentials expire in", "Refreshes of credentials"}


@dataclass
class Running:
    """``requests``: sends requests to each mount until ``stopped`` is set; ``statuses``: of each mount."""

    httpd: Httpd
    prometheus: Prometheus
    stopped: threading.Event
    statuses: dict[str, set[int]]


def configuration(s3: EmbeddedS3, throttled: ScriptedS3, cut: ScriptedS3) -> str:
    """A mount for each bucket."""
    unreadable = re.sub(r"SetEnv S3SecretKey \S+", "SetEnv S3SecretKeyFile /nonexistent", section("/unreadable", s3))
    ports = {CLOSED: free_port(), THROTTLED: throttled.port, CUT: cut.port}
    return "".join([
        "UspS3Metrics On\nWSGIScriptAlias /usp-s3/metrics ${USP_S3_METRICS}\nLogLevel crit\n",
        *(mount(section(f"/{name}", s3), name) for name in (SERVED, MISSING)),
        *(mount(section(f"/{name}", s3), name).replace(s3.secret_key, "wrong") for name in (WRONG_KEY, ONCE)),
        mount(unreadable, "unreadable"),
        *(
            mount(section(f"/{name}", s3, "SetEnv S3Retries 0"), name).replace(s3.host, f"127.0.0.1:{port}")
            for name, port in ports.items()
        ),
    ])  # fmt: skip


def mount(text: str, name: str) -> str:
    """A section for the bucket with this name."""
    return text.replace("/private/", f"/{name}/")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with ExitStack() as stack:
        s3 = stack.enter_context(EmbeddedS3(buckets=(SERVED, MISSING, WRONG_KEY, ONCE, "unreadable")))
        s3.put(SERVED, "a.ts", DATA)

        def broken_off(connection: Any, request: Any) -> None:
            connection.send(answer(200, DATA)[:-10])
            connection.close()

        throttled = stack.enter_context(ScriptedS3(then=error(503, "SlowDown")))
        cut = stack.enter_context(ScriptedS3(then=broken_off))
        httpd = Httpd(configuration(s3, throttled, cut))
        httpd.expect_error(".")
        stack.enter_context(httpd)
        prometheus = stack.enter_context(Prometheus(f"127.0.0.1:{httpd.port}"))
        # "up" of 10 minutes ago is in a rule.
        prometheus.wait_for(lambda: bool(prometheus.query("up offset 10s == 1")), "httpd is not scraped")
        assert prometheus.alerts() == []
        found = Running(httpd, prometheus, threading.Event(), {})
        thread = threading.Thread(target=send_requests, args=(found,))
        thread.start()
        yield found
        found.stopped.set()
        thread.join()


def send_requests(running: Running) -> None:
    """Send requests to each mount, three times a second."""
    targets = {name: f"/{name}/a.ts" for name in (SERVED, MISSING, *FAULTS)}
    while not running.stopped.wait(0.3):
        for name, target in targets.items():
            with suppress(Exception):  # a truncated body
                running.statuses.setdefault(name, set()).add(running.httpd.fetch(target).status)


@pytest.mark.parametrize("bucket", FAULTS)
def test_an_alert_fires(running: Running, bucket: str) -> None:
    name, code = FAULTS[bucket]
    alert = running.prometheus.wait_for_alert(name, bucket=bucket)
    if "instance" in alert["labels"]:  # else it is about all servers together
        assert alert["labels"]["instance"] == f"127.0.0.1:{running.httpd.port}"
    texts = alert["annotations"]
    assert code in texts["description"]
    assert not re.search(r"error expanding|<no value>|\{\{", str(texts))
    assert re.search(rf"{bucket}|127\.0\.0\.1", texts["summary"])


def test_a_single_failure_is_reported(running: Running) -> None:
    """Its series begins with the value 1, of which increase() sees nothing."""
    assert running.httpd.fetch(f"/{ONCE}/a.ts").status == 502
    running.prometheus.wait_for_alert("UspS3RequestRejected", bucket=ONCE, s3_code="SignatureDoesNotMatch")
    selector = f'usp_s3_exchanges_total{{bucket="{ONCE}"}}'
    assert [numbers([each]) for each in running.prometheus.query(f"increase({selector}[5s])")] in ([], [[0]])


def test_missing_objects_and_served_ones_raise_no_alert(running: Running) -> None:
    running.prometheus.wait_for_alert("UspS3Throttled")  # which takes longest
    assert (running.statuses[SERVED], running.statuses[MISSING]) == ({200}, {404})
    assert running.prometheus.query(f'usp_s3_exchanges_total{{bucket="{MISSING}",error="USPS30302"}}')
    assert [each for each in running.prometheus.alerts() if each["labels"].get("bucket") in {SERVED, MISSING}] == []


@pytest.mark.parametrize("query", [pytest.param(query, id=f"{query.panel}-{query.ref}") for query in files.queries()])
def test_a_query_of_the_dashboard(running: Running, query: files.Query) -> None:
    prometheus, expr = running.prometheus, files.substitute(query.expr, "5s")
    assert "$" not in expr
    if query.panel in WITHOUT_DATA:
        assert prometheus.query(expr) == []
        return
    prometheus.wait_for(lambda: bool(numbers(prometheus.query(expr))), f"{query.panel} has no data: {expr}")
    # An empty label is none.
    labels = {label for sample in prometheus.query_range(expr, 10) for label in sample["metric"]}
    assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= labels


def numbers(samples: list[dict[str, Any]]) -> list[float]:
    """The values of samples, without NaN."""
    values = [float(sample["value"][1]) for sample in samples]
    return [value for value in values if value == value]


def queries_of_the_page() -> list[str]:
    """The queries of docs/monitoring.md; the further lines of one are indented."""
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [query for block in blocks for query in re.split(r"\n(?=\S)", block.strip())]


@pytest.mark.parametrize("expr", queries_of_the_page())
def test_a_query_of_the_page(running: Running, expr: str) -> None:
    running.prometheus.query(expr)


def test_the_variables_of_the_dashboard_have_values(running: Running) -> None:
    for variable in files.variables().values():
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variable["query"]["query"])
            assert match
            assert running.prometheus.get(f"label/{match[2]}/values", **{"match[]": match[1]})


def test_promtool_has_nothing_against_the_names_of_the_metrics(running: Running) -> None:
    reply = running.httpd.fetch("/usp-s3/metrics")
    checked = promtool("check", "metrics", stdin=reply.body)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_prometheus_reads_every_sample(running: Running) -> None:
    """It asks for OpenMetrics; an error in the format fails a scrape."""
    (target,) = running.prometheus.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    (samples,) = running.prometheus.query("scrape_samples_scraped")
    lines = running.httpd.fetch("/usp-s3/metrics").body.decode().splitlines()
    assert float(samples["value"][1]) > 0.8 * sum(not line.startswith("#") for line in lines)


def test_a_stopped_server_is_reported(running: Running) -> None:
    """The last test: it stops httpd."""
    running.stopped.set()
    running.httpd.stop()
    alert = running.prometheus.wait_for_alert("UspS3NotScraped")
    assert alert["labels"]["instance"] == f"127.0.0.1:{running.httpd.port}"
