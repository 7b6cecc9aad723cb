"""A graceful restart while slow clients keep nearly all threads, with the limits of apache/include/mpm_event.conf."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.faults.server import ScriptedS3, answer
from tests.httpd.processes import mpm_lines
from tests.httpd.server import Httpd
from tests.httpd.slow_clients import LARGE, SMALL_BUFFERS, read_to_end, slow_client

CHILDREN, THREADS = 4, 4
#: So many that each child process has one of them.
SLOW_CLIENTS = CHILDREN * THREADS - 2


@pytest.mark.parametrize("way", ["gateway", "proxy"])
def test_new_clients_are_served_while_old_ones_still_download(way: str) -> None:
    with ScriptedS3(then=answer(200, bytes(LARGE))) as s3, ExitStack() as stack:
        settings = "SetEnv S3AccessKey AKIDEXAMPLE\nSetEnv S3SecretKey example\nSetEnv S3Region us-east-1\n"
        if way == "gateway":
            bucket = f"WSGIScriptAlias /media ${{USP_S3_WSGI}}\n<Location /media>\n{settings}"
            bucket += f"SetEnv S3BucketURL {s3.url}/private/\n</Location>\n"
        else:
            bucket = f'ProxyPass /media {s3.url}/private\n<Proxy "{s3.url}/private/">\n{settings}</Proxy>\n'
        httpd = Httpd(mpm_lines(CHILDREN, THREADS, CHILDREN) + SMALL_BUFFERS + bucket)
        stack.enter_context(httpd)
        httpd.expect_error(
            "AH00484: server reached MaxRequestWorkers"
        )  # logged if httpd counts its threads at that moment
        (httpd.root / "htdocs" / "page").write_text("a page")
        slow = [stack.enter_context(slow_client(httpd)) for _ in range(SLOW_CLIENTS)]
        httpd.begin_reload()
        assert httpd.fetch("/page", timeout=15).body == b"a page"
        # The old processes still serve the others, and cut nobody off.
        for connection in slow:
            read_to_end(connection)
    assert httpd.unexpected == []
