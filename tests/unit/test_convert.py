"""The converter, and its mode proxy: the configuration that it returns, its messages, and that they hold no secrets."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mod_unified_s3_auth_configurations import CASES, Bucket, expected
from usp_s3_wsgi.cli.convert.conversion import Mode, convert
from usp_s3_wsgi.cli.convert.line_edits import Conversion
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import S3_DIRECTIVES
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError, parse, walk

MODES: tuple[Mode, ...] = ("proxy", "gateway")
URL = "https://your-bucket.s3.eu-central-1.amazonaws.com/"
DOCUMENTED = f"""\
LoadModule unified_s3_auth_module modules/mod_unified_s3_auth.so
<VirtualHost *:80>
  SSLProxyEngine on
  <Location "/">
    UspHandleIsm on
    UspEnableSubreq on
  </Location>
  <Location "/vod">
    IsmProxyPass {URL}
  </Location>
  <Proxy "{URL}">
    S3SecretKey SECRET_KEY
    S3AccessKey ACCESS_KEY
    S3Region eu-central-1
    S3UseHeaders on
    ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300
  </Proxy>
</VirtualHost>
"""
GUARD = """\
<IfModule !usp_s3_module>
  Error "usp_s3_module is not loaded, so requests to S3 would go out unsigned: usp-s3 apache-config"
</IfModule>
"""
UNVERIFIED = (
    "httpd does not verify the certificate of this https:// URL by default: "
    "set SSLProxyVerify require, SSLProxyVerifyDepth 10 and SSLProxyCACertificateFile"
)


class Converted(NamedTuple):
    """The text and the warnings. :func:`errors` are separate, because most texts here are incomplete sections."""

    text: str
    warnings: tuple[str, ...]


def converted(text: str, to: Mode) -> Converted:
    """Convert a text, and check that a second conversion changes nothing and has no messages."""
    result = convert(text, to)
    again = convert(result.text, to)
    assert again.text == result.text and not (to == "proxy" and again.messages)
    return Converted(result.text, result.warnings)


def errors(text: str, to: Mode = "proxy") -> tuple[str, ...]:
    """Return why httpd rejects the result, or requests."""
    return convert(text, to).errors


def proxy(text: str) -> Converted:
    """Convert in the mode proxy."""
    return converted(text, "proxy")


def test_proxy_of_the_documented_virtual_host() -> None:
    text, warnings = proxy(DOCUMENTED)
    module, rest = DOCUMENTED.split("\n", 1)
    expected = rest.replace("    S3", "    SetEnv S3")
    assert text == f'# replaced by usp_s3_wsgi ("usp-s3 apache-config"): {module}\n{GUARD}{expected}'
    assert warnings == (f"line 11: {UNVERIFIED}",)


VERIFIED = """\
<VirtualHost *:443>
  SSLProxyEngine on
  SSLProxyVerify {mode}
  SSLProxyCACertificateFile /etc/ssl/certs/ca-certificates.crt
{more}  <Proxy "{url}">
    SetEnv S3SecretKey SECRET_KEY
  </Proxy>
</VirtualHost>
"""


@pytest.mark.parametrize("mode", ["require", "optional"])
def test_the_verify_depth_is_sufficient_for_public_providers(mode: str) -> None:
    """mod_ssl's default allows for no intermediate authority, and every public provider has one."""
    old = VERIFIED.format(mode=mode, more="", url=URL).replace("SetEnv S3", "S3")
    text, _ = proxy(old)
    after = f"  SSLProxyVerify {mode}\n"
    assert text == GUARD + old.replace("S3Secret", "SetEnv S3Secret").replace(
        after, f"{after}  SSLProxyVerifyDepth 10\n"
    )


