"""The converter's mode gateway: mounts replace sections with S3 directives, and none opens a bucket silently."""

from __future__ import annotations

import re

import pytest

from tests.unit.test_convert import DOCUMENTED, URL, Converted, converted, errors

PORT = "this URL uses port 80: change it to the port on which this server's first virtual host answers"
LEFT = (
    "this section cannot be converted to a mount: its S3 directives are unchanged, and httpd does not "
    "start until you move them into the <Location> of a mount"
)
COMMENTED = "this cannot be in a mount and is kept as a comment: replace it by hand where it is needed"
KEY_LINES = "S3SecretKey SECRET\nS3AccessKey ACCESS\n"


def gateway(text: str) -> Converted:
    """Convert in the mode gateway."""
    return converted(text, "gateway")


def test_gateway_of_the_documented_virtual_host() -> None:
    text, warnings = gateway(DOCUMENTED)
    expected = f"""\
# replaced by usp_s3_wsgi ("usp-s3 apache-config"): LoadModule unified_s3_auth_module modules/mod_unified_s3_auth.so
<VirtualHost *:80>
  SSLProxyEngine on
  <Location "/">
    UspHandleIsm on
    UspEnableSubreq on
  </Location>
  <Location "/vod">
    IsmProxyPass http://127.0.0.1/your-bucket/
  </Location>
  WSGIScriptAlias /your-bucket ${{USP_S3_WSGI}}
  <Location "/your-bucket">
    Require local
    SetEnv S3BucketURL {URL}
    SetEnv S3SecretKey SECRET_KEY
    SetEnv S3AccessKey ACCESS_KEY
    SetEnv S3Region eu-central-1
    SetEnv S3UseHeaders on
    SetEnv S3ProxySet "connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300"
  </Location>
</VirtualHost>
"""
    assert text == expected
    assert warnings == (f"line 9: {PORT}",)


def test_gateway_of_the_traditional_location() -> None:
    text, warnings = gateway("""\
<VirtualHost *:80>
  <Location "/">
    ProxyPass https://bucket.s3.amazonaws.com/ timeout=3
    ProxyPassReverse https://bucket.s3.amazonaws.com/
    S3SecretKey SECRET_KEY
    S3AccessKey ACCESS_KEY
    Header set x y
  </Location>
</VirtualHost>
""")
    expected = """\
<VirtualHost *:80>
  WSGIScriptAlias / ${USP_S3_WSGI}
  <Location "/">
    SetEnv S3BucketURL https://bucket.s3.amazonaws.com/
    SetEnv S3ProxySet "timeout=3"
    # not needed for the mount /: ProxyPassReverse https://bucket.s3.amazonaws.com/
    SetEnv S3SecretKey SECRET_KEY
    SetEnv S3AccessKey ACCESS_KEY
    Header set x y
  </Location>
</VirtualHost>
"""
    assert text == expected
    assert warnings == ()


def section(inner: str = "", url: str = URL) -> str:
    """A <Proxy> with keys."""
    return f'<Proxy "{url}">\n{KEY_LINES}{inner}</Proxy>\n'


def mount(path: str = "/your-bucket", url: str = URL, inner: str = "", head: str = "Require local\n") -> str:
    """The mount that a <Proxy> with keys becomes."""
    keys = KEY_LINES.replace("S3", "SetEnv S3")
    return (
        f'WSGIScriptAlias {path} ${{USP_S3_WSGI}}\n<Location "{path}">\n{head}'
        f"SetEnv S3BucketURL {url}\n{keys}{inner}</Location>\n"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (URL, "http://127.0.0.1/your-bucket/"),
        (URL[:-1], "http://127.0.0.1/your-bucket"),
        (f'"{URL}a b/" x=1', '"http://127.0.0.1/your-bucket/a b/" x=1'),
        (URL.replace("your", "YOUR"), "http://127.0.0.1/your-bucket/"),
        (URL.replace("com/", "com.cn/"), None),
        ("https://other.example/", None),
    ],
)
@pytest.mark.parametrize("name", ["IsmProxyPass", "ProxyPass"])
def test_requests_for_the_bucket_are_sent_to_the_mount(name: str, old: str, new: str | None) -> None:
    config = f"<Location /x>\n {name} {old}\n</Location>\n{section()}"
    text, warnings = gateway(config)
    assert text == f"<Location /x>\n {name} {new or old}\n</Location>\n{mount()}"
    alone = (
        "no ProxyPass or IsmProxyPass here sends requests to this section: change the directive that does to use the "
        "mount /your-bucket"
    )
    assert (warnings, errors(config, "gateway")) == (((f"line 2: {PORT}",), ()) if new else ((), (f"line 4: {alone}",)))


