"""Fixtures for tests that run the gateway in this process: clean process state for each test, and a certificate."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.certificates import Certificate, make_certificate
from usp_s3_wsgi.observability.error_log import rate_limiter, retry_alarm
from usp_s3_wsgi.proxy.callbacks import clock_corrector
from usp_s3_wsgi.s3.endpoint_state import endpoint_state
from usp_s3_wsgi.transport.pool import pool_manager

# No test fails because an example takes long: the machine may be busy.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

#: Each makes a program color its output although that is not a terminal. Sphinx takes CI for one of them.
#: https://force-color.org/, https://no-color.org/
FORCE_COLOR_VARIABLES = ("CI", "CLICOLOR_FORCE", "FORCE_COLOR", "FORCE_COLOUR", "PY_COLORS", "PYTHON_COLORS")


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Programs that tests start notice SIGINT, also if a shell runs the tests in the background, and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def plain_output() -> Iterator[None]:
    """Programs that tests start write plain text, whatever the caller's environment says."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FORCE_COLOR_VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("NO_COLOR", "1")
        yield


@pytest.fixture(autouse=True)
def state() -> Iterator[None]:
    """Begin each test with the state of a new process: no connections, no endpoint state, no counted log lines."""
    forget_state()
    yield
    forget_state()


def forget_state() -> None:
    """Clear the process-wide state of the package."""
    for state_holder in (pool_manager, endpoint_state, clock_corrector, rate_limiter, retry_alarm):
        state_holder.clear()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A server certificate for 127.0.0.1 and localhost, with intermediate CAs as public providers have them."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))
