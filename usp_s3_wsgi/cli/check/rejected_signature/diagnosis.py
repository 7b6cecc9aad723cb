"""Why does S3 reject a signature? The usual causes, each tried with a small request that reads one byte."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from usp_s3_wsgi.cli.check.rejected_signature import key_copies
from usp_s3_wsgi.cli.check.rejected_signature.computed_texts import ComparedLine, ComputedTexts, compare_texts
from usp_s3_wsgi.cli.check.rejected_signature.conclusions import Conclusions, Finding, TrialOutcome
from usp_s3_wsgi.cli.check.rejected_signature.rejection import Meaning, meaning, named_region, server_time
from usp_s3_wsgi.cli.check.rejected_signature.setting_names import SettingNames
from usp_s3_wsgi.cli.check.rejected_signature.signature_trials import REQUEST_PAYER, SignatureTrials
from usp_s3_wsgi.cli.check.rejected_signature.trial import Change, Hints, Trial
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import GatewayError
from usp_s3_wsgi.observability.error_log import escape_controls
from usp_s3_wsgi.observability.flight_recorder import Mask, SignedWith
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.signing.types import Credentials, S3Request

#: Requests of one diagnosis. Few: no account is locked, and nobody is alarmed.
MAX_REQUESTS = 12
#: Seconds after which no further request is sent.
MAX_SECONDS = 60.0
#: Two faults at once are usual (a copied section has another bucket's region and keys), four are not.
_MAX_CORRECTIONS = 3
#: Answers one after the other that do not come, after which S3 is left alone.
_MAX_UNAVAILABLE = 2
#: Signs a request that S3 must reject.
WRONG_SECRET = "usp-s3-check-signs-with-a-wrong-secret-key"
#: S3 says what is wrong, so that a correction is one even if S3 then rejects something else.
_SAID_BY_S3 = frozenset({Meaning.CLOCK, Meaning.REGION, Meaning.VERSION, Meaning.TOKEN, Meaning.ACCESS_KEY})
#: Answers that prove nothing of a correction by themselves.
_UNCLEAR = frozenset({Meaning.UNAVAILABLE, Meaning.NOT_S3, Meaning.DENIED, Meaning.OTHER, Meaning.BUCKET})
_NO_SUCH_BUCKET = "usp-s3-check-no-such-bucket"
#: What servers say of a temporary access key without its token.
_KEYS_ARE_REJECTED = frozenset({Meaning.ACCESS_KEY, Meaning.SIGNATURE, Meaning.TOKEN, Meaning.DENIED})


class ServerAnswer(NamedTuple):
    """S3's answer. ``headers``: names in lowercase. ``document``: the begin of the body, some KB of it."""

    status: int
    headers: Mapping[str, str]
    document: str