def test_a_depth_of_another_virtual_host_does_not_apply() -> None:
    one = VERIFIED.format(mode="require", more="  SSLProxyVerifyDepth 10\n", url=URL)
    other = VERIFIED.format(mode="require", more="", url=URL)
    text, _ = proxy((one + other).replace("SetEnv S3", "S3"))
    assert text.count("SSLProxyVerifyDepth 10\n") == 2
    text, _ = proxy((f"SSLProxyVerifyDepth 10\n{other}").replace("SetEnv S3", "S3"))
    assert text.count("SSLProxyVerifyDepth 10\n") == 1


def test_the_urls_of_balancer_members_are_considered() -> None:
    member = f'<Proxy "balancer://b">\nBalancerMember {URL}\nS3SecretKey SECRET_KEY\n</Proxy>\n'
    text, warnings = proxy(f"SSLProxyVerify require\n{member}")
    assert "SSLProxyVerify require\nSSLProxyVerifyDepth 10\n" in text and warnings == ()
    assert proxy(member).warnings == (f"line 1: {UNVERIFIED}",)


@pytest.mark.parametrize(
    ("depth", "is_reported"), [("1", True), ("2", True), ("3", False), ("10", False), ("${D}", False)]
)
def test_the_operators_depth_is_kept(depth: str, is_reported: bool) -> None:
    line = f"  SSLProxyVerifyDepth {depth}\n"
    text, warnings = proxy(VERIFIED.format(mode="require", more=line, url=URL).replace("SetEnv S3", "S3"))
    assert text.count("SSLProxyVerifyDepth") == 1 and line in text
    text = (
        "line 5: this depth is too small for the certificates of public providers, which have more intermediate "
        "authorities: set SSLProxyVerifyDepth 10"
    )
    assert warnings == ((text,) if is_reported else ())


@pytest.mark.parametrize("more", ["", "SSLProxyVerify none\n"])
def test_other_sections_get_no_depth(more: str) -> None:
    url = URL if more else "http://b.example/"
    text, _ = proxy(f'{more}<Proxy "{url}">\nS3SecretKey SECRET_KEY\n</Proxy>\n')
    assert "SSLProxyVerifyDepth" not in text


@pytest.mark.parametrize(
    ("host", "is_reported"),
    [
        ("192.0.2.1", True),
        ("192.0.2.1:9000", True),
        ("[2001:db8::1]", True),
        ("1.example", False),
        ("1.2.3.4.example", False),
    ],
)
def test_https_with_an_ip_address_is_reported(host: str, is_reported: bool) -> None:
    _, warnings = proxy(f'SSLProxyVerify require\n<Proxy "https://{host}/b/">\nS3SecretKey SECRET_KEY\n</Proxy>\n')
    text = (
        "line 2: httpd compares the names in a certificate with the host of the URL, but not its IP addresses: use a "
        "host name, in DNS or /etc/hosts, that is in the certificate"
    )
    assert warnings == ((text,) if is_reported else ())


@pytest.mark.parametrize("to", MODES)
@pytest.mark.parametrize(
    "text", ["", "# S3SecretKey x\n", "<Proxy https://a/>\r\nProxySet a\r\n</Proxy>", "LoadModule wsgi_module x\n"]
)
def test_a_configuration_without_mod_unified_s3_auth_is_unchanged(text: str, to: Mode) -> None:
    assert convert(text, to) == Conversion(text, ())


@pytest.mark.parametrize("to", MODES)
def test_a_file_with_an_open_section_is_rejected(to: Mode) -> None:
    with pytest.raises(ApacheConfigError, match=r"^line 1: this section is not closed$"):
        convert("<Proxy https://a/>\nS3SecretKey SECRET\n", to)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('\ts3SECRETkey  "a b"', '\tSetEnv S3SecretKey  "a b"'),
        ("S3AccessKey \\\n  'x'  ", "SetEnv S3AccessKey \\\n  'x'  "),
        ('"s3region" eu', "SetEnv S3Region eu"),
        ("S3UseHeaders", "SetEnv S3UseHeaders"),
        ("S3SecurityToken ${TOKEN} # no comment", "SetEnv S3SecurityToken ${TOKEN} # no comment"),
        ("# S3Region x", "# S3Region x"),
        ("S3Other x", "S3Other x"),
        ("SSLProxyVerify none", "SSLProxyVerify none"),
    ],
)
def test_only_the_name_of_a_directive_changes(line: str, expected: str) -> None:
    text, _ = proxy(f"<Proxy http://a/>\n{line}\nS3Region x\n</Proxy>\n")
    assert text == f"{GUARD}<Proxy http://a/>\n{expected}\nSetEnv S3Region x\n</Proxy>\n"


