"""Which object a KEY and --from of ``usp-s3 get`` and ``usp-s3 sign`` name, by the rules of docs/url-to-key.md."""

from __future__ import annotations

import click
import pytest

from tests.configurations import configtest_input
from usp_s3_wsgi.cli.server.objects import ServedObject, find
from usp_s3_wsgi.configtest import parsed_config
from usp_s3_wsgi.configtest.parsed_config import Configuration

KEYS = "SetEnv S3AccessKey A\nSetEnv S3SecretKey S\nSetEnv S3Region r"
CONFIG = f"""
Listen 80
WSGIScriptAlias /media /share/usp_s3.wsgi
<Location /media>
  SetEnv S3BucketURL http://s3.example/bucket/films/
  SetEnv S3PassQuery versionId
  {KEYS}
</Location>
WSGIScriptAlias "/with space" /share/usp_s3.wsgi
<Location "/with space">
  SetEnv S3BucketURL http://s3.example/other/
  {KEYS}
</Location>
WSGIScriptAlias /café /share/usp_s3.wsgi
<Location /café>
  SetEnv S3BucketURL http://s3.example/cafe/
  {KEYS}
</Location>
WSGIScriptAlias /all /share/usp_s3.wsgi
<Location /all/a>
  SetEnv S3BucketURL http://s3.example/a/
  {KEYS}
</Location>
ProxyPass /tv http://s3.example/tv/deep
ProxyPass /slash/ http://s3.example/tv/slash/
<Proxy http://s3.example/tv/>
  {KEYS}
</Proxy>
"""


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return parsed_config.parse(configtest_input(CONFIG.encode().decode("latin-1")))


def requested(served: ServedObject) -> tuple[str, str | None]:
    """The path that S3 gets, with its query, and the target of this server's own URL."""
    return served.request(served.used.settings).target, served.own_target


@pytest.mark.parametrize(
    ("key", "place", "s3", "own"),
    [
        ("film/1.mp4", "/media", "/bucket/films/film/1.mp4", "/media/film/1.mp4"),
        ("film/1.mp4", "/media/", "/bucket/films/film/1.mp4", "/media/film/1.mp4"),
        ("/media/film/1.mp4", "", "/bucket/films/film/1.mp4", "/media/film/1.mp4"),
        ("/media/film/1.mp4", "/media", "/bucket/films/film/1.mp4", "/media/film/1.mp4"),
        ("1.mp4", "/media/film", "/bucket/films/film/1.mp4", "/media/film/1.mp4"),
        # As in a URL: percent-encoded. What cannot be in one is encoded.
        ("a%20b+c", "/media", "/bucket/films/a%20b%2Bc", "/media/a%20b+c"),
        ("a b", "/media", "/bucket/films/a%20b", "/media/a%20b"),
        ("caf\xe9", "/media", "/bucket/films/caf%C3%A9", "/media/caf%C3%A9"),
        ("100%25", "/media", "/bucket/films/100%25", "/media/100%25"),
        ("a%3Fb%23c", "/media", "/bucket/films/a%3Fb%23c", "/media/a%3Fb%23c"),
        ("a%2Bb%252F", "/media", "/bucket/films/a%2Bb%252F", "/media/a%2Bb%252F"),
        ("\udcff", "/media", "/bucket/films/%FF", "/media/%FF"),
        ('"<>\\^`{|}', "/media", *(f"{path}/%22%3C%3E%5C%5E%60%7B%7C%7D" for path in ("/bucket/films", "/media"))),
        # Slashes belong to the key.
        ("/media//x", "", "/bucket/films//x", "/media//x"),
        ("/media//", "", "/bucket/films//", "/media//"),
        ("a//b", "/media", "/bucket/films/a//b", "/media/a//b"),
        ("a/", "/media", "/bucket/films/a/", "/media/a/"),
        # Only S3PassQuery passes.
        ("a?versionId=1&x=2", "/media", "/bucket/films/a?versionId=1", "/media/a?versionId=1&x=2"),
        (
            "a?versionId=a+\u20ac b",
            "/media",
            "/bucket/films/a?versionId=a%20%E2%82%AC%20b",
            "/media/a?versionId=a+%E2%82%AC%20b",
        ),
        # Other mounts.
        ("a", "/with space", "/other/a", "/with%20space/a"),
        ("/with%20space/a", "", "/other/a", "/with%20space/a"),
        ("a", "/caf\xe9", "/cafe/a", "/caf%C3%A9/a"),
        ("/caf\xe9/a", "", "/cafe/a", "/caf%C3%A9/a"),
        ("x", "/all/a", "/a/a/x", "/all/a/x"),
        # mod_proxy.
        ("1.ts", "/tv", "/tv/deep/1.ts", "/tv/1.ts"),
        ("/tv/1.ts", "", "/tv/deep/1.ts", "/tv/1.ts"),
        ("1.ts", "/slash", "/tv/slash/1.ts", "/slash/1.ts"),
        ("1.ts", "http://s3.example/tv/deep/", "/tv/deep/1.ts", "/tv/1.ts"),
    ],
)
def test_what_is_requested(configuration: Configuration, key: str, place: str, s3: str, own: str) -> None:
    assert requested(find(configuration, key, place)) == (s3, own)


