"""In ``<Proxy>`` only the operator's settings apply: never those of an .htaccess file, a page, a rule or a client.

The table of the trust boundary is in test_trust_gateway.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from tests.httpd.conftest import BUCKET
from tests.httpd.tap import ATTACKER_BODY, Tap
from tests.httpd.trust import DATA, KEY, MISSING, Scenario, keys, running_scenario
from tests.httpd.trust_attacks import ATTACKS, ROUTES, fill_in, include, rewrite, setenv, setenvif, within
from tests.s3 import EmbeddedS3

#: Settings in an .htaccess file beside its [P] or SetHandler.
SETTINGS: dict[str, dict[str, str]] = {
    "nothing": {},
    "key file": {"S3AccessKeyFile": "{secret}", "S3SecretKey": "x", "S3Region": "r", "S3UseHeaders": "on"},
    "key file in a query": {"S3AccessKeyFile": "{secret}", "S3SecretKey": "x", "S3Region": "r"},
    "key file, version 2": {"S3AccessKeyFile": "{secret}", "S3SecretKey": "x", "S3Bucket": "b"},
    "token file": {"S3AccessKey": "x", "S3SecretKey": "x", "S3SecurityTokenFile": "{secret}", "S3Region": "r"},
    "only the token file": {"S3SecurityTokenFile": "{secret}"},
    "bucket": {"S3BucketURL": "http://{attacker}/b/"},
    "bucket and token file": {"S3BucketURL": "http://{attacker}/b/", "S3SecurityTokenFile": "{secret}"},
    "bucket and role": {
        "S3BucketURL": "http://{attacker}/b/", "S3RoleARN": "arn:aws:iam::123456789012:role/x",
        "S3STSEndpoint": "http://{attacker}",
    },
    "bucket and key file": {
        "S3BucketURL": "http://{attacker}/b/", "S3AccessKeyFile": "{secret}", "S3SecretKey": "x", "S3Region": "r",
    },
    "role": {
        "S3AccessKey": "x", "S3SecretKey": "x", "S3RoleARN": "arn:aws:iam::123456789012:role/x", "S3Region": "r",
        "S3STSEndpoint": "http://{attacker}",
    },
    "only the role": {"S3RoleARN": "arn:aws:iam::123456789012:role/x", "S3STSEndpoint": "http://{attacker}"},
    "identity": {"S3CredentialSource": "aws", "S3Profile": "x", "S3Region": "r"},
    "capitals": {"S3ACCESSKEYFILE": "{secret}", "S3SECRETKEY": "x", "S3REGION": "r"},
}  # fmt: skip
#: They may belong to another program, as S3_BUCKET does: the request is rejected, or they have no effect.
CAPITALS = "capitals"
DIRECTIVES: dict[str, Callable[[dict[str, str]], str]] = {
    "SetEnv": setenv, "If": within("If true", setenv), "Files": within('Files "x*"', setenv),
    "If in Files": within('Files "x*"', within("If true", setenv)),
    "Else": lambda variables: f"<If false>\n</If>\n<Else>\n{setenv(variables)}</Else>\n",
    "SetEnvIf": setenvif, "Rewrite": rewrite,
}  # fmt: skip
#: The directives with which httpd applies the settings of an .htaccess file as those of SetEnv.
BY_MOD_ENV = ["SetEnv", "If", "Files", "If in Files", "Else"]
FORWARDING = {
    "rule": "RewriteEngine On\nRewriteRule ^x$ {url} [P]\n",
    "rule in Files": 'RewriteEngine On\n<Files "x">\nRewriteEngine On\nRewriteRule x$ {url} [P]\n</Files>\n',
    "handler": '<Files "x">\nSetHandler "proxy:{url}"\n</Files>\n',
}


def config(s3: EmbeddedS3, server_keys: bool) -> str:
    """The operator's bucket at /proxied. The keys are in its section, or at server level for all buckets."""
    url = f"http://BUCKET_HOST/{BUCKET}"
    if not server_keys:
        return f'ProxyPass /proxied {url}\n<Proxy "{url}/">\n{keys(s3)}</Proxy>\n'
    return f'{keys(s3)}ProxyPass /proxied {url}\n<Proxy "{url}/">\nSetEnv S3Region {s3.region}\n</Proxy>\n'


@pytest.fixture(scope="module")
def plain(s3: EmbeddedS3) -> Iterator[Scenario]:
    with running_scenario(s3, config(s3, False)) as running:
        yield running


@pytest.fixture(scope="module")
def server_keys(s3: EmbeddedS3) -> Iterator[Scenario]:
    with running_scenario(s3, config(s3, True)) as running:
        yield running


