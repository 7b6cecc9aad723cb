"""httpd's configuration: a bucket for each kind of settings and each signing mode, through each way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.httpd.conftest import MODES, ONE_CHILD
from tests.httpd.test_keys import ANY_KEY
from tests.servers.program import Keys, Server

#: Additional directives in the sections of each kind of bucket.
KINDS: dict[str, list[str]] = {
    "objects": [],
    "keys": [],
    "versions": ["SetEnv S3PassQuery versionId", "SetEnv S3PassHeaders x-amz-version-id"],
    "unversioned": ["SetEnv S3PassQuery versionId"],
    "parts": ["SetEnv S3PassQuery partNumber"],
    "metadata": ["SetEnv S3PassHeaders x-amz-meta-", "SetEnv S3PassQuery response-content-type"],
    "missing": [],
    "denied": [],
    "denied-404": ["SetEnv S3DeniedStatus 404"],
    "wrong-access-key": [],
    "wrong-secret-key": [],
}
#: Buckets that belong to the other user.
DENIED = ("denied", "denied-404")
#: The ways in with the signing modes that are tested: daemon mode signs as embedded mode does, so one is enough.
WAYS = {"gateway": tuple(MODES), "proxy": tuple(MODES), "daemon": ("v4-header",)}
WAYS_AND_MODES = [(way, mode) for way, modes in WAYS.items() for mode in modes]
PROXY_SET = "ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300"
DAEMON = "WSGIDaemonProcess s3 processes=1 threads=8 python-home=${USP_S3_PYTHON_HOME}\n"


def bucket(mode: str, kind: str) -> str:
    """The name of a bucket."""
    return f"{mode}-{kind}"


def mount(way: str, mode: str, kind: str) -> str:
    """The path under which httpd serves a bucket."""
    return f"/{way}/{bucket(mode, kind)}"


def keys_of(server: Server, kind: str) -> Keys:
    """The keys in the section of such a bucket."""
    if kind == "wrong-access-key":
        return Keys("AKIANOBODYHASTHISKEY", server.keys.secret_key)
    if kind == "wrong-secret-key":
        return Keys(server.keys.access_key, server.other_keys.secret_key)
    return server.keys


def config(
    server: Server, ways_and_modes: Sequence[tuple[str, str]] = WAYS_AND_MODES, kinds: Iterable[str] = KINDS
) -> str:
    """The sections for these ways in and signing modes; one child, so that clock and region are recorded once."""
    sections = [_section(server, way, mode, kind) for way, mode in ways_and_modes for kind in kinds]
    return "\n".join([ANY_KEY, ONE_CHILD, DAEMON, *sections])


def _section(server: Server, way: str, mode: str, kind: str) -> str:
    url, path = f"{server.url}/{bucket(mode, kind)}", mount(way, mode, kind)
    has_region, by_header = MODES[mode]
    keys = keys_of(server, kind)
    lines = [
        f"SetEnv S3AccessKey {keys.access_key}",
        f"SetEnv S3SecretKey {keys.secret_key}",
        f"SetEnv S3UseHeaders {'on' if by_header else 'off'}",
        *([f"SetEnv S3Region {server.region}"] if has_region else []),
        *KINDS[kind],
    ]
    if way == "proxy":
        body = "\n".join([*lines, PROXY_SET])
        return f'ProxyPass {path} {url}\n<Proxy "{url}/">\n{body}\n</Proxy>\n'
    body = "\n".join([f"SetEnv S3BucketURL {url}/", *lines])
    group = " process-group=s3 application-group=%{GLOBAL}" if way == "daemon" else ""
    return f"WSGIScriptAlias {path} ${{USP_S3_WSGI}}{group}\n<Location {path}>\n{body}\n</Location>\n"
