"""Metrics for Prometheus, from what usp_s3_module has recorded."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, error, head_of
from tests.wsgi import call, environ, s3_settings
from usp_s3_wsgi import errors
from usp_s3_wsgi.config import settings
from usp_s3_wsgi.gateway import exchange_record, operator_settings
from usp_s3_wsgi.observability import metrics, recorder
from usp_s3_wsgi.observability.metrics import ExchangeCollector

ROOT = Path(__file__).parents[2]
HEADER = (ROOT / "usp_s3_wsgi" / "proxy" / "mod_usp_s3" / "metrics.h").read_text("utf-8")
COUNTERS = re.findall(r'X\(\w+, "(\w+)"\)', HEADER)
TIMES = ((0, 2, 1), 3_500_000)
PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")
#: The names in the rows of a table.
NAMES = re.compile(r"^\| `(usp_s3_\w+)` \|", re.MULTILINE)


def text_of(*buckets: tuple[object, ...]) -> str:
    """The metrics of these buckets, in Prometheus' text format."""
    recorded = {
        "requests": 3,
        "credentials": [("arn:aws:iam::1:role/x", 1_800_000_000, 2, 1), ("S3Profile x", 0, 0, 1)],
        "counters": tuple(COUNTERS),
        "time_bounds": (1_000, 2_500_000),
        "buckets": list(buckets),
    }
    registry = CollectorRegistry()
    registry.register(ExchangeCollector(lambda: recorded))
    return generate_latest(registry).decode()


def test_each_counter_of_the_module_is_a_metric() -> None:
    assert sorted(COUNTERS) == sorted(metrics._COUNTERS)
    numbers = tuple(range(101, 101 + len(COUNTERS)))
    text = text_of(("s3.example", "films", "gateway", [(2, "", "", 7)], numbers, TIMES, TIMES))
    for number in numbers:
        assert f" {number}.0\n" in text


def test_the_gateway_records_the_counters_in_the_order_of_the_module() -> None:
    stub = (ROOT / "usp_s3_wsgi" / "_httpd.pyi").read_text("utf-8")
    parameters = re.findall(
        r"^    (\w+): (?:int|str),", stub.partition("def record_exchange(")[2].partition(")")[0], re.M
    )
    assert parameters[-len(COUNTERS) :] == COUNTERS


def test_histograms_are_cumulative() -> None:
    text = text_of(("s3.example", "films", "proxy", [(2, "", "", 3)], (0,) * len(COUNTERS), TIMES, TIMES))
    labels = 'bucket="films",host="s3.example"'
    for bound, count in (("0.001", 0), ("2.5", 2), ("+Inf", 3)):
        assert f'usp_s3_first_byte_seconds_bucket{{{labels},le="{bound}",way="proxy"}} {count}.0\n' in text
    assert f'usp_s3_first_byte_seconds_sum{{{labels},way="proxy"}} 3.5\n' in text


def test_what_has_no_entry_of_its_own_is_named_other() -> None:
    outcomes = [(0, None, None, 5), (0, "", "USPS30101", 2)]
    text = text_of(("", None, "gateway", outcomes, (0,) * len(COUNTERS), TIMES, TIMES))
    labels = 'bucket="(other)",error="(other)",host="",s3_code="(other)",status="(other)",way="gateway"'
    assert f"usp_s3_exchanges_total{{{labels}}} 5.0\n" in text
    assert 'error="USPS30101",host="",s3_code="",status="none",way="gateway"} 2.0\n' in text


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "usp_s3_wsgi.observability.metrics")
    with pytest.raises(ImportError, match=r"pip install 'usp_s3_wsgi\[metrics\]'"):
        importlib.import_module("usp_s3_wsgi.observability.metrics")


def test_a_request_that_reaches_no_bucket_has_no_bucket() -> None:
    text = text_of(("", "", "gateway", [(0, "", "USPS30203", 2)], (0,) * len(COUNTERS), TIMES, TIMES))
    labels = 'bucket="",error="USPS30203",host="",s3_code="",status="none",way="gateway"'
    assert f"usp_s3_exchanges_total{{{labels}}} 2.0\n" in text


def test_the_token_has_the_same_size_in_c_and_python() -> None:
    assert int(re.findall(r"#define USP_S3_TOKEN_SIZE (\d+)", HEADER)[0]) == operator_settings._TOKEN_SIZE


def test_a_fault_in_recording_does_not_fail_the_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[object, ...]] = []

    def fail(*arguments: object) -> None:
        calls.append(arguments)
        raise ValueError("a secret")

    monkeypatch.setattr(recorder, "record_exchange", fail)
    variables = (("S3BucketURL", "https://s3.example/films/"), ("S3AccessKey", "A"), ("S3SecretKey", "S"))
    record = exchange_record.begin(settings.parse(variables), "token")
    assert record is not None
    for _ in range(2):
        record.finish()
    assert len(calls) == 1 and calls[0][:3] == ("token", "s3.example", "films")
    printed = capsys.readouterr().err
    assert (
        printed.startswith("USPS30001: usp_s3_wsgi: internal error: ValueError in fail") and "a secret" not in printed
    )


