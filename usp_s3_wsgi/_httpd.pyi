"""The part of ``_httpd.c`` that Python sees; it can be imported inside httpd alone."""

from collections.abc import Callable

def register(
    sign: Callable[..., tuple[object, ...]],
    refused: Callable[..., tuple[object, ...]],
    forwarded: dict[str, tuple[str, ...]],
    passed_on: dict[int, tuple[str, ...]],
) -> None: ...
