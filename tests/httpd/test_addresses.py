"""A bucket's name with two addresses, the first of which swallows what is sent to it."""

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

#: Seconds: mod_proxy waits for them at each connection, the gateway never.
TIMEOUT = 2


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
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        server = stack.enter_context(Httpd(config, preload=localhost_names))
        yield server
    assert "\n".join(server.unexpected) == ""


def test_the_gateway_does_not_wait(httpd: Httpd) -> None:
    begun = time.monotonic()
    assert httpd.fetch("/gateway/a.ts").body == b"/bucket/a.ts"
    assert time.monotonic() - begun < TIMEOUT


def test_mod_proxy_goes_on_after_its_connectiontimeout(httpd: Httpd) -> None:
    """As README says: the next address is tried, so that small limits and kept connections help."""
    begun = time.monotonic()
    assert httpd.fetch("/proxy/a.ts").body == b"/bucket/a.ts"
    assert time.monotonic() - begun > TIMEOUT * 0.9
