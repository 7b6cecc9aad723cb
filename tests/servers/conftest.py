"""Fixtures: each server is started once per run, and the results are written at the end."""

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
    """Options for ``python -m tests.servers``. Without them only Swift is tested, and nothing is written."""
    parser.addoption("--servers", default="swift", help=f"comma-separated: {', '.join(SERVERS)}")
    parser.addoption("--results", default="", help="the file that the results are written to")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests that use ``run`` with the servers."""
    if "run" in metafunc.fixturenames:
        names = metafunc.config.getoption("--servers", default="swift").split(",")
        metafunc.parametrize("run", names, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def no_limit_of_header_fields() -> Iterator[None]:
    """Raise the limit of 100 header fields in http.client, which botocore uses as well."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(http.client, "_MAXHEADERS", 1000)
        yield


@pytest.fixture(scope="session")
def all_results(request: pytest.FixtureRequest) -> Iterator[list[results.ServerResults]]:
    """The results of each server."""
    servers: list[results.ServerResults] = []
    yield servers
    path = request.config.getoption("--results", default="")
    if path:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "botocore": metadata.version("botocore")}
        results.save(Path(path), servers, about)


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, all_results: list[results.ServerResults]) -> Iterator[Run]:
    server_class = SERVERS[request.param]
    if missing := server_class.missing():
        pytest.fail(f"{server_class.name}: not installed: {missing}")
    with running(server_class) as one:
        all_results.append(one.results)
        yield one


@pytest.fixture(scope="session")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared object that an httpd preloads to get a wrong clock."""
    source = Path(__file__).parents[1] / "httpd" / "shifted_clock.c"
    return compile_shared(source, tmp_path_factory.mktemp("clock"))
