"""Example snapshots for the tests of the status page and for its screenshots; each is the same whenever it is built."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from usp_s3_wsgi.status.explanations import Explanations
from usp_s3_wsgi.status.snapshot import (
    Attempt,
    Bucket,
    Failure,
    Health,
    Identity,
    Minute,
    Mount,
    Process,
    Readiness,
    Snapshot,
    Totals,
)

BASE = "/usp-s3/status"
#: 2026-11-28T02:13:20Z
NOW = 1795832000.0
_ERRORS = Explanations.from_file(Path(__file__).parents[2] / "docs" / "errors.md")
EXPLANATIONS = _ERRORS.by_code


def hour(
    exchanges: float,
    first_byte: float,
    *,
    failed: Callable[[int], float] = lambda minute: 0.0,
    client_errors: float = 0.002,
    slowed: Callable[[int], float] = lambda minute: 1.0,
    seed: int = 1,
) -> tuple[Minute, ...]:
    """An hour of a bucket: the mean of exchanges in a minute, and of seconds to the first byte.

    ``failed``: which part of a minute's exchanges fails. ``slowed``: by how much its first bytes are late. Both get the
    number of the minute, 0 to 59.
    """
    chance = random.Random(seed)
    minutes = []
    for number in range(60):
        count = round(exchanges * (1 + 0.15 * math.sin(number / 9) + chance.uniform(-0.12, 0.12)))
        failures = min(count, round(count * failed(number)))
        seconds = first_byte * slowed(number) * chance.uniform(0.85, 1.2)
        minutes.append(
            Minute(
                start=NOW - 20 - 60 * (59 - number),
                exchanges=count,
                failures=failures,
                client_errors=min(count - failures, round(count * client_errors * chance.uniform(0, 2))),
                body_bytes=(count - failures) * 1_400_000,
                first_byte_seconds=seconds if count else None,
            )
        )
    return tuple(minutes)


def totals(minutes: Iterable[Minute], hours: int = 30) -> Totals:
    """The counters of a bucket that has had this hour, and as good ones before."""
    listed = list(minutes)
    exchanges, failures = sum(minute.exchanges for minute in listed), sum(minute.failures for minute in listed)
    return Totals(
        exchanges=exchanges * hours,
        failures=failures,
        client_errors=sum(minute.client_errors for minute in listed) * hours,
        attempts=exchanges * hours + 3 * failures,
        resumes=exchanges // 400,
        corrections=exchanges // 9000,
        fallbacks=0,
        body_bytes=sum(minute.body_bytes for minute in listed) * hours,
        new_connections=exchanges // 60 + failures,
        reused_connections=exchanges * hours - exchanges // 60,
    )


def failure(
    number: int, seconds_ago: float, error: str, s3_status: int, s3_code: str, path: str, message: str, **fields: object
) -> Failure:
    """A failure with one attempt, unless ``fields`` says otherwise."""
    request_id = f"TX{number:04X}5D0A7C1E93B2"
    built = Failure(
        id=f"{number}",
        time=NOW - seconds_ago,
        is_client_error=False,
        error=error,
        client_status=502,
        message=message,
        method="GET",
        path=path,
        range="",
        s3_status=s3_status,
        s3_code=s3_code,
        s3_message="",
        request_id=request_id,
        signed_at="20261128T021305Z",
        access_key="AKIA…7EXAMPLE",
        region="eu-west-1",
        canonical_request="",
        string_to_sign="",
        s3_canonical_request="",
        s3_string_to_sign="",
        attempts=(Attempt(0.0, 0.018, "s3.example.com", s3_status, s3_code, request_id, "reused", ""),),
        explanation=_ERRORS.of(error, s3_code),
    )
    return replace(built, **fields)  # type: ignore[arg-type]


def canonical_request(path: str, host: str) -> str:
    """A canonical request of Signature v4 for a GET."""
    return (
        f"GET\n{path}\n\nhost:{host}\nrange:bytes=0-1048575\nx-amz-content-sha256:UNSIGNED-PAYLOAD\n"
        "x-amz-date:20261128T021305Z\n\nhost;range;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD"
    )


def string_to_sign(digest: str) -> str:
    """A string to sign of Signature v4."""
    return f"AWS4-HMAC-SHA256\n20261128T021305Z\n20261128/eu-west-1/s3/aws4_request\n{digest}"


def wrong_key_failures() -> tuple[Failure, ...]:
    """A proxy on the way to S3 changes the path; before that, the secret key was wrong."""
    host, path = "vod-archive.s3.eu-west-1.amazonaws.com", "/films/nosferatu%201922/video_1080p/seg-00412.m4s"
    ours, digest = canonical_request(path, host), "7d1f6f0b7b1c6d5a8a1b3f7b9e1d4c60c2f4a89d0a7e55b6b1a0f38f4b1f9c11"
    other, other_digest = canonical_request(path.replace("%20", "%2520"), host), digest[::-1]
    message = "S3 answered 403 SignatureDoesNotMatch; the secret key may be wrong: check S3SecretKey or S3KeyFile"
    found = []
    for number in range(6):
        is_changed = number == 0
        found.append(
            failure(
                900 - number,
                14 + 37 * number,
                "USPS30305",
                403,
                "SignatureDoesNotMatch",
                path.replace("00412", f"{412 - 7 * number:05}"),
                message,
                range="bytes=0-1048575",
                s3_message=(
                    "The request signature we calculated does not match the signature you provided. Check your key "
                    "and signing method."
                ),
                canonical_request=ours,
                string_to_sign=string_to_sign(digest),
                s3_canonical_request=other if is_changed else ours,
                s3_string_to_sign=string_to_sign(other_digest if is_changed else digest),
                attempts=(
                    Attempt(0.0, 0.021, host, 403, "SignatureDoesNotMatch", f"TX{900 - number:04X}A", "new", ""),
                    Attempt(0.0224, 0.019, host, 403, "SignatureDoesNotMatch", f"TX{900 - number:04X}B", "reused", ""),
                ),
            )
        )
    return tuple(found)


def missing(number: int, seconds_ago: float, path: str) -> Failure:
    """A failure that a client has caused."""
    return failure(
        number, seconds_ago, "USPS30302", 404, "NoSuchKey", path, "S3 answered 404 NoSuchKey",
        is_client_error=True, client_status=404, s3_message="The specified key does not exist.",
    )  # fmt: skip


def bucket(name: str, host: str, health: Health, minutes: tuple[Minute, ...], **fields: object) -> Bucket:
    """A bucket that can be signed for, with one mount of the gateway, unless ``fields`` says otherwise."""
    url = f"https://{host}/{name}/"
    settings = (("S3BucketURL", url), ("S3AccessKey", "(set)"), ("S3SecretKey", "(set)"), ("S3Region", "eu-west-1"))
    built = Bucket(
        id=f"gateway-{name}",
        way="gateway",
        name=name,
        host=host,
        health=health,
        summary="",
        readiness=Readiness(True),
        mounts=(Mount(f"/{name}", "/etc/apache2/sites-enabled/video.conf:24", settings),),
        identity="keys in files",
        totals=totals(minutes),
        minutes=minutes,
        failures=(),
    )
    return replace(built, **fields)  # type: ignore[arg-type]


def night() -> Snapshot:
    """A night of a video operator: a wrong key, a wrong clock, throttling, and credentials that will expire."""
    wrong_key = hour(240, 0.041, failed=lambda minute: 1.0 if minute >= 46 else 0.0, seed=2)
    skewed = hour(95, 0.009, failed=lambda minute: 1.0 if minute >= 55 else 0.0, seed=3)
    throttled = hour(
        1900, 0.034, failed=lambda minute: 0.04 * max(0, minute - 30) / 30 if minute % 3 else 0.0, seed=4,
        slowed=lambda minute: 1 + 7 * max(0.0, (minute - 24) / 35) ** 2,
    )  # fmt: skip
    archive = bucket(
        "vod-archive", "vod-archive.s3.eu-west-1.amazonaws.com", Health.FAILING, wrong_key,
        id="proxy-vod-archive", way="proxy", failures=wrong_key_failures(),
        summary="All requests of the last 5 minutes failed: S3 computes another signature, usually because the secret "
        "key is wrong (SignatureDoesNotMatch).",
        mounts=(
            Mount(
                "https://vod-archive.s3.eu-west-1.amazonaws.com/",
                "/etc/apache2/sites-enabled/video.conf:51",
                (("S3AccessKey", "(set)"), ("S3KeyFile", "/etc/usp_s3/vod-archive"), ("S3Region", "eu-west-1")),
            ),
        ),
    )  # fmt: skip
    thumbnails = bucket(
        "thumbnails", "ceph.dc2.example.net:8443", Health.FAILING, skewed,
        summary="All requests of the last 5 minutes failed: the clock of this server is wrong (RequestTimeTooSkewed).",
        failures=tuple(
            failure(
                700 - number, 3 + 11 * number, "USPS30305", 403, "RequestTimeTooSkewed", f"/films/{number}/poster.jpg",
                "S3 answered 403 RequestTimeTooSkewed; the clock of this server is wrong: set it (NTP)",
                s3_message="The difference between the request time and the current time is too large.",
            )
            for number in range(3)
        ),
    )  # fmt: skip
    live = bucket(
        "live-origin", "live-origin.s3.eu-west-1.amazonaws.com", Health.DEGRADED, throttled,
        summary="71 of 3,410 requests of the last 5 minutes failed: S3 asks for fewer requests (SlowDown).",
        identity="role arn:aws:iam::123456789012:role/video-origin, from the instance's profile",
        failures=(
            failure(
                512, 8, "USPS30405", 503, "SlowDown", "/live/channel7/2026-11-28/seg-883120.m4s",
                "S3 answered 503 SlowDown", client_status=503, s3_message="Please reduce your request rate.",
                attempts=tuple(
                    Attempt(0.3 * number, 0.21, "live-origin.s3.eu-west-1.amazonaws.com", 503, "SlowDown",
                            f"TX0200{number}", "reused", "")
                    for number in range(3)
                ),
            ),
            missing(511, 70, "/live/channel7/2026-11-28/seg-999999.m4s"),
        ),
    )  # fmt: skip
    packaged = bucket(
        "packaged-hls", "minio-1.internal.example.net:9000", Health.OK, hour(3100, 0.006, seed=5),
        failures=(missing(301, 41, "/films/metropolis/audio_en/seg-00000.aac"),),
    )  # fmt: skip
    subtitles = bucket("subtitles", "storage.googleapis.com", Health.OK, hour(14, 0.062, seed=6))
    mirror = bucket(
        "", "s3.eu-central-003.backblazeb2.com", Health.OK, hour(41, 0.12, client_errors=0.2, seed=7),
        id="gateway-map", mounts=(), identity="access key 003a…00004",
    )  # fmt: skip
    nothing = tuple(Minute(NOW - 20 - 60 * (59 - number), 0, 0, 0, 0, None) for number in range(60))
    trailers = bucket("trailers", "[2001:db8::7]:9000", Health.IDLE, nothing)
    return Snapshot(
        time=NOW,
        health=Health.FAILING,
        version="1.12.0",
        python="3.13.5",
        started_at=NOW - 30 * 3600 - 240,
        gateway_requests=37,
        processes=(
            *(Process(14551 + number, "httpd", NOW - 2460, True) for number in range(4)),
            Process(9120, "httpd", NOW - 30 * 3600, False),
            Process(14560, "daemon", NOW - 2460, True),
        ),
        buckets=(archive, thumbnails, live, packaged, subtitles, mirror, trailers),
        omitted_buckets=0,
        is_complete=True,
        identities=(
            Identity(
                "role arn:aws:iam::123456789012:role/video-origin", NOW + 14 * 60 + 5, NOW - 2760, NOW - 33, 61, 4, True
            ),
            Identity("instance profile i-0a1b2c3d4e5f67890", NOW + 5 * 3600 + 700, NOW - 3000, 0.0, 30, 0, False),
        ),
    )


def quiet() -> Snapshot:
    """The same server in a better night: nothing fails."""
    snapshot = night()
    return replace(
        snapshot,
        health=Health.OK,
        buckets=tuple(
            replace(found, health=Health.IDLE if found.health is Health.IDLE else Health.OK, summary="", failures=())
            for found in snapshot.buckets
        ),
        identities=tuple(replace(identity, is_failing=False) for identity in snapshot.identities),
    )


def empty() -> Snapshot:
    """A server without a bucket, and whose configuration could be read."""
    return replace(
        night(), health=Health.IDLE, processes=(), buckets=(), identities=(), gateway_requests=0, is_complete=True
    )


#: What clients and S3 may send. A page must show each of them as a text, and must not change because of them.
HOSTILE = (
    "<script>document.title='executed'</script>",
    '"><img src=x onerror="document.title=\'executed\'">',
    "' onmouseover='document.title=1' x='",
    "</script><script>document.title='executed'</script>",
    "</style></title><!--",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202egnp.exe\u2066\u200f",
    "nul\x00 esc\x1b[31m line\r\nbreak\u2028",
    "lone \udc80 and \ufeff\U000e0041 \u3164\u034f",
    "javascript:alert(1)",
    "k" * 20_000,
    "x\u0301" * 500,
)


def hostile_failure(text: str, number: int = 1) -> Failure:
    """A failure each of whose texts is hostile."""
    return failure(
        number, 30 + number, "USPS30305", 403, text, text, text,
        method=text, range=text, s3_message=text, request_id=text, signed_at=text, access_key=text, region=text,
        canonical_request=f"GET\n{text}\nsame", string_to_sign=text,
        s3_canonical_request=f"GET\n{text[::-1]}\nsame", s3_string_to_sign=text[::-1],
        attempts=(Attempt(0.0, 1e-5, text, 403, text, text, text, text), Attempt(2.0, 70.0, text, 0, "", "", "", text)),
    )  # fmt: skip


def hostile() -> Snapshot:
    """Snapshot with hostile texts wherever a client, S3 or a configuration could have put one."""
    found = night()
    buckets = [
        bucket(
            text, text, (Health.FAILING, Health.DEGRADED)[number % 2], found.buckets[0].minutes,
            id=f"hostile-{number}", summary=text, readiness=Readiness(False, f"not ready: {text}"), identity=text,
            mounts=(Mount(text, text, ((text, text), ("S3SecretKey", "(set)"))),),
            failures=(
                hostile_failure(text, number),
                replace(hostile_failure(text, 100 + number), is_client_error=True),
            ),
        )
        for number, text in enumerate(HOSTILE)
    ]  # fmt: skip
    return replace(
        found,
        buckets=tuple(buckets),
        identities=tuple(Identity(text, NOW + 60, NOW, NOW, 1, 1, True) for text in HOSTILE),
    )


def many(count: int = 300) -> Snapshot:
    """As many buckets as a page shows, each of them with failures and long texts."""
    found = night()
    path = "/" + "/".join(f"folder-{number}" for number in range(40)) + "/segment.m4s"
    buckets = []
    for number in range(count):
        health = (Health.FAILING, Health.DEGRADED, Health.OK, Health.OK)[min(3, number * 20 // count)]
        minutes = hour(
            400 + number,
            0.02,
            seed=number,
            failed=lambda minute: 0.1 * (minute % 5),
            slowed=lambda minute: 1 + minute % 4,
        )
        buckets.append(
            bucket(
                f"customer-{number:03}", "s3.eu-west-1.amazonaws.com", health, minutes, summary="S3 fails. " * 8,
                mounts=tuple(
                    Mount(f"/customer-{number:03}/{mount}", "/etc/apache2/sites-enabled/video.conf:1", tuple(
                        (f"S3Setting{setting}", "value " * 20) for setting in range(12)))
                    for mount in range(3)
                ),
                failures=tuple(
                    failure(20 * number + other, 20 * other, "USPS30405", 503, "SlowDown", path, "503 SlowDown; " * 20)
                    for other in range(20)
                ),
            )
        )  # fmt: skip
    return replace(found, buckets=tuple(buckets), omitted_buckets=12)
