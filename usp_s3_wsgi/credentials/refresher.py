"""Refreshes temporary credentials before they expire, in the background, once for all requests of a process.

Requests do not wait while there are valid credentials. If a refresh fails, the current credentials are used until they
expire.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from usp_s3_wsgi import errors
from usp_s3_wsgi.credentials.identity import ALREADY_EXPIRED, FetchedCredentials
from usp_s3_wsgi.errors import CredentialsUnavailable, LogCode, SettingError
from usp_s3_wsgi.observability import error_log, recorder
from usp_s3_wsgi.signing.types import Credentials

#: Seconds before the expiration, as in botocore. When fewer seconds than the advisory timeout are left, credentials are
#: refreshed; when fewer than the mandatory timeout are left, failed refreshes are retried more often.
#: https://github.com/boto/botocore/blob/develop/botocore/credentials.py
ADVISORY_REFRESH_TIMEOUT, MANDATORY_REFRESH_TIMEOUT = 15 * 60.0, 10 * 60.0
#: Seconds between failed refreshes: exponential backoff, up to _MAX_BACKOFF; past the mandatory timeout up to
#: _MAX_MANDATORY_BACKOFF.
_FIRST_BACKOFF, _MAX_BACKOFF, _MAX_MANDATORY_BACKOFF = 1.0, 60.0, 10.0
#: Credentials that expire within this many seconds are not used: they may have expired when the request reaches S3.
_EXPIRY_MARGIN = 1.0
#: Seconds. All httpd processes of a machine may hold the same credentials: they must not refresh in the same second.
_JITTER = 60.0
#: Credentials without a known expiration, such as the keys of a profile, are loaded again after this many seconds.
_RELOAD_INTERVAL = 60.0
#: Credentials that S3 refuses are refreshed only if they were fetched at least the replace interval (seconds) ago: new
#: ones would be refused too. The interval doubles with each replacement, up to _MAX_REPLACE_INTERVAL. It is reset after
#: _REPLACE_INTERVAL_RESET seconds without one.
_MIN_REPLACE_INTERVAL, _MAX_REPLACE_INTERVAL, _REPLACE_INTERVAL_RESET = 10.0, 600.0, 3600.0
#: ``refresh_at`` of credentials that S3 has refused.
_INVALIDATED = float("-inf")
#: Seconds that requests wait for a refresh; less after a failure. A waiting request occupies a thread of httpd.
_WAIT_TIMEOUT, _WAIT_TIMEOUT_AFTER_FAILURE = 5.0, 1.0
#: A refresh that takes longer (a credential process that hangs) has failed, but its thread still exists.
_REFRESH_TIMEOUT, _MAX_STUCK_THREADS = 60.0, 3


class _Current(NamedTuple):
    """The current credentials. ``fetched_at`` is monotonic time, ``refresh_at`` unix time.

    It is replaced as a whole, so that it can be read without the lock.
    """

    fetched: FetchedCredentials
    fetched_at: float
    refresh_at: float


class Refresher:
    """The credentials of one :class:`Identity`, per process. ``name`` is the identity's name in the error log."""

    def __init__(
        self, name: str, fetch: Callable[[], FetchedCredentials], clock: Callable[[], float] = time.time
    ) -> None:
        """``fetch`` returns new credentials; it may block. Raises: CredentialsUnavailable, SettingError."""
        self._name, self._fetch, self._clock = name, fetch, clock
        self._changed = threading.Condition()
        self._current: _Current | None = None
        self._attempt, self._started_at = 0, 0.0
        self._threads: list[threading.Thread] = []
        self._refreshing = False
        self._failures = 0
        self._last_failure: errors.GatewayError | None = None
        self._retry_at = float("-inf")
        self._invalidated_at, self._replace_interval = float("-inf"), _MIN_REPLACE_INTERVAL

    def get(self, timeout: float) -> Credentials:
        """Return valid credentials. If there are none, wait for a refresh, at most ``timeout`` seconds.

        The wait also ends 5 seconds after the start of the refresh, 1 second after a failure.

        Raises:
            CredentialsUnavailable, SettingError: there are no valid credentials now.
        """
        current = self._current
        if current is not None and self._clock() < current.refresh_at:
            return current.fetched.credentials
        with self._changed:
            self._start_refresh_if_needed()
            self._wait_until(self._is_valid, timeout)
            if self._current is None or not self._is_valid():
                raise self._failure()
            return self._current.fetched.credentials

    def current(self) -> Credentials | None:
        """Return the current credentials, which may have expired, without waiting; None if there are none."""
        return None if self._current is None else self._current.fetched.credentials

    @property
    def expires(self) -> float | None:
        """When the credentials expire, in unix seconds; None if that is not known."""
        return None if self._current is None else self._current.fetched.expires

    def replace_rejected(self, rejected: Credentials, timeout: float, may_refresh: bool = True) -> bool:
        """Return whether the current credentials are other ones than ``rejected``, which S3 refused.

        If they are not, refresh them (unless ``may_refresh`` is False, or they were fetched less than the replace
        interval ago) and wait, at most ``timeout`` seconds.
        """
        with self._changed:
            if may_refresh and not self._is_other_than(rejected):
                self._invalidate()
                self._wait_until(lambda: self._is_other_than(rejected), timeout)
            return self._is_other_than(rejected)

    def invalidate(self) -> None:
        """Refresh credentials that S3 refused, in the background, unless they were fetched just now."""
        with self._changed:
            self._invalidate()

    def _invalidate(self) -> None:
        now = time.monotonic()
        if self._current is None or now - self._current.fetched_at < self._replace_interval:
            return
        # Once for these credentials, however many requests S3 refuses, and however often the refresh fails.
        if self._current.refresh_at != _INVALIDATED:
            is_reset = now - self._invalidated_at > _REPLACE_INTERVAL_RESET
            doubled = min(self._replace_interval * 2, _MAX_REPLACE_INTERVAL)
            self._invalidated_at, self._replace_interval = now, _MIN_REPLACE_INTERVAL if is_reset else doubled
            self._current = self._current._replace(refresh_at=_INVALIDATED)
        self._start_refresh_if_needed()

    def _is_other_than(self, rejected: Credentials) -> bool:
        return self._current is not None and self._current.fetched.credentials != rejected

    def _is_valid(self) -> bool:
        return self._current is not None and self._seconds_remaining() > _EXPIRY_MARGIN

    def _seconds_remaining(self) -> float:
        """Seconds until the current credentials expire, 0 if there are none."""
        if self._current is None:
            return 0.0
        expires = self._current.fetched.expires
        return float("inf") if expires is None else max(0.0, expires - self._clock())

    def _refresh_needed(self) -> bool:
        return self._current is None or self._clock() >= self._current.refresh_at

    def _start_refresh_if_needed(self) -> None:
        """Start a refresh in the background, unless one is running or the backoff after a failure has not passed."""
        now = time.monotonic()
        if self._refreshing and now - self._started_at > _REFRESH_TIMEOUT:
            self._attempt += 1  # a late result of this refresh is ignored
            self._record_failure(CredentialsUnavailable(f"no answer within {_REFRESH_TIMEOUT:g} s"))
        if self._refreshing or not self._refresh_needed() or now < self._retry_at:
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= _MAX_STUCK_THREADS:
            self._record_failure(CredentialsUnavailable(f"{_MAX_STUCK_THREADS} refresh threads hang"))
            return
        # A thread per refresh, not a permanent one: there is nothing to stop at exit, and nothing is lost at a fork.
        self._attempt += 1
        name = "usp_s3_wsgi credentials"
        thread = threading.Thread(target=self._refresh, args=(self._attempt,), name=name, daemon=True)
        self._refreshing, self._started_at = True, now
        try:
            thread.start()
            self._threads.append(thread)
        except BaseException as error:  # too many threads, no memory, or a subinterpreter without daemon threads
            self._record_failure(CredentialsUnavailable(f"cannot start a refresh thread: {type(error).__name__}"))

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait until the condition holds or the refresh has ended. At most _WAIT_TIMEOUT seconds after its start.

        After a failure _WAIT_TIMEOUT_AFTER_FAILURE.
        """
        wait_timeout = _WAIT_TIMEOUT_AFTER_FAILURE if self._failures else _WAIT_TIMEOUT
        deadline = min(time.monotonic() + timeout, self._started_at + wait_timeout)
        while self._refreshing and not condition() and (remaining := deadline - time.monotonic()) > 0:
            self._changed.wait(remaining)

    def _failure(self) -> errors.GatewayError:
        """Return a new exception that says why there are no valid credentials."""
        if self._refreshing or self._last_failure is None:
            return CredentialsUnavailable(f"{self._name}: timed out waiting for credentials")
        message = f"{self._name}: {self._last_failure}"
        if isinstance(self._last_failure, SettingError):
            return SettingError(message)
        return CredentialsUnavailable(message, max(1.0, self._retry_at - time.monotonic()))

    def _refresh(self, attempt: int) -> None:
        outcome: FetchedCredentials | errors.GatewayError
        try:
            outcome = self._fetch()
            if outcome.expires is not None and outcome.expires - self._clock() <= _EXPIRY_MARGIN:
                raise CredentialsUnavailable(ALREADY_EXPIRED)
        except (CredentialsUnavailable, SettingError) as error:
            outcome = type(error)(str(error))  # without its traceback
        except BaseException as error:  # otherwise _refreshing would remain True, without another refresh
            outcome = CredentialsUnavailable(errors.describe_internal_error(error))
        with self._changed:
            if attempt != self._attempt:
                return
            if isinstance(outcome, FetchedCredentials):
                self._record_success(outcome)
            else:
                self._record_failure(outcome)

    def _record_failure(self, failure: errors.GatewayError) -> None:
        self._refreshing = False
        self._last_failure = failure
        remaining = self._seconds_remaining()
        max_backoff = _MAX_BACKOFF if remaining > MANDATORY_REFRESH_TIMEOUT else _MAX_MANDATORY_BACKOFF
        backoff = min(max_backoff, _FIRST_BACKOFF * 2 ** min(self._failures, 10))
        self._failures += 1
        recorder.refresh(self._name, 0, is_success=False)
        self._retry_at = time.monotonic() + random.uniform(backoff / 2, backoff)
        self._changed.notify_all()
        # Without valid credentials each request that fails logs the reason itself.
        if remaining > _EXPIRY_MARGIN:
            expire = "" if remaining == float("inf") else f", which expire in {remaining:.0f} s"
            line = f"{self._name}: refresh failed: {failure}; using the current credentials{expire}"
            error_log.write_to_stderr(LogCode.REFRESH_FAILED, line, kind=self._name)

    def _record_success(self, fetched: FetchedCredentials) -> None:
        should_log = self._current is None or self._failures > 0
        self._refreshing = False
        now, expires = self._clock(), fetched.expires
        refresh_at = now + _RELOAD_INTERVAL
        if expires is not None:  # if they are valid for 30 minutes or less: at half their lifetime
            advisory = ADVISORY_REFRESH_TIMEOUT + random.uniform(0, _JITTER)
            refresh_at = expires - min(advisory, (expires - now) / 2)
        self._current = _Current(fetched, time.monotonic(), refresh_at)
        self._failures, self._last_failure, self._retry_at = 0, None, float("-inf")
        recorder.refresh(self._name, int(expires or 0), is_success=True)
        self._changed.notify_all()
        if should_log:
            line = f"{self._name}: {_describe(fetched)}"
            error_log.write_to_stderr(LogCode.CREDENTIALS_REFRESHED, line, kind=self._name)


def _describe(fetched: FetchedCredentials) -> str:
    short = fetched.credentials.short_access_key
    expiration = "no known expiration"
    if fetched.expires is not None:
        expiration = datetime.fromtimestamp(fetched.expires, UTC).strftime("expiration %Y-%m-%dT%H:%M:%SZ")
    return f"credentials refreshed from {fetched.source}, access key {short}, {expiration}"
