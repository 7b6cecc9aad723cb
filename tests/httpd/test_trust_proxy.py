"""Whose settings count where mod_proxy carries the bytes: never those of an .htaccess, a page, a rule, a client.

The table of the trust boundary is in test_trust_gateway.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from tests.httpd.conftest import BUCKET
from tests.httpd.tap import HIS_WORDS, Tap
from tests.httpd.trust import DATA, KEY, MISSING, Stage, keys, stage
from tests.httpd.trust_attacks import ATTACKS, WAYS, fill_in, include, rewrite, setenv, setenvif, within
from tests.s3 import EmbeddedS3

#: What an .htaccess says beside its [P] or SetHandler.
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
#: These may be another program's, as S3_BUCKET is: refused, or without any effect.
CAPITALS = "capitals"
HOW: dict[str, Callable[[dict[str, str]], str]] = {
    "SetEnv": setenv, "If": within("If true", setenv), "Files": within('Files "x*"', setenv),
    "If in Files": within('Files "x*"', within("If true", setenv)),
    "Else": lambda variables: f"<If false>\n</If>\n<Else>\n{setenv(variables)}</Else>\n",
    "SetEnvIf": setenvif, "Rewrite": rewrite,
}  # fmt: skip
#: Where the settings of an .htaccess count for httpd as SetEnv's do.
BY_MOD_ENV = ["SetEnv", "If", "Files", "If in Files", "Else"]
TO = {
    "rule": "RewriteEngine On\nRewriteRule ^x$ {url} [P]\n",
    "rule in Files": 'RewriteEngine On\n<Files "x">\nRewriteEngine On\nRewriteRule x$ {url} [P]\n</Files>\n',
    "handler": '<Files "x">\nSetHandler "proxy:{url}"\n</Files>\n',
}


def config(s3: EmbeddedS3, server_keys: bool) -> str:
    """The operator's bucket at /proxied; his keys stand in its section, or at server level for all his buckets."""
    url = f"http://BUCKET_HOST/{BUCKET}"
    if not server_keys:
        return f'ProxyPass /proxied {url}\n<Proxy "{url}/">\n{keys(s3)}</Proxy>\n'
    return f'{keys(s3)}ProxyPass /proxied {url}\n<Proxy "{url}/">\nSetEnv S3Region {s3.region}\n</Proxy>\n'


@pytest.fixture(scope="module")
def plain(s3: EmbeddedS3) -> Iterator[Stage]:
    with stage(s3, config(s3, False)) as running:
        yield running


@pytest.fixture(scope="module")
def server_keys(s3: EmbeddedS3) -> Iterator[Stage]:
    with stage(s3, config(s3, True)) as running:
        yield running


BOTH = ["plain", "server_keys"]


def test_the_stages_serve(plain: Stage, server_keys: Stage) -> None:
    for running in (plain, server_keys):
        running.served(running.fetch(f"/proxied/{KEY}"))


@pytest.mark.parametrize("which", BOTH)
@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize(("how", "settings"), [*product(HOW, SETTINGS)])
def test_htaccess_to_his_own_host(request: pytest.FixtureRequest, which: str, how: str, settings: str, to: str) -> None:
    """Nothing signed goes there, whatever he sets: it goes out unsigned, or not at all."""
    running: Stage = request.getfixturevalue(which)
    folder = running.folder()
    running.write(f"{folder}/x", "")
    given = HOW[how](fill_in(SETTINGS[settings], running))
    running.write(f"{folder}/.htaccess", given + TO[to].format(url=f"{running.attacker.url}/b/{KEY}"))
    for target in (f"/{folder}/x", f"/{folder}/x?a=b"):
        reply = running.fetch(target)
        assert DATA not in reply.body and running.bucket.received == b""
        if settings == "nothing":
            assert HIS_WORDS in reply.body  # it is none of ours
        elif how in BY_MOD_ENV and settings != CAPITALS:
            assert (reply.status, running.attacker.received) == (500, b"")
            running.said(r"usp_s3_wsgi: .*\.htaccess")


@pytest.mark.parametrize("which", BOTH)
@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize(("how", "settings"), [*product(HOW, SETTINGS)])
def test_htaccess_to_the_bucket(request: pytest.FixtureRequest, which: str, how: str, settings: str, to: str) -> None:
    """His rule would read every object of the bucket, past all access rules: refused, with settings and without."""
    running: Stage = request.getfixturevalue(which)
    folder = running.folder()
    running.write(f"{folder}/x", "")
    given = HOW[how](fill_in(SETTINGS[settings], running))
    running.write(f"{folder}/.htaccess", given + TO[to].format(url=f"{running.bucket.url}/{BUCKET}/{KEY}"))
    # What a handler's URL is followed by is another key.
    running.s3.put(BUCKET, f"{KEY}{running.httpd.root}/htdocs/{folder}/x", DATA)
    reply = running.fetch(f"/{folder}/x")
    assert (reply.status, running.bucket.received, running.attacker.received) == (500, b"", b"")
    running.said(r"usp_s3_wsgi: .*(\.htaccess|SetEnvIf|RewriteRule)")


