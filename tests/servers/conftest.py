"""One run: each server started once, and what it has answered written down at the end."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest

from tests.httpd.machine import compile_shared
from tests.servers import results
from tests.servers.catalogue import SERVERS
from tests.servers.run import Run, running


def pytest_addoption(parser: pytest.Parser) -> None:
    """For ``python -m tests.servers``; elsewhere it is Swift alone, and nothing is written."""
    parser.addoption("--servers", default="swift", help=f"comma-separated: {', '.join(SERVERS)}")
    parser.addoption("--results", default="", help="the file to write what was met to")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``run`` is one for each server."""
    if "run" in metafunc.fixturenames:
        names = metafunc.config.getoption("--servers", default="swift").split(",")
        metafunc.parametrize("run", names, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def many_fields() -> Iterator[None]:
    """Python's clients read 100 fields of a header and no more, botocore among them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(http.client, "_MAXHEADERS", 1000)
        yield


@pytest.fixture(scope="session")
def met(request: pytest.FixtureRequest) -> Iterator[list[results.ServerResults]]:
    """The results of all servers."""
    servers: list[results.ServerResults] = []
    yield servers
    path = request.config.getoption("--results", default="")
    if path:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "botocore": metadata.version("botocore")}
        results.save(Path(path), servers, about)


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, met: list[results.ServerResults]) -> Iterator[Run]:
    kind = SERVERS[request.param]
    if missing := kind.missing():
        pytest.fail(f"{kind.name}: not installed: {missing}")
    with running(kind) as one:
        met.append(one.results)
        yield one


@pytest.fixture(scope="session")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an httpd preloads whose clock is wrong."""
    source = Path(__file__).parents[1] / "httpd" / "shifted_clock.c"
    return compile_shared(source, tmp_path_factory.mktemp("clock"))
