"""``usp-s3 convert``: any text is converted without a crash, what is not mod_unified_s3_auth's stays, byte for byte."""

from __future__ import annotations

import re
from typing import get_args

from tests.fuzz.target import Target
from tests.mod_unified_s3_auth_configurations import CASES
from usp_s3_wsgi.cli.convert.conversion import Mode, convert
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import S3_DIRECTIVES, is_mod_unified_s3_auth_line
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError, Line, parse, render, walk

#: Longer files take longer, in proportion; the seeds with long runs are cut to it.
_MAX_LENGTH = 16_384
#: The secret of the seeds: no message may hold it.
_SECRET = "q8ZkW2vJx5RbT7yN"


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        nodes = parse(text)
    except ApacheConfigError as error:
        text_of_error = str(error)
        assert re.match(r"line [1-9][0-9]*: ", text_of_error) and _SECRET not in text_of_error
        return
    assert render(nodes) == text
    lines = [line for line, _ in walk(nodes)]
    for to in get_args(Mode):
        result = convert(text, to)
        if not any(is_mod_unified_s3_auth_line(line) for line in lines):
            assert result.text == text
        again = convert(result.text, to)
        assert again.text == result.text
        for message in result.messages:
            assert 1 <= message.line <= text.count("\n") + 1 and _SECRET not in message.text, message
        if to == "proxy":
            _check_other_lines(lines, result.text)


def _check_other_lines(lines: list[Line], converted: str) -> None:
    """In the mode proxy sections and all lines of others stay as they are, in their order; lines are only added."""
    kept = [line.text.rstrip("\r\n") for line in lines if not _may_change(line)]
    remaining = iter([line.text.rstrip("\r\n") for line, _ in walk(parse(converted))])
    missing = next((text for text in kept if text not in remaining), None)
    assert missing is None, f"lost or moved: {missing!r}"
    assert "".join(line.text for line in lines).count(_SECRET) == converted.count(_SECRET)


def _may_change(line: Line) -> bool:
    return is_mod_unified_s3_auth_line(line) or line.name in {"</ifmodule", "</ifdirective"}


def _filled(text: str) -> str:
    keys = "S3AccessKey A\nS3SecretKey " + _SECRET
    url = "https://bucket.s3.eu-central-1.amazonaws.com"
    for name, value in {"@KEYS@": keys, "{url}": url, "{host}": url, "{folder}": "/none", "{spelt}": url[6:]}.items():
        text = text.replace(name, value)
    return re.sub(r"\{(access|secret|region)\}", _SECRET, text)


_SECTION = '<Proxy "https://b.s3.amazonaws.com/">\nS3SecretKey %s\nS3AccessKey A\n</Proxy>\n'
TARGET = Target(
    check,
    (
        b"",
        *(_filled(case.text).encode() for case in CASES.values()),
        *(f"{name} {_SECRET}\n".encode() for name in S3_DIRECTIVES.values()),
        (_SECTION % _SECRET).encode(),
        (_SECTION % _SECRET).replace("\n", "\r\n").encode(),
        (_SECTION % ("\\\n" * 500 + _SECRET)).encode(),
        (_SECTION % (" " * 6_000)).encode(),
        (_SECTION % ('"' + '\\"' * 3_000)).encode(),
        b"S3SecretKey \xff\0\xc3\xa9\n<If true>\n</If>",
        b"<IfDirective S3SecretKey>\n<IfModule !unified_s3_auth_module>\n</IfModule>\n</IfDirective>\n",
        ('<IfVersion "">\n' + _SECTION % "x" + "</IfVersion>\n").encode(),
        ("<Macro m>\n" + _SECTION % "x" + "Use m\n" * 9 + "</Macro>\nUse m\n").encode(),
        b"<Macro m $a>\n<Proxy $a>\nS3SecretKey x\n</Proxy>\n</Macro>\nUse m https://b.example/b/\n",
        b"Define A ${B}\nDefine B ${A}\n<Proxy ${A}>\nS3SecretKey x\n</Proxy>\n",
        b"<Location /a>\nProxyPass https://b.example/b/\nS3SecretKey x\nSSLProxyVerify require\n</Location>\n",
        b"<a>\n" * 1_500 + b"S3SecretKey x\n" + b"</a>\n" * 1_500,
    ),
    _MAX_LENGTH,
)