def test_the_port_is_reported_once() -> None:
    passes = "".join(f"<Location /{name}>\nIsmProxyPass {URL}{name}\n</Location>\n" for name in "ab")
    text, warnings = gateway(passes + section())
    assert text.count("IsmProxyPass http://127.0.0.1/your-bucket/") == 2 and warnings == (f"line 2: {PORT}",)


@pytest.mark.parametrize(
    ("old", "path", "url"),
    [
        (f"/media {URL}", "/media", URL),
        (f'"/media/" "{URL}films/"', "/media", f"{URL}films/"),
        (f"/ {URL[:-1]}", "/", URL[:-1]),
    ],
)
def test_a_single_proxy_pass_becomes_the_mount(old: str, path: str, url: str) -> None:
    reverse = f"ProxyPassReverse {old}\n"
    text, warnings = gateway(f"ProxyPass {old}\n{reverse}{section()}")
    assert text == (
        f"# replaced by the mount {path}: ProxyPass {old}\n# not needed for the mount {path}: {reverse}"
        + mount(path, url, head="")
    )
    assert warnings == ()


def test_a_proxy_pass_with_parameters_goes_to_the_mount() -> None:
    text, warnings = gateway(f"ProxyPass /media {URL[:-1]} retry=0\n{section()}")
    # "/media/x" must become "/your-bucket/x" and not "/your-bucket//x".
    assert text.startswith("ProxyPass /media http://127.0.0.1/your-bucket retry=0\n")
    assert warnings == (f"line 1: {PORT}",)


def test_a_mount_is_excluded_from_an_outer_proxy_pass() -> None:
    # Otherwise the mount's requests would be proxied in an endless loop, or to the other server.
    text, _ = gateway(f"ProxyPass / http://other/\n<Location /x>\nIsmProxyPass {URL}\n</Location>\n{section()}")
    assert mount(head="Require local\nProxyPass !\n") in text
    text, _ = gateway(f"ProxyPass /a http://other/\n<Location /a/b>\nProxyPass {URL}\nS3Region x\n</Location>\n")
    assert f"<Location /a/b>\nProxyPass !\nSetEnv S3BucketURL {URL}\n" in text


def test_an_exclusion_from_a_proxy_pass_is_reported() -> None:
    _, warnings = gateway(f"ProxyPass /media/x !\nProxyPass /y !\nProxyPass /media {URL}\n{section()}")
    assert warnings == ("line 1: this does not exclude the path from the mount /media: deny access with Require there",)


@pytest.mark.parametrize("line", ["ProxyPassMatch ^/x {}", "RewriteRule ^ {}$1 [P]", "BalancerMember {}"])
def test_lines_that_the_operator_must_change(line: str) -> None:
    line = line.format(URL)
    config = f"ProxyPass /media {URL}\n{line}\n{section()}"
    assert f"\n{line}\n" in gateway(config).text
    assert errors(config, "gateway") == (
        "line 2: this sends requests to the bucket unsigned: change it to use the mount /media",
    )


def test_a_second_url_in_a_location_is_reported() -> None:
    """mod_unified_s3_auth signs both; a mount is for one bucket."""
    other = "https://other.s3.eu-central-1.amazonaws.com/"
    config = f"<Location /x>\nS3AccessKey a\nS3SecretKey b\nIsmProxyPass {URL}\nProxyPass {other}\n</Location>\n"
    assert errors(config, "gateway") == (
        "line 5: this sends requests unsigned to a URL that is not that of the mount /your-bucket: if it is that of a "
        "bucket, write a mount for it, too",
    )