@pytest.mark.parametrize("which", BOTH)
@pytest.mark.parametrize("key", [KEY, MISSING])
@pytest.mark.parametrize(("way", "attack"), [*product(WAYS, ATTACKS)])
def test_around_a_request(request: pytest.FixtureRequest, which: str, way: str, attack: str, key: str) -> None:
    """Pages and redirects that lead to the operator's ProxyPass: it is served, as if the attacker had set nothing."""
    running: Stage = request.getfixturevalue(which)
    shot = WAYS[way](running, "/proxied", fill_in(ATTACKS[attack], running), key)
    reply = running.fetch(shot.target)
    if way == "type map":  # its URL has dots, which mod_proxy's requests must not
        assert (reply.status, running.bucket.received, running.attacker.received) == (400, b"", b"")
    elif key == KEY:
        running.served(reply, shot.status, shot.key or key)
    else:
        assert DATA not in reply.body
        running.no_effect(shot.key or key)


@pytest.mark.parametrize("which", BOTH)
@pytest.mark.parametrize("how", HOW)
def test_a_page_around_an_htaccess(request: pytest.FixtureRequest, which: str, how: str) -> None:
    """A subrequest to a [P] of an .htaccess is no better than the client's own."""
    running: Stage = request.getfixturevalue(which)
    folder = running.folder()
    running.write(f"{folder}/x", "")
    given = HOW[how](fill_in(SETTINGS["key file"], running))
    running.write(f"{folder}/.htaccess", given + TO["rule"].format(url=f"{running.attacker.url}/b/{KEY}"))
    running.write("page.shtml", include(f"/{folder}/x"))
    assert DATA not in running.fetch("/page.shtml").body


# --- URLs that only look like the bucket's

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
#: What an .htaccess may ask mod_proxy for; all of them lead to the attacker, but for the last.
URLS = [
    "http://ATTACKER/x", "http://BUCKET_HOST@ATTACKER/x", "http://BUCKET_HOST:x@ATTACKER/{bucket}/x",
    "http://BUCKET_HOST%2f@ATTACKER/x", "http://ATTACKER/http://BUCKET_HOST/{bucket}/x", "http://ATTACKER/BUCKET_HOST/",
    "HTTP://ATTACKER/x", "http://ATTACKER/../{bucket}/x", "unix:SOCKET|http://BUCKET_HOST/{bucket}/x",
    "unix:SOCKET|http://BUCKET_HOST/{bucket}/", "unix:SOCKET|http://localhost/x",
]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_other_hosts(s3: EmbeddedS3, section: str) -> None:
    """A section's keys are for its bucket: an .htaccess brings them to no other host, name or socket."""
    text = SECTIONS[section].format(bucket=BUCKET, keys=keys(s3))
    with stage(s3, text) as running, Tap(path=running.httpd.root / "own.sock") as own:
        for number, url in enumerate(URLS):
            folder = running.folder()
            running.write(f"{folder}/x", "")
            url = url.format(bucket=BUCKET).replace("BUCKET_HOST", running.bucket.host)
            url = url.replace("ATTACKER", running.attacker.host).replace("SOCKET", str(running.httpd.root / "own.sock"))
            for how in ("rule", "handler"):
                running.write(f"{folder}/.htaccess", TO[how].format(url=url))
                running.httpd.expect_error(r"\[proxy")
                assert DATA not in running.fetch(f"/{folder}/x").body, (number, how)
                sent = own.received
                assert not any(word in sent for word in (b"Signature", b"Credential", b"x-amz-")), (number, how, sent)


def test_a_forward_proxy(s3: EmbeddedS3) -> None:
    """With keys at server level a client of a forward proxy gets no signature to where it likes."""
    allowed = 'ProxyRequests On\n<Proxy "*">\n  Require ip 127.0.0.1\n</Proxy>\n'
    with stage(s3, config(s3, True) + allowed) as running:
        reply = running.fetch(f"{running.attacker.url}/x")
        assert (reply.status, reply.body) == (200, HIS_WORDS)
        running.served(running.fetch(f"/proxied/{KEY}"))


@pytest.mark.parametrize("which", BOTH)
def test_a_client_sets_nothing(request: pytest.FixtureRequest, which: str) -> None:
    running: Stage = request.getfixturevalue(which)
    for attack in ATTACKS.values():
        for name, value in fill_in(attack, running).items():
            for header in (name, name.replace("_", "-"), f"X-{name}", f"HTTP-{name}", f"Redirect-{name}"):
                running.served(running.fetch(f"/proxied/{KEY}", **{header: value}))
            for target in (f"/proxied/{KEY}?{name}={value}", f"/proxied/{KEY}?response-content-type=x"):
                running.served(running.fetch(target))
    for header in ("Proxy", "X-Forwarded-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL",
                   "X-HTTP-Method-Override", "x-amz-security-token", "Authorization"):  # fmt: skip
        running.served(running.fetch(f"/proxied/{KEY}", **{header: f"http://{running.attacker.host}/"}))
    running.served(running.fetch(f"/proxied/{KEY}", host=running.attacker.host))
    running.served(running.fetch(f"http://{running.attacker.host}/proxied/{KEY}"))
