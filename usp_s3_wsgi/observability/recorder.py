"""usp_s3_module's functions that record what is served as metrics; they do nothing without "UspS3Metrics On"."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from usp_s3_wsgi.errors import LogCode, describe_internal_error
from usp_s3_wsgi.observability import error_log


def load_module() -> ModuleType | None:
    """Return usp_s3_module, if it records."""
    try:
        from usp_s3_wsgi import _httpd
    except ImportError:  # it was not compiled, or this is not httpd
        return None
    if not _httpd.is_recording():
        return None
    _httpd.register_daemon()  # unless it is one of httpd's children, which are registered already
    return _httpd


_module = load_module()
#: Records an exchange of the gateway with S3; None if exchanges are not recorded.
record_exchange: Callable[..., None] | None = getattr(_module, "record_exchange", None)
#: Keeps a failed exchange, for :mod:`flight_recorder`; None if exchanges are not recorded.
record_failure: Callable[[str, str, int, int, bytes], None] | None = getattr(_module, "record_failure", None)
_record_refresh: Callable[[str, int, bool], None] | None = getattr(_module, "record_refresh", None)


def refresh(identity: str, expires: int, *, is_success: bool) -> None:
    """Record that temporary credentials were refreshed, or could not be.

    ``identity``: its name. ``expires``: unix time, 0: no known expiration.
    """
    if _record_refresh is not None:
        try:
            _record_refresh(identity, expires, is_success)
        except Exception as error:  # a fault in what is recorded must not fail the refresh
            error_log.write_to_stderr(LogCode.INTERNAL_ERROR, describe_internal_error(error))