def test_a_mount_gets_an_unused_path() -> None:
    taken = 'Alias /your-bucket /var\n<Location "/your-bucket-2/">\n</Location>\nWSGIScriptAlias /your-bucket-3 x\n'
    text, _ = gateway(taken + section() + section(url=f"{URL}prefix/"))
    assert re.findall(r"^<Location \"(.*)\">$", text, re.M) == ["/your-bucket-2/", "/your-bucket-4", "/your-bucket-5"]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://s3.eu-west-1.amazonaws.com/films/a/", "/films"),
        ("https://films.ceph.example/", "/films"),
        ("https://${BUCKET}.s3.amazonaws.com/", "/BUCKET"),
        ("https://user:SECRET@films.example/", "/films"),
        ("https://[::1]/a%20b/", "/a-b"),
        ("https://${X}/", "/X"),
    ],
)
def test_the_mount_is_named_after_the_bucket(url: str, path: str) -> None:
    text, _ = gateway(section(url=url))
    assert mount(path, url) in text


def test_requests_are_sent_to_the_mount_with_the_longest_url_in_the_nearest_server() -> None:
    text, _ = gateway(
        f"{section()}{section(url=URL + 'a/')}<VirtualHost x>\n{section()}"
        f"<Location /l>\nIsmProxyPass {URL}b\n</Location>\n"
        f"<Location /m>\nIsmProxyPass {URL}a/b\n</Location>\n</VirtualHost>\n"
    )
    passes = re.findall(r"IsmProxyPass (.*)", text)
    assert passes == ["http://127.0.0.1/your-bucket-3/b", "http://127.0.0.1/your-bucket-2/b"]


def test_proxy_set() -> None:
    first, second = (
        "ProxySet timeout=5 Retry=1 flushpackets=on",
        "ProxySet \\\n timeout=7 secret=SECRET ttl=x KEY=SECRET",
    )
    text, warnings = gateway(section(f"{first}\n# a\n{second}\n").replace('">', '" max=4>'))
    assert mount(inner='SetEnv S3ProxySet "max=4 timeout=7 retry=1"\n# a\n') in text
    found = [warning.split(":")[:2] for warning in warnings]
    assert [(line, text) for line, text in found if "left out" in text] == [
        ("line 4", " flushpackets of mod_proxy is left out"),
        ("line 6", " secret of mod_proxy is left out"),
        ("line 6", " ttl of mod_proxy is left out"),
        ("line 6", " a parameter of mod_proxy is left out"),
    ]


def test_proxy_set_without_a_known_parameter_becomes_a_comment() -> None:
    text, _ = gateway(section("ProxySet lbset=1\n"))
    assert mount(inner="# ProxySet lbset=1\n") in text


def test_proxy_set_in_the_tag_alone() -> None:
    text, _ = gateway('<Proxy "http://a/b/" timeout=5>\n  S3Region x\n</Proxy>\n')
    assert '  SetEnv S3BucketURL http://a/b/\n  SetEnv S3ProxySet "timeout=5"\n  SetEnv S3Region x\n' in text


def test_directives_that_cannot_be_in_a_mount_become_comments() -> None:
    text, warnings = gateway(
        section(
            "RequestHeader set a \\\n b\n\n<IfModule ssl_module>\nSSLProxyVerify x\n</IfModule>\n"
            "<Limit GET>\nA\n</Limit>\n"
        )
    )
    inner = "# RequestHeader set a \\\n b\n\n<IfModule ssl_module>\n# SSLProxyVerify x\n</IfModule>\n"
    assert mount(inner=f"{inner}# <Limit GET>\n# A\n# </Limit>\n") in text
    assert [warning for warning in warnings if "comment" in warning] == [
        f"line 4: {COMMENTED}",
        f"line 8: {COMMENTED}",
        "line 10: this is kept as a comment: restrict access in the sections that send requests to the mount instead",
    ]


def test_access_control_is_kept_in_a_mount_for_clients() -> None:
    access = "Require ip 10\n<RequireAll>\nRequire ip 10\n</RequireAll>\n"
    text, warnings = gateway(f"ProxyPass /media {URL}\n{section(access)}")
    assert mount("/media", inner=access, head="") in text and warnings == ()