def test_the_guard_is_inserted_once_and_outermost() -> None:
    text, _ = proxy(" <IfDefine X>\r\n<Proxy http://a/>\r\nS3Region x\r\n</Proxy>\r\n</IfDefine>\r\nS3Region y")
    guard = "".join(f" {line}\r\n" for line in GUARD.splitlines())
    assert text.startswith(f"{guard} <IfDefine X>\r\n<Proxy") and text.count("!usp_s3_module") == 1
    assert text.endswith("\r\nSetEnv S3Region y")
    again, _ = proxy(f"{text}\r\n<Location />\r\nS3Region z\r\n</Location>\r\n")
    assert again.count("!usp_s3_module") == 1 and "SetEnv S3Region z" in again


@pytest.mark.parametrize("quote", ["", '"', "'"])
@pytest.mark.parametrize("sign", ["", "!"])
@pytest.mark.parametrize("name", ["unified_s3_auth_module", "mod_unified_s3_auth.c"])
@pytest.mark.parametrize(("to", "module"), [("proxy", "usp_s3_module"), ("gateway", "wsgi_module")])
def test_if_module(to: Mode, module: str, name: str, sign: str, quote: str) -> None:
    text = "  <ifModule {}>\n  LoadModule x y\n</ifModule>\n"
    old, new = (text.format(f"{quote}{sign}{module_name}{quote}") for module_name in (name, module))
    assert convert(old, to) == Conversion(new, ())


@pytest.mark.parametrize("to", MODES)
def test_load_module_with_a_continuation_stays_a_comment(to: Mode) -> None:
    old = "  LoadModule \\\n unified_s3_auth_module x.so\nListen 80\n"
    text, warnings = converted(old, to)
    assert text == f'  # replaced by usp_s3_wsgi ("usp-s3 apache-config"): {old.lstrip()}' and warnings == ()
    assert [line.name for line, _ in walk(parse(text))] == ["", "listen"]


@pytest.mark.parametrize(
    ("section", "verify", "warned"),
    [
        ("Proxy https://a/", "", True),
        ("ProxyMatch ^https://a/", "", True),
        ("Proxy HTTPS://a/", "SSLProxyVerify optional", True),
        ("Proxy https://a/", "sslproxyverify Require", False),
        ("Proxy http://a/", "", False),
        ("Location /x", "ProxyPass https://a/", True),
        ("Location /x", "ProxyPass http://a/", False),
        ("Directory /x", "", False),
    ],
)
def test_unverified_certificates_are_reported(section: str, verify: str, warned: bool) -> None:
    _, warnings = proxy(f"<{section}>\n{verify}\nS3Region x\n</{section.split()[0]}>\n")
    assert warnings == ((f"line 1: {UNVERIFIED}",) if warned else ())


@pytest.mark.parametrize("to", MODES)
def test_roles_are_converted_and_need_botocore(to: Mode) -> None:
    text, warnings = converted("<Location /x>\nProxyPass http://a/b/\nS3rolearn SECRET\n</Location>\n", to)
    assert "SetEnv S3RoleARN SECRET\n" in text
    assert warnings == ("line 3: S3RoleARN needs botocore: pip install '.[aws]' in the directory of the sources",)


