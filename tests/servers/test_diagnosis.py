"""The diagnosis of a rejected signature, with what each server answers to the same mistakes."""

from __future__ import annotations

import http.client
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest

from tests.leaks import leaks
from tests.servers.battery.modes import PLAIN
from tests.servers.botocore_client import encoded
from tests.servers.program import WAIT
from tests.servers.run import Run
from tests.servers.sections import bucket
from usp_s3_wsgi.cli.check.rejected_signature.diagnosis import MAX_REQUESTS, Diagnosis, Send, ServerAnswer, diagnose
from usp_s3_wsgi.config.settings import from_environ
from usp_s3_wsgi.signing.types import Credentials, S3Request

MODES = {"v4-header": ("v4", "on"), "v4-query": ("v4", "off"), "v2-header": ("v2", "on"), "v2-query": ("v2", "off")}
NO_SIGNATURES = {"moto": "moto checks no signatures"}
ANOTHER_REGION = "ap-southeast-2"


def sender(run: Run) -> Send:
    """Sends to the server, whatever the host of the request is."""
    url = urlsplit(run.server.url)

    def send(request: S3Request) -> ServerAnswer:
        with closing(http.client.HTTPConnection(str(url.hostname), url.port, timeout=WAIT)) as connection:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in (("Host", request.host), *request.headers):
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read(65_536).decode("utf-8", "replace")
            return ServerAnswer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)

    return send


def diagnosed(
    run: Run, mode: str, *, send: Send | None = None, clock: timedelta = timedelta(0), **changes: str
) -> Diagnosis:
    if reason := NO_SIGNATURES.get(run.server.name):
        pytest.skip(reason)
    if unsupported := run.unsupported(mode):
        pytest.skip(f"{run.server.name} does not support {mode}: {unsupported}")
    version, use_headers = MODES[mode]
    environ = {
        "S3BucketURL": f"{run.server.url}/{bucket(mode, 'objects')}/",
        "S3AccessKey": run.server.keys.access_key,
        "S3SecretKey": run.server.keys.secret_key,
        "S3Region": run.server.region if version == "v4" else "",
        "S3UseHeaders": use_headers,
    }
    settings = from_environ(environ | changes)
    url = settings.bucket_url
    request = S3Request("GET", url.scheme, url.authority, url.prefix + encoded(PLAIN.key))
    credentials = Credentials(str(settings.access_key), str(settings.secret_key), settings.security_token)
    found = diagnose(request, settings, credentials, send or sender(run), now=lambda: datetime.now(UTC) + clock)
    assert len(found.tried) <= MAX_REQUESTS
    assert leaks(repr(found)) == []
    return found


@pytest.mark.parametrize("mode", MODES)
def test_right_settings(run: Run, mode: str) -> None:
    assert diagnosed(run, mode).cause == "S3 accepts the signature now."


@pytest.mark.parametrize("mode", MODES)
def test_keys_in_quotes(run: Run, mode: str) -> None:
    keys = run.server.keys
    found = diagnosed(run, mode, S3SecretKey=f'"{keys.secret_key}"')
    assert found.cause == "The secret key is accepted without the quotes around it."
    found = diagnosed(run, mode, S3AccessKey=f'"{keys.access_key}"', S3SecretKey=f'"{keys.secret_key}"')
    assert found.cause == "The keys are accepted without the quotes around them."


@pytest.mark.parametrize("mode", MODES)
def test_a_percent_encoded_secret_key(run: Run, mode: str) -> None:
    found = diagnosed(run, mode, S3SecretKey=quote(run.server.keys.secret_key, safe=""))
    assert found.cause.startswith("The secret key is accepted percent-decoded")


@pytest.mark.parametrize("mode", MODES)
def test_swapped_keys(run: Run, mode: str) -> None:
    keys = run.server.keys
    found = diagnosed(run, mode, S3AccessKey=keys.secret_key, S3SecretKey=keys.access_key)
    assert found.cause == "The access key and the secret key are swapped."