@pytest.mark.parametrize("line", ["", "AllowEncodedSlashes On\n", "AllowEncodedSlashes NoDecode\nMergeSlashes Off\n"])
def test_settings_of_the_whole_virtual_host_are_unchanged(line: str) -> None:
    text, warnings = gateway(f"{line}ProxyPass /media {URL}\n{section()}")
    assert text.count("AllowEncodedSlashes") + text.count("MergeSlashes") == line.count("\n")
    assert text.startswith(line) and warnings == ()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://films.ceph.example/", "S3BucketURL shows no bucket: put it into the path, or set S3Bucket where"),
        ("https://films.s3.example/", "S3Bucket is not set: Signature v2"),
        ("https://user:SECRET@films.example/", "S3BucketURL must be a URL without user, query and fragment"),
        ("https://${BUCKET}/", None),
    ],
)
def test_an_unusable_url_is_reported(url: str, message: str | None) -> None:
    found = errors(f"ProxyPass /media {url}\n{section(url=url)}", "gateway")
    assert [error.partition(": ")[2].startswith(message or "nothing") for error in found] == ([True] if message else [])


def test_signature_v4_needs_no_bucket_in_the_url() -> None:
    url = "https://films.s3.example/"
    config = f"ProxyPass /media {url}\n{section('S3Region x' + chr(10), url)}"
    assert errors(config, "gateway") == ()
    assert len(errors(config.replace("films.s3.example", "ceph.example"), "gateway")) == 1


def test_keys_beside_an_ism_proxy_pass_get_a_mount_after_the_location() -> None:
    text, warnings = gateway(f"<Location /vod/>\n  UspX on\n  IsmProxyPass {URL}\n  S3Region x\n</Location>")
    assert text == (
        "<Location /vod/>\n  UspX on\n  IsmProxyPass http://127.0.0.1/your-bucket/\n</Location>\n"
        'WSGIScriptAlias /your-bucket ${USP_S3_WSGI}\n<Location "/your-bucket">\n  Require local\n'
        f"  SetEnv S3BucketURL {URL}\n  SetEnv S3Region x\n</Location>"
    )
    assert warnings == (f"line 3: {PORT}",)


def test_a_location_with_a_slash_at_the_end_loses_it() -> None:
    text, _ = gateway(f"<Location /media/>\nProxyPass {URL}\n{KEY_LINES}</Location>\n")
    assert text == mount("/media", head="")


@pytest.mark.parametrize(
    "tag",
    ["ProxyMatch ^https://a/", "Proxy *", "Proxy https://*.a/", "Location ~ /x", "Location /x", "Directory /x", "If x"],
)
def test_a_section_that_cannot_become_a_mount_is_unchanged_and_reported(tag: str) -> None:
    text = f"<{tag}>\n{KEY_LINES}</{tag.split()[0]}>\n"
    assert (gateway(text).text, errors(text, "gateway")) == (text, (f"line 1: {LEFT}",))


def test_a_macro_is_unchanged() -> None:
    text = f"<Macro Bucket $name>\n{section(url='https://$name.s3.amazonaws.com/')}</Macro>\n"
    assert (gateway(text).text, errors(text, "gateway")) == (text, (f"line 2: {LEFT}",))


def test_keys_of_a_whole_server_are_converted_and_reported() -> None:
    assert gateway(KEY_LINES).text == KEY_LINES.replace("S3", "SetEnv S3")
    (error,) = errors(KEY_LINES, "gateway")
    assert error.startswith("line 1: S3SecretKey applies to no request")
    config = f"S3Region x\nProxyPass /media {URL}\n{section()}"
    (warning,) = gateway(config).warnings
    assert warning.startswith("line 1: S3 directives outside of <Proxy> and <Location> are only defaults for sections")
    assert errors(config, "gateway") == ()


@pytest.mark.parametrize(
    ("later", "warned"),
    [
        ('<Location "/">\nRequire all granted\n</Location>\n', True),
        ("<LocationMatch x>\nRequire all granted\n</LocationMatch>\n", True),
        ('<Location ~ "x">\nProxyPass http://a/\n</Location>\n', True),
        ('<Location "/">\nUspHandleIsm on\n</Location>\n', False),
        ('<Location "/vod">\nRequire all granted\n</Location>\n', False),
    ],
)
def test_a_later_section_that_would_apply_to_the_mount_is_reported(later: str, warned: bool) -> None:
    _, warnings = gateway(f"<Location /a>\nIsmProxyPass {URL}\n</Location>\n{section()}{later}")
    text = (
        "line 8: this section comes after the mount /your-bucket, so that its access control, ProxyPass or S3 settings "
        "may apply to the mount too: move it before the mount"
    )
    assert warnings[1:] == ((text,) if warned else ())


