"""What usp_s3_module offers to the gateway: a proof, an abnormal end of a body, log levels."""

from __future__ import annotations

from types import ModuleType


class HttpdRequest:
    """httpd's side of one request. Only valid while that request is handled, in its thread."""

    def __init__(self, module: ModuleType, capsule: object) -> None:
        self._module, self._capsule = module, capsule

    def mark_truncated(self) -> None:
        """Tell httpd, before the body ends, that it is not complete: httpd ends the response abnormally."""
        self._module.mark_body_truncated(self._capsule)

    def log(self, level: int, line: str) -> None:
        """Write a line to httpd's error log, unless LogLevel is below the level (3 error, 4 warn, 6 info, 7 debug)."""
        self._module.log(self._capsule, level, line)


def current_request() -> HttpdRequest | None:
    """Return the request that this thread handles; None without the module, and in mod_wsgi's daemons."""
    capsule = _module.guarded_body() if _module else None
    return None if _module is None or capsule is None else HttpdRequest(_module, capsule)


def _load() -> ModuleType | None:
    try:
        from usp_s3_wsgi import _httpd
    except ImportError:  # it was not compiled, or this is not httpd
        return None
    return _httpd


_module = _load()
#: The start of usp_s3_module's variable in this process; None if httpd has not loaded the module.
PROOF: str | None = _module.proof() if _module else None
