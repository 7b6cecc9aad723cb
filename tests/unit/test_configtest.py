"""What is told of a configuration, without httpd."""

from __future__ import annotations

import re

import pytest

from tests.configurations import RIGHT, WRONG, expected, sent
from usp_s3_wsgi.configtest import check, tree
from usp_s3_wsgi.configtest.findings import Finding


def found(text: str) -> list[Finding]:
    return check(tree.parse(sent(text))).sorted()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_its_line(name: str) -> None:
    findings = found(WRONG[name])
    announced = expected(WRONG[name])
    assert [(one.line, "error" if one.is_error else "warning") for one in findings] == [one[:2] for one in announced]
    for finding, (_, _, text) in zip(findings, announced, strict=True):
        assert re.sub(r"@(\d+)@", r"\1", text) in finding.text
        assert "\nSK" not in finding.text and " SK" not in finding.text


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_not_told_of(name: str) -> None:
    assert found(RIGHT[name]) == []