LINES = (
    *(f"{name} SECRET-{index}" for index, name in enumerate(S3_DIRECTIVES)),
    *(
        f"ProxyPass {URL}",
        f"ProxyPass /m {URL}",
        f"IsmProxyPass {URL}x",
        f"ProxyPassReverse / {URL}",
        "ProxyPass /m/x !",
    ),
    *("ProxySet timeout=3 x=y", "Require all granted", "AllowEncodedSlashes Off", "# c", "", "SECRET", "A b \\"),
    *(
        "WSGIScriptAlias /m x",
        "LoadModule unified_s3_auth_module x",
        "SetEnv a b",
        f"RewriteRule ^ {URL} [P]",
        "ProxyPass",
    ),
    *("Use x SECRET", "Define X http://a/b/", "UnDefine X", "Include SECRET", "S3Other SECRET", "ProxyPass ${X} ${X}"),
    *("IsmProxyPass ${X}", 'SetHandler "proxy:${X}"', "BalancerMember http://a/b failonstatus=403", "Use"),
)
TAGS = (
    *(f'Proxy "{URL}"', "Proxy http://a/b/", "Proxy", "Location /", "Location /m/", "Location", "Limit GET"),
    *("IfModule unified_s3_auth_module", "IfModule !mod_unified_s3_auth.c", "VirtualHost x", "Macro x"),
    *(
        "IfDefine X",
        "IfDefine !X",
        "IfVersion < 2.4",
        "IfDirective !S3Region",
        "IfFile /unified_s3_auth.so",
        "IfModule",
    ),
    *("Macro x $s", "Macro", "LocationMatch ^/m", 'Proxy "${X}"', "Proxy balancer://b", "Directory /m", "IfVersion"),
)


@st.composite
def configs(draw: st.DrawFn, depth: int = 3) -> str:
    """A configuration, mostly with directives of mod_unified_s3_auth. httpd would not accept all of them."""
    pieces = []
    for _ in range(draw(st.integers(0, 4))):
        if depth and draw(st.booleans()):
            tag = draw(st.sampled_from(TAGS))
            # The empty first line of a section ends a continuation before its first tag.
            pieces.append(f"<{tag}>\n{draw(configs(depth - 1))}\n</{tag.split()[0]}>\n")
        else:
            pieces.append(draw(st.sampled_from(LINES)) + "\n")
            pieces.append("\n" if pieces[-1] == "A b \\\n" else "")
    return "".join(pieces)


@settings(deadline=None)
@given(configs(), st.sampled_from(MODES), st.sampled_from(("\n", "\r\n")))
def test_random_configurations(text: str, to: Mode, end: str) -> None:
    text = text.replace("\n", end)
    result = convert(text, to)
    again = convert(result.text, to)
    assert again.text == result.text
    assert not re.search(r"SECRET", repr(result) + "".join(result.warnings + result.errors))
    assert all(re.match(r"line [1-9][0-9]*: .", message) for message in result.warnings + result.errors)
    # No value is lost, and all ends of lines are those of the file.
    assert sorted(re.findall(r"SECRET(?:-\d+)?", result.text)) == sorted(re.findall(r"SECRET(?:-\d+)?", text))
    assert result.text.count("\n") == result.text.count(end)
    # httpd rejects directives of mod_unified_s3_auth that were not converted.
    are_left = any(line.name in S3_DIRECTIVES for line, _ in walk(parse(result.text)))
    assert not are_left or (to == "gateway" and result.errors)


@pytest.mark.parametrize("to", MODES)
def test_a_quote_that_is_not_closed_does_not_swallow_the_end_of_the_line(to: Mode) -> None:
    keys = "S3SecretKey x\nS3AccessKey y\n"
    text, _ = converted(f'<Location /b>\n  IsmProxyPass "{URL}\n  {keys}</Location>\n', to)
    assert f'SetEnv S3BucketURL "{URL}"\n' in text or f"SetEnv S3BucketURL {URL}\n" in text
    assert all(line.count('"') in {0, 2} or line.endswith(URL) for line in text.splitlines())


@pytest.mark.parametrize("argument", ["", '""', "''", '"" x'])
def test_a_test_for_an_empty_version(argument: str) -> None:
    text = f'<Proxy "{URL}">\n<IfVersion {argument}>\nS3SecretKey x\nS3AccessKey y\n</IfVersion>\n</Proxy>\n'
    assert "SetEnv S3SecretKey x" in proxy(text).text


