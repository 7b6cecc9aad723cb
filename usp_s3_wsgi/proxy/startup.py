"""What mod_wsgi loads into each child of httpd, by ``usp_s3_access.py``: usp_s3_module gets its callbacks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from usp_s3_wsgi.errors import LogCode
from usp_s3_wsgi.observability.error_log import format_line
from usp_s3_wsgi.proxy import callbacks
from usp_s3_wsgi.proxy.shared_tables import SHARED_TABLES

_not_installed: str | None = "<Proxy> sections cannot be signed in this process: install() was not called"


def install() -> None:
    """Make this process's mod_proxy sign; if it cannot, write the reason to the error log, once."""
    global _not_installed
    try:
        from usp_s3_wsgi import _httpd

        _httpd.register(
            callbacks.sign_request,
            callbacks.explain_error,
            callbacks.describe_failure,
            callbacks.describe_response,
            callbacks.validate_response,
            SHARED_TABLES,
        )
    except (ImportError, RuntimeError) as error:
        reason = str(error)
    except (TypeError, ValueError):  # the arguments are those of another version
        reason = "httpd has loaded usp_s3_module of another version of usp_s3_wsgi; restart httpd (graceful)"
    else:
        _not_installed = None
        return
    _not_installed = f"<Proxy> sections cannot be signed in this process: {reason}"
    print(format_line(LogCode.SIGNER_NOT_INSTALLED, _not_installed), file=sys.stderr)


def allow_access(environ: Mapping[str, Any], host: str | None) -> bool | None:
    """Deny what would go out unsigned, for ``WSGIAccessScript``: False denies, None leaves it to others.

    A section needs this only where httpd could be started without usp_s3_module.
    """
    if _not_installed is None:
        return None
    environ["wsgi.errors"].write(format_line(LogCode.SIGNER_NOT_INSTALLED, _not_installed) + "\n")
    return False