def test_nested_mounts_are_reported() -> None:
    old = f"<Location /{{}}>\nProxyPass {URL}\n{KEY_LINES}</Location>\n"
    found = errors("WSGIScriptAlias /a x\n" + old.format("a") + old.format("a/b"), "gateway")
    assert [error.split(":")[:2] for error in found] == [
        ["line 1", " this takes the requests of the mount /a"],
        ["line 1", " this takes the requests of the mount /a/b"],
        ["line 7", " the mount /a/b is below the mount /a"],
    ]


OWN = "https://films.s3.example/b/"
UNVERIFIED = (
    "the gateway verifies the certificates of https:// URLs, which httpd did not do here: if their certificate "
    "authority is not one of the system's, add SetEnv S3CAFile"
)


@pytest.mark.parametrize(
    ("lines", "url", "file", "warned"),
    [
        ("SSLProxyVerify require\nSSLProxyCACertificateFile /etc/own.pem\n", OWN, "/etc/own.pem", None),
        ('SSLProxyCACertificateFile "/etc/own authority.pem"\n', OWN, '"/etc/own authority.pem"', UNVERIFIED),
        ("SSLProxyVerify require\n", OWN, "", None),
        ("", OWN, "", UNVERIFIED),
        ("", "${STORAGE}", "", UNVERIFIED),
        ("Define STORAGE http://a/b\n", "${STORAGE}", "", None),
        ("", URL, "", None),
        ("SSLProxyCACertificateFile /etc/own.pem\n", OWN.replace("https", "http"), "", None),
        ("<VirtualHost x>\nSSLProxyCACertificateFile /etc/own.pem\n</VirtualHost>\n", URL, "", None),
    ],
)
def test_certificate_authorities_of_mod_ssl_are_used_by_the_gateway(
    lines: str, url: str, file: str, warned: str | None
) -> None:
    text, warnings = gateway(f"{lines}ProxyPass /m {url}\n{section(url=url)}")
    assert re.findall(r"SetEnv S3CAFile (.*)", text) == ([file] if file else [])
    assert [warning.partition(": ")[2] for warning in warnings] == ([warned] if warned else [])


def test_settings_of_mod_ssl_that_the_gateway_does_not_support_are_reported() -> None:
    lines = "SSLProxyCACertificatePath /etc/ssl\nSSLProxyMachineCertificateFile /etc/own.pem\n"
    _, warnings = gateway(f"{lines}ProxyPass /m {URL}\n{section()}")
    text = "this does not apply to the mount /m, which only has S3CAFile"
    assert warnings == (f"line 1: {text}", f"line 2: {text}")


def test_keys_that_move_take_their_conditions_with_them() -> None:
    keys = "<IfDefine X>\nS3Region one\n</IfDefine>\n<IfDefine !X>\nS3Region other\n</IfDefine>\n"
    text, _ = gateway(f"<Location /vod/>\nIsmProxyPass {URL}\n{keys}</Location>\n")
    assert text.endswith(f"SetEnv S3BucketURL {URL}\n{keys.replace('S3', 'SetEnv S3')}</Location>\n")


@pytest.mark.parametrize("end", ["\\\n\n", "\\\r\n\r\n", "\\\n\\\n\n", "\r\n"])
def test_keys_that_move_leave_a_continuation_by_an_empty_line_behind(end: str) -> None:
    """It would continue with the line that follows in the mount."""
    keys = "<IfDefine X>\nS3Region one" + end + "</IfDefine>\n"
    text, _ = gateway(f"<Location /vod/>\nIsmProxyPass {URL}\n{keys}</Location>\n")
    assert text.endswith(f"SetEnv S3BucketURL {URL}\n<IfDefine X>\nSetEnv S3Region one\n</IfDefine>\n</Location>\n")
