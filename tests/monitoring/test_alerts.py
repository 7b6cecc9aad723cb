"""Each alert fires when it should and not otherwise: the cases of ``cases.py``, run by promtool."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import files
from tests.monitoring.cases import CASES, UP, Case
from tests.monitoring.programs import NEEDS_PROMETHEUS, promtool


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    fired = {each["alertname"] for case in CASES for expected in case.alerts.values() for each in expected}
    assert fired == set(files.alerts())


def test_each_alert_has_a_case_in_which_it_does_not_fire() -> None:
    """Of those with its name; the others are tested to raise no other alert, in any case."""
    quiet = {
        name
        for name in files.alerts()
        for case in CASES
        for expected in case.alerts.values()
        if case.name.startswith(name) and name not in {each["alertname"] for each in expected}
    }
    assert quiet | {"UspS3CredentialsExpiring"} == set(files.alerts())


def series(case: Case) -> list[dict[str, str]]:
    """The input of promtool."""
    return [{"series": name, "values": values} for name, values in {**UP, **case.series}.items()]


def selector(expected: dict[str, str]) -> str:
    """The series of an alert that fires."""
    rule = files.alerts()[expected["alertname"]]
    found = {"alertstate": "firing", "job": "usp-s3", **rule["labels"], **expected}
    return "ALERTS{" + ",".join(f'{name}="{value}"' for name, value in found.items()) + "}"


def write_test(path: Path, test: dict[str, Any]) -> Path:
    """Write a file for ``promtool test rules``."""
    whole = {"rule_files": [str(files.ALERTS)], "evaluation_interval": "30s", "tests": [{"interval": "30s", **test}]}
    path.write_text(yaml.safe_dump(whole))
    return path


@NEEDS_PROMETHEUS
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_case(case: Case, tmp_path: Path) -> None:
    expressions = [
        {
            "expr": 'ALERTS{alertstate="firing"}',
            "eval_time": f"{int(minute * 60)}s",
            "exp_samples": [{"labels": selector(each), "value": 1} for each in expected],
        }
        for minute, expected in case.alerts.items()
    ]
    test = write_test(tmp_path / "test.yml", {"input_series": series(case), "promql_expr_test": expressions})
    done = promtool("test", "rules", test)
    assert done.returncode == 0, done.stdout


@NEEDS_PROMETHEUS
def test_the_texts_of_all_alerts(tmp_path: Path) -> None:
    """promtool prints the texts of alerts that were not expected."""
    seen: dict[str, str] = {}
    for case in CASES:
        expected = {(minute, each["alertname"]) for minute, alerts in case.alerts.items() for each in alerts}
        if {name for _, name in expected} <= set(seen):
            continue
        tests = [
            {"eval_time": f"{int(minute * 60)}s", "alertname": name, "exp_alerts": []}
            for minute, name in sorted(expected)
        ]
        test = write_test(tmp_path / "test.yml", {"input_series": series(case), "alert_rule_test": tests})
        done = promtool("test", "rules", test)
        assert done.returncode == 1
        for part in done.stdout.split("alertname: ")[1:]:
            seen[part.split(",")[0]] = part
    assert set(seen) == set(files.alerts())
    for text in seen.values():
        assert "summary=" in text and "description=" in text, text
        assert not re.search(r"error expanding|no value|\{\{|bucket ?[\"\\]|  +of", text), text


@NEEDS_PROMETHEUS
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ('bucket="films",host="s3.example"', "The settings of bucket films on a are not valid"),
        ('bucket="",host="films.example"', "The settings of bucket films.example on a are not valid"),
        ('bucket="",host=""', "The settings on a are not valid"),
    ],
)
def test_the_bucket_in_a_text(labels: str, expected: str, tmp_path: Path) -> None:
    name = f'usp_s3_exchanges_total{{job="usp-s3",instance="a",{labels},error="USPS30101"}}'
    test = {
        "input_series": [{"series": name, "values": "_x40 1x40"}, *({"series": up, "values": "1x90"} for up in UP)],
        "alert_rule_test": [{"eval_time": "21m", "alertname": "UspS3SettingInvalid", "exp_alerts": []}],
    }
    assert f'summary="{expected}"' in promtool("test", "rules", write_test(tmp_path / "test.yml", test)).stdout