@pytest.mark.parametrize("use", ["", "Use a\n", "Use b\n"])
def test_macros_that_use_themselves_are_expanded_once(use: str) -> None:
    """httpd rejects them. Each of these lines would be expanded to as many lines, eight times."""
    keys = f'<Proxy "{URL}">\nS3SecretKey x\nS3AccessKey y\n</Proxy>\n'
    lines = "Use b\n" * 20 + "Use a\n" * 20
    text = f"<Macro a>\n{keys}{lines}</Macro>\n<Macro b>\n{keys}{lines}</Macro>\n{use}"
    assert proxy(text).text.count("SetEnv S3SecretKey x") == 2


@pytest.mark.parametrize("to", MODES)
@pytest.mark.parametrize("section", ["{}", "<Location />\n{}</Location>\n"])
@pytest.mark.parametrize("name", ["XIfDirective", "ProxyP<IfDirective", "IfModule", "x<Proxy", "XLoadModule"])
def test_a_name_that_ends_like_a_sections_is_another_directive(name: str, section: str, to: Mode) -> None:
    """The fuzzer has found the second one."""
    line = f"{name} S3Region\n"
    assert line in convert(section.format(line) + DOCUMENTED, to).text


@pytest.mark.parametrize("to", MODES)
def test_quotes_and_backslashes_in_a_url_and_a_path(to: Mode) -> None:
    """Each word of the new lines has the value that the old one had."""
    url, keys = f'{URL}a"b/\\\\c', "S3SecretKey x\nS3AccessKey y\n"
    old = f"<Location /b>\nIsmProxyPass '{url}/\"d'\n{keys}</Location>\n<Proxy '{url}'>\n{keys}</Proxy>\n"
    text, _ = converted(old, to)
    lines = [line for line, _ in walk(parse(text))]
    values = [line.arguments[1] for line in lines if line.arguments[:1] == ("S3BucketURL",)]
    assert set(values) <= {f'{URL}a"b/\\c', f'{URL}a"b/\\c/"d'} and values
    urls = [line.arguments for line in lines if line.name == "ismproxypass"]
    assert urls == [(f'{URL}a"b/\\c/"d' if to == "proxy" else "http://127.0.0.1/your-bucket",)]


@pytest.mark.parametrize(
    "directive",
    [
        f'SetHandler "proxy:{URL}"',
        f'AddHandler "proxy:{URL}" .mp4',
        f'RewriteRule "\\.mp4$" - [NC,H=proxy:{URL}]',
        f'RewriteRule "\\.mp4$" - "[Handler=proxy:{URL}]"',
    ],
)
def test_a_handler_gets_a_bucket_url(directive: str) -> None:
    text, _ = converted(f"<Location /b>\n  {directive}\n  S3SecretKey x\n  S3AccessKey y\n</Location>\n", "proxy")
    assert f'SetEnv S3BucketURL "{URL}"\n' in text


def test_a_location_without_proxypass_gets_a_bucket_url() -> None:
    keys = "S3SecretKey x\nS3AccessKey y\n"
    location = f"<Location /b>\n  IsmProxyPass {URL}\n  {keys}</Location>\n"
    text, warnings = converted(location, "proxy")
    assert f'  SetEnv S3SecretKey x\nSetEnv S3BucketURL "{URL}"\nSetEnv S3AccessKey y\n' in text
    assert warnings == (f"line 1: {UNVERIFIED}",)
    proxied = convert(location.replace("IsmProxyPass", "ProxyPass"), "proxy")
    assert "S3BucketURL" not in proxied.text
    rewritten = convert(location.replace(f"IsmProxyPass {URL}", f"RewriteRule (.*) {URL}$1 [P]"), "proxy")
    assert f'SetEnv S3BucketURL "{URL}"' in rewritten.text and not rewritten.errors
    unknown = location.replace(f"IsmProxyPass {URL}", "RewriteRule (.*) https://%{ENV:HOST}/$1 [P]")
    (error,) = errors(unknown)
    assert error.startswith("line 1: the bucket of these keys is unknown")


