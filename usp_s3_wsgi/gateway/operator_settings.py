"""What of a WSGI environ is the operator's: httpd's environment also holds what pages and .htaccess files have written.

Where httpd has loaded usp_s3_module, that tells one from the other (``_httpd_operator.c``) and hands over the
operator's part in one variable, which begins with a proof that no page can know. Without it nobody can tell them apart
in a subrequest or after a redirect: only requests that come from a client directly are served then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, NamedTuple

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.s3 import object_request

#: The proof and two netstrings, of settings and of what is about this request alone; each holds names and values.
_HANDED_OVER = "USP_S3_SETTINGS"
_NEEDS_MODULE = (
    "a subrequest, a redirect or a rewritten URL needs usp_s3_module, which tells the operator's settings from those "
    "of pages: usp-s3 apache-config prints its LoadModule line (it needs mod_proxy, and headers of httpd to install)"
)
#: Also where a handler of another name has led here (WSGIHandlerScript), which nobody can know.
_NOTHING = (
    "S3BucketURL is not set for this request in httpd's own files (or it is not mod_wsgi's wsgi-script that handles it)"
)


class Trusted(NamedTuple):
    """What the operator says of a request, and what httpd itself knows of it.

    ``served_path``: the decoded URL that is served, where a rule of the operator says it (``USP_S3_PATH``).
    ``error_status``: the status of the error that the request is the ErrorDocument of. ``is_guarded``: httpd counts
    the body's bytes, and ends one that is too short abnormally. ``cut_body``: tells httpd to do so with a body whose
    length is not known, before the application ends it; None where that is another process. ``is_debug``: each answer
    of S3 that is no success is logged.
    """

    settings: Settings
    served_path: str | None = None
    error_status: int | None = None
    is_guarded: bool = False
    cut_body: Callable[[], None] | None = None
    is_debug: bool = False


def from_environ(environ: Mapping[str, Any]) -> Trusted:
    """Return what counts for a request.

    Raises:
        SettingError: a setting is not allowed, or nobody knows whether it is the operator's.
        BadPath: the client's path cannot be a key.
    """
    if _proof is not None:
        return _of_module(environ.get(_HANDED_OVER, ""), _proof)
    found = settings.from_environ(environ)
    if not object_request.is_direct(environ):
        raise SettingError(_NEEDS_MODULE)
    return Trusted(found, environ.get("USP_S3_PATH"))


def _of_module(text: str, proof: str) -> Trusted:
    if not text.startswith(proof):
        raise SettingError(_NOTHING)
    given, rest = _netstring(text, len(proof))
    control = dict(_pairs(_netstring(text, rest)[0]))
    if "refusal" in control:
        raise SettingError(control["refusal"])
    status = control.get("error status")
    return Trusted(
        _settings(given),
        control.get("served path"),
        int(status) if status else None,
        is_guarded=True,
        cut_body=_cut_body(),
        is_debug="debug" in control,
    )


@lru_cache(maxsize=16_384)
def _settings(text: str) -> Settings:
    return settings.parse(tuple(dict(_pairs(text)).items()))


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return the names and values of netstrings.

    >>> _pairs("4:name,5:value,")
    [('name', 'value')]
    """
    words: list[str] = []
    position = 0
    while position < len(text):
        word, position = _netstring(text, position)
        words.append(word)
    return list(zip(words[::2], words[1::2], strict=True))


def _netstring(text: str, position: int) -> tuple[str, int]:
    """Return the netstring at a position, and where it ends. https://cr.yp.to/proto/netstrings.txt"""
    colon = text.index(":", position)
    end = colon + 1 + int(text[position:colon])
    return text[colon + 1 : end], end + 1


def _cut_body() -> Callable[[], None] | None:
    body = _module.guarded_body() if _module else None
    return partial(_module.cut_body, body) if _module and body is not None else None


def _module_of_httpd() -> ModuleType | None:
    """The part of usp_s3_module that Python sees; None where it was not compiled, or httpd has not loaded it."""
    try:
        from usp_s3_wsgi import _httpd
    except ImportError:
        return None
    return _httpd


_module = _module_of_httpd()
#: What usp_s3_module puts before what it hands over to this process; None where httpd has not loaded it.
_proof: str | None = _module.proof() if _module else None