every_fixture = pytest.mark.parametrize("fixture", ["plain", "server_keys"])
every_forwarding = pytest.mark.parametrize("forwarding", FORWARDING)
every_setting = pytest.mark.parametrize(("directive", "settings"), [*product(DIRECTIVES, SETTINGS)])


def write_folder(running: Scenario, directive: str, settings: str, forwarding: str, url: str) -> str:
    """Write a folder whose .htaccess file has the settings and forwards the file x to a URL; return its name."""
    folder = running.folder()
    running.write(f"{folder}/x", "")
    directives = DIRECTIVES[directive](fill_in(SETTINGS[settings], running))
    running.write(f"{folder}/.htaccess", directives + FORWARDING[forwarding].format(url=url))
    return folder


def test_the_operators_mounts_are_served(plain: Scenario, server_keys: Scenario) -> None:
    for running in (plain, server_keys):
        running.assert_served(running.fetch(f"/proxied/{KEY}"))


@every_fixture
@every_forwarding
@every_setting
def test_htaccess_to_the_attackers_host(
    request: pytest.FixtureRequest, fixture: str, directive: str, settings: str, forwarding: str
) -> None:
    """The request is forwarded unsigned or rejected, whatever the file sets."""
    running: Scenario = request.getfixturevalue(fixture)
    folder = write_folder(running, directive, settings, forwarding, f"{running.attacker.url}/b/{KEY}")
    for target in (f"/{folder}/x", f"/{folder}/x?a=b"):
        reply = running.fetch(target)
        assert DATA not in reply.body and running.bucket.received == b""
        if settings == "nothing":
            assert ATTACKER_BODY in reply.body  # not a request of this package
        elif directive in BY_MOD_ENV and settings != CAPITALS:
            assert (reply.status, running.attacker.received) == (500, b"")
            running.assert_logged(r"usp_s3_wsgi: .*\.htaccess")


@every_fixture
@every_forwarding
@every_setting
def test_htaccess_to_the_bucket(
    request: pytest.FixtureRequest, fixture: str, directive: str, settings: str, forwarding: str
) -> None:
    """The rule would read every object of the bucket, past all access rules: always rejected."""
    running: Scenario = request.getfixturevalue(fixture)
    folder = write_folder(running, directive, settings, forwarding, f"{running.bucket.url}/{BUCKET}/{KEY}")
    # mod_proxy appends the path of the file to a handler's URL: that is another key.
    running.s3.put(BUCKET, f"{KEY}{running.httpd.root}/htdocs/{folder}/x", DATA)
    reply = running.fetch(f"/{folder}/x")
    assert (reply.status, running.bucket.received, running.attacker.received) == (500, b"", b"")
    running.assert_logged(r"usp_s3_wsgi: .*(\.htaccess|SetEnvIf|RewriteRule)")


@every_fixture
@pytest.mark.parametrize("key", [KEY, MISSING])
@pytest.mark.parametrize(("route", "attack"), [*product(ROUTES, ATTACKS)])
def test_around_a_request(request: pytest.FixtureRequest, fixture: str, route: str, attack: str, key: str) -> None:
    """Pages and redirects that lead to the operator's ProxyPass: served as if the attacker had set nothing."""
    running: Scenario = request.getfixturevalue(fixture)
    attack_request = ROUTES[route](running, "/proxied", fill_in(ATTACKS[attack], running), key)
    reply = running.fetch(attack_request.target)
    if route == "type map":  # its URL has dot segments, which are rejected in <Proxy>
        assert (reply.status, running.bucket.received, running.attacker.received) == (400, b"", b"")
    elif key == KEY:
        running.assert_served(reply, attack_request.status, attack_request.key or key)
    else:
        assert DATA not in reply.body
        running.assert_no_effect(attack_request.key or key)


@every_fixture
@pytest.mark.parametrize("directive", DIRECTIVES)
def test_a_page_around_an_htaccess(request: pytest.FixtureRequest, fixture: str, directive: str) -> None:
    """A subrequest to a [P] of an .htaccess file is rejected as the client's own request is."""
    running: Scenario = request.getfixturevalue(fixture)
    folder = running.folder()
    running.write(f"{folder}/x", "")
    directives = DIRECTIVES[directive](fill_in(SETTINGS["key file"], running))
    running.write(f"{folder}/.htaccess", directives + FORWARDING["rule"].format(url=f"{running.attacker.url}/b/{KEY}"))
    running.write("page.shtml", include(f"/{folder}/x"))
    assert DATA not in running.fetch("/page.shtml").body


# --- URLs that only resemble the bucket's

