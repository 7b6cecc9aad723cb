"""What Python sees of usp_s3_module (``proxy/mod_usp_s3/python_callbacks.c``); it can be imported only inside httpd."""

from collections.abc import Callable

def proof() -> str | None: ...
def guarded_body() -> object | None: ...
def mark_body_truncated(body: object) -> None: ...
def log(body: object, level: int, message: str) -> None: ...
def register(
    sign_request: Callable[..., tuple[object, ...]],
    explain_error: Callable[..., tuple[object, ...]],
    describe_failure: Callable[..., str | None],
    describe_response: Callable[..., str],
    validate_response: Callable[..., tuple[object, ...]],
    request_headers: dict[str, tuple[str, ...]],
    response_headers: dict[int, tuple[str, ...]],
) -> None: ...
