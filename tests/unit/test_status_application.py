"""The status page and the health checks as WSGI applications, with what usp_s3_module would have recorded."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from usp_s3_wsgi.observability import recorder
from usp_s3_wsgi.status import application, health

ROOT = Path(__file__).parents[2]
COUNTERS = (
    "attempts", "resumes", "clock_corrections", "region_corrections", "credential_corrections", "fallbacks",
    "body_bytes", "new_connections", "reused_connections",
)  # fmt: skip
HOST = "s3.example"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def configured(bucket: str, **changes: Any) -> dict[str, Any]:
    return {
        "way": "gateway", "path": f"/{bucket}", "file": "httpd.conf", "line": 7, "host": HOST, "bucket": bucket,
        "identity": "", "settings": [["S3Region", "r"]], "files": [], "reads_files": True, "is_fallback": False,
        "error": "", **changes,
    }  # fmt: skip


def exchanged(bucket: str | None, successes: int = 0, faults: int = 0, region_corrections: int = 0) -> Any:
    """A bucket in what read_metrics returns, and its last minute."""
    counters = [0, 0, 0, region_corrections, 0, 0, 0, 0, 0]
    entry: tuple[Any, ...] = (HOST, bucket, "gateway", [], counters, ((), 0), ((), 0), 3, (successes, faults, 0, 0))
    return entry, (successes, faults, 0, 0, 10, successes, 0, region_corrections, successes, 1000 * successes)


def failure(bucket: str | None, number: int, message: str, **changes: Any) -> tuple[Any, ...]:
    fields = {
        "time": 1.0, "is_client_error": False, "error": "USPS30305", "client_status": 502, "message": message,
        "method": "GET", "path": "/a", "range": "", "s3_status": 403, "s3_code": "SignatureDoesNotMatch",
        "s3_message": "", "request_id": "4442", "signed_at": "", "access_key": "", "region": "r",
        "canonical_request": "", "string_to_sign": "", "s3_canonical_request": "", "s3_string_to_sign": "",
        "attempts": [
            {"host": HOST, "started_after": 0, "seconds": 1, "status": 403, "s3_code": "", "request_id": "",
             "connection": "new", "failure": ""},
        ], **changes,
    }  # fmt: skip
    return (HOST, bucket, 0, 3, number, json.dumps(fields).encode())


def module(buckets: Iterable[dict[str, Any]], *exchanges: Any, failures: Iterable[Any] = (), text: str = "") -> Any:
    """usp_s3_module."""
    metrics = {
        "started_at": 1, "requests": 2, "counters": COUNTERS, "time_bounds": (),
        "credentials": [("role/x", 0, 0, 0, 0, 0, False, True)], "buckets": [entry for entry, _ in exchanges],
    }  # fmt: skip
    hour = [(0,) * 10] * 59 + [exchanges[0][1] if exchanges else (0,) * 10]
    return SimpleNamespace(
        read_metrics=lambda: metrics,
        read_last_hour=lambda number, way: hour,
        read_processes=lambda: [(1, False, 1, True), (2, True, 1, False)],
        read_failures=lambda: list(failures),
        read_configured_buckets=lambda: text or json.dumps({"buckets": list(buckets), "omitted": 1}),
    )


def ask(wsgi: Application, path: str, query: str = "", **environ: str) -> tuple[str, dict[str, str], str]:
    """Status, headers and body of a response."""
    started: list[Any] = []
    values = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/usp-s3/status", "PATH_INFO": path, "QUERY_STRING": query,
        "HTTP_HOST": "127.0.0.1", "REMOTE_ADDR": "127.0.0.1", **environ,
    }  # fmt: skip
    body = b"".join(wsgi(values, lambda *arguments: started.extend(arguments)))
    return started[0], dict(started[1]), body.decode()


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Application]:
    """Makes the status page of a usp_s3_module."""

    def make(loaded: Any) -> Application:
        monkeypatch.setattr(recorder, "load_module", lambda: loaded)
        return application.make_application(ROOT / "docs" / "errors.md")

    return make


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterable[Callable[[Any], Application]]:
    """Makes the health checks of a usp_s3_module."""

    def make(loaded: Any) -> Application:
        monkeypatch.setattr(recorder, "load_module", lambda: loaded)
        reloaded: Application = importlib.reload(health).application
        return reloaded

    yield make
    monkeypatch.undo()
    importlib.reload(health)


def test_the_page(page: Callable[[Any], Application]) -> None:
    wsgi = page(
        module(
            [
                configured("films"),
                configured("broken", error="S3Region is not set"),
                configured("copy", is_fallback=True),
            ],
            exchanged("films", successes=3, faults=1),
            failures=[
                failure("films", 1, "rejected"),
                failure("films", 2, "old", unknown=1),
                (HOST, "films", 0, 3, 3, b"x"),
            ],
        )
    )
    status, headers, text = ask(wsgi, "")
    assert status == "200 OK" and "1 of 4 requests of the last 5 minutes failed" in text
    assert headers["X-Frame-Options"] == "DENY"
    document = json.loads(ask(wsgi, "/json")[2])
    assert [(bucket["name"], bucket["health"]) for bucket in document["buckets"]] == [
        ("/broken", "failing"), ("films", "degraded"), ("copy", "idle"),
    ]  # fmt: skip
    broken, films, copy = document["buckets"]
    assert broken["action"] == "Correct the settings at httpd.conf:7, and reload httpd."
    assert [one["id"] for one in films["failures"]] == ["3-1"] and films["cause"] == "3-1"
    assert copy["mounts"][0]["path"] == "/copy (S3FallbackURL)"
    assert document["omitted_buckets"] == 1
    assert ask(wsgi, f"/failures/{films['id']}/3-1")[0] == "200 OK"
    assert [ask(wsgi, path)[0] for path in ("/failures/x/3-1", "/other")] == ["404 Not Found"] * 2
    assert "USPS30305" in ask(wsgi, "/errors")[2]


def test_the_right_region_is_named(page: Callable[[Any], Application]) -> None:
    message = "S3 answered 400 AuthorizationHeaderMalformed, the bucket is in region eu-central-1: set S3Region to it"
    for failures, action in (
        ([failure("films", 1, message)], "Set S3Region to eu-central-1."),
        ([], "Set S3Region to the region of the bucket."),
    ):
        loaded = module([configured("films")], exchanged("films", 1, region_corrections=1), failures=failures)
        (bucket,) = json.loads(ask(page(loaded), "/json")[2])["buckets"]
        assert (bucket["health"], bucket["action"]) == ("degraded", action)


def test_buckets_without_an_entry_of_their_own(page: Callable[[Any], Application]) -> None:
    wsgi = page(module([], exchanged(None, faults=1), failures=[failure(None, 1, "rejected")]))
    (bucket,) = json.loads(ask(wsgi, "/json")[2])["buckets"]
    assert (bucket["name"], bucket["health"], len(bucket["failures"])) == ("(other)", "failing", 1)


def test_who_may_not_read_the_page(page: Callable[[Any], Application]) -> None:
    wsgi = page(module([]))
    assert ask(wsgi, "", REQUEST_METHOD="POST")[0] == "405 Method Not Allowed"
    assert ask(wsgi, "", HTTP_HOST="evil.example")[0] == "403 Forbidden"
    assert ask(wsgi, "", REQUEST_METHOD="HEAD")[2] == ""
    assert ask(page(None), "")[0] == "503 Service Unavailable"


def test_health_checks(checks: Callable[[Any], Application], tmp_path: Path) -> None:
    missing = [["S3SecretKeyFile", str(tmp_path / "missing")]]
    wsgi = checks(module([configured("films"), configured("tv", files=missing)]))
    assert ask(wsgi, "/live")[0] == "200 OK"
    status, _, text = ask(wsgi, "/ready")
    assert status.startswith("503") and text.startswith("not ready: 1 of 2 buckets\ngateway tv: S3SecretKeyFile: ")
    assert ask(wsgi, "/ready", "any")[0] == "200 OK"
    assert ask(wsgi, "/ready", "any&no-content")[0] == "204 No Content"
    assert ask(wsgi, "/ready", "brief")[2] == "not ready: 1 of 2 buckets\n"
    assert ask(wsgi, "/ready", HTTP_HOST="evil.example")[2] == "not ready: 1 of 2 buckets\n"
    assert [ask(wsgi, f"/ready/{name}")[0][:3] for name in ("films", "tv", "other")] == ["200", "503", "404"]
    document = json.loads(ask(wsgi, "/ready/tv", "format=json")[2])
    assert document["ready"] is False and document["buckets"][0]["bucket"] == "tv"
    assert json.loads(ask(wsgi, "/ready", HTTP_ACCEPT="application/json")[2])["ready"] is False
    assert [ask(wsgi, path)[0][:3] for path in ("", "/x")] == ["404", "404"]
    assert ask(wsgi, "/live", REQUEST_METHOD="PUT")[0][:3] == "405"


def test_a_bucket_whose_processes_still_sign_is_ready(checks: Callable[[Any], Application], tmp_path: Path) -> None:
    missing = [["S3SecretKeyFile", str(tmp_path / "missing")]]
    for exchanges, expected in (
        (exchanged("tv", successes=1), "200"), (exchanged("tv", faults=1), "503"), (exchanged("other", 1), "503"),
    ):  # fmt: skip
        wsgi = checks(module([configured("tv", files=missing)], exchanges))
        assert ask(wsgi, "/ready")[0][:3] == expected


@pytest.mark.parametrize("loaded", [None, module([], text="{")])
def test_nothing_is_known_of_buckets(checks: Callable[[Any], Application], loaded: Any) -> None:
    wsgi = checks(loaded)
    assert ask(wsgi, "/ready")[::2] == ("200 OK", "ready: the buckets are not known\n")
    assert ask(wsgi, "/ready/films")[0] == "200 OK"
