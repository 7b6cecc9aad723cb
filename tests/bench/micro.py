"""Micro-benchmarks: settings, request and signature, compared with botocore for the same request."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import timeit
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from tests.bench.server import BenchError
from tests.leaks import ACCESS_KEY, SECRET_KEY
from usp_s3_wsgi.config import settings
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.gateway import client_request
from usp_s3_wsgi.proxy import callbacks
from usp_s3_wsgi.signing.signer import sign

SIGN = "sign v4 header"
_REGION = "eu-central-1"
_ORIGIN = "https://films.s3.eu-central-1.amazonaws.com"
_PATH, _RANGE = "/film/video/segment-000017.m4s", "bytes=1048576-1114111"
_MODES: dict[str, dict[str, str]] = {
    SIGN: {"S3Region": _REGION, "S3UseHeaders": "on"},
    "sign v4 query": {"S3Region": _REGION},
    "sign v2 header": {"S3UseHeaders": "on"},
    "sign v2 query": {},
}
_REPEATS, _QUICK_REPEATS, _SECONDS = 7, 2, 0.1
_TIMEOUT = 120


@dataclass(frozen=True, slots=True)
class Timing:
    """``microseconds``: the best of several repeats. ``botocore``: the same for botocore, if it has this step."""

    step: str
    microseconds: float
    botocore: float | None = None

    @property
    def ratio(self) -> float | None:
        """botocore's time divided by ours."""
        return self.botocore / self.microseconds if self.botocore else None


def measure_installed(quick: bool) -> list[Timing]:
    """Time each step with the installed package, which httpd's children run, and not with this checkout."""
    checkout = Path(__file__).parents[2]
    program = "import sys; sys.path.append(sys.argv[1]); from tests.bench import micro; micro.print_timings()"
    command = [sys.executable, "-c", program, str(checkout), str(_QUICK_REPEATS if quick else _REPEATS)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode:
        raise BenchError(f"the steps could not be timed:\n{done.stderr}")
    return [Timing(**timing) for timing in json.loads(done.stdout)]


def print_timings() -> None:
    """Print the timings as JSON: the child process of measure_installed."""
    print(json.dumps([asdict(timing) for timing in _measure(int(sys.argv[2]))]))


def _measure(repeats: int) -> Iterator[Timing]:
    for name, mode in _MODES.items():
        yield Timing(name, _best(_our_signer(mode), repeats), _best(_botocore_signer(name, mode), repeats))
    environ = _environ(_MODES[SIGN])
    yield Timing("settings, first parse", _best(_parse_uncached(environ), repeats))
    yield Timing("settings, cached", _best(lambda: settings.from_environ(environ), repeats))
    section = settings.from_environ(environ)
    yield Timing(
        "request from a WSGI environ", _best(lambda: client_request.from_environ(environ).for_bucket(section), repeats)
    )
    pairs = tuple(_settings(_MODES[SIGN]).items())
    uri = f"/media{_PATH}"
    yield Timing(
        "<Proxy>: complete callback for a request",
        _best(
            lambda: callbacks.sign_request((f"{_ORIGIN}/", pairs, "GET", _ORIGIN + _PATH, uri, False, None)), repeats
        ),
    )


def _best(call: Callable[[], object], repeats: int) -> float:
    """Microseconds of one call, the best of the repeats: slower ones are disturbed by other programs."""
    timer = timeit.Timer(call)
    number, taken = timer.autorange()
    number = max(1, int(number * _SECONDS / taken))
    return min(timer.repeat(repeats, number)) / number * 1e6


def _settings(mode: dict[str, str]) -> dict[str, str]:
    return {"S3BucketURL": f"{_ORIGIN}/", "S3AccessKey": ACCESS_KEY, "S3SecretKey": SECRET_KEY, **mode}


def _environ(mode: dict[str, str]) -> dict[str, Any]:
    """The environ of mod_wsgi for a range of an object."""
    return {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": f"/media{_PATH}",
        "SCRIPT_NAME": "/media",
        "PATH_INFO": _PATH,
        "QUERY_STRING": "",
        "SERVER_NAME": "origin.example",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "Apache",
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_HOST": "origin.example",
        "HTTP_USER_AGENT": "player",
        "HTTP_ACCEPT": "*/*",
        "HTTP_RANGE": _RANGE,
        "wsgi.errors": io.StringIO(),
        **_settings(mode),
    }


def _parse_uncached(environ: dict[str, Any]) -> Callable[[], object]:
    def parse() -> object:
        settings.parse.cache_clear()
        return settings.from_environ(environ)

    return parse


def _our_signer(mode: dict[str, str]) -> Callable[[], object]:
    environ = _environ(mode)
    section = settings.from_environ(environ)
    unsigned, keys = client_request.from_environ(environ).for_bucket(section), resolver.resolve(section)
    return lambda: sign(unsigned, section.signing, keys, datetime.now(UTC))


def _botocore_signer(name: str, mode: dict[str, str]) -> Callable[[], object]:
    """Sign the same request with botocore, which modifies the request: each call makes a new one."""
    keys = BotoCredentials(ACCESS_KEY, SECRET_KEY)
    signers: dict[str, Callable[[], Any]] = {
        SIGN: lambda: auth.S3SigV4Auth(keys, "s3", _REGION),
        "sign v4 query": lambda: auth.S3SigV4QueryAuth(keys, "s3", _REGION, expires=300),
        "sign v2 header": lambda: auth.HmacV1Auth(keys),
        "sign v2 query": lambda: auth.HmacV1QueryAuth(keys, expires=300),
    }
    signer = signers[name]()
    bucket_path = None if "S3Region" in mode else f"/films{_PATH}"
    url = _ORIGIN + _PATH

    def sign_with_botocore() -> object:
        boto_request = AWSRequest("GET", url, headers={"Range": _RANGE}, auth_path=bucket_path)
        signer.add_auth(boto_request)
        return boto_request

    return sign_with_botocore