def test_each_metric_is_documented() -> None:
    table = PAGE.partition("| metric |")[2].partition("\n\n")[0]
    text = text_of(("h", "b", "gateway", [(2, "", "", 1)], (1,) * len(COUNTERS), TIMES, TIMES))
    assert sorted(NAMES.findall(table)) == sorted(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))


def test_each_field_of_the_access_log_is_documented_and_in_both_formats() -> None:
    table = PAGE.partition("| field |")[2].partition("\n\n")[0]
    source = (ROOT / "usp_s3_wsgi" / "proxy" / "mod_usp_s3" / "access_log.c").read_text("utf-8")
    names = re.findall(r'^    {"(usp_s3_\w+)", [01], get_', source, re.MULTILINE)
    assert sorted(NAMES.findall(table)) == sorted(names)
    formats = (ROOT / "apache" / "include" / "metrics.conf").read_text("utf-8")
    for name in names:
        assert formats.count(f"%{{{name}}}n") == formats.count(f"%{{{name}}}^JS") == 1, name


def recorded_by_requests(monkeypatch: pytest.MonkeyPatch, *script: Step, method: str = "GET") -> dict[str, object]:
    """What the gateway records of a request to a scripted S3."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(recorder, "record_exchange", lambda *arguments: calls.append(arguments))
    with ScriptedS3(*script) as s3:
        call(environ(method=method, settings={**s3_settings(s3.url), "S3Retries": "2"}))
    assert len(calls) == 1
    names = ("token", "host", "bucket", "status", "code", "request_id", "error", "first_byte", "duration", *COUNTERS)
    return dict(zip(names, calls[0], strict=True))


def test_the_gateway_records_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recorded_by_requests(monkeypatch, error(503, "SlowDown"), answer(200, b"0123456789"))
    assert (found["status"], found["error"], found["code"], found["body_bytes"]) == (200, "", "", 10)
    assert (found["attempts"], found["new_connections"], found["reused_connections"]) == (2, 1, 1)


def test_the_gateway_records_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recorded_by_requests(monkeypatch, error(403, "SignatureDoesNotMatch"))
    assert (found["status"], found["error"], found["code"]) == (403, "USPS30305", "SignatureDoesNotMatch")


def test_the_gateway_records_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_off(connection: Connection, request: Request) -> None:
        connection.send(answer(200, b"0123456789", ("ETag", '"1"'))[:-5])
        connection.close()

    rest = answer(206, b"56789", ("ETag", '"1"'), ("Content-Range", "bytes 5-9/10"))
    found = recorded_by_requests(monkeypatch, broken_off, rest)
    assert (found["resumes"], found["attempts"], found["body_bytes"], found["error"]) == (1, 2, 10, "")


def test_the_gateway_records_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recorded_by_requests(monkeypatch, head_of(answer(200, b"0123456789")), method="HEAD")
    assert (found["status"], found["body_bytes"], found["error"]) == (200, 0, "")


def test_the_gateway_records_a_request_that_reaches_no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recorded_by_requests(monkeypatch, method="POST")
    assert (found["host"], found["bucket"], found["error"], found["attempts"]) == ("", "", "USPS30203", 0)


def test_a_fault_in_recording_does_not_fail_a_refresh(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.refresh("a role", 1, is_success=True)  # nothing is recorded outside of httpd

    def fail(*arguments: object) -> None:
        raise ValueError("a secret")

    monkeypatch.setattr(recorder, "_record_refresh", fail)
    recorder.refresh("a role", 1, is_success=True)
    printed = capsys.readouterr().err
    assert (
        printed.startswith("USPS30001: usp_s3_wsgi: internal error: ValueError in fail") and "a secret" not in printed
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_outside_of_httpd_the_script_answers_503(method: str) -> None:
    statuses: list[str] = []
    body = metrics.application({"REQUEST_METHOD": method}, lambda status, headers: statuses.append(status))
    assert statuses == ["503 Service Unavailable"]
    assert b"".join(body).startswith(b"Nothing is recorded") == (method == "GET")


#: As usp_s3_fault_of of shared_metrics.c has it.
CLIENT_CODES = re.compile(r"USPS302\d\d|USPS30302")
DENIED = "USPS30303"


@pytest.mark.parametrize("exception", [one for one in vars(errors).values() if isinstance(one, type)])
def test_whose_fault_a_failure_is(exception: type) -> None:
    """What a client can cause at will is not logged, and is no fault of this server on the status page."""
    if not issubclass(exception, errors.GatewayError):
        return
    is_client_error = bool(CLIENT_CODES.fullmatch(exception.code)) or exception.code == DENIED
    assert is_client_error == (not exception.should_log)


def test_the_c_code_has_the_same_codes() -> None:
    source = (ROOT / "usp_s3_wsgi/proxy/mod_usp_s3/shared_metrics.c").read_text("utf-8")
    body = source[source.index("usp_s3_fault usp_s3_fault_of(") :].partition("\n}\n")[0]
    assert re.findall(r'"(\w+)"', body) == [DENIED, "USPS302", "USPS30302"]
