"""The list of configured buckets, which the status page and the health checks show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.configurations import configtest_input
from usp_s3_wsgi.configtest import check, configured_buckets, parsed_config

KEYS = "SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK\nSetEnv S3Region r"


def listed(text: str) -> list[dict[str, Any]]:
    """The buckets, as httpd keeps them."""
    document = json.loads(configured_buckets.to_json(check(parsed_config.parse(configtest_input(text))).buckets))
    assert document["omitted"] == 0
    buckets: list[dict[str, Any]] = document["buckets"]
    return buckets


def gateway(path: str, url: str, *lines: str) -> str:
    body = "\n".join([f"SetEnv S3BucketURL {url}", *(lines or [KEYS])])
    return f"WSGIScriptAlias {path} ${{USP_S3_WSGI}}\n<Location {path}>\n{body}\n</Location>\n"


def proxied(path: str, url: str, *lines: str) -> str:
    body = "\n".join(lines or [KEYS])
    return f'ProxyPass {path} {url}\n<Proxy "{url}">\n{body}\n</Proxy>\n'


def names(buckets: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    return [(one["way"], one["path"], one["host"], one["bucket"]) for one in buckets]


def test_both_ways_in() -> None:
    buckets = listed(gateway("/films", "https://s3.example/films/") + proxied("/tv", "http://s3.example:9000/tv/"))
    assert names(buckets) == [
        ("gateway", "/films", "s3.example", "films"), ("proxy", "http://s3.example:9000/tv/", "s3.example:9000", "tv"),
    ]  # fmt: skip
    assert [one["line"] for one in buckets] == [2, 9]
    assert dict(buckets[0]["settings"]) == {
        "S3BucketURL": "https://s3.example/films/", "S3AccessKey": "(set)", "S3SecretKey": "(set)", "S3Region": "r",
    }  # fmt: skip


def test_each_member_of_a_balancer() -> None:
    text = (
        '<Proxy "balancer://b">\nBalancerMember http://one.example/b\nBalancerMember http://two.example/b\n</Proxy>\n'
        f'<Proxy "http://one.example/b/">\n{KEYS}\n</Proxy>\n<Proxy "http://two.example/b/">\n{KEYS}\n</Proxy>\n'
        "ProxyPass /b balancer://b\n"
    )
    assert {one["host"] for one in listed(text)} == {"one.example", "two.example"}


def test_a_fallback_bucket() -> None:
    lines = [KEYS, "SetEnv S3FallbackURL https://copy.example/films/"]
    primary, fallback = listed(gateway("/films", "https://s3.example/films/", *lines))
    assert (primary["is_fallback"], fallback["is_fallback"]) == (False, True)
    assert fallback["host"] == "copy.example"


def test_mounts_below_each_other() -> None:
    text = gateway("/", "https://s3.example/all/") + gateway("/films", "https://s3.example/films/")
    assert [one["path"] for one in listed(text)] == ["/", "/films"]


def test_files_and_identity() -> None:
    lines = ["SetEnv S3AccessKey AK", "SetEnv S3SecretKeyFile /etc/hostname", "SetEnv S3Region r"]
    (bucket,) = listed(gateway("/films", "https://s3.example/films/", *lines))
    assert bucket["files"] == [["S3SecretKeyFile", "/etc/hostname"]]
    assert dict(bucket["settings"])["S3SecretKeyFile"] == "/etc/hostname"
    assert bucket["reads_files"]
    role = "SetEnv S3RoleARN arn:aws:iam::123456789012:role/films\nSetEnv S3RoleExternalId hidden"
    lines = ["SetEnv S3CredentialSource aws", role, "SetEnv S3Region r"]
    (bucket,) = listed(gateway("/films", "https://s3.example/films/", *lines))
    assert "arn:aws:iam::123456789012:role/films" in bucket["identity"]
    assert dict(bucket["settings"])["S3RoleExternalId"] == "(set)"
    assert bucket["files"] == []


def test_daemons_of_another_user_may_read_other_files() -> None:
    text = "WSGIDaemonProcess media user=media\n" + gateway("/films", "https://s3.example/films/")
    text = text.replace("</Location>", "WSGIProcessGroup media\n</Location>")
    (bucket,) = listed(text)
    assert not bucket["reads_files"]


@pytest.mark.parametrize(
    "line",
    [
        "SetEnv S3Region hidden/secret", "SetEnv S3BucketURL http://user:hidden@s3.example/b/",
        "SetEnv S3SecretKeyFile hidden", "SetEnv S3STSEndpoint http://hidden@x/",
    ],
)  # fmt: skip
def test_of_settings_that_are_not_valid_no_value_is_shown(line: str) -> None:
    """A secret may be on the wrong line."""
    (bucket,) = listed(gateway("/films", "https://s3.example/films/", KEYS, line))
    assert (bucket["host"], bucket["bucket"]) == ("", "")
    assert bucket["error"]
    assert "hidden" not in json.dumps(bucket)


def test_a_password_in_a_url_is_not_shown() -> None:
    assert "hidden" not in json.dumps(listed(proxied("/tv", "http://user:hidden@s3.example:9000/tv/")))


def test_settings_that_depend_on_the_request_are_not_listed() -> None:
    text = gateway("/films", "https://s3.example/films/") + "SetEnvIf Host (.*) S3Bucket=$1\n"
    assert listed(text) == []


def test_more_buckets_than_there_is_space_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configured_buckets, "MAX_SIZE", 2000)
    text = "".join(gateway(f"/{number}", f"https://s3.example/{number}/") for number in range(20))
    result = configured_buckets.to_json(check(parsed_config.parse(configtest_input(text))).buckets)
    document = json.loads(result)
    assert len(result) <= 2000
    assert len(document["buckets"]) + document["omitted"] == 20
    assert 2 <= len(document["buckets"]) < 20


def test_the_list_fits_into_the_memory() -> None:
    header = Path(__file__).parents[2] / "usp_s3_wsgi" / "proxy" / "mod_usp_s3" / "shared_memory.h"
    assert "#define USP_S3_CONFIGURATION_SIZE (8 * 1024 * 1024)" in header.read_text("utf-8")
    assert configured_buckets.MAX_SIZE < 8 * 1024 * 1024


MAP = """RewriteEngine On
RewriteRule ^/many/([^/]+)/ - [E=S3BucketURL:http://s3.example/$1/]
WSGIScriptAliasMatch ^/many/[^/]+ ${USP_S3_WSGI}
"""


def test_buckets_beside_those_that_a_rule_computes() -> None:
    others = gateway("/films", "https://s3.example/films/") + proxied("/tv", "http://s3.example:9000/tv/")
    assert [one["path"] for one in listed(MAP + others)] == ["/films", "http://s3.example:9000/tv/"]
    # Not if another rule changes the path before: the pattern is not about the path of the client.
    assert listed(MAP.replace("On\n", "On\nRewriteRule ^/films/(.*) /many/$1\n") + others) == []
    assert listed(MAP.replace("^/many/([^/]+)/", "many") + others) == []


def test_buckets_of_the_main_server_and_of_a_virtual_host() -> None:
    one, other = gateway("/films", "https://s3.example/films/"), gateway("/tv", "https://s3.example/tv/")
    assert [found["path"] for found in listed(f"{one}<VirtualHost *:80>\n{other}</VirtualHost>\n")] == ["/films", "/tv"]
