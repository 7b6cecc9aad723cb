"""Prometheus' own tools accept the files, and Grafana's model of dashboards knows each key of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.monitoring import files
from tests.monitoring.programs import NEEDS_PROMETHEUS, promtool


@NEEDS_PROMETHEUS
def test_the_configuration_is_valid() -> None:
    checked = promtool("check", "config", "--lint=all", "--lint-fatal", files.PROMETHEUS_CONFIG)
    assert checked.returncode == 0, checked.stdout
    assert "1 rule files found" in checked.stdout


@NEEDS_PROMETHEUS
def test_the_rules_are_valid() -> None:
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", files.ALERTS)
    assert checked.returncode == 0, checked.stdout
    assert f"{len(files.rules())} rules found" in checked.stdout


@NEEDS_PROMETHEUS
def test_an_invalid_rule_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "alerts.yml"
    wrong.write_text(files.ALERTS.read_text("utf-8").replace("sum without (status) (", "sum without (status (", 1))
    assert promtool("check", "rules", wrong).returncode == 1


def parsed(dashboard: dict[str, Any]) -> dict[str, Any]:
    """A dashboard as Grafana's model has it: without keys that it does not know."""
    cog = pytest.importorskip(
        "grafana_foundation_sdk.cog", reason="Grafana's model is not installed: make test-monitoring"
    )
    assert cog
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    found: dict[str, Any] = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    return found


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """The paths of keys and values of ``before`` that ``after`` does not have."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            each
            for key, value in before.items()
            for each in ([f"{path}.{key}"] if key not in after else lost(value, after[key], f"{path}.{key}"))
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            each
            for index, pair in enumerate(zip(before, after, strict=True))
            for each in lost(*pair, f"{path}[{index}]")
        ]
    return [] if before == after else [path]


def test_grafana_knows_each_key_of_the_dashboard() -> None:
    assert lost(files.dashboard(), parsed(files.dashboard())) == []


@pytest.mark.parametrize("where", ["", "panel", "options", "custom", "target", "variable"])
def test_an_unknown_key_is_found(where: str) -> None:
    dashboard = files.dashboard()
    panel = next(each for each in dashboard["panels"] if each["type"] == "timeseries")
    places = {
        "": dashboard, "panel": panel, "options": panel["options"],
        "custom": panel["fieldConfig"]["defaults"]["custom"], "target": panel["targets"][0],
        "variable": dashboard["templating"]["list"][1],
    }  # fmt: skip
    places[where]["misspelt"] = 1
    (path,) = lost(dashboard, parsed(dashboard))
    assert path.endswith(".misspelt")


def test_no_two_panels_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in files.dashboard()["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_numbers_of_panels_are_unique() -> None:
    numbers = [panel["id"] for panel in files.dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_dashboard_names_no_data_source_of_its_own() -> None:
    """It is imported into a Grafana that has others."""
    assert {str(panel["datasource"]["uid"]) for panel in files.panels()} == {"${datasource}"}
    assert {target["datasource"]["uid"] for panel in files.panels() for target in panel["targets"]} == {"${datasource}"}
    assert "id" not in files.dashboard()