# ---------------------------------------------------------------- without httpd; see tests/httpd/test_convert.py


@pytest.mark.parametrize("to", MODES)
@pytest.mark.parametrize("name", CASES)
def test_messages_for_typical_configurations(name: str, to: Mode, tmp_path: Path) -> None:
    file = Bucket("http://127.0.0.1:9000/private", "AK", "SK", "eu-central-1", tmp_path).write(CASES[name].text)
    text = file.read_text()
    messages = convert(text, to, file).messages
    announced = expected(text, to)
    assert [(one.line, "error" if one.is_error else "warning") for one in messages] == [one[:2] for one in announced]
    assert all(part in one.text for one, (_, _, part) in zip(messages, announced, strict=True))


def test_settings_beside_conditional_keys_get_their_conditions() -> None:
    """Without credentials, mod_unified_s3_auth sends requests unsigned."""
    text, _ = proxy("""\
<Proxy "${URL}">
  S3UseHeaders on
  <IfDefine KEY>
    S3AccessKey ${KEY}
  </IfDefine>
  <IfDefine SECRET>
    S3SecretKey ${SECRET}
  </IfDefine>
  <IfDefine REGION>
    S3Region ${REGION}
  </IfDefine>
</Proxy>
""")
    assert (
        text.removeprefix(GUARD)
        == """\
<Proxy "${URL}">
  <IfDefine KEY>
  <IfDefine SECRET>
  SetEnv S3UseHeaders on
  </IfDefine>
  </IfDefine>
  <IfDefine KEY>
    SetEnv S3AccessKey ${KEY}
  </IfDefine>
  <IfDefine SECRET>
    SetEnv S3SecretKey ${SECRET}
  </IfDefine>
  <IfDefine REGION>
    <IfDefine KEY>
    <IfDefine SECRET>
    SetEnv S3Region ${REGION}
    </IfDefine>
    </IfDefine>
  </IfDefine>
</Proxy>
"""
    )


PERHAPS = UNVERIFIED.replace("of this https:// URL", "of this URL, if the variable contains https://,")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{section}", PERHAPS),
        ("Define URL https://a/b\n{section}", UNVERIFIED),
        ("Define URL http://a/b\n{section}", None),
        ("SSLProxyVerify require\n{section}", None),
        (
            "<VirtualHost x>\nSSLProxyVerify require\n</VirtualHost>\n<VirtualHost y>\n{section}</VirtualHost>\n",
            PERHAPS,
        ),
        ("<VirtualHost x>\n<IfModule y>\nSSLProxyVerify require\n</IfModule>\n{section}</VirtualHost>\n", None),
    ],
)
def test_certificates_of_a_url_in_a_variable(config: str, message: str | None) -> None:
    section = '<Proxy "${URL}">\nS3AccessKey AK\nS3SecretKey SK\n</Proxy>\n'
    _, warnings = proxy(config.replace("{section}", section))
    assert [warning.partition(": ")[2] for warning in warnings] == ([message] if message else [])


@pytest.mark.parametrize("directive", ["ProxyPass /x {}", "<Location /x/y>\nIsmProxyPass {}\n</Location>"])
def test_certificates_of_a_url_in_a_proxy_directive(directive: str) -> None:
    keys = "<Location /x>\nS3AccessKey AK\nS3SecretKey SK\n</Location>\n"
    _, warnings = proxy(f"{keys}{directive.format('https://a.s3.amazonaws.com/')}\n")
    assert warnings == (f"line 1: {UNVERIFIED}",)


