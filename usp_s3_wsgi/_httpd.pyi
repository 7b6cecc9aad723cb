"""What Python sees of usp_s3_module (``proxy/mod_usp_s3/python_callbacks.c``); it can be imported only inside httpd."""

from collections.abc import Callable
from typing import Any

def proof() -> str | None: ...
def guarded_body() -> object | None: ...
def mark_body_truncated(body: object) -> None: ...
def log(body: object, level: int, message: str) -> None: ...
def is_recording() -> bool: ...
def record_exchange(
    token: str,
    host: str,
    bucket: str,
    s3_status: int,
    s3_code: str,
    request_id: str,
    error: str,
    first_byte_us: int,
    duration_us: int,
    attempts: int,
    resumes: int,
    clock_corrections: int,
    region_corrections: int,
    credential_corrections: int,
    fallbacks: int,
    body_bytes: int,
    new_connections: int,
    reused_connections: int,
    /,
) -> None: ...
def record_refresh(identity: str, expires: int, is_success: bool, /) -> None: ...
def read_metrics() -> dict[str, Any]: ...
def register(
    sign_request: Callable[..., tuple[object, ...]],
    explain_error: Callable[..., tuple[object, ...]],
    describe_failure: Callable[..., tuple[object, ...]],
    describe_response: Callable[..., str],
    validate_response: Callable[..., tuple[object, ...]],
    shared_tables: tuple[object, ...],
) -> None: ...
