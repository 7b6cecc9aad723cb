"""A bucket's host name with two addresses, the first of which does not answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.leaks import SECRET_KEY

#: Seconds that mod_proxy waits for the first address at each connection. The gateway does not wait for them.
TIMEOUT = 5


@pytest.fixture(scope="module")
def httpd(bucket_server: Recorder, localhost_names: Path) -> Iterator[Httpd]:
    url = f"http://two.localhost:{bucket_server.port}/bucket"
    keys = f"SetEnv S3AccessKey A\nSetEnv S3SecretKey {SECRET_KEY}\nSetEnv S3Region r\nSetEnv S3UseHeaders on\n"
    proxy_set = f"connectiontimeout={TIMEOUT} timeout=30 enablereuse=on"
    config = f"""
WSGIScriptAlias /gateway ${{USP_S3_WSGI}}
<Location /gateway>
  SetEnv S3BucketURL {url}/
  SetEnv S3ProxySet "{proxy_set}"
  {keys}
</Location>
ProxyPass /proxy {url}
<Proxy "{url}/">
  ProxySet {proxy_set}
  {keys}
</Proxy>
"""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", bucket_server.port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        server = stack.enter_context(Httpd(config, preload=localhost_names))
        yield server
    assert "\n".join(server.unexpected) == ""


def test_the_gateway_does_not_wait_for_the_first_address(httpd: Httpd) -> None:
    started = time.monotonic()
    assert httpd.fetch("/gateway/a.ts").body == b"/bucket/a.ts"
    assert time.monotonic() - started < TIMEOUT


def test_mod_proxy_tries_the_next_address_after_connectiontimeout(httpd: Httpd) -> None:
    """Therefore docs/proxy.md recommends a small connectiontimeout, and connections that are reused."""
    started = time.monotonic()
    assert httpd.fetch("/proxy/a.ts").body == b"/bucket/a.ts"
    assert time.monotonic() - started > TIMEOUT * 0.9
