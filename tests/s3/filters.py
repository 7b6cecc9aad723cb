"""Filters of the server's pipeline that Swift does not have.

The server process loads them with paste.deploy, from the configuration that server.py writes.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, unquote

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Filter = Callable[[App], App]

DENIED = (
    b"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"
)
LOGGED_HEADERS = frozenset({"host", "range", "cookie"})
LOGGED_PREFIXES = ("x-amz-", "x-forwarded-")
SECRET_NAMES = ("signature", "token", "credential")


def log_to_stderr(conf: Any, name: Any, console: Any, route: Any, fmt: str, logger: Any, adapter: Any) -> None:
    """Log to stderr, where tests find errors, instead of the system's syslog."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(fmt))
    logger.handlers[:] = [handler]


def access_log(global_conf: Any, path: str, **conf: str) -> Filter:
    """Write one JSON line per request, with its connection and without secrets, for tests to read."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def factory(app: App) -> App:
        def logged(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
            if "REMOTE_PORT" not in environ:  # made by this process, without a connection
                return app(environ, start_response)
            record = _record(environ)

            def start(status: str, *rest: Any) -> Any:
                # Before the response is sent: a client that has the response finds the line.
                if "status" not in record:
                    record["status"] = int(status.split(" ", 1)[0])
                    record["length"] = next(
                        (int(value) for name, value in rest[0] if name.lower() == "content-length"), 0
                    )
                    os.write(log, json.dumps(record).encode() + b"\n")
                return start_response(status, *rest)

            return app(environ, start)

        return logged

    return factory


def _record(environ: Environ) -> dict[str, Any]:
    # RAW_PATH_INFO is the path as it was sent; PATH_INFO is decoded.
    query = environ.get("QUERY_STRING", "")
    target = environ["RAW_PATH_INFO"] + ("?" + "&".join(map(_redacted, query.split("&"))) if query else "")
    headers: dict[str, str] = {}
    for raw_name, value in environ["headers_raw"]:
        name = raw_name.lower()
        if name == "authorization":
            shown = value.partition(" ")[0] if value.startswith(("AWS ", "AWS4-")) else "present"
        elif name in LOGGED_HEADERS or (
            name.startswith(LOGGED_PREFIXES) and not any(secret in name for secret in SECRET_NAMES)
        ):
            shown = value
        else:
            shown = "present"
        headers[name] = f"{headers[name]}, {shown}" if name in headers else shown
    return {
        "method": environ["REQUEST_METHOD"],
        "target": target,
        "port": int(environ["REMOTE_PORT"]),
        "headers": headers,
    }


def _redacted(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    secret = any(word in unquote(name).lower() for word in SECRET_NAMES)
    return name + equals if secret else parameter


def deny_unsigned(global_conf: Any, **conf: str) -> Filter:
    """Answer 403 to unsigned requests, as S3 does; Swift would treat them as requests to its own API."""

    def factory(app: App) -> App:
        def denied(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
            # The same condition as in s3api. Only server.py sets the override; clients cannot.
            parameters = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
            signed = "AWSAccessKeyId" in parameters or "X-Amz-Credential" in parameters
            if signed or "HTTP_AUTHORIZATION" in environ or environ.get("swift.authorize_override"):
                return app(environ, start_response)
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(DENIED)))]
            start_response("403 Forbidden", headers)
            return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [DENIED]

        return denied

    return factory


def access_keys(global_conf: Any, **conf: str) -> Filter:
    """Translate access keys like AKIA... to those of tempauth, "account:user"; options: key_<AKIA...> = a:u."""
    names = {name.removeprefix("key_"): user for name, user in conf.items() if name.startswith("key_")}

    def factory(app: App) -> App:
        def mapped(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
            details = environ.get("s3api.auth_details")
            if details and details["access_key"] in names:
                access_key = details["access_key"]
                details["access_key"] = names[access_key]
                # s3api has made the path /v1/<access key>/..., in which tempauth expects its own name.
                prefix = f"/v1/{access_key}"
                if environ["PATH_INFO"].startswith(prefix):
                    environ["PATH_INFO"] = f"/v1/{names[access_key]}" + environ["PATH_INFO"][len(prefix) :]
            return app(environ, start_response)

        return mapped

    return factory


def local_cache(global_conf: Any, **conf: str) -> Filter:
    """Provide a cache for accounts and buckets in this process, instead of memcached."""
    cache = Cache()

    def factory(app: App) -> App:
        def cached(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return cached

    return factory


class Cache:
    """The interface of Swift's memcached client, with a dict."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Any, float]] = {}

    def set(self, key: str, value: Any, serialize: bool = True, time: float = 0, **options: Any) -> None:
        self._entries[key] = (value, _now() + time if time else float("inf"))

    def get(self, key: str, **options: Any) -> Any:
        value, expires = self._entries.get(key, (None, 0.0))
        return value if expires > _now() else None

    def delete(self, key: str, **options: Any) -> None:
        self._entries.pop(key, None)

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -delta, time)

    def set_multi(self, mapping: dict[str, Any], server_key: str | None = None, **options: Any) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=options.get("time", 0))

    def get_multi(self, keys: Iterable[str], server_key: str | None = None) -> list[Any]:
        return [self.get(key) for key in keys]


def _now() -> float:
    return time.monotonic()
