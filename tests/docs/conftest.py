"""The servers in the place of those that the documentation names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.docs.blocks import all_blocks
from tests.docs.completion import WAYS, completed
from tests.docs.names import Names, bucket_names
from tests.docs.shell import AUTHORITIES
from tests.httpd.conftest import certificate as certificate
from tests.httpd.conftest import localhost_names as localhost_names
from tests.httpd.server import Httpd
from tests.identity.conftest import aws as aws
from tests.s3 import EmbeddedS3
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError


@pytest.fixture(scope="session")
def servers(certificate: Certificate) -> Iterator[dict[str, EmbeddedS3]]:
    """The S3 for each scheme, with all buckets of the documentation."""
    names = bucket_names("".join(WAYS.values()))
    for block in all_blocks():
        with suppress(ApacheConfigError):  # this block's own test fails
            names |= bucket_names(completed(block)) if block.language == "apache" else set()
    buckets = sorted(names)
    with EmbeddedS3(buckets=buckets) as http, EmbeddedS3(buckets=buckets, tls=certificate) as https:
        yield {"http": http, "https": https}


@pytest.fixture
def names(servers: dict[str, EmbeddedS3], certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The names of a test. httpd's children can read its folder."""
    for variable in AUTHORITIES:
        monkeypatch.setenv(variable, str(certificate.root))  # in the place of the system's list
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        Path(folder).chmod(0o755)
        yield Names(servers, certificate, Path(folder))


@pytest.fixture(scope="session")
def stop() -> Iterator[Callable[[Httpd], None]]:
    """A function that stops a server while the next one starts: it takes httpd a second."""
    with ThreadPoolExecutor(2) as executor:
        stopped = []
        yield lambda httpd: stopped.append(executor.submit(httpd.stop))
    for one in stopped:
        one.result()
