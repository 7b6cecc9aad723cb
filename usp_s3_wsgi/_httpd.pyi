"""The part of ``_httpd.c`` that Python sees; it can be imported inside httpd alone."""

from collections.abc import Callable

def proof() -> str | None: ...
def guarded_body() -> object | None: ...
def cut_body(body: object) -> None: ...
def register(
    sign_request: Callable[..., tuple[object, ...]],
    explain_error: Callable[..., tuple[object, ...]],
    describe_failure: Callable[..., str | None],
    describe_response: Callable[..., str],
    validate_response: Callable[..., tuple[object, ...]],
    request_headers: dict[str, tuple[str, ...]],
    response_headers: dict[int, tuple[str, ...]],
) -> None: ...
