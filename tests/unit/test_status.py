"""Readiness, explanations, and how a bucket is doing, without httpd."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from usp_s3_wsgi.config.configured_bucket import ConfiguredBucket
from usp_s3_wsgi.errors import LogCode
from usp_s3_wsgi.s3 import error_codes
from usp_s3_wsgi.status import assessment, readiness, recorded, responses
from usp_s3_wsgi.status.explanations import Explanations
from usp_s3_wsgi.status.recorded import MinuteValues
from usp_s3_wsgi.status.snapshot import Health, Identity, Readiness

ERRORS = Explanations.from_file(Path(__file__).parents[2] / "docs" / "errors.md")
NOW = 1_800_000_000.0


def mount(*files: tuple[str, str], identity: str = "", error: str = "", reads_files: bool = True) -> ConfiguredBucket:
    return ConfiguredBucket(
        "gateway", "/films", "httpd.conf", 1, "s3.example", "films", identity, (), files, reads_files, False, error
    )


def identity(**fields: float) -> Identity:
    values = {"expires": NOW + 600, "refreshed_at": NOW - 60, "failed_at": NOW - 5, "successes": 1, "failures": 0}
    values |= fields
    return Identity(
        "role/x", values["expires"], values["refreshed_at"], values["failed_at"], int(values["successes"]),
        int(values["failures"]), bool(fields.get("is_failing", False)), bool(fields.get("is_current", True)),
    )  # fmt: skip


def ready(one: ConfiguredBucket, *identities: Identity) -> Readiness:
    return readiness.of_bucket([one], {found.name: found for found in identities}, NOW)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("key\n")
    os.utime(path, (time.time() - 60, time.time() - 60))
    return path


def test_a_bucket_with_readable_keys_is_ready(secret: Path) -> None:
    assert ready(mount(("S3SecretKeyFile", str(secret)))) == Readiness(True)


def test_a_missing_file_is_not_ready(tmp_path: Path) -> None:
    found = ready(mount(("S3SecretKeyFile", str(tmp_path / "missing"))))
    assert not found.is_ready
    assert found.reason == "S3SecretKeyFile: the file cannot be read: No such file or directory"
    assert "www-data" not in found.action and "No reload is needed" in found.action


def test_an_empty_file_is_not_ready_once_it_has_settled(secret: Path) -> None:
    secret.write_text("")
    assert ready(mount(("S3SecretKeyFile", str(secret)))).is_ready  # it is being written
    os.utime(secret, (time.time() - 60, time.time() - 60))
    found = ready(mount(("S3SecretKeyFile", str(secret))))
    assert not found.is_ready
    assert found.reason.startswith("S3SecretKeyFile: the content of the file ")


def test_files_of_another_user_are_not_read() -> None:
    assert ready(mount(("S3SecretKeyFile", "/missing"), reads_files=False)) == Readiness(True)


def test_settings_that_are_not_valid() -> None:
    found = ready(mount(error="S3Region is not set"))
    assert (found.is_ready, found.reason) == (False, "S3Region is not set")
    assert found.action == "Correct the settings at httpd.conf:1, and reload httpd."


@pytest.mark.parametrize(
    ("found", "is_ready"),
    [
        (identity(), True),
        (identity(expires=NOW - 5), True),  # idle: the next request refreshes them
        (identity(expires=0, successes=0), True),
        (identity(failures=3, is_failing=1), True),
        (identity(failures=3, is_failing=1, expires=0), True),  # without a known expiration
        (identity(failures=3, is_failing=1, expires=NOW - 5), False),
        (identity(failures=3, is_failing=1, expires=0, successes=0), False),
        (identity(failures=3, is_failing=1, is_current=0), False),  # only processes that have ended had some
    ],
)
def test_temporary_credentials(found: Identity, is_ready: bool) -> None:
    result = ready(mount(identity="role/x"), found)
    assert result.is_ready == is_ready
    assert bool(result.reason) == found.is_failing


@pytest.mark.parametrize("failed_at", [NOW - 61, NOW + 3600])
def test_a_failed_refresh_does_not_keep_a_server_out_of_service(failed_at: float) -> None:
    """Only requests start a refresh, and a load balancer sends none to a server that is not ready."""
    assert ready(mount(identity="role/x"), identity(is_failing=1, successes=0, failed_at=failed_at)) == Readiness(True)


def test_a_file_that_does_not_respond_holds_up_one_thread(tmp_path: Path) -> None:
    """The others get the results of the check before."""
    fifo = tmp_path / "secret"
    os.mkfifo(fifo)
    os.utime(fifo, (time.time() - 60, time.time() - 60))
    document = {"buckets": [mount(("S3SecretKeyFile", str(fifo)))._asdict()], "omitted": 0}
    module: Any = SimpleNamespace(
        read_configured_buckets=lambda: json.dumps(document), read_metrics=lambda: {"credentials": []}
    )
    checker = readiness.Checker(module)
    thread = threading.Thread(target=checker.results, daemon=True)
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    assert checker.results() == readiness.Results({}, False)
    with fifo.open("w") as writer:  # the file server responds
        writer.write("key")
    thread.join(10)
    assert [value.is_ready for value in checker.results().by_bucket.values()] == [True]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"buckets":[{"way":"gateway","new":1}],"omitted":0}'])
def test_a_list_of_another_version_is_not_known(text: str) -> None:
    module: Any = SimpleNamespace(read_configured_buckets=lambda: text)
    assert not recorded.read_configuration(module).is_known


@pytest.mark.parametrize(
    ("client", "host", "expected"),
    [
        ("127.0.0.1", "localhost:8000", False), ("127.0.0.1", "127.0.0.1", False), ("::1", "[::1]:80", False),
        ("127.0.0.1", "evil.example:8000", True), ("::1", "evil.example", True),
        ("127.0.0.1", "localhost.evil.example", True), ("127.0.0.1", "", True),
        ("192.0.2.1", "media.example", False), ("", "media.example", False),
    ],
)  # fmt: skip
def test_a_name_of_another_site_that_leads_to_this_machine(client: str, host: str, expected: bool) -> None:
    assert responses.may_be_rebound({"REMOTE_ADDR": client, "HTTP_HOST": host}) == expected


def test_no_process_has_needed_the_credentials_yet() -> None:
    assert ready(mount(identity="role/y"), identity(is_failing=1, successes=0)) == Readiness(True)


# ---------------------------------------------------------------- how a bucket is doing


def minute(**values: int) -> MinuteValues:
    return MinuteValues(*(0,) * 10)._replace(**values)


READY = Readiness(True)


def assess(*last_minutes: MinuteValues, ready: Readiness = READY) -> Health:
    hour = (*[minute()] * (60 - len(last_minutes)), *last_minutes)
    found = assessment.assess(ready, hour, [], is_configured=True)
    assert bool(found.summary) == (found.health in {Health.FAILING, Health.DEGRADED})
    return found.health


def test_how_a_bucket_is_doing() -> None:
    assert assess() is Health.IDLE
    assert assess(minute(successes=1)) is Health.OK
    assert assess(minute(client_errors=5)) is Health.OK
    assert assess(minute(successes=9, faults=1)) is Health.DEGRADED
    assert assess(minute(faults=1)) is Health.FAILING
    assert assess(minute(client_errors=1, faults=1)) is Health.DEGRADED
    assert assess(minute(denials=3)) is Health.DEGRADED
    assert assess(minute(denials=3, successes=1)) is Health.OK
    assert assess(minute(clock_corrections=1, successes=1), *[minute(successes=1)] * 30) is Health.DEGRADED
    assert assess(minute(region_corrections=1, successes=1)) is Health.DEGRADED
    assert assess(minute(faults=5), *[minute(successes=1)] * 5) is Health.OK  # it was mended
    assert assess(minute(successes=9), minute(faults=1), minute(faults=1)) is Health.FAILING  # it has just begun
    assert assess(minute(faults=1), *[minute()] * 10) is Health.DEGRADED  # nobody knows whether it was mended
    assert assess(minute(faults=1), minute(client_errors=1), *[minute()] * 10) is Health.OK  # S3 has answered since
    assert assess(minute(successes=9), ready=Readiness(False, "no key")) is Health.FAILING
    assert assess(minute(successes=9), ready=Readiness(True, "expires soon")) is Health.DEGRADED


def test_a_bucket_that_is_not_in_the_configuration_any_more() -> None:
    hour = (*[minute()] * 49, minute(faults=1), *[minute()] * 10)
    assert assessment.assess(READY, hour, [], is_configured=False).health is Health.OK


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ([minute(successes=3), minute(successes=3)], "None of the last 2 minutes did."),
        ([minute(faults=3), minute(faults=3)], "None of the last 2 minutes succeeded."),
        ([minute(faults=3), minute(successes=3)], "failed."),
    ],
)
def test_whether_it_was_mended(last: list[MinuteValues], expected: str) -> None:
    hour = (*[minute()] * 57, minute(successes=5, faults=5), *last)
    assert assessment.assess(READY, hour, [], is_configured=True).summary.endswith(expected)


def test_minutes_have_the_time_of_the_wall_clock_however_it_jumps() -> None:
    for now in (NOW, NOW + 86_400, 10.0):
        minutes = recorded.minutes(tuple([minute(first_bytes=2, first_byte_us=3_000_000)] * 60), now)
        assert 0 <= now - minutes[-1].start < 60
        assert {round(later.start - one.start) for one, later in itertools.pairwise(minutes)} == {60}
        assert minutes[0].first_byte_seconds == 1.5


# ---------------------------------------------------------------- explanations


@pytest.mark.parametrize("code", LogCode)
def test_each_code_is_explained(code: LogCode) -> None:
    found = ERRORS.of(code, "")
    assert found.title and found.why and found.what_to_do
    text = f"{found.title}{found.why}{found.what_to_do}"
    assert not any(mark in text for mark in ("`", "**", "](", "\n"))


@pytest.mark.parametrize("code", sorted(error_codes.CLOCK_SKEW_CODES | error_codes.CREDENTIAL_CODES))
def test_s3s_codes_about_this_server_are_explained(code: str) -> None:
    if code in {"TokenRefreshRequired", "ExpiredRequest"}:
        pytest.skip("old names, which S3's servers do not use any more")
    assert ERRORS.of("USPS30305", code).code == code


def test_an_unknown_code_is_explained_by_ours() -> None:
    assert ERRORS.of("USPS30305", "Unheard").code == "USPS30305"
    assert ERRORS.of("USPS39999", "").title == ""
    assert Explanations.from_file(Path("/missing")).of("USPS30305", "SlowDown").title == ""
    assert ERRORS.of("USPS30304", "AccessDenied").code == "USPS30304"  # a device's, not S3's
