"""What the status page and the health checks show, at one moment: plain values, without a secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a bucket is doing."""

    #: Requests cannot be signed for it, or all exchanges of the last minutes failed, and not because of clients.
    FAILING = "failing"
    #: Some of the last minutes' exchanges failed for such a reason, or something will fail soon.
    DEGRADED = "degraded"
    OK = "ok"
    #: No exchange in the last hour, and nothing that speaks against one.
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an error code means, as docs/errors.md says it: plain text, each part may be empty."""

    code: str
    title: str
    why: str
    what_to_do: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests to a bucket could be signed now.

    ``is_ready``: False if not. ``reason``: why not, or a warning; empty if there is nothing to say. ``action``: what to
    do about it.
    """

    is_ready: bool
    reason: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Minute:
    """The exchanges of one minute that ended in it.

    ``start``: unix time. ``failures``: those for a reason that is not a client's. ``client_errors``: the others that
    failed, such as for objects that do not exist. ``first_byte_seconds``: the mean, None without a response.
    """

    start: float
    exchanges: int
    failures: int
    client_errors: int
    body_bytes: int
    first_byte_seconds: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to S3 of a failed exchange.

    ``started_after``, ``seconds``: since the beginning of the exchange, and how long it took. ``status``: S3's, 0 if
    there was no response. ``connection``: "new", "reused", or empty if it is not known. ``failure``: in words, empty if
    there was none.
    """

    started_after: float
    seconds: float
    host: str
    status: int
    s3_code: str
    request_id: str
    connection: str
    failure: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed exchange, as the flight recorder keeps it. All texts come from clients or S3, or name what they sent.

    ``id``: in links. ``time``: unix time of its end. ``is_client_error``: a client can cause it at will. ``error``: the
    code, USPS3nnnn. ``client_status``: what the client got. ``message``: as in the error log. ``method``, ``path``
    (percent-encoded, without the query), ``range``: what was requested of S3. ``s3_message``: S3's own words.
    ``canonical_request``, ``string_to_sign``: what this server has signed, tokens and signatures masked; empty if
    nothing was signed. ``s3_canonical_request``, ``s3_string_to_sign``: what S3 says that it has computed, masked;
    empty if it says nothing. ``signed_at``: the time in the signature, ISO 8601. ``access_key``: shortened.
    """

    id: str
    time: float
    is_client_error: bool
    error: str
    client_status: int
    message: str
    method: str
    path: str
    range: str
    s3_status: int
    s3_code: str
    s3_message: str
    request_id: str
    signed_at: str
    access_key: str
    region: str
    canonical_request: str
    string_to_sign: str
    s3_canonical_request: str
    s3_string_to_sign: str
    attempts: tuple[Attempt, ...]
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Mount:
    """Where the configuration uses a bucket.

    ``path``: the mount of the gateway, or the URL of the ``<Proxy>`` section. ``location``: file and line.
    ``settings``: names and values as httpd has them; secrets are "(set)".
    """

    path: str
    location: str
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """The counters of a bucket since httpd was started."""

    exchanges: int
    failures: int
    client_errors: int
    attempts: int
    resumes: int
    corrections: int
    fallbacks: int
    body_bytes: int
    new_connections: int
    reused_connections: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket with one way in.

    ``id``: in links, of letters, digits and "-". ``way``: "gateway" or "proxy". ``name``: empty if the URL does not
    show it. ``mounts``: empty for a bucket that only requests name (a map). ``minutes``: 60, the oldest first, the last
    one is now's. ``failures``: the latest first. ``cause``: the id of the failure that the summary is about, empty if
    it is about none that is kept. ``action``: what to do, empty for what the explanation of the cause says.
    """

    id: str
    way: str
    name: str
    host: str
    health: Health
    summary: str
    readiness: Readiness
    mounts: tuple[Mount, ...]
    identity: str
    totals: Totals
    minutes: tuple[Minute, ...]
    failures: tuple[Failure, ...]
    cause: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Temporary credentials. Unix times, 0: none or not known.

    ``is_failing``: the last refresh, by any process, has failed. ``is_current``: a process of the configuration since
    the last restart has obtained the last ones; processes share no credentials.
    """

    name: str
    expires: float
    refreshed_at: float
    failed_at: float
    successes: int
    failures: int
    is_failing: bool
    is_current: bool = True


@dataclass(frozen=True, slots=True)
class Process:
    """A process of httpd that can serve requests.

    ``kind``: "httpd" or "daemon" (of mod_wsgi). ``started_at``: unix time. ``is_current``: False for a process of the
    configuration before a graceful restart, which finishes its requests.
    """

    pid: int
    kind: str
    started_at: float
    is_current: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment. ``time``: unix time. ``buckets``: those in trouble first.

    ``omitted_buckets``: further configured buckets that are not shown, because there are too many. ``is_complete``:
    False if the configuration could not be read, so that buckets without requests may be missing.
    """

    time: float
    health: Health
    version: str
    python: str
    started_at: float
    gateway_requests: int
    processes: tuple[Process, ...]
    buckets: tuple[Bucket, ...]
    omitted_buckets: int
    is_complete: bool
    identities: tuple[Identity, ...]