@pytest.mark.parametrize("mode", MODES)
def test_the_secret_key_of_another_pair(run: Run, mode: str) -> None:
    found = diagnosed(run, mode, S3SecretKey=run.server.other_keys.secret_key)
    expected = {
        "Swift": "The secret key is not the one that S3 has for this access key: S3 has computed the same text",
        "Ceph RGW": "The keys are wrong, or have no permission",
    }
    default = "The secret key is not the one that S3 has for this access key, or the request is changed"
    assert found.cause.startswith(expected.get(run.server.name, default))
    expected = {"Swift": "It is none of the usual slips (quotes, blanks, swapped)."}
    assert expected.get(run.server.name, "No usual correction was accepted.") in found.cause
    assert found.is_found == (run.server.name == "Swift")


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_access_key(run: Run, mode: str) -> None:
    found = diagnosed(run, mode, S3AccessKey="AKIANOBODYHASTHISKEY")
    expected = {
        "Swift": "The secret key is not the one that S3 has for this access key: S3 has computed the same text",
        "Ceph RGW": "The keys are wrong, or have no permission",
    }
    assert found.cause.startswith(expected.get(run.server.name, "S3 does not know the access key AKIA...SKEY."))


@pytest.mark.parametrize("mode", MODES)
def test_a_token_of_other_keys(run: Run, mode: str) -> None:
    """Some servers ignore it."""
    found = diagnosed(run, mode, S3SecurityToken="AQoDYXdzEJr//another+token==")
    assert found.cause.startswith(("S3 accepts the keys without the session token", "S3 accepts the signature now."))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.startswith("v4")])
def test_another_region(run: Run, mode: str) -> None:
    """Most servers accept any region."""
    found = diagnosed(run, mode, S3Region=ANOTHER_REGION)
    if found.is_signature_accepted:
        assert len(found.tried) == 1
    else:
        assert found.what_to_change == f"Set S3Region to {run.server.region}."


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("mode", MODES)
def test_the_clock(run: Run, mode: str, hours: int) -> None:
    found = diagnosed(run, mode, clock=timedelta(hours=hours))
    if found.is_signature_accepted:
        assert "header" not in mode or run.server.name == "SeaweedFS"  # which checks no time of v2 in headers
        assert mode == "v2-header" or hours > 0
    else:
        assert found.cause.startswith("The clock of this server is 3")
        assert ("behind" if hours < 0 else "ahead of") in found.cause


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.startswith("v4")])
def test_a_device_that_removes_the_port_from_host(run: Run, mode: str) -> None:
    send = sender(run)
    found = diagnosed(run, mode, send=lambda request: send(request._replace(host="127.0.0.1")))
    if (run.server.name, mode) == (
        "Ceph RGW",
        "v4-query",
    ):  # which also tries a signature in the query without the port
        assert found.is_signature_accepted
        return
    assert found.cause.startswith("A device between this server and S3 removes the port from the Host header")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.endswith("header")])
def test_a_device_that_drops_authorization(run: Run, mode: str) -> None:
    send = sender(run)
    found = diagnosed(run, mode, send=lambda request: send(request.without("authorization")))
    assert "S3 accepts the signature in the query string" in found.cause


@pytest.mark.parametrize("mode", MODES)
def test_the_bucket_of_another_user(run: Run, mode: str) -> None:
    """Servers that look for the bucket among those of the user say that there is none."""
    found = diagnosed(run, mode, S3BucketURL=f"{run.server.url}/{bucket(mode, 'denied')}/")
    expected = {
        "Swift": f"127.0.0.1 has no bucket {bucket(mode, 'denied')}, or not in the account of these keys.",
        "rclone": "S3 accepts the signature now.",  # all its users may do everything
    }
    permission = "S3 accepts the signature, but these keys have no permission to read this object."
    assert found.cause.startswith(expected.get(run.server.name, permission))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.startswith("v2")])
def test_version_2_where_only_version_4_is_supported(run: Run, mode: str) -> None:
    if run.server.name != "rclone":
        pytest.skip(f"{run.server.name} supports both")
    use_headers = MODES[mode][1]
    found = diagnosed(run, f"v4-{mode[3:]}", S3Region="", S3UseHeaders=use_headers)
    assert found.cause == "S3 accepts Signature v4, and not v2."
