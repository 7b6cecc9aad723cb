"""Each block of Apache's configuration is accepted by httpd, and the buckets that it mounts are served.

So are the examples in the comments of the files that httpd includes. tests/httpd/test_examples.py tests those that an
operator copies.
A block in the syntax of mod_unified_s3_auth is converted by ``usp-s3 convert`` first.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs import identity
from tests.docs.blocks import Block, parameters
from tests.docs.completion import completed
from tests.docs.names import Mount, Names, mounts, settings_of
from tests.docs.pages import ROOT
from tests.httpd.conftest import ONE_CHILD
from tests.httpd.machine import has_module, modules_directory, static_modules
from tests.httpd.server import MODULES, Httpd
from usp_s3_wsgi.configtest.apache_syntax import parse, walk

KEY = "film/film.mp4"


def commented_example(file: str, first: str, last: str) -> Block:
    """The example in the comments of a file that httpd includes."""
    text = (ROOT / file).read_text("utf-8")
    before, begin, rest = text.partition(f"#   {first}")
    example = begin + rest[: rest.index(last) + len(last)] + "\n"
    return Block(file, before.count("\n") + 1, "apache", example.replace("#   ", ""))


COMMENTED = [
    commented_example("apache/include/gateway.conf", "WSGIScriptAlias", "</Location>"),
    commented_example("apache/include/proxy.conf", "SSLProxyEngine", "</Proxy>"),
]


@pytest.mark.parametrize("block", [*parameters("apache"), *(pytest.param(block, id=block.id) for block in COMMENTED)])
def test_block(
    block: Block,
    names: Names,
    localhost_names: Path,
    stop: Callable[[Httpd], None],
    request: pytest.FixtureRequest,
) -> None:
    missing = [module for module in modules_of(block) if not has_module(module)]
    if missing:
        pytest.skip(f"this httpd has no {', '.join(f'mod_{name}' for name in missing)}")
    text = completed(block)
    if settings_of(text).keys() & identity.SETTINGS:
        with identity.at_amazon(text, names, request.getfixturevalue("aws")) as temporary:
            check(block, text, temporary, localhost_names, stop)
    else:
        check(block, text, names, localhost_names, stop)


def check(block: Block, text: str, names: Names, preload: Path, stop: Callable[[Httpd], None]) -> None:
    """Assert that httpd accepts the configuration of a block, and serves its buckets."""
    config = names.localized(text)
    if any(line.name.startswith("s3") for line, _ in walk(parse(config))):
        config = converted(config, names)
    httpd = Httpd(module_lines(block) + config + ONE_CHILD, preload=preload)
    done = httpd.configtest()
    assert (done.returncode, done.stdout) == (0, "Syntax OK\n"), done.stdout
    served = list(mounts(config, list(names.buckets.values())))
    requests = requests_of(block, served)
    if not requests:
        return
    put_objects(names, served, requests)
    httpd.expect_error("USPS30602")  # which identity signs
    httpd.start()
    try:
        for method, target, host, status, body in requests:
            reply = httpd.fetch(target, method=method, host=host or f"127.0.0.1:{httpd.port}")
            assert reply.status == status, "\n".join([target, *httpd.errors()])
            if body is not None:
                assert reply.body == body, target
        assert httpd.unexpected_errors() == [] or any(status >= 400 for _, _, _, status, _ in requests)
    finally:
        httpd.expect_error("")
        stop(httpd)


def modules_of(block: Block) -> list[str]:
    """The modules to load for a block: those of its comment, and mod_ssl for https."""
    named = block.keys.get("modules", "").split()
    needs_ssl = "SSL" in block.text or "<Proxy" in block.text or "proxy" in block.keys.values()
    return [name for name in [*named, *(["ssl"] if needs_ssl else [])] if name not in static_modules()]


def module_lines(block: Block) -> str:
    """The lines that load the further modules of a block."""
    names = [name for name in modules_of(block) if name not in MODULES]
    return "".join(f'LoadModule {name}_module "{modules_directory()}/mod_{name}.so"\n' for name in names)


def converted(config: str, names: Names) -> str:
    """The output of ``usp-s3 convert``."""
    command = [str(Path(sys.executable).with_name("usp-s3")), "convert", names.write("site.conf", config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def content(mount: Mount, key: str) -> bytes:
    """The content of an object, which no other object of the test has."""
    return f"{key} of the bucket {mount.bucket.name}\n".encode()


Request = tuple[str, str, str, int, "bytes | None"]


def requests_of(block: Block, served: list[Mount]) -> list[Request]:
    """Method, target, host, expected status and body: as the comment says, else one object for each mount."""
    if "get" not in block.keys:
        return [("GET", mount.url(KEY), mount.host, 200, content(mount, KEY)) for mount in served]
    requests: list[Request] = []
    for request in block.keys["get"].split(", "):
        match = re.fullmatch(r"(?:([A-Z]+) )?(\S+) (\d+)", request)
        assert match
        requests.append((match[1] or "GET", match[2], "", int(match[3]), None))
    return requests


def put_objects(names: Names, served: list[Mount], requests: list[Request]) -> None:
    """Store the objects for requests that are to be served."""
    for method, target, _, status, _ in requests:
        path = unquote(target.partition("?")[0])
        if status >= 400 or method not in {"GET", "HEAD"}:
            continue
        for mount in served:
            if path.startswith(mount.url("")):
                key = path.removeprefix(mount.url(""))
                names.s3(mount.bucket.url).put(
                    mount.bucket.name, f"{mount.prefix}/{key}".lstrip("/"), content(mount, key)
                )
        if not any(path.startswith(mount.url("")) for mount in served):
            for bucket in names.buckets.values():
                for key in {path.lstrip("/"), path.lstrip("/").partition("/")[2]} - {""}:
                    names.s3(bucket.url).put(bucket.name, key, f"{key} of the bucket {bucket.name}\n".encode())


LOCATION = """\
<Location /media>
  SetEnv S3BucketURL https://s3.example/films/
  SetEnv S3AccessKey AK
  SetEnv S3SecretKey SK
  SetEnv S3UseHeaders perhaps
</Location>
"""


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("Lisen 80\n", {}),
        ("SetEnv S3Regoin eu-central-1\n", {"in": "gateway"}),
        ("SetEnv S3Retries many\n", {"in": "gateway"}),
        ("SetEnv S3Retries 3\n", {"in": "proxy"}),
        ("RedirectMatch ^/media /\n", {"with": "gateway"}),
        ("Require all denied\n", {"in": "proxy"}),
        ("LogLevel warn\n", {"with": "gateway", "get": "/media/film/film.mp4 404"}),
        ("LogLevel warn\n", {"with": "gateway", "get": "/media/none 404, /other/film.mp4 200"}),
        ('RewriteEngine on\nRewriteRule "^/media/(.*)" "/media/x/$1" [PT]\n', {"with": "gateway"}),
        (LOCATION, {}),
        ("LoadModule unified_s3_auth_module modules/mod_unified_s3_auth.so\nS3Region x\n", {}),
    ],
)
def test_a_wrong_block_fails(
    text: str,
    keys: dict[str, str],
    names: Names,
    localhost_names: Path,
    stop: Callable[[Httpd], None],
    request: pytest.FixtureRequest,
) -> None:
    with pytest.raises(AssertionError):
        test_block(Block("x.md", 1, "apache", text, keys), names, localhost_names, stop, request)
