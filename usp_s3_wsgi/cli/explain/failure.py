"""Prints a failed request that the status page knows by S3's request id."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from usp_s3_wsgi.cli.explain import layout
from usp_s3_wsgi.cli.explain.codes import Codes
from usp_s3_wsgi.cli.explain.status_url import StatusURL
from usp_s3_wsgi.status import comparison, routes, words

_WIDTH = len("What to do")
_ANSWERED = "S3 answered"


class Found(NamedTuple):
    """A failure with its bucket, as the page's JSON has them."""

    bucket: Mapping[str, Any]
    failure: Mapping[str, Any]


def search(document: Mapping[str, Any], request_id: str) -> list[Found]:
    """Return the failures of a request id, the last one first. Later versions may have more fields, or lack some."""
    found = [
        Found(bucket, failure)
        for bucket in document["buckets"]
        for failure in bucket.get("failures", ())
        if _has_id(failure, request_id)
    ]
    return sorted(found, key=lambda one: one.failure.get("time", 0), reverse=True)


def _has_id(failure: Mapping[str, Any], request_id: str) -> bool:
    ids = [failure.get("request_id", ""), *(attempt.get("request_id", "") for attempt in failure.get("attempts", ()))]
    # "4442, x-amz-id-2 Uuag1LuB" and "8f1 (cf-ray)": one of the two, or as it is in the log.
    return any(request_id == text or request_id in re.split(r"[\s,()]+", text) for text in ids if text)


def show(found: Found, url: StatusURL, codes: Codes) -> None:
    """Print what is known of a failure, what it means, and what to do."""
    bucket, failure = found
    explanation = failure.get("explanation") or {}
    title = explanation.get("title", "")
    layout.paragraph(f"{failure.get('error', '')}{f': {title}' if title else ''}", "bold")
    layout.paragraph("")
    for label, text in (
        ("Bucket", _bucket(bucket)),
        ("When", _when(failure)),
        ("Requested", _requested(bucket, failure)),
        ("Client", _client(failure)),
    ):
        layout.entry(label, text, _WIDTH)
    for number, attempt in enumerate(failure.get("attempts", ()), start=1):
        layout.entry(f"Attempt {number}", _attempt(attempt, failure), _WIDTH)
    for label, text in (
        ("S3 said", _said(failure)),
        ("Message", _message(failure)),
        ("Signed", _signed(failure)),
        *_differences(failure),
        ("Why", explanation.get("why", "")),
        ("What to do", explanation.get("what_to_do", "")),
        *_referred(explanation, codes),
        ("Page", f"{url.origin}{routes.failure(url.path, bucket.get('id', ''), failure.get('id', ''))}"),
    ):
        if text:
            layout.entry(label, text, _WIDTH)


def _bucket(bucket: Mapping[str, Any]) -> str:
    mounts = ", ".join(mount.get("path", "") for mount in bucket.get("mounts", ()))
    way = {"gateway": "the gateway", "proxy": "<Proxy>"}.get(bucket.get("way", ""), "")
    return (
        f"{bucket.get('name') or '(no name)'} at {bucket.get('host', '')}, by {way}{f' ({mounts})' if mounts else ''}"
    )


def _when(failure: Mapping[str, Any]) -> str:
    moment = failure.get("time", 0)
    return f"{words.utc(moment)} ({words.ago(moment, time.time())})"


def _requested(bucket: Mapping[str, Any], failure: Mapping[str, Any]) -> str:
    part = f", Range: {failure['range']}" if failure.get("range") else ""
    return f"{failure.get('method', '')} {failure.get('path', '')} of {bucket.get('host', '')}{part}"


def _client(failure: Mapping[str, Any]) -> str:
    status = failure.get("client_status", 0)
    return f"got status {status}" if status else "got no status"


def _attempt(attempt: Mapping[str, Any], failure: Mapping[str, Any]) -> str:
    """Return what is known of an attempt, without what "S3 said" and "Message" say."""
    answer, words_of_failure = _answer(attempt, "status"), str(attempt.get("failure", ""))
    if answer == _answer(failure, "s3_status"):
        answer = str(attempt.get("status", 0))
    if words_of_failure.startswith(_ANSWERED) or words_of_failure in failure.get("message", ""):
        words_of_failure = ""
    status, request_id = attempt.get("status", 0), attempt.get("request_id", "")
    parts = [
        f"after {words.duration(attempt.get('started_after', 0))}, took {words.duration(attempt.get('seconds', 0))}",
        f"{attempt.get('connection')} connection to {attempt.get('host', '')}"
        if attempt.get("connection")
        else str(attempt.get("host", "")),
        f"{_ANSWERED} {answer}" if status else "no response",
        f"request id {request_id}" if request_id else "",
        words_of_failure,
    ]
    return "; ".join(part for part in parts if part)


def _answer(value: Mapping[str, Any], status: str) -> str:
    """Return S3's status and code, as the log has them."""
    return f"{value.get(status, 0)} {value.get('s3_code') or '(no code)'}"


def _said(failure: Mapping[str, Any]) -> str:
    if not failure.get("s3_status"):
        return "" if failure.get("attempts") else "nothing: there was no response"
    message = failure.get("s3_message", "")
    answer = _answer(failure, "s3_status")
    return f"{answer}: {message}" if message else answer


def _message(failure: Mapping[str, Any]) -> str:
    """Return the message without what "S3 said" says already."""
    message = str(failure.get("message", ""))
    return message.removeprefix(f"{_ANSWERED} {_answer(failure, 's3_status')}").lstrip("; ")


def _referred(explanation: Mapping[str, Any], codes: Codes) -> Iterator[tuple[str, str]]:
    """Yield what the codes mean that an explanation names: "As for USPS30301."."""
    for each in codes.referred(f"{explanation.get('why', '')} {explanation.get('what_to_do', '')}"):
        yield each.code, f"{each.why} {each.what_to_do}".strip()


def _signed(failure: Mapping[str, Any]) -> str:
    if not failure.get("signed_at"):
        return ""
    region = failure.get("region", "")
    version = f"Signature v4 for region {region}" if region else "Signature v2"
    return f"{version}, at {failure['signed_at']}, with access key {failure.get('access_key', '')}"


def _differences(failure: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the first line that S3 has computed in another way, if S3 says what it has computed.

    The string to sign has the hash of the canonical request: what differs in that differs here, too.
    """
    is_compared = False
    for name, field in (("Canonical request", "canonical_request"), ("String to sign", "string_to_sign")):
        compared = comparison.compare(failure.get(field, ""), failure.get(f"s3_{field}", ""))
        is_compared = is_compared or (compared.has_ours and compared.has_theirs)
        for row in compared.rows:
            if row.is_first:
                yield (
                    "Difference",
                    f"{name}, line {row.number}: S3 has computed something else",
                )
                yield "  signed", "".join(row.ours or ("(no line)",))
                yield "  S3 has", "".join(row.theirs or ("(no line)",))
                return
    if is_compared and failure.get("s3_code") == "SignatureDoesNotMatch":
        yield "Difference", "none, apart from masked values: the secret key is not the one of this access key"
