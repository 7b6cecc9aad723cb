"""Log codes: each is unique, used, and documented in docs/errors.md."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import usp_s3_wsgi
from usp_s3_wsgi import errors
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.errors import GatewayError, LogCode

ROOT = Path(__file__).parents[2]
PACKAGE = Path(usp_s3_wsgi.__file__).parent
DOCUMENTED = re.findall(r"^### (USPS3\d{4}): ", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE)
C_CODES = re.findall(r'"(USPS3\d{4})"', (ROOT / "usp_s3_wsgi/proxy/mod_usp_s3/log_codes.h").read_text("utf-8"))
CODES = [*LogCode, *FindingCode, *C_CODES]
EXCEPTIONS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, GatewayError)]


def test_no_code_is_used_twice() -> None:
    assert [code for code, count in Counter(CODES).items() if count > 1] == []
    assert all(re.fullmatch(r"USPS3\d{4}", code) for code in CODES)


def test_each_code_is_documented_once() -> None:
    assert sorted(DOCUMENTED) == sorted(CODES)


def test_each_exception_has_a_code_of_its_own() -> None:
    codes = {exception: vars(exception).get("code") for exception in EXCEPTIONS}
    assert codes.pop(errors.UpstreamError) is None  # only its subclasses are raised
    assert None not in codes.values() and len(set(codes.values())) == len(codes)


@pytest.mark.parametrize("code", LogCode)
def test_each_code_is_used(code: LogCode) -> None:
    assert [path for path in PACKAGE.rglob("*.py") if f"LogCode.{code.name}" in path.read_text("utf-8")]
