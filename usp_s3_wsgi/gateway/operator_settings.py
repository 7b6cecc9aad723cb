"""The trusted settings of a request: only those in the server configuration, which the operator writes.

An .htaccess file or an SSI page can set the same variables. usp_s3_module knows whose a variable is
(``mod_usp_s3/trust_boundary.c``), and passes the operator's in one variable, which begins with a proof that no page can
know. Without the module that is not known in a subrequest or after a redirect: then only requests are served that a
client makes directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import identity
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.gateway import client_request, httpd_module

#: The variable that usp_s3_module sets: the proof, a token for metrics, and two netstrings, of the settings and of
#: facts about the request; each holds names and values as netstrings.
_MODULE_VARIABLE = "USP_S3_SETTINGS"
_TOKEN_SIZE = 24
_MODULE_IS_NEEDED = (
    "a subrequest, a redirect or a rewritten URL needs usp_s3_module, which tells the operator's settings from those "
    "of pages: usp-s3 apache-config prints its LoadModule line (it needs mod_proxy, and headers of httpd to install)"
)
#: Also where another handler's name led here (WSGIHandlerScript), which cannot be known.
_NO_SETTINGS = (
    "S3BucketURL is not set for this request in httpd's own files (or it is not mod_wsgi's wsgi-script that handles it)"
)


class RequestContext(NamedTuple):
    """The operator's settings of a request, and what httpd knows about it.

    ``served_path``: the decoded path that is served, where a directive of the operator sets it (``USP_S3_PATH``).
    ``errordocument_status``: the status of the error whose ErrorDocument this is. ``module_enforces_content_length``:
    usp_s3_module counts the body's bytes, and ends a response abnormally whose body is too short. ``is_debug``: each
    response of S3 that is not a success is logged. ``is_main_interpreter``: threads may run in it. ``metrics_token``:
    names the request to usp_s3_module when an exchange with S3 is recorded.
    """

    settings: Settings
    served_path: str | None = None
    errordocument_status: int | None = None
    module_enforces_content_length: bool = False
    is_debug: bool = False
    is_main_interpreter: bool = True
    metrics_token: str = ""

    def check_refresh_threads_allowed(self, settings: Settings) -> None:
        """Raises: SettingError: the bucket's credentials are refreshed by a thread, and none may run here.

        When a sub-interpreter ends while such a thread is at work, Python ends the process.
        """
        if not self.is_main_interpreter and identity.from_settings(settings):
            raise SettingError("roles and the identities of AWS need WSGIApplicationGroup %{GLOBAL}")


def from_environ(environ: Mapping[str, Any]) -> RequestContext:
    """Return the operator's settings of a request.

    Raises:
        SettingError: a setting is not allowed, or it is not known whether the operator wrote it.
        BadRequestTarget: the client's path cannot be a key.
    """
    is_main_interpreter = not environ.get("mod_wsgi.application_group")
    if httpd_module.PROOF is not None:
        return _from_module(environ.get(_MODULE_VARIABLE, ""), httpd_module.PROOF, is_main_interpreter)
    found = settings.from_environ(environ)
    if not client_request.is_direct(environ):
        raise SettingError(_MODULE_IS_NEEDED)
    return RequestContext(found, environ.get("USP_S3_PATH"), is_main_interpreter=is_main_interpreter)


def metrics_token(environ: Mapping[str, Any]) -> str:
    """Return the token that names the request when an exchange with S3 is recorded; empty without the module."""
    proof, text = httpd_module.PROOF, environ.get(_MODULE_VARIABLE, "")
    return text[len(proof) : len(proof) + _TOKEN_SIZE] if proof is not None and text.startswith(proof) else ""


def _from_module(text: str, proof: str, is_main_interpreter: bool) -> RequestContext:
    if not text.startswith(proof):
        raise SettingError(_NO_SETTINGS)
    settings_begin = len(proof) + _TOKEN_SIZE
    variables, rest = _netstring(text, settings_begin)
    facts = dict(_pairs(_netstring(text, rest)[0]))
    if "error" in facts:
        raise SettingError(facts["error"])
    status = facts.get("error status")
    return RequestContext(
        _parse(variables),
        facts.get("path"),
        int(status) if status else None,
        module_enforces_content_length=True,
        is_debug="debug" in facts,
        is_main_interpreter=is_main_interpreter,
        metrics_token=text[len(proof) : settings_begin],
    )


@lru_cache(maxsize=16_384)
def _parse(variables: str) -> Settings:
    return settings.parse(tuple(dict(_pairs(variables)).items()))


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
