"""Temporary credentials that stay fresh: new ones are asked for ahead of the end, once for all who need them.

Whoever signs does not wait while valid credentials are there. A failure leaves them as they are until they end.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from usp_s3_wsgi import errors
from usp_s3_wsgi.credentials.identity import EXPIRED, Temporary
from usp_s3_wsgi.errors import CredentialsUnavailable, LogCode, SettingError
from usp_s3_wsgi.observability import error_log
from usp_s3_wsgi.signing.types import Credentials

#: botocore's own periods, in seconds before the end: from the first on new ones are asked for, from the second on they
#: are asked for often. https://github.com/boto/botocore/blob/develop/botocore/credentials.py
ADVISORY, MANDATORY = 15 * 60.0, 10 * 60.0
#: Pauses between failed attempts, in seconds: they double, up to these limits.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_IN_NEED = 1.0, 60.0, 10.0
#: Credentials that end within so many seconds may have ended when S3 sees them.
_MARGIN = 1.0
#: All processes of an instance may have got the same: they are not to come back in the same second.
_JITTER = 60.0
#: What has no end that is known, such as the keys of a profile, is looked at again after so many seconds.
_LOOKED_AT_AGAIN = 60.0
#: What S3 refuses so soon after it was issued does not become right by being issued once more. Each time that it is,
#: the next takes twice as long, up to the second of these; after the third without a refusal all begins anew.
_TOO_NEW_TO_RENEW, _LONGEST_BETWEEN_RENEWALS, _RENEWALS_FORGOTTEN = 10.0, 600.0, 3600.0
#: When new ones are due in place of what S3 has refused.
_DOUBTED = float("-inf")
#: So many seconds an attempt is waited for, and fewer where the last one has failed: who waits holds a thread of httpd.
_PATIENCE, _PATIENCE_AFTER_FAILURE = 5.0, 1.0
#: An attempt that takes longer, such as a program that hangs, has failed; but its thread is still there.
_LONGEST_ATTEMPT, _MOST_HANGING = 60.0, 3


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
        self._attempt, self._begun = 0, 0.0
        self._threads: list[threading.Thread] = []
        self._running = False
        self._failures = 0
        self._failure: errors.GatewayError | None = None
        self._not_before = float("-inf")
        self._renewed, self._between_renewals = float("-inf"), _TOO_NEW_TO_RENEW

    def get(self, patience: float) -> Credentials:
        """Return valid credentials; where there are none, wait for new ones, 5 or ``patience`` seconds at most.

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

    def renew(self, refused: Credentials, patience: float, is_doubted: bool = True) -> bool:
        """Whether there are, after ``patience`` seconds at most, other credentials than those that S3 refused.

        ``is_doubted``: others are asked for where there are none yet.
        """
        with self._changed:
            if is_doubted and not self._is_other_than(refused):
                self._doubt()
                self._wait(patience, lambda: self._is_other_than(refused))
            return self._is_other_than(refused)

    def doubt(self) -> None:
        """Ask for others than those that are held, for S3 has refused them; nobody waits for them."""
        with self._changed:
            self._doubt()

    def _doubt(self) -> None:
        now = time.monotonic()
        if self._held is None or now - self._held.fetched < self._between_renewals:
            return
        if self._held.due != _DOUBTED:  # however many are refused what is held, and however often the exchange fails
            is_new = now - self._renewed > _RENEWALS_FORGOTTEN
            longer = min(self._between_renewals * 2, _LONGEST_BETWEEN_RENEWALS)
            self._renewed, self._between_renewals = now, _TOO_NEW_TO_RENEW if is_new else longer
            self._held = self._held._replace(due=_DOUBTED)
        self._begin()

    def _is_other_than(self, refused: Credentials) -> bool:
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
        now = time.monotonic()
        if self._running and now - self._begun > _LONGEST_ATTEMPT:
            self._attempt += 1  # whatever comes of it does not count any more
            self._fail(CredentialsUnavailable(f"{self._name}: no answer within {_LONGEST_ATTEMPT:g} s"))
        is_due = self._held is None or self._clock() >= self._held.due
        if self._running or not is_due or now < self._not_before:
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= _MOST_HANGING:
            self._fail(CredentialsUnavailable(f"{self._name}: {_MOST_HANGING} attempts hang"))
            return
        # A thread for each refresh and not one for good: nothing is left to end with the process, or lost at a fork.
        self._attempt += 1
        name = "usp_s3_wsgi credentials"
        thread = threading.Thread(target=self._refresh, args=(self._attempt,), name=name, daemon=True)
        self._running, self._begun = True, now
        try:
            thread.start()
            self._threads.append(thread)
        except BaseException as error:  # too many threads, no memory, or an interpreter that has none
            self._fail(CredentialsUnavailable(f"{self._name}: no thread can be started: {type(error).__name__}"))

    def _wait(self, patience: float, is_over: Callable[[], bool]) -> None:
        longest = _PATIENCE_AFTER_FAILURE if self._failures else _PATIENCE
        deadline = min(time.monotonic() + patience, self._begun + longest)
        while self._running and not is_over() and (left := deadline - time.monotonic()) > 0:
            self._changed.wait(left)

    def _unavailable(self) -> errors.GatewayError:
        if self._running or self._failure is None:
            return CredentialsUnavailable(f"{self._name}: no credentials came in time")
        if isinstance(self._failure, SettingError):
            return SettingError(str(self._failure))
        return CredentialsUnavailable(str(self._failure), max(1.0, self._not_before - time.monotonic()))

    def _refresh(self, attempt: int) -> None:
        outcome: Temporary | errors.GatewayError
        try:
            outcome = self._fetch()
            if outcome.expires is not None and outcome.expires - self._clock() <= _MARGIN:
                raise CredentialsUnavailable(EXPIRED)
        except (CredentialsUnavailable, SettingError) as error:
            outcome = type(error)(f"{self._name}: {error}")
        except BaseException as error:  # nothing else may end the thread, or nobody would ever ask again
            outcome = CredentialsUnavailable(f"{self._name}: {errors.describe_internal_error(error)}")
        with self._changed:
            if attempt != self._attempt:
                return
            if isinstance(outcome, Temporary):
                self._succeed(outcome)
            else:
                self._fail(outcome)

    def _fail(self, failure: errors.GatewayError) -> None:
        self._running = False
        self._failure = failure
        left = self._left()
        longest = _LONGEST_PAUSE if left > MANDATORY else _LONGEST_IN_NEED
        pause = min(longest, _FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = time.monotonic() + random.uniform(pause / 2, pause)
        self._changed.notify_all()
        # Where there are none, each request that goes without tells so.
        if left > _MARGIN:
            ends = "" if left == float("inf") else f", which end in {left:.0f} s"
            error_log.warn(
                LogCode.REFRESH_FAILED,
                f"{failure}; going on with the credentials that are there{ends}",
                kind=self._name,
            )

    def _succeed(self, fetched: Temporary) -> None:
        is_news = self._held is None or self._failures > 0
        self._running = False
        now, expires = self._clock(), fetched.expires
        due = now + _LOOKED_AT_AGAIN
        if expires is not None:  # of what lives for half an hour, or less, half is used
            due = expires - min(ADVISORY + random.uniform(0, _JITTER), (expires - now) / 2)
        self._held = _Held(fetched, time.monotonic(), due)
        self._failures, self._failure, self._not_before = 0, None, float("-inf")
        self._changed.notify_all()
        if is_news:
            error_log.warn(LogCode.CREDENTIALS_REFRESHED, f"{self._name}: {_described(fetched)}", kind=self._name)


def _described(held: Temporary) -> str:
    key = held.credentials.access_key
    short = f"{key[:4]}...{key[-4:]}" if len(key) >= 16 else "(short)"
    ends = "without end"
    if held.expires is not None:
        ends = datetime.fromtimestamp(held.expires, UTC).strftime("until %Y-%m-%dT%H:%M:%SZ")
    return f"credentials from {held.source}, access key {short}, {ends}"
