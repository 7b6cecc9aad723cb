"""What Python sees of ``proxy/mod_usp_s3``; it can be imported only inside httpd."""

from collections.abc import Callable

def proof() -> str | None: ...
def guarded_body() -> object | None: ...
def cut_body(body: object) -> None: ...
def register(
    sign: Callable[..., tuple[object, ...]],
    refused: Callable[..., tuple[object, ...]],
    failed: Callable[..., str | None],
    answered: Callable[..., str],
    judged: Callable[..., tuple[object, ...]],
    forwarded: dict[str, tuple[str, ...]],
    passed_on: dict[int, tuple[str, ...]],
) -> None: ...