Send = Callable[[S3Request], ServerAnswer]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found; nothing in it is secret.

    ``cause`` and ``what_to_change``: a line each. ``tried``: each request in words, with S3's answer; a line each.
    ``comparison``: what was signed beside what S3 says that it has computed; with whatever characters S3 has sent:
    :class:`ComparisonView` escapes them. ``is_found``: S3's answers prove the cause.
    ``is_signature_accepted``: S3 accepts the signature as it is configured, and what fails is something else.
    """

    cause: str
    what_to_change: str
    tried: tuple[str, ...]
    comparison: tuple[ComparedLine, ...]
    is_found: bool
    is_signature_accepted: bool = False


def diagnose(
    request: S3Request,
    settings: Settings,
    credentials: Credentials,
    send: Send,
    *,
    names: SettingNames | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    max_requests: int = MAX_REQUESTS,
    max_seconds: float = MAX_SECONDS,
) -> Diagnosis:
    """Say why S3 rejects a request, or that no usual correction was accepted.

    ``request``: the one that was rejected, unsigned. ``names``: of settings, where they are not those of
    ``S3BucketURL``. ``send``: sends a signed request to the host that it names, which is that of the settings or
    over https Amazon's endpoint of another region, follows no redirects, and has its own time limits;
    it may raise GatewayError, and ValueError for a header that cannot be sent. Only GET with ``Range: bytes=0-0`` is
    sent, and HEAD if ``request`` is one.
    """
    limits = _Limits(max_requests, time.monotonic() + max_seconds)
    run = _Run(request, settings, names or SettingNames(settings), send, now, limits)
    return run.diagnose(Trial(run.request, settings.signing, credentials))


class _Limits(NamedTuple):
    requests: int
    deadline: float


class _LimitReached(Exception):
    """No further request may be sent."""


class _Run:
    """One diagnosis: what was sent, and what is known."""

    def __init__(
        self,
        request: S3Request,
        settings: Settings,
        names: SettingNames,
        send: Send,
        now: Callable[[], datetime],
        limits: _Limits,
    ) -> None:
        payer = request.header(REQUEST_PAYER)
        # Not the client's other headers: conditions would hide what S3 says.
        headers = (("Range", "bytes=0-0"), *([(REQUEST_PAYER, payer)] if payer else []))
        self.request = request._replace(method="GET", headers=headers)
        self._is_head, self._is_payer = request.method == "HEAD", bool(payer)
        self._url, self._send, self._now, self._limits = settings.bucket_url, send, now, limits
        self._hints = Hints()
        self._trials = SignatureTrials(self._url, names, self._hints)
        self._conclusions = Conclusions(self._url, names)
        self._masks: list[Mask] = []
        self._tried: list[str] = []
        self._findings: list[Finding] = []
        self._texts = ComputedTexts((), False, None)
        self._checked: dict[Trial, bool] = {}

    def diagnose(self, trial: Trial) -> Diagnosis:
        outcome = TrialOutcome(Meaning.UNAVAILABLE, None, "no request was sent")
        # Before anything is sent, for what may be the keys without what is around them.
        self._masks = [Mask(copy.signed_with(self._now())) for copy in self._trials.copies(trial)]
        try:
            outcome = self._try(trial, "as configured")
            self._compare(outcome)
            while (last := self._evident(trial, outcome)) is None:
                corrected = self._first_success(trial, outcome) if len(self._findings) < _MAX_CORRECTIONS else None
                if corrected is None:
                    last = self._conclusions.not_found(outcome, trial.credentials, self._texts)
                    break
                change, outcome = corrected
                trial = change.trial
                self._findings.append(Finding(change.cause, change.what_to_change))
                if outcome.meaning is Meaning.ACCEPTED:
                    break
        except _LimitReached:
            self._tried.append(f"(stopped after {len(self._tried)} requests)")
            last = self._conclusions.not_found(outcome, trial.credentials, self._texts)
        return self._result(last)

    # --- requests

    def _try(self, trial: Trial, words: str) -> TrialOutcome:
        if len(self._tried) >= self._limits.requests or time.monotonic() > self._limits.deadline:
            raise _LimitReached
        now = self._now()
        signed_with = trial.signed_with(now)
        self._masks.append(Mask(signed_with))
        try:
            answer = self._send(trial.sign(now))
        except GatewayError as error:
            outcome = TrialOutcome(Meaning.UNAVAILABLE, None, str(error))
        except ValueError:  # not its message, which may hold the header
            outcome = TrialOutcome(Meaning.ACCESS_KEY, None, "not sent, because of a character in access key or token")
        else:
            outcome = self._understand(answer, signed_with)
        self._tried.append(f"{words}: {outcome.words}")
        return outcome

    def _understand(self, answer: ServerAnswer, signed: SignedWith) -> TrialOutcome:
        error = error_response.parse(answer.status, answer.headers, answer.document)
        found = meaning(error, signed.context, signed.signed_at, signed.credentials.security_token is not None)
        if found is not Meaning.ACCEPTED:
            self._hints.region = named_region(error) or self._hints.region
        if (clock := server_time(error)) is not None:
            self._hints.clock_offset = clock - self._now()
        words = f"{error.status} {error.code}".strip()
        return TrialOutcome(found, error, words, signed, answer.headers.get("location", ""))

    def _compare(self, outcome: TrialOutcome) -> None:
        """Compare what was signed with what S3 says about it, if it says something or nothing was compared before."""
        if outcome.error is None or outcome.signed is None:
            return
        texts = compare_texts(outcome.signed, outcome.error.document)
        self._hints.differs = texts.difference
        if texts.has_theirs or not self._texts.has_theirs:
            self._texts = texts

    def _rejects_wrong_secret(self, trial: Trial, outcome: TrialOutcome) -> bool:
        """Whether S3 answers otherwise to the same request with a wrong secret key: it has accepted this one then."""
        if trial not in self._checked:
            wrong = trial.with_secret_key(WRONG_SECRET)
            control = self._try(wrong, "the same with a wrong secret key")
            is_answer = control.meaning is not Meaning.UNAVAILABLE
            self._checked[trial] = is_answer and control.words != outcome.words
        return self._checked[trial]

    # --- conclusions

    def _evident(self, trial: Trial, outcome: TrialOutcome) -> Finding | None:
        """Return what S3's answer says by itself, or with a request that S3 must reject."""
        conclusions = self._conclusions
        match outcome.meaning:
            case Meaning.ACCEPTED:
                return conclusions.head_only() if self._is_head_rejected(trial) else conclusions.accepted()
            case Meaning.TOKEN_EXPIRED:
                return conclusions.token_expired()
            case Meaning.NOT_S3:
                return conclusions.not_s3(outcome)
            case Meaning.UNAVAILABLE:
                return conclusions.unavailable(outcome)
            case Meaning.REGION if outcome.location and not self._hints.region:
                return conclusions.not_s3(outcome)
            case _ if outcome.meaning in _KEYS_ARE_REJECTED and self._lacks_token(trial):
                return conclusions.lacks_token(trial.credentials)
            case Meaning.DENIED if self._rejects_wrong_secret(trial, outcome) or self._accepts_keys(trial, outcome):
                return self._denied(trial, outcome)
        return None

    def _lacks_token(self, trial: Trial) -> bool:
        return key_copies.is_temporary(trial.credentials) and not trial.credentials.security_token

    def _accepts_keys(self, trial: Trial, outcome: TrialOutcome) -> bool:
        """Whether S3 accepts the keys for a bucket that does not exist.

        Ceph 16 denies access in the same words for a wrong signature and for a missing permission, but only says that a
        bucket does not exist if the signature is right.
        """
        if not self._url.path_style:
            return False
        # With the same key, which a device on the way may change.
        path = f"/{_NO_SUCH_BUCKET}{trial.request.path.removeprefix(f'/{self._url.bucket}')}"
        elsewhere = trial._replace(request=trial.request._replace(path=path))
        tried = self._try(elsewhere, "a bucket that does not exist")
        return tried.meaning is Meaning.BUCKET and self._rejects_wrong_secret(elsewhere, tried)

    def _is_head_rejected(self, trial: Trial) -> bool:
        if not self._is_head:
            return False
        head = self._try(trial._replace(request=trial.request._replace(method="HEAD")), "HEAD")
        return head.meaning not in {Meaning.ACCEPTED, Meaning.UNAVAILABLE}

    def _denied(self, trial: Trial, outcome: TrialOutcome) -> Finding | None:
        """The signature is accepted. A server that does not read the bucket's name from the host denies access, too."""
        if not self._url.path_style and not self._findings:
            corrected = self._first_success(trial, outcome, as_if=Meaning.BUCKET)
            if corrected is not None:
                return Finding(corrected[0].cause, corrected[0].what_to_change)
        return self._conclusions.no_permission(outcome, self._is_payer, is_as_configured=not self._findings)

    def _first_success(
        self, trial: Trial, outcome: TrialOutcome, as_if: Meaning | None = None
    ) -> tuple[Change, TrialOutcome] | None:
        """Try one change after the other, until S3 accepts the request, or rejects it for another reason.

        ``as_if``: what S3 may have meant.
        """
        unavailable = 0
        for change in self._trials.changes(trial, as_if or outcome.meaning):
            is_same_host = change.trial.request.host == trial.request.host
            tried = self._try(change.trial, change.words)
            if self._is_success(change, tried, is_same_host, outcome.meaning):
                self._compare(tried)
                return change, tried
            if is_same_host:  # the endpoint of another region may not exist
                unavailable = unavailable + 1 if tried.meaning is Meaning.UNAVAILABLE else 0
            if unavailable == _MAX_UNAVAILABLE:
                raise _LimitReached
        return None

    def _is_success(self, change: Change, tried: TrialOutcome, is_same_host: bool, before: Meaning) -> bool:
        needs_control = change.needs_control or not is_same_host
        if tried.meaning is Meaning.ACCEPTED:
            # Without one, S3 has rejected another signature in the same place: it checks them.
            return not needs_control or self._rejects_wrong_secret(change.trial, tried)
        if before in _SAID_BY_S3 and tried.meaning not in _UNCLEAR:
            return tried.meaning is not before
        if tried.meaning in {Meaning.DENIED, Meaning.BUCKET} and tried.meaning is not before:
            # S3 says so after it has accepted the signature, or without a look at it.
            is_distinct = before is Meaning.SIGNATURE or before in _SAID_BY_S3
            return (is_distinct and not needs_control) or self._rejects_wrong_secret(change.trial, tried)
        return False

    # --- results

    def _mask(self, text: str) -> str:
        for mask in self._masks:
            text = mask(text)
        return text

    def _line(self, text: str) -> str:
        return escape_controls(self._mask(text))

    def _result(self, last: Finding | None) -> Diagnosis:
        findings = [*self._findings, *([last] if last else [])]
        return Diagnosis(
            self._line(" Then: ".join(finding.cause for finding in findings)),
            self._line(" ".join(finding.what_to_change for finding in findings)),
            tuple(self._line(words) for words in self._tried),
            self._texts.masked(self._mask),
            all(finding.is_found for finding in findings),
            bool(last and last.is_signature_accepted),
        )