SECTIONS = {
    "no slash": '<Proxy "http://BUCKET_HOST">\nSetEnv S3BucketURL http://BUCKET_HOST/{bucket}/\n{keys}</Proxy>',
    "no slash, no bucket": '<Proxy "http://BUCKET_HOST">\nSetEnv S3Bucket x\n{keys}</Proxy>',
    "with a slash": '<Proxy "http://BUCKET_HOST/{bucket}/">\n{keys}</Proxy>',
    "any": '<Proxy "*">\n{keys}</Proxy>',
    "any http": '<Proxy "http://*">\n{keys}</Proxy>',
    "match": '<ProxyMatch "^http://">\n{keys}</ProxyMatch>',
    "match of the host": '<ProxyMatch "BUCKET_HOST">\n{keys}</ProxyMatch>',
    "any, with a bucket": '<Proxy "*">\nSetEnv S3BucketURL http://BUCKET_HOST/{bucket}/\n{keys}</Proxy>',
    "directory": '<Directory "${{ROOT}}/htdocs">\n{keys}</Directory>',
    "directory, with a bucket": (
        '<Directory "${{ROOT}}/htdocs">\nSetEnv S3BucketURL http://BUCKET_HOST/{bucket}/\n{keys}</Directory>'
    ),
    "location": '<Location "/">\nSetEnv S3BucketURL http://BUCKET_HOST/{bucket}/\n{keys}</Location>',
}
#: URLs to which an .htaccess file forwards. All lead to the attacker, but for the last.
URLS = [
    "http://ATTACKER/x", "http://BUCKET_HOST@ATTACKER/x", "http://BUCKET_HOST:x@ATTACKER/{bucket}/x",
    "http://BUCKET_HOST%2f@ATTACKER/x", "http://ATTACKER/http://BUCKET_HOST/{bucket}/x", "http://ATTACKER/BUCKET_HOST/",
    "HTTP://ATTACKER/x", "http://ATTACKER/../{bucket}/x", "unix:SOCKET|http://BUCKET_HOST/{bucket}/x",
    "unix:SOCKET|http://BUCKET_HOST/{bucket}/", "unix:SOCKET|http://localhost/x",
]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_other_hosts(s3: EmbeddedS3, section: str) -> None:
    """A section's keys sign for its bucket only: no signature goes to another host, name or socket."""
    text = SECTIONS[section].format(bucket=BUCKET, keys=keys(s3))
    with running_scenario(s3, text) as running, Tap(path=running.httpd.root / "own.sock") as unix_socket:
        for number, url in enumerate(URLS):
            folder = running.folder()
            running.write(f"{folder}/x", "")
            url = url.format(bucket=BUCKET).replace("BUCKET_HOST", running.bucket.host)
            url = url.replace("ATTACKER", running.attacker.host).replace("SOCKET", str(running.httpd.root / "own.sock"))
            for directive in ("rule", "handler"):
                running.write(f"{folder}/.htaccess", FORWARDING[directive].format(url=url))
                running.httpd.expect_error(r"\[proxy")
                assert DATA not in running.fetch(f"/{folder}/x").body, (number, directive)
                received = unix_socket.received
                assert not any(word in received for word in (b"Signature", b"Credential", b"x-amz-")), (
                    number,
                    directive,
                    received,
                )


def test_a_forward_proxy(s3: EmbeddedS3) -> None:
    """With keys at server level, a client of a forward proxy gets no signature to a host of its choice."""
    allowed = 'ProxyRequests On\n<Proxy "*">\n  Require ip 127.0.0.1\n</Proxy>\n'
    with running_scenario(s3, config(s3, True) + allowed) as running:
        reply = running.fetch(f"{running.attacker.url}/x")
        assert (reply.status, reply.body) == (200, ATTACKER_BODY)
        running.assert_served(running.fetch(f"/proxied/{KEY}"))


@every_fixture
def test_a_client_sets_nothing(request: pytest.FixtureRequest, fixture: str) -> None:
    running: Scenario = request.getfixturevalue(fixture)
    for attack in ATTACKS.values():
        for name, value in fill_in(attack, running).items():
            for header in (name, name.replace("_", "-"), f"X-{name}", f"HTTP-{name}", f"Redirect-{name}"):
                running.assert_served(running.fetch(f"/proxied/{KEY}", **{header: value}))
            for target in (f"/proxied/{KEY}?{name}={value}", f"/proxied/{KEY}?response-content-type=x"):
                running.assert_served(running.fetch(target))
    for header in ("Proxy", "X-Forwarded-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL",
                   "X-HTTP-Method-Override", "x-amz-security-token", "Authorization"):  # fmt: skip
        running.assert_served(running.fetch(f"/proxied/{KEY}", **{header: f"http://{running.attacker.host}/"}))
    running.assert_served(running.fetch(f"/proxied/{KEY}", host=running.attacker.host))
    running.assert_served(running.fetch(f"http://{running.attacker.host}/proxied/{KEY}"))
