"""Temporary credentials that stay fresh: new ones are asked for ahead of the end, once for all who need them.

Whoever signs does not wait while valid credentials are there. A failure leaves them as they are until they end.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import NamedTuple

from usp_s3_wsgi import error_log, errors
from usp_s3_wsgi.errors import CredentialsUnavailable, SettingError
from usp_s3_wsgi.identity import EXPIRED, Credentials, Temporary

#: botocore's own periods, in seconds before the end: from the first on new ones are asked for, from the second on they
#: are asked for often. https://github.com/boto/botocore/blob/develop/botocore/credentials.py
ADVISORY, MANDATORY = 15 * 60.0, 10 * 60.0
#: Pauses between failed attempts, in seconds: they double, up to these limits.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_IN_NEED = 1.0, 60.0, 10.0
#: Credentials that end within so many seconds may have ended when S3 sees them.
_MARGIN = 1.0
#: What S3 refuses so soon after it was issued does not become right by being issued once more.
_TOO_NEW_TO_RENEW = 10.0


class _Held(NamedTuple):
    """Credentials, when they came (by the clock that nobody sets), and from when on new ones are asked for.

    Read and replaced as one.
    """

    temporary: Temporary
    fetched: float
    due: float


class Refresher:
    """The credentials of one identity, per process. ``name`` is what the error log calls it."""

    def __init__(self, name: str, fetch: Callable[[], Temporary], clock: Callable[[], float] = time.time) -> None:
        """``fetch`` asks for new ones, for as long as that takes. Raises: CredentialsUnavailable, SettingError."""
        self._name, self._fetch, self._clock = name, fetch, clock
        self._changed = threading.Condition()
        self._held: _Held | None = None
        self._running = False
        self._failures = 0
        self._failure: errors.GatewayError | None = None
        self._not_before = float("-inf")

    def get(self, patience: float) -> Credentials:
        """Return valid credentials; where there are none, wait for new ones, ``patience`` seconds at most.

        Raises:
            CredentialsUnavailable, SettingError: there are none to be had now.
        """
        held = self._held
        if held is not None and self._clock() < held.due:
            return held.temporary.credentials
        with self._changed:
            self._begin()
            self._wait(patience, self._is_valid)
            if self._held is None or not self._is_valid():
                raise self._unavailable()
            return self._held.temporary.credentials

    def renew(self, refused: Credentials | None, patience: float) -> bool:
        """Whether there are, after ``patience`` seconds at most, other credentials than those that S3 refused.

        ``refused``: None for those that are held now.
        """
        with self._changed:
            if refused is None and self._held is not None:
                refused = self._held.temporary.credentials
            if self._held is not None and not self._is_other_than(refused):
                if time.monotonic() - self._held.fetched < _TOO_NEW_TO_RENEW:
                    return False
                self._held = self._held._replace(due=float("-inf"))
                self._begin()
                self._wait(patience, lambda: self._is_other_than(refused))
            return self._is_other_than(refused)

    def _is_other_than(self, refused: Credentials | None) -> bool:
        return self._held is not None and self._held.temporary.credentials != refused

    def _is_valid(self) -> bool:
        return self._held is not None and self._left() > _MARGIN

    def _left(self) -> float:
        """Seconds until the credentials end, 0 where there are none."""
        if self._held is None:
            return 0.0
        expires = self._held.temporary.expires
        return float("inf") if expires is None else max(0.0, expires - self._clock())

    def _begin(self) -> None:
        """Ask for new ones in the background, if it is time to, nobody does so yet, and the last failure is old."""
        is_due = self._held is None or self._clock() >= self._held.due
        if self._running or not is_due or time.monotonic() < self._not_before:
            return
        # A thread for each refresh and not one for good: nothing is left to end with the process, or lost at a fork.
        thread = threading.Thread(target=self._refresh, name="usp_s3_wsgi credentials", daemon=True)
        self._running = True
        try:
            thread.start()
        except BaseException as error:  # too many threads, no memory, or an interpreter that has none
            self._fail(CredentialsUnavailable(f"{self._name}: no thread can be started: {type(error).__name__}"))

    def _wait(self, patience: float, is_over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + patience
        while self._running and not is_over() and (left := deadline - time.monotonic()) > 0:
            self._changed.wait(left)

    def _unavailable(self) -> errors.GatewayError:
        if self._running or self._failure is None:
            return CredentialsUnavailable(f"{self._name}: no credentials came in time")
        if isinstance(self._failure, SettingError):
            return SettingError(str(self._failure))
        return CredentialsUnavailable(str(self._failure), max(1.0, self._not_before - time.monotonic()))

    def _refresh(self) -> None:
        try:
            fetched = self._fetch()
            if fetched.expires is not None and fetched.expires - self._clock() <= _MARGIN:
                raise CredentialsUnavailable(EXPIRED)
        except (CredentialsUnavailable, SettingError) as error:
            self._fail(type(error)(f"{self._name}: {error}"))
        except BaseException as error:  # nothing else may end the thread, or nobody would ever ask again
            self._fail(CredentialsUnavailable(f"{self._name}: {errors.internal(error)}"))
        else:
            self._succeed(fetched)

    def _fail(self, failure: errors.GatewayError) -> None:
        with self._changed:
            self._running = False
            self._failure = failure
            longest = _LONGEST_PAUSE if self._left() > MANDATORY else _LONGEST_IN_NEED
            pause = min(longest, _FIRST_PAUSE * 2 ** min(self._failures, 10))
            self._failures += 1
            self._not_before = time.monotonic() + random.uniform(pause / 2, pause)
            left = self._left()
            self._changed.notify_all()
        # Where there are none, each request that goes without tells so.
        if left > _MARGIN:
            ends = "" if left == float("inf") else f", which end in {left:.0f} s"
            error_log.warn(f"{failure}; going on with the credentials that are there{ends}", kind=self._name)

    def _succeed(self, fetched: Temporary) -> None:
        with self._changed:
            is_news = self._held is None or self._failures > 0
            self._running = False
            now, expires = self._clock(), fetched.expires
            # Of what lives for half an hour, or less, half is used.
            due = float("inf") if expires is None else expires - min(ADVISORY, (expires - now) / 2)
            self._held = _Held(fetched, time.monotonic(), due)
            self._failures, self._failure, self._not_before = 0, None, float("-inf")
            self._changed.notify_all()
        if is_news:
            error_log.warn(f"{self._name}: {_described(fetched)}", kind=self._name)


def _described(held: Temporary) -> str:
    key = held.credentials.access_key
    short = f"{key[:4]}...{key[-4:]}" if len(key) >= 16 else "(short)"
    ends = "without end"
    if held.expires is not None:
        ends = datetime.fromtimestamp(held.expires, timezone.utc).strftime("until %Y-%m-%dT%H:%M:%SZ")
    return f"credentials from {held.source}, access key {short}, {ends}"
