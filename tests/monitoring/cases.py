"""What the servers count in time, and which alerts fire: the unit tests of apache/monitoring/alerts.yml.

Values are in promtool's notation, one for each 30 seconds: ``0+2x10`` are 11 values that increase by 2, ``1x10`` 11
equal ones, ``_x10`` 10 missing ones.
"""

from __future__ import annotations

from typing import NamedTuple

SERVERS = ("a", "b")
UP = {f'up{{job="usp-s3",instance="{server}"}}': "1x1000" for server in SERVERS}
#: 20 minutes in which the series is not there, as of a failure that has not happened yet; two values are a minute.
BEFORE = "_x40"
#: A first failure, and no other one after it.
ONCE = f"{BEFORE} 1x200"
#: After 20 minutes, 1 every 30 seconds.
STEADY = "0x40 1+1x400"


class Case(NamedTuple):
    """``alerts``: by the minute, all that fire: for each its labels, without job and severity."""

    name: str
    series: dict[str, str]
    alerts: dict[float, list[dict[str, str]]]


def labels(**values: str) -> str:
    """The labels of a series."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in values.items()) + "}"


def bucket(instance: str = "a", name: str = "films", way: str = "gateway", **more: str) -> dict[str, str]:
    """The labels of a bucket's series."""
    host = "s3.example" if name else ""
    return {"job": "usp-s3", "instance": instance, "way": way, "bucket": name, "host": host, **more}


def exchanges(
    error: str = "", s3_code: str = "", status: str = "", instance: str = "a", name: str = "films", way: str = "gateway"
) -> str:
    """The series of exchanges with one result."""
    status = status or ("4xx" if s3_code else "none" if error else "2xx")
    return "usp_s3_exchanges_total" + labels(**bucket(instance, name, way, status=status, s3_code=s3_code, error=error))


def alert(name: str, **values: str) -> dict[str, str]:
    """An alert that fires."""
    return {"alertname": name, **values}


#: Of a bucket, for all servers; and for one.
FILMS = {"bucket": "films", "host": "s3.example"}
ON_A = {"instance": "a", **FILMS}
#: Requests that succeed beside the failures, 10 every second; and a few.
OK = {exchanges(): "0+300x1000"}
SOME_OK = {exchanges(): "0+1x1000"}


def one_failure(name: str, error: str, *kept: str, s3_code: str = "", bucket_name: str = "films") -> Case:
    """A case of an alert that one failure raises at once, for 10 minutes."""
    of_bucket = ON_A if bucket_name else {"instance": "a"}
    expected = alert(name, way="gateway", error=error, **of_bucket)
    if s3_code:
        expected["s3_code"] = s3_code
    series = {**OK, exchanges(error, s3_code, name=bucket_name): ONCE}
    return Case(
        f"{name}: {error} {s3_code}".strip() + ", once", series, {19.5: [], 20: [expected], 29.5: [expected], 30.5: []}
    )


def steady(name: str, error: str, s3_code: str = "", **expected: str) -> tuple[Case, Case]:
    """Cases of an alert for a number of failures that does not end; the second one is a burst."""
    series = exchanges(error, s3_code)
    if s3_code:
        expected["s3_code"] = s3_code
    return (
        Case(
            f"{name}: steady {error} {s3_code}".strip(),
            {**OK, series: STEADY},
            {25: [], 29: [alert(name, error=error, **expected)]},
        ),
        Case(
            f"{name}: a burst of {error} {s3_code}".strip(),
            {**OK, series: "0x40 50x200"},
            {minute: [] for minute in (21, 23, 25, 26, 27, 30)},
        ),
    )


def refreshes(result: str) -> str:
    """The series of refreshes of an identity."""
    return "usp_s3_credentials_refreshes_total" + labels(job="usp-s3", instance="a", identity="role", result=result)


EXPIRATION = "usp_s3_credentials_expiration_timestamp_seconds" + labels(job="usp-s3", instance="a", identity="role")
#: The time that promtool begins at is 0: expirations are seconds from there.
IN_AN_HOUR, IN_23_MINUTES = "3600x1000", "1380x1000"
IDENTITY = {"instance": "a", "identity": "role"}