@pytest.mark.parametrize(
    ("url", "is_right"),
    [
        ("https://${BUCKET}.s3.${REGION}.amazonaws.com/", True),
        ("${SCHEME}://s3.example:${PORT}/${BUCKET}/", True),
        ("https://films.${DOMAIN}/", True),
        ("https://${HOST}/", True),
        ("https://${HOST}.example/", False),
        ("https://s3.example:${PORT}/", False),
    ],
)
def test_a_value_that_a_variable_may_have_is_no_error(url: str, is_right: bool) -> None:
    keys = "S3AccessKey AK\nS3SecretKey SK\nS3UseHeaders ${HEADERS}\nS3RoleDuration ${TIME}\nS3RoleARN ${ROLE}\n"
    assert bool(errors(f'<Proxy "{url}">\n{keys}</Proxy>\n')) is not is_right


def test_included_files_are_looked_for_above_the_file(tmp_path: Path) -> None:
    """httpd looks below its ServerRoot."""
    (tmp_path / "sites").mkdir()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "one.conf").write_text("S3AccessKey AK\nS3SecretKey SK\n")
    text = '<Proxy "http://a/b/">\nS3Region r\nInclude keys/*.conf\n</Proxy>\n'
    message = "line 3: the included files contain directives of mod_unified_s3_auth: convert them, too"
    assert convert(text, "proxy", tmp_path / "sites" / "a.conf").errors == (message,)
    (tmp_path / "keys" / "one.conf").write_text("SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK\n")
    assert convert(text, "proxy", tmp_path / "sites" / "a.conf").messages == ()
    main = convert("IncludeOptional keys/*.conf\nInclude sites/a.conf\n", "proxy", tmp_path / "httpd.conf")
    assert main.messages == ()
    (tmp_path / "sites" / "a.conf").write_text(text)
    assert (
        convert("Include sites\n", "proxy", tmp_path / "httpd.conf").errors[0].startswith("line 1: the included files")
    )


# ---------------------------------------------------------------- large configurations

#: One bucket each, of many.
BUCKETS = {
    "<Proxy> sections": """\
ProxyPass /b{n}/x !
ProxyPass /b{n} http://s3.example/b{n} retry=0
ProxyPassReverse /b{n} http://s3.example/b{n}
<Proxy "http://s3.example/b{n}/">
{keys}
ProxySet timeout=3
</Proxy>
""",
    "a path each": 'ProxyPass /b{n} http://s3.example/b{n}\n<Proxy "http://s3.example/b{n}/">\n{keys}\n</Proxy>\n',
    "<Location> sections": """\
<Location /b{n}>
ProxyPass https://b{n}.s3.amazonaws.com/
ProxyPassReverse https://b{n}.s3.amazonaws.com/
{keys}
</Location>
""",
    "IsmProxyPass": "<Location /b{n}/>\nIsmProxyPass http://s3.example/b{n}/\n{keys}\n</Location>\n",
    "virtual hosts": """\
<VirtualHost *>
SSLProxyVerify require
SSLProxyCACertificateFile /ca.pem
WSGIScriptAlias /other /other.wsgi
ProxyPass /media https://s3.example/b
<Proxy "https://s3.example/b/">
{keys}
</Proxy>
</VirtualHost>
""",
    "unused sections": '<Proxy "http://s3.example/b{n}/">\n{keys}\n</Proxy>\n',
}


def bytecodes(function: Callable[[], object]) -> int:
    """Return how many instructions of Python a function executes: a measure of work that does not depend on time."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Callable[[FrameType, str, object], Any] | None:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(previous)
    return count


@pytest.mark.parametrize("to", MODES)
@pytest.mark.parametrize("kind", BUCKETS)
def test_work_is_proportional_to_the_number_of_buckets(kind: str, to: Mode) -> None:
    keys = "S3AccessKey AK\nS3SecretKey SK\nS3Region r"
    small, large = ("".join(BUCKETS[kind].format(n=n, keys=keys) for n in range(100, 100 + size)) for size in (20, 80))
    convert(small, to)  # fills caches
    assert bytecodes(lambda: convert(large, to)) < 5 * bytecodes(lambda: convert(small, to))
