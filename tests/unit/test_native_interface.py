"""The interface between ``python_callbacks.c`` and Python: both sides have the same callbacks, arguments and fields."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.proxy import callbacks
from usp_s3_wsgi.proxy.proxied_request import ProxiedRequest
from usp_s3_wsgi.proxy.shared_tables import SharedTables
from usp_s3_wsgi.s3 import forwarded_headers

PACKAGE = Path(__file__).parents[2] / "usp_s3_wsgi"
SOURCE = (PACKAGE / "proxy" / "mod_usp_s3" / "python_callbacks.c").read_text("utf-8")
#: The function that parses each NamedTuple.
PARSERS = {
    "SignedRequest": "parse_signed_request",
    "NativeSigningTemplate": "parse_signing_template",
    "ClientResponse": "parse_client_response",
    "Validation": "parse_validation",
}
MODULE = PACKAGE / "proxy" / "mod_usp_s3"
#: The type of a field for each unit of PyArg_ParseTuple's format; "O" is checked in C.
TYPES: dict[str, type] = {"U": str, "y#": bytes, "i": int, "L": int, "n": int, "p": bool, "O!": tuple}
CALLBACKS = ("sign_request", "explain_error", "describe_failure", "describe_response", "validate_response")


def units(text: str) -> list[str]:
    """The units of a format string, without parentheses."""
    return re.findall(r"[A-Za-z][!#]?", text)


def parsed_format(function: str) -> str:
    """The format of PyArg_ParseTuple in a C function."""
    body = re.search(rf"^static [^;{{}}]*\b{function}\([^{{}}]*\n{{\n(.*?)^}}", SOURCE, re.MULTILINE | re.DOTALL)
    assert body, function
    found = re.search(r'PyArg_ParseTuple\(\w+, "([^"]+)"', body[1])
    assert found, function
    return found[1]


def called_arguments(callback: str) -> list[str]:
    """The formats of the arguments of a callback: one unit each, or a tuple in parentheses."""
    found = re.search(rf'PyObject_CallFunction\(\s*{callback}_callback,\s*"([^"]+)"', SOURCE)
    assert found, callback
    return re.findall(r"\(.*?\)+|[A-Za-z]#?", found[1])


def width(hint: Any) -> int | None:
    """The number of fields of a tuple type; None for other types, and for tuples of any length."""
    if hasattr(hint, "_fields"):
        return len(hint._fields)
    arguments = get_args(hint)
    return len(arguments) if get_origin(hint) is tuple and Ellipsis not in arguments else None


@pytest.mark.parametrize("name", PARSERS)
def test_the_c_code_parses_each_field(name: str) -> None:
    result = getattr(callbacks, name)
    hints, parsed = get_type_hints(result), units(parsed_format(PARSERS[name]))
    assert len(parsed) == len(result._fields)
    for field, unit in zip(result._fields, parsed, strict=True):
        hint = hints[field]
        if unit == "O":
            assert get_origin(hint) is types.UnionType, field
            assert type(None) in get_args(hint), field
        else:
            assert (get_origin(hint) or hint) is TYPES[unit], field


def test_the_c_code_parses_each_shared_table() -> None:
    hints, parsed = get_type_hints(SharedTables), units(parsed_format("parse_shared_tables"))
    assert len(parsed) == len(SharedTables._fields)
    for field, unit in zip(SharedTables._fields, parsed, strict=True):
        hint = get_origin(hints[field]) or hints[field]
        assert hint is TYPES[unit] or (unit, hint) == ("O!", dict), field


def strings_in_c(file: str, array: str) -> list[str]:
    """The strings of an array in a C file."""
    found = re.search(rf"\b{array}\[\] = {{(.*?)}};", (MODULE / file).read_text("utf-8"), re.DOTALL)
    assert found, array
    return re.findall(r'"([^"]+)"', found[1])


def test_the_c_code_has_the_names_that_it_needs_without_python() -> None:
    """Requests of the gateway, whose Python may be in a daemon process."""
    assert strings_in_c("settings_handover.c", "of_request") == ["PATH_INFO", *forwarded_headers.REQUEST_HEADERS["GET"]]
    hidden_fields = {field.name for field in dataclasses.fields(settings.Settings) if field.init and not field.repr}
    names = {row.name for row in settings.TABLE if row.field in hidden_fields}
    names |= {name.replace("S3", "S3Fallback") for name in names}
    assert set(strings_in_c("settings_handover.c", "secrets")) == names & settings.NAMES


def test_the_c_code_passes_each_field_of_a_proxied_request() -> None:
    (fields,) = called_arguments("sign_request")
    assert len(units(fields)) == len(ProxiedRequest._fields)


@pytest.mark.parametrize("name", [name for name in CALLBACKS if name != "sign_request"])
def test_the_c_code_passes_each_argument(name: str) -> None:
    callback = getattr(callbacks, name)
    hints, arguments = get_type_hints(callback), called_arguments(name)
    parameters = list(inspect.signature(callback).parameters)
    assert len(arguments) == len(parameters)
    for parameter, argument in zip(parameters, arguments, strict=True):
        expected = width(hints[parameter]) if argument.startswith("(") else None
        assert expected == (len(units(argument)) if argument.startswith("(") else None), parameter


def test_the_stub_of_the_module_names_each_callback() -> None:
    stub = (PACKAGE / "_httpd.pyi").read_text("utf-8")
    register = stub.partition("def register(")[2].partition(") ->")[0]
    parameters = re.findall(r"^    (\w+):", register, re.MULTILINE)
    assert parameters == [*CALLBACKS, "shared_tables"]
    assert len(units(parsed_format("py_register"))) == len(parameters)


def test_the_stub_of_the_module_has_each_function() -> None:
    stub = (PACKAGE / "_httpd.pyi").read_text("utf-8")
    in_c = re.findall(r'^    {"(\w+)", (?:\(.*\))?(?:usp_s3_)?py_(\w+), METH_', SOURCE, re.MULTILINE)
    assert [name for name, _ in in_c] == [function for _, function in in_c]
    assert sorted(name for name, _ in in_c) == sorted(re.findall(r"^def (\w+)\(", stub, re.MULTILINE))


def test_each_kind_of_failure_in_c_has_an_exception() -> None:
    header = (PACKAGE / "proxy" / "mod_usp_s3" / "mod_usp_s3.h").read_text("utf-8")
    kinds = re.findall(r'^#define USP_S3_\w+ "([a-z ]+)"(?: /\*.*)?$', header, re.MULTILINE)
    assert sorted(kinds) == ["excess body", "failed member", "invalid response", "no response", "truncated body"]
    for kind in kinds:
        request = ("GET", "https://s3.example/b/a?X-Amz-Signature=1")
        code, line = callbacks.describe_failure(request, kind, "reason", (1, 0.1))
        assert re.fullmatch("USPS30(401|408|50[12])", code)
        expected = f"{code}: usp_s3_wsgi: reason (GET https://s3.example/b/a, attempt 1, 0.100 s)"
        assert line == (None if kind == "failed member" else expected)