def histogram(fast: str, slow: str) -> dict[str, str]:
    """First bytes: how many came within half a second, and how many within 2.5 seconds."""
    name = "usp_s3_first_byte_seconds"
    return {
        f"{name}_bucket{labels(**bucket(), le='0.5')}": fast,
        f"{name}_bucket{labels(**bucket(), le='2.5')}": slow,
        f"{name}_bucket{labels(**bucket(), le='+Inf')}": slow,
        f"{name}_count{labels(**bucket())}": slow,
    }


def attempts(values: str) -> dict[str, str]:
    """Requests to S3 that were sent for the exchanges."""
    return {f"usp_s3_attempts_total{labels(**bucket())}": values}


def corrections(subject: str, values: str) -> dict[str, str]:
    """Corrections of what the server has wrong."""
    return {f"usp_s3_corrections_total{labels(**bucket(), subject=subject)}": values}


REJECTED = {"s3_code": "SignatureDoesNotMatch", "error": "USPS30305", "way": "gateway"}
WRONG_KEY = exchanges("USPS30305", "SignatureDoesNotMatch")

CASES = [
    # --- a healthy server, whatever its clients do
    Case(
        "missing and denied objects, and requests that are not valid",
        {
            **OK,
            exchanges("USPS30302", "NoSuchKey"): f"{BEFORE} 1+900x200",
            exchanges("USPS30303", "AccessDenied"): f"{BEFORE} 1+900x200",
            exchanges("USPS30203", name=""): f"{BEFORE} 1+900x200",
            exchanges("USPS30302", "NoSuchKey", name="empty"): f"{BEFORE} 1+900x200",
        },
        {minute: [] for minute in (20, 21, 25, 30, 60, 100)},
    ),
    Case("results without an entry of their own", {exchanges("(other)", "(other)", "(other)"): STEADY}, {60: []}),
    # --- scrapes
    Case(
        "UspS3NotScraped: one server",
        {**OK, 'up{job="usp-s3",instance="b"}': "1x20 0x60"},
        {13: [], 14: [alert("UspS3NotScraped", instance="b")]},
    ),
    Case(
        "UspS3NotScraped: a restart takes a minute",
        {**OK, 'up{job="usp-s3",instance="b"}': "1x20 0x1 1x60"},
        {minute: [] for minute in (11, 12, 14, 16)},
    ),
    Case("UspS3NotScraped: no server", dict.fromkeys(UP, "1x20 stale"), {13: [], 14: [alert("UspS3NotScraped")]}),
    # --- a single failure
    one_failure("UspS3RequestRejected", "USPS30305", s3_code="SignatureDoesNotMatch"),
    one_failure("UspS3RequestRejected", "USPS30305", s3_code="InvalidAccessKeyId"),
    one_failure("UspS3RequestRejected", "USPS30305", s3_code="RequestTimeTooSkewed"),
    one_failure("UspS3RequestRejected", "USPS30305", s3_code="AuthorizationHeaderMalformed"),
    one_failure("UspS3SettingInvalid", "USPS30101"),
    one_failure("UspS3SettingInvalid", "USPS30101", bucket_name=""),
    one_failure("UspS3InstallationBroken", "USPS30701"),
    one_failure("UspS3InstallationBroken", "USPS30705"),
    one_failure("UspS3TLSFailing", "USPS30403"),
    one_failure("UspS3CredentialsUnavailable", "USPS30601"),
    one_failure("UspS3InternalError", "USPS30001"),
    Case(
        "further failures keep an alert, which does not flap",
        {**OK, WRONG_KEY: f"{BEFORE} 1+0x11 2+0x11 3+0x11 4x200"},
        {minute: [alert("UspS3RequestRejected", **ON_A, **REJECTED)] for minute in (20, 25, 29.5, 30, 31, 36, 45)}
        | {50: []},
    ),
    Case(
        "after a restart, which begins at 0, the first failure counts",
        {**OK, WRONG_KEY: "5x40 _x4 1x200"},
        {20: [], 22.5: [alert("UspS3RequestRejected", **ON_A, **REJECTED)]},
    ),
    Case(
        "a restart without failures is none",
        {exchanges(): "0+300x40 0+300x200", WRONG_KEY: "5x40 _x200"},
        {minute: [] for minute in (20, 21, 22, 25, 30)},
    ),
    Case(
        "failures from before Prometheus read the server are old",
        {'up{job="usp-s3",instance="a"}': "_x40 1x400", exchanges(): "_x40 900+300x400", WRONG_KEY: "_x40 7x100 8x100"},
        {minute: [] for minute in (21, 25, 30, 40, 69)} | {71: [alert("UspS3RequestRejected", **ON_A, **REJECTED)]},
    ),
    Case(
        "each server has its own alert",
        {**OK, WRONG_KEY: ONCE, exchanges("USPS30305", "SignatureDoesNotMatch", instance="b"): "_x50 1x200"},
        {
            21: [alert("UspS3RequestRejected", **ON_A, **REJECTED)],
            26: [alert("UspS3RequestRejected", **{**ON_A, "instance": each}, **REJECTED) for each in "ab"],
            32: [alert("UspS3RequestRejected", **{**ON_A, "instance": "b"}, **REJECTED)],
        },
    ),
    # --- credentials
    Case(
        "UspS3RefreshFailing: the first refresh fails",
        {refreshes("success"): f"{BEFORE} 0x200", refreshes("failure"): f"{BEFORE} 1x200"},
        {21.5: [], 23: [alert("UspS3RefreshFailing", **IDENTITY)], 36: []},
    ),
    Case(
        "UspS3RefreshFailing: a later one fails",
        {refreshes("success"): "4x400", refreshes("failure"): "0x39 1+1x200"},
        {21: [], 23: [alert("UspS3RefreshFailing", **IDENTITY)], 60: [alert("UspS3RefreshFailing", **IDENTITY)]},
    ),
    Case(
        "a refresh that succeeds after a failure is no fault",
        {
            refreshes("success"): f"{BEFORE} 1x200",
            refreshes("failure"): f"{BEFORE} 1x200",
            EXPIRATION: IN_23_MINUTES,
        },
        {minute: [] for minute in (20, 21, 22, 23, 25, 30, 34, 36)},
    ),
    Case(
        "UspS3CredentialsExpiring",
        {refreshes("success"): "4x400", refreshes("failure"): "0x20 1+1x200", EXPIRATION: IN_23_MINUTES},
        {
            17: [alert("UspS3RefreshFailing", **IDENTITY)],
            19: [alert(f"UspS3{name}", **IDENTITY) for name in ("RefreshFailing", "CredentialsExpiring")],
            40: [alert(f"UspS3{name}", **IDENTITY) for name in ("RefreshFailing", "CredentialsExpiring")],
        },
    ),
    Case(
        "the credentials of an idle server expire",
        {refreshes("success"): "4x400", refreshes("failure"): "2x400", EXPIRATION: IN_23_MINUTES},
        {minute: [] for minute in (19, 22, 24, 60)},
    ),
    Case(
        "refreshes fail, and the credentials are valid for long",
        {refreshes("success"): "4x400", refreshes("failure"): "0x20 1+1x200", EXPIRATION: IN_AN_HOUR},
        {30: [alert("UspS3RefreshFailing", **IDENTITY)]},
    ),
    # --- rates; USPS30503 has no other alert for so few seconds
    Case(
        "UspS3BucketFailing",
        {exchanges(): "0+300x40 12001+100x400", exchanges("USPS30402"): "0x40 200+200x400"},
        {
            22: [],
            25: [alert("UspS3BucketFailing", **FILMS)],
            35: [
                alert("UspS3BucketFailing", **FILMS),
                alert("UspS3ErrorRateHigh", **FILMS),
                alert("UspS3ConnectionFailing", error="USPS30402", **ON_A),
            ],
        },
    ),
    Case(
        "UspS3BucketFailing: a minute without S3",
        {exchanges(): "0+300x40 12001x2 12301+300x400", exchanges("USPS30402"): "0x40 300 600 600x400"},
        {minute: [] for minute in (21, 22, 23, 24, 25, 26, 28, 30)},
    ),
    Case(
        "UspS3ErrorRateHigh",
        {**OK, exchanges("USPS30406"): "0x40 30+30x400"},
        {
            24: [],
            30: [
                alert("UspS3ErrorRateHigh", **FILMS),
                alert("UspS3ConnectionFailing", error="USPS30406", **ON_A),
            ],
        },
    ),
    Case(
        "UspS3ErrorRateHigh: by the requests of all servers",
        {
            exchanges(): "0+300x1000",
            exchanges(instance="b"): "0+300x1000",
            exchanges("USPS30405", "SlowDown"): "0x40 20+20x400",
        },
        {40: [alert("UspS3Throttled", error="USPS30405", s3_code="SlowDown", **FILMS)]},
    ),
    Case(
        "UspS3ErrorRateHigh: few requests, of which a third fails",
        {exchanges(): "0+0.2x1000", exchanges("USPS30404"): "0x40 0+0.1x400"},
        {minute: [] for minute in (30, 60, 90)},
    ),
    Case(
        "UspS3BucketDown: a request every ten minutes",
        {exchanges("USPS30402"): f"{BEFORE} 1x19 2x19 3x19 4x19 5x100"},
        {39: [], 50: [alert("UspS3BucketDown", **FILMS)]},
    ),
    Case(
        "UspS3BucketDown: one of them succeeds",
        {exchanges(): "_x60 1x1000", exchanges("USPS30402"): f"{BEFORE} 1x19 2x19 3x19 4x19 5x100"},
        {minute: [] for minute in (39, 50, 60, 70)},
    ),
    Case(
        "UspS3BucketDown: a missing object is an answer",
        {
            exchanges("USPS30302", "NoSuchKey"): "0+0.05x1000",
            exchanges("USPS30402"): f"{BEFORE} 1x19 2x19 3x19 4x19 5x100",
        },
        {minute: [] for minute in (39, 50, 60, 70)},
    ),
    Case(
        "UspS3EverythingDenied",
        {exchanges("USPS30303", "AccessDenied"): "0x40 0+1x400"},
        {30: [], 37: [alert("UspS3EverythingDenied", **FILMS)]},
    ),
    Case(
        "UspS3EverythingDenied: some succeed",
        {exchanges("USPS30303", "AccessDenied"): "0x40 0+1x400", exchanges(): "0+0.1x1000"},
        {minute: [] for minute in (37, 50, 90)},
    ),
    # --- numbers
    *steady("UspS3ConnectionFailing", "USPS30402", **ON_A),
    *steady("UspS3ConnectionFailing", "USPS30404", **ON_A),
    *steady("UspS3ConnectionFailing", "USPS30408", **ON_A),
    *steady("UspS3PoolExhausted", "USPS30407", **ON_A),
    *steady("UspS3Throttled", "USPS30405", "SlowDown", **FILMS),
    *steady("UspS3BadResponse", "USPS30304", **ON_A),
    *steady("UspS3BadResponse", "USPS30401", **ON_A),
    Case(
        "UspS3BodyTruncated: the first three",
        {**OK, exchanges("USPS30501", status="2xx"): f"{BEFORE} 3x200"},
        {19.5: [], 20: [alert("UspS3BodyTruncated", error="USPS30501", **ON_A)], 31: []},
    ),
    Case("UspS3BodyTruncated: one", {**OK, exchanges("USPS30502", status="2xx"): ONCE}, {20: [], 25: []}),
    # --- times and retries
    Case(
        "UspS3ManyRetries",
        {**OK, **attempts("0+300x40 12000+390x400")},
        {22: [], 50: [alert("UspS3ManyRetries", **FILMS)]},
    ),
    Case("UspS3ManyRetries: a tenth", {**OK, **attempts("0+330x1000")}, {30: [], 60: []}),
    Case("UspS3ManyRetries: few requests", {**SOME_OK, **attempts("0+2x1000")}, {30: [], 60: []}),
    Case(
        "UspS3SlowFirstByte", histogram("0+90x400", "0+100x400"), {10: [], 20: [alert("UspS3SlowFirstByte", **FILMS)]}
    ),
    Case("UspS3SlowFirstByte: one of a hundred", histogram("0+99x400", "0+100x400"), {20: [], 60: []}),
    Case("UspS3SlowFirstByte: few requests", histogram("0+1x400", "0+2x400"), {20: [], 60: []}),
    # --- corrections
    Case(
        "UspS3Corrected: in the first exchange with a bucket",
        {'up{job="usp-s3",instance="a"}': "1x1000", **corrections("region", "_x140 1x200")},
        {69: [], 70: [alert("UspS3Corrected", subject="region", **ON_A)], 131: []},
    ),
    Case(
        "UspS3Corrected: later",
        corrections("clock", "0x40 1x300"),
        {20: [], 21: [alert("UspS3Corrected", subject="clock", **ON_A)], 81: []},
    ),
    Case("credentials that were replaced are no fault", corrections("credentials", "0x40 1+1x300"), {30: []}),
]
