"""The findings of configtest, without httpd."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configurations import KEYS, ORIGIN, RIGHT, WRONG, configtest_input, expected
from usp_s3_wsgi.configtest import check, configured_buckets, parsed_config
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Finding


def findings_for(text: str) -> list[Finding]:
    findings = check(parsed_config.parse(configtest_input(text)))
    listed = configured_buckets.to_json(findings.buckets)
    assert '"SK' not in listed and "hidden" not in listed
    return findings.sorted()


@pytest.mark.parametrize("text", [*WRONG.values(), *ORIGIN.values()], ids=[*WRONG, *ORIGIN])
def test_findings_have_level_line_and_code(text: str) -> None:
    findings = findings_for(text)
    announced = expected(text)
    levels = [(one.line, "error" if one.is_error else "warning", one.code) for one in findings]
    assert levels == [one[:3] for one in announced]
    for finding, one in zip(findings, announced, strict=True):
        for part in one.parts:
            assert re.sub(r"@(\d+)@", r"\1", part) in finding.text
        assert "\nSK" not in finding.text and " SK" not in finding.text


@pytest.mark.parametrize("name", RIGHT)
def test_right_configurations_have_no_findings(name: str) -> None:
    assert findings_for(RIGHT[name]) == []


@pytest.mark.parametrize(("keys", "is_reported"), [(KEYS, True), ("SetEnv OTHER x", False)])
def test_health_checks_of_a_balancer_with_keys_of_its_own(keys: str, is_reported: bool) -> None:
    balancer = "BalancerMember http://films.s3.amazonaws.com hcmethod=GET"
    findings = findings_for(
        f'<Proxy "balancer://films">\n{balancer}\n{keys}\n</Proxy>\nProxyPass /films balancer://films\n'
    )
    health_check = (2, FindingCode.HEALTH_CHECK_NOT_SIGNED, "hcmethod=GET")
    assert [(one.line, one.code, one.text[:12]) for one in findings] == ([health_check] if is_reported else [])


# ---------------------------------------------------------------- codes

ROOT = Path(__file__).parents[2]


def test_each_code_is_documented_once() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert re.findall(r"^### (USPS308\d\d): ", page, re.MULTILINE) == [code.value for code in FindingCode]


@pytest.mark.parametrize("code", FindingCode)
def test_each_code_is_used(code: FindingCode) -> None:
    modules = [path for path in (ROOT / "usp_s3_wsgi" / "configtest").glob("*.py") if path.name != "finding_codes.py"]
    assert any(re.search(rf"\bFindingCode\.{code.name}\b", path.read_text("utf-8")) for path in modules)


def test_codes_are_consecutive() -> None:
    """No two findings share a code, and none is left out."""
    assert [code.value for code in FindingCode] == [f"USPS{30801 + index}" for index in range(len(FindingCode))]


def test_no_module_writes_a_code_by_hand() -> None:
    for path in (ROOT / "usp_s3_wsgi" / "configtest").glob("*.py"):
        assert path.name == "finding_codes.py" or "USPS308" not in path.read_text("utf-8"), path


# ---------------------------------------------------------------- the data from httpd

#: Any string of C.
TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=20)
LINE = st.tuples(TEXT, st.integers(0, 9), TEXT, TEXT)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> list[tuple[tuple[str, int, str, str], list[object]]]:
    children = trees(depth=depth - 1) if depth else st.just([])
    return draw(st.lists(st.tuples(LINE, children), max_size=4))


def fields(nodes: list[tuple[tuple[str, int, str, str], list[Any]]], depth: int = 0) -> list[str]:
    found = []
    for (file, line, name, text), children in nodes:
        found += [str(depth), file, str(line), name, text, *fields(children, depth + 1)]
    return found


def shape(directives: list[parsed_config.Directive]) -> list[object]:
    return [((one.file, one.line, one.name, one.text), shape(one.children)) for one in directives]


def lowercase(nodes: list[Any]) -> list[object]:
    return [((file, line, name.lower(), text), lowercase(children)) for (file, line, name, text), children in nodes]


@given(trees(), TEXT)
def test_a_sent_configuration_is_parsed_completely(nodes: list[Any], user: str) -> None:
    data = "".join(f"{field}\0" for field in ("test", "33", "34", user, "", "", "/etc/apache2", *fields(nodes))).encode(
        "latin-1"
    )
    configuration = parsed_config.parse(data)
    assert (configuration.is_test, configuration.uid, configuration.gid) == (True, 33, 34)
    assert (configuration.user_name, configuration.chroot) == (user, "")
    assert shape(configuration.directives) == lowercase(nodes)
    check(configuration)  # does not fail


@given(st.data())
def test_truncated_data_is_rejected(data: st.DataObject) -> None:
    whole = configtest_input(RIGHT["a <Proxy> section"])
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    if cut.count(b"\0") % 5 != whole.count(b"\0") % 5 or not cut.endswith(b"\0"):
        with pytest.raises(ValueError):
            parsed_config.parse(cut)


#: Proxy rules, settings and sections, from which random configurations are made.
PARTS = st.sampled_from(
    [
        "ProxyPass /{p} {u}", "ProxyPass /{p}/ {u}/", "ProxyPassMatch ^/{p}/(.*) {u}/$1", "SetEnv S3Region r",
        "RewriteRule ^/{p}/(.*) {u}/$1 [P]", 'SetHandler "proxy:{u}"', "BalancerMember balancer://b {u}",
        'AddHandler "proxy:{u}" .ts', "RewriteRule ^/{p}/ - [H=proxy:{u}]",
        "ProxyPass /{p} balancer://b", "WSGIScriptAlias /{p} ${{USP_S3_WSGI}}", "SetEnv S3AccessKey AK",
        "SetEnv S3SecretKey SK", "UnsetEnv S3SecretKey", "SetEnv S3BucketURL {u}", "SetEnvIf Host x S3Bucket=x",
        '<Proxy "{u}/">\n{in}\n</Proxy>', '<ProxyMatch "^{u}">\n{in}\n</ProxyMatch>', '<Proxy "*">\n{in}\n</Proxy>',
        "<Location /{p}>\n{in}\n</Location>", '<LocationMatch "^/{p}">\n{in}\n</LocationMatch>',
        "<VirtualHost *>\n{in}\n</VirtualHost>", '<If "true">\n{in}\n</If>', "<Limit GET>\n{in}\n</Limit>",
    ]
)  # fmt: skip
URLS = st.sampled_from(
    [
        "http://a.example",
        "HTTP://a.example:80/b",
        "http://a.example/b",
        "http://[::1]/b",
        "https://$1",
        "%1",
        "",
        "x",
        "http://user:hidden@a.example/b",
        "HTTP://user:hidden@a.example:80/b",
        "http://user:hidden@[::1]/b",
        "http://a.example/b?X-Amz-Signature=hidden",
        "unix:/s|http://user:hidden@a.example/b",
    ]
)


@st.composite
def configurations(draw: st.DrawFn, depth: int = 3) -> str:
    lines = []
    for part in draw(st.lists(PARTS, max_size=6)):
        inner = draw(configurations(depth=depth - 1)) if "{in}" in part and depth else ""
        lines.append(part.format(p=draw(st.sampled_from(["", "a", "a/b"])), u=draw(URLS), **{"in": inner}))
    return "\n".join(lines)


@given(configurations())
def test_random_configurations_neither_break_the_check_nor_reveal_a_secret(text: str) -> None:
    for finding in findings_for(text):
        assert finding.text and "SK" not in finding.text and "hidden" not in finding.text


@pytest.mark.parametrize("kind", ["same host", "hosts", "virtual hosts", "gateway", "unreached"])
def test_thousands_of_sections_take_seconds(kind: str) -> None:
    proxied = 'ProxyPass /b{n} http://{host}:9000/b{n}\n<Proxy "http://s3.example:9000/b{n}/">\n@KEYS@\n</Proxy>\n'
    part = {
        "same host": proxied.replace("{host}", "s3.example"),
        "hosts": proxied.replace("{host}", "s{n}.example").replace("s3.example", "s{n}.example"),
        "virtual hosts": f"<VirtualHost *>\n{proxied.replace('{host}', 's3.example')}</VirtualHost>\n",
        "gateway": "WSGIScriptAlias /b{n} ${{USP_S3_WSGI}}\n<Location /b{n}>\nSetEnv S3BucketURL http://s3.example/b{n}/\n"
        "@KEYS@\n</Location>\n",
        "unreached": proxied.replace("{host}", "s4.example"),
    }[kind]
    configuration = parsed_config.parse(configtest_input("".join(part.format(n=n) for n in range(5_000))))
    begun = time.monotonic()
    findings = check(configuration).sorted()
    assert time.monotonic() - begun < 30  # a second or two, on a machine that does nothing else
    assert len(findings) == (101 if kind == "unreached" else 0)


@pytest.mark.parametrize(
    "text",
    [
        "ProxyPass /a http://user:hidden@films.s3.example:9000/b\n",
        'RewriteRule ^/a "http://films.s3.example:9000/b/x?X-Amz-Signature=hidden" [P]\n',
        "ProxyPass /a HTTP://user:hidden@filmz.s3.example:9000/b\n",
    ],
)
@pytest.mark.parametrize("name", ["http://user:hidden@films.s3.example:9000/b/", "http://FILMZ.s3.example:9000/b/"])
def test_findings_contain_no_password_or_signature_of_a_url(text: str, name: str) -> None:
    section = f'<Proxy "{name}">\n{KEYS}\nSetEnv S3Region r\n</Proxy>\n'
    findings = findings_for(text + section)
    assert findings and "hidden" not in repr(findings)
