"""The converter's plane gateway: mounts take the place of the vendor's sections, and nothing is opened unsaid."""

from __future__ import annotations

import re

import pytest

from tests.unit.test_convert import DOCUMENTED, URL, Told, errors, told

PORT = "the port is 80 here; adapt it to this server's own, where its first virtual host answers"
LEFT = (
    "this section cannot become a mount: its S3 directives are left, and httpd does not start "
    "until they are moved into the <Location> of one by hand"
)
COMMENTED = "this has no place in a mount and is kept as a comment: move what it is for by hand"
KEY_LINES = "S3SecretKey SECRET\nS3AccessKey ACCESS\n"


def gateway(text: str) -> Told:
    """Convert to the gateway."""
    return told(text, "gateway")


def test_gateway_of_the_documented_virtual_host() -> None:
    text, warnings = gateway(DOCUMENTED)
    expected = f"""\
# usp_s3_wsgi takes its place ("usp-s3 apache-config"): LoadModule unified_s3_auth_module modules/mod_unified_s3_auth.so
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
    # the mount / needs none of this: ProxyPassReverse https://bucket.s3.amazonaws.com/
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
    """What it becomes."""
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
def test_what_led_to_the_bucket_leads_to_the_mount(name: str, old: str, new: str | None) -> None:
    config = f"<Location /x>\n {name} {old}\n</Location>\n{section()}"
    text, warnings = gateway(config)
    assert text == f"<Location /x>\n {name} {new or old}\n</Location>\n{mount()}"
    alone = "no ProxyPass or IsmProxyPass here leads to this section: let what does lead to the mount /your-bucket"
    assert (warnings, errors(config, "gateway")) == (((f"line 2: {PORT}",), ()) if new else ((), (f"line 4: {alone}",)))


def test_the_port_is_told_once() -> None:
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
        f"# the mount {path} is in place of this: ProxyPass {old}\n# the mount {path} needs none of this: {reverse}"
        + mount(path, url, head="")
    )
    assert warnings == ()


def test_a_proxy_pass_with_parameters_goes_to_the_mount() -> None:
    text, warnings = gateway(f"ProxyPass /media {URL[:-1]} retry=0\n{section()}")
    # "/media/x" must become "/your-bucket/x" and not "/your-bucket//x".
    assert text.startswith("ProxyPass /media http://127.0.0.1/your-bucket retry=0\n")
    assert warnings == (f"line 1: {PORT}",)


def test_a_proxy_pass_around_the_mount_is_kept_away_from_it() -> None:
    # Else the mount's requests would go round in circles, or to the other server.
    text, _ = gateway(f"ProxyPass / http://other/\n<Location /x>\nIsmProxyPass {URL}\n</Location>\n{section()}")
    assert mount(head="Require local\nProxyPass !\n") in text
    text, _ = gateway(f"ProxyPass /a http://other/\n<Location /a/b>\nProxyPass {URL}\nS3Region x\n</Location>\n")
    assert f"<Location /a/b>\nProxyPass !\nSetEnv S3BucketURL {URL}\n" in text


def test_what_a_proxy_pass_left_alone_is_told() -> None:
    _, warnings = gateway(f"ProxyPass /media/x !\nProxyPass /y !\nProxyPass /media {URL}\n{section()}")
    assert warnings == ("line 1: this keeps nothing from the mount /media: close the path there with Require",)


@pytest.mark.parametrize("line", ["ProxyPassMatch ^/x {}", "RewriteRule ^ {}$1 [P]", "BalancerMember {}"])
def test_what_is_left_to_the_operator(line: str) -> None:
    line = line.format(URL)
    config = f"ProxyPass /media {URL}\n{line}\n{section()}"
    assert f"\n{line}\n" in gateway(config).text
    assert errors(config, "gateway") == (
        "line 2: this goes to the bucket unsigned: let it lead to the mount /media by hand",
    )


def test_a_mount_has_a_path_of_its_own() -> None:
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
def test_the_mount_has_the_buckets_name(url: str, path: str) -> None:
    text, _ = gateway(section(url=url))
    assert mount(path, url) in text


def test_the_longest_and_nearest_section_gets_what_leads_to_it() -> None:
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
    told = [warning.split(":")[:2] for warning in warnings]
    assert [(line, what) for line, what in told if "left out" in what] == [
        ("line 4", " flushpackets of mod_proxy is left out"),
        ("line 6", " secret of mod_proxy is left out"),
        ("line 6", " ttl of mod_proxy is left out"),
        ("line 6", " a parameter of mod_proxy is left out"),
    ]


def test_proxy_set_without_a_known_parameter_stays_as_a_comment() -> None:
    text, _ = gateway(section("ProxySet lbset=1\n"))
    assert mount(inner="# ProxySet lbset=1\n") in text


def test_proxy_set_in_the_tag_alone() -> None:
    text, _ = gateway('<Proxy "http://a/b/" timeout=5>\n  S3Region x\n</Proxy>\n')
    assert '  SetEnv S3BucketURL http://a/b/\n  SetEnv S3ProxySet "timeout=5"\n  SetEnv S3Region x\n' in text


def test_what_has_no_place_in_a_mount_stays_as_a_comment() -> None:
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
        "line 10: this is kept as a comment: say who may ask in the sections that lead to the mount by hand",
    ]


def test_who_may_ask_stays_where_clients_ask() -> None:
    access = "Require ip 10\n<RequireAll>\nRequire ip 10\n</RequireAll>\n"
    text, warnings = gateway(f"ProxyPass /media {URL}\n{section(access)}")
    assert mount("/media", inner=access, head="") in text and warnings == ()


@pytest.mark.parametrize("line", ["", "AllowEncodedSlashes On\n", "AllowEncodedSlashes NoDecode\nMergeSlashes Off\n"])
def test_what_counts_for_the_whole_host_is_the_operators(line: str) -> None:
    text, warnings = gateway(f"{line}ProxyPass /media {URL}\n{section()}")
    assert text.count("AllowEncodedSlashes") + text.count("MergeSlashes") == line.count("\n")
    assert text.startswith(line) and warnings == ()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://films.ceph.example/", "S3BucketURL shows no bucket: put it into the path, or set S3Bucket where"),
        ("https://films.s3.example/", "S3Bucket is not set: Signature v2"),
        ("https://user:SECRET@films.example/", "S3BucketURL must be a URL without user, query and fragment"),
        ("https://${BUCKET}/", None),
    ],
)
def test_a_url_that_does_not_do_is_told(url: str, told: str | None) -> None:
    found = errors(f"ProxyPass /media {url}\n{section(url=url)}", "gateway")
    assert [error.partition(": ")[2].startswith(told or "nothing") for error in found] == ([True] if told else [])


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
def test_a_section_that_cannot_be_a_mount_is_left_and_told(tag: str) -> None:
    text = f"<{tag}>\n{KEY_LINES}</{tag.split()[0]}>\n"
    assert (gateway(text).text, errors(text, "gateway")) == (text, (f"line 1: {LEFT}",))


def test_a_macro_is_left() -> None:
    text = f"<Macro Bucket $name>\n{section(url='https://$name.s3.amazonaws.com/')}</Macro>\n"
    assert (gateway(text).text, errors(text, "gateway")) == (text, (f"line 2: {LEFT}",))


def test_keys_of_a_whole_server_are_converted_and_told() -> None:
    assert gateway(KEY_LINES).text == KEY_LINES.replace("S3", "SetEnv S3")
    (error,) = errors(KEY_LINES, "gateway")
    assert error.startswith("line 1: S3SecretKey counts for no request")
    config = f"S3Region x\nProxyPass /media {URL}\n{section()}"
    (warning,) = gateway(config).warnings
    assert warning.startswith("line 1: S3 directives outside of <Proxy> and <Location> are defaults for sections")
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
def test_a_later_section_that_would_open_the_mount_is_told(later: str, warned: bool) -> None:
    _, warnings = gateway(f"<Location /a>\nIsmProxyPass {URL}\n</Location>\n{section()}{later}")
    assert [warning.split(" and ")[0] for warning in warnings[1:]] == (
        ["line 8: this section comes after the mount /your-bucket"] if warned else []
    )


def test_nested_mounts_are_told() -> None:
    old = f"<Location /{{}}>\nProxyPass {URL}\n{KEY_LINES}</Location>\n"
    found = errors("WSGIScriptAlias /a x\n" + old.format("a") + old.format("a/b"), "gateway")
    assert [error.split(":")[:2] for error in found] == [
        ["line 1", " this takes the requests of the mount /a"],
        ["line 1", " this takes the requests of the mount /a/b"],
        ["line 7", " the mount /a/b is within /a"],
    ]


OWN = "https://films.s3.example/b/"
UNVERIFIED = (
    "the gateway verifies certificates of https:// URLs, and httpd did not: where the authority is none of the "
    "system's, write SetEnv S3CAFile"
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
def test_authorities_of_mod_ssl_are_the_gateways(lines: str, url: str, file: str, warned: str | None) -> None:
    text, warnings = gateway(f"{lines}ProxyPass /m {url}\n{section(url=url)}")
    assert re.findall(r"SetEnv S3CAFile (.*)", text) == ([file] if file else [])
    assert [warning.partition(": ")[2] for warning in warnings] == ([warned] if warned else [])


def test_what_the_gateway_has_not_got_of_mod_ssl_is_told() -> None:
    lines = "SSLProxyCACertificatePath /etc/ssl\nSSLProxyMachineCertificateFile /etc/own.pem\n"
    _, warnings = gateway(f"{lines}ProxyPass /m {URL}\n{section()}")
    told = "this does not count for the mount /m, which has S3CAFile alone"
    assert warnings == (f"line 1: {told}", f"line 2: {told}")


def test_keys_that_move_take_their_conditions_with_them() -> None:
    keys = "<IfDefine X>\nS3Region one\n</IfDefine>\n<IfDefine !X>\nS3Region other\n</IfDefine>\n"
    text, _ = gateway(f"<Location /vod/>\nIsmProxyPass {URL}\n{keys}</Location>\n")
    assert text.endswith(f"SetEnv S3BucketURL {URL}\n{keys.replace('S3', 'SetEnv S3')}</Location>\n")