def test_a_url_that_no_path_of_this_server_leads_to(configuration: Configuration) -> None:
    served = find(configuration, "x", "http://s3.example/tv/")
    assert requested(served) == ("/tv/x", None)
    assert served.own_target is None


@pytest.mark.parametrize(
    ("key", "place", "words"),
    [
        ("film/1.mp4", "", "--from says which bucket is meant"),
        ("/film/1.mp4", "/media", "is not below /media. A KEY that begins with a slash is a whole path"),
        ("/none/1.mp4", "", "no bucket is configured at /none/1.mp4"),
        ("", "/media", "there is no key: that is the bucket itself"),
        ("/media/", "", "the bucket itself"),
        ("/media", "", "the bucket itself"),
        ("a/../b", "/media", "a/../b cannot be requested: dot segment"),
        ("a/%2e%2e/b", "/media", "dot segment"),
        ("x%zz", "/media", "broken percent-encoding; a percent sign is written %25"),
        ("a%00", "/media", "NUL"),
        ("a#b", "/media", "in a key it is written %23"),
        ("a?versionId=1&versionId=2", "/media", "a cannot be requested: query parameter given twice"),
        ("//x", "/media", "write x, or /media///x for a key that begins with a slash"),
        ("/x", "http://s3.example/tv/", "without a slash at its begin"),
    ],
)
def test_what_no_object_can_be(configuration: Configuration, key: str, place: str, words: str) -> None:
    with pytest.raises(click.ClickException) as failure:
        find(configuration, key, place)
    assert words in failure.value.message


def test_a_url_outside_of_the_sections_bucket() -> None:
    section = f"<Proxy http://s3.example/>\nSetEnv S3BucketURL http://s3.example/b/\n{KEYS}\n</Proxy>"
    text = f"ProxyPass /x http://s3.example\n{section}"
    configuration = parsed_config.parse(configtest_input(text))
    assert requested(find(configuration, "b/1", "/x"))[0] == "/b/1"
    with pytest.raises(click.UsageError, match="the URL that mod_proxy would request is not below /b/"):
        find(configuration, "c/1", "/x")


def test_a_mount_whose_path_is_not_known() -> None:
    text = f'ProxyPassMatch "^/(a|b)/(.*)" http://s3.example/tv/$2\n<Proxy http://s3.example/tv/>\n{KEYS}\n</Proxy>'
    configuration = parsed_config.parse(configtest_input(text))
    served = find(configuration, "1.ts", "http://s3.example/tv/")
    assert requested(served)[0] == "/tv/1.ts" and served.own_path is None
    with pytest.raises(click.UsageError, match=r"write --from http://s3[.]example/tv/, and the KEY"):
        find(configuration, "/a/1.ts", "")


@pytest.mark.parametrize(
    ("key", "name"), [("a/b%20c.mp4?x=1", "b c.mp4"), ("a/", ""), ("caf%C3%A9", "caf\xe9"), ("a", "a")]
)
def test_the_name_of_the_file(configuration: Configuration, key: str, name: str) -> None:
    assert find(configuration, key, "/media").file_name == name
