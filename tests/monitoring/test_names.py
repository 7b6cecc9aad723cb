"""The alerts and the dashboard name metrics, labels and codes that exist, and leave out none of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.monitoring import files
from tests.monitoring.programs import ROOT
from usp_s3_wsgi.errors import LogCode
from usp_s3_wsgi.observability import metrics
from usp_s3_wsgi.observability.metrics import ExchangeCollector

#: Labels that Prometheus adds to what it reads from a server.
TARGET_LABELS = frozenset({"job", "instance"})
#: What is not on the dashboard, and why.
NOT_SHOWN = {
    "usp_s3_first_byte_seconds_sum": "an average hides the slow requests: the panels have quantiles",
    "usp_s3_exchange_duration_seconds_sum": "as before",
    "usp_s3_exchange_duration_seconds_count": "the same as usp_s3_exchanges_total",
}
#: Codes that no request fails with: of the error log only, or of the client's own faults.
NO_FAILURE = frozenset(
    "USPS30201 USPS30202 USPS30203 USPS30204 USPS30301 USPS30302 USPS30409 USPS30602 USPS30603 USPS30604".split()
)
#: Codes that usp_s3_module writes in C (proxy/mod_usp_s3/log_codes.h) and that requests fail with.
CODES_IN_C = frozenset({"USPS30701", "USPS30702"})
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')


@cache
def exported() -> dict[str, dict[str, set[str]]]:
    """The samples that a server exports, with their labels and these labels' values."""
    numbers = tuple(range(1, len(metrics._COUNTERS) + 1))
    times = ((1, 1), 10)
    outcomes = [(2, "", ""), (3, "", ""), (4, "NoSuchKey", "USPS30302"), (0, "", "USPS30402"), (0, None, None)]
    recorded = {
        "requests": 1,
        "credentials": [("arn:aws:iam::1:role/x", 1_800_000_000, 1, 1)],
        "counters": tuple(metrics._COUNTERS),
        "time_bounds": (1_000,),
        "buckets": [("s3.example", "films", "gateway", [(*each, 1) for each in outcomes], numbers, times, times)],
    }
    found: dict[str, dict[str, set[str]]] = {}
    for family in ExchangeCollector(lambda: recorded).collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    found["up"] = {}
    found["usp_s3_exchanges_total"]["error"] |= {*LogCode, *CODES_IN_C}
    return found


@cache
def records() -> dict[str, dict[str, set[str]]]:
    """The same of what alerts.yml records: the labels of the metrics it is made of."""
    found = {}
    for rule in files.rules():
        if "record" in rule:
            labels = {
                label: values for name, labels in used(rule["expr"], exported()) for label, values in labels.items()
            }
            found[rule["record"]] = labels
    return found


def used(expr: str, known: dict[str, dict[str, set[str]]]) -> Iterator[tuple[str, dict[str, set[str]]]]:
    """Yield the metrics of an expression, with their labels. Raises: KeyError for one that does not exist."""
    for name in re.findall(r"\b(?:usp_s3[\w:]+|up)\b", MATCHER.sub("", expr)):
        yield name, known[name]


EXPRESSIONS = [
    *(pytest.param(rule["expr"], id=rule.get("alert") or rule["record"]) for rule in files.rules()),
    *(pytest.param(query.expr, id=f"{query.panel}-{query.ref}") for query in files.queries()),
]


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_each_metric_and_label_exists(expr: str) -> None:
    known = {**exported(), **records()}
    metrics_of = dict(used(expr, known))
    assert metrics_of
    labels = {label: values for found in metrics_of.values() for label, values in found.items()}
    grouped = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right) ?\(([^)]*)\)", expr)
    names = {name for text in grouped for name in text.split(", ") if name}
    assert names <= {*labels, *TARGET_LABELS, "le"}
    for name, matchers in re.findall(r"\b(usp_s3[\w:]+|up)\{((?:\"(?:[^\"\\]|\\.)*\"|[^}\"])*)\}", expr):
        for label, operator, value in MATCHER.findall(matchers):
            if label in TARGET_LABELS:
                continue
            assert label in known[name], (name, label)
            if "$" not in value:
                assert any(re.fullmatch(value, each) for each in known[name][label]), (name, label, operator, value)


@pytest.mark.parametrize("query", [pytest.param(query, id=f"{query.panel}-{query.ref}") for query in files.queries()])
def test_each_label_of_a_legend_is_left_by_the_query(query: files.Query) -> None:
    kept: set[str] = set(TARGET_LABELS)
    for _, labels in used(query.expr, exported()):
        kept |= set(labels)
    if groups := re.findall(r"\bby ?\(([^)]*)\)", query.expr):
        kept = {name for text in groups for name in text.split(", ")}
    assert set(re.findall(r"\{\{ *(\w+) *\}\}", query.legend)) <= kept


def test_each_variable_is_of_a_label_that_exists() -> None:
    for variable in files.variables().values():
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable["query"]["query"])
            assert match and match[1] in exported()
            assert match[2] in {*exported()[match[1]], *TARGET_LABELS}


def test_the_dashboard_uses_the_variables_that_it_has() -> None:
    named = {name for query in files.queries() for name in re.findall(r"\$(\w+)", query.expr)} - {"__rate_interval"}
    assert named | {"datasource"} == set(files.variables())


def test_each_metric_is_on_the_dashboard() -> None:
    shown = {name for query in files.queries() for name, _ in used(query.expr, exported())}
    assert shown | set(NOT_SHOWN) == set(exported())
    assert not shown & set(NOT_SHOWN)


def test_each_label_of_an_annotation_is_one_of_the_alert() -> None:
    known = {**exported(), **records()}
    for name, rule in files.alerts().items():
        labels = {label for _, found in used(rule["expr"], known) for label in found} | TARGET_LABELS
        removed = {label for text in re.findall(r"\bwithout ?\(([^)]*)\)", rule["expr"]) for label in text.split(", ")}
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels - removed, name


def test_each_alert_says_what_to_do() -> None:
    for name, rule in files.alerts().items():
        assert name.startswith("UspS3")
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}, name
        assert rule["annotations"]["description"].endswith("."), name


def test_each_panel_that_an_alert_names_exists() -> None:
    titles = {panel["title"] for panel in files.panels()}
    named = re.findall(r'panel "([^"]+)"', " ".join(files.ALERTS.read_text("utf-8").split()))
    assert named and set(named) <= titles


def test_each_code_in_the_alerts_is_documented() -> None:
    documented = set(re.findall(r"^### (USPS\d{5})", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"USPS\d{5}", files.ALERTS.read_text("utf-8"))) <= documented


def test_each_code_that_requests_fail_with_has_an_alert_of_its_own() -> None:
    """Besides the alerts of the number of all failures."""
    matchers = [
        value
        for rule in files.alerts().values()
        for label, operator, value in MATCHER.findall(rule["expr"])
        if label == "error" and operator in {"=", "=~"} and value.startswith("USPS3") and value != "USPS3.+"
    ]
    codes = {str(code) for code in LogCode} | CODES_IN_C
    assert {code for code in codes if not any(re.fullmatch(value, code) for value in matchers)} == NO_FAILURE


def test_the_table_of_the_page_has_each_alert() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    rows = re.findall(r"^\| `(UspS3\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert rows == [(name, rule["labels"]["severity"]) for name, rule in files.alerts().items()]
