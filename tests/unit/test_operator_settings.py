"""Which settings in a WSGI environ are the operator's, with usp_s3_module and without it (tests/httpd: in httpd)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wsgi import METRICS_TOKEN, PROOF, call, environ, handed_over, netstring, netstring_pairs, s3_settings
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.gateway import httpd_module, operator_settings

SETTINGS = s3_settings("http://127.0.0.1:9")


@pytest.fixture
def module_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose httpd has loaded usp_s3_module."""
    monkeypatch.setattr(httpd_module, "PROOF", PROOF)


@pytest.mark.usefixtures("module_loaded")
def test_only_the_settings_of_the_module_are_used() -> None:
    untrusted = {"S3BucketURL": "http://elsewhere.example/b/", "S3FallbackURL": "http://elsewhere.example/c/"}
    request = environ(
        settings=untrusted, USP_S3_SETTINGS=handed_over(SETTINGS), USP_S3_PATH="/x", REDIRECT_STATUS="404"
    )
    trusted = operator_settings.from_environ(request)
    assert trusted.settings.bucket_url.host == "127.0.0.1"
    assert trusted.settings.fallback is None
    assert (
        trusted.served_path,
        trusted.errordocument_status,
        trusted.module_enforces_content_length,
        trusted.is_debug,
    ) == (
        None,
        None,
        True,
        False,
    )


@pytest.mark.usefixtures("module_loaded")
def test_facts_about_the_request() -> None:
    text = handed_over(SETTINGS, path="/media//a,1:x", error_status="404", debug="")
    trusted = operator_settings.from_environ(environ(USP_S3_SETTINGS=text, SERVER_PROTOCOL="INCLUDED"))
    assert (trusted.served_path, trusted.errordocument_status, trusted.is_debug) == ("/media//a,1:x", 404, True)
    assert trusted.metrics_token == operator_settings.metrics_token({"USP_S3_SETTINGS": text}) == METRICS_TOKEN
    for untrusted in ("", "x" * len(text), text[1:]):
        assert operator_settings.metrics_token({"USP_S3_SETTINGS": untrusted}) == ""


@pytest.mark.usefixtures("module_loaded")
def test_a_rejected_setting_is_an_error() -> None:
    text = handed_over(SETTINGS, error="S3Region is set in an .htaccess file of /srv/: ...")
    reply = call(environ(USP_S3_SETTINGS=text))
    assert reply.status == 500
    assert "S3Region is set in an .htaccess file of /srv/" in reply.log


@pytest.mark.usefixtures("module_loaded")
@given(st.text("abS3,:0", min_size=1), st.text("a,:1é\n "), st.text("abS3,:é\n 0", min_size=1))
def test_any_value_is_decoded_unchanged(secret_key: str, path: str, other: str) -> None:
    text = handed_over({other: other, **SETTINGS, "S3SecretKey": secret_key}, path=path)
    trusted = operator_settings.from_environ(environ(USP_S3_SETTINGS=text))
    assert trusted.served_path == path
    assert resolver.resolve(trusted.settings).secret_key == secret_key


#: Values of USP_S3_SETTINGS that another author could set.
FORGED = [
    handed_over(SETTINGS),
    PROOF,
    "",
    "x" * len(PROOF) + METRICS_TOKEN + netstring(netstring_pairs(SETTINGS)) + netstring(""),
]


@pytest.mark.parametrize("text", FORGED)
def test_without_the_module_its_variable_is_ignored(text: str) -> None:
    """A page may set the variable."""
    request = environ(settings=SETTINGS, USP_S3_SETTINGS=text, USP_S3_GUARDED="1", REDIRECT_STATUS="404")
    trusted = operator_settings.from_environ(request)
    assert (trusted.module_enforces_content_length, trusted.errordocument_status, trusted.is_debug) == (
        False,
        None,
        False,
    )
    with pytest.raises(SettingError, match="usp_s3_module"):
        operator_settings.from_environ({**request, "SERVER_PROTOCOL": "INCLUDED"})


@pytest.mark.parametrize(
    "changes",
    [
        {"SERVER_PROTOCOL": "INCLUDED"},
        {"REDIRECT_URL": "/page"},
        {"REQUEST_URI": "/pages/"},
        {"REQUEST_URI": "/media"},
        {"REQUEST_URI": "/media/film.mp4/"},
        {"REQUEST_URI": ""},
        {"PATH_INFO": "/other.mp4"},
        {"SCRIPT_NAME": "/other"},
        {"CONTEXT_PREFIX": "/media/pages"},
    ],
)
def test_without_the_module_only_direct_requests_are_served(changes: dict[str, Any]) -> None:
    reply = call(environ(settings=SETTINGS) | changes)
    assert (reply.status, reply.log.count("\n")) == (500, 1)
    assert "needs usp_s3_module" in reply.log


@pytest.mark.parametrize(
    "uri",
    [
        "/media/film.mp4",
        "/media//film.mp4",
        "//media/film.mp4?x=/pages/",
        "/m%65dia/film%2Emp4",
        "http://gateway.example/media/film.mp4",
        "http://[::1]:80/media/film.mp4?y",
    ],
)
def test_a_direct_request_in_any_form_of_its_url(uri: str) -> None:
    assert operator_settings.from_environ(environ(settings=SETTINGS) | {"REQUEST_URI": uri}).served_path is None


@pytest.mark.usefixtures("module_loaded")
@pytest.mark.parametrize(
    "text", [None, "", "x", "x" * len(PROOF) + METRICS_TOKEN + netstring(netstring_pairs(SETTINGS)) + netstring("")]
)
def test_with_the_module_other_settings_are_ignored(text: str | None) -> None:
    """A mount without settings gets none from a page."""
    variable: dict[str, Any] = {} if text is None else {"USP_S3_SETTINGS": text}
    reply = call(environ(settings=SETTINGS) | variable)
    assert (reply.status, reply.log.count("\n")) == (500, 1)
    assert "S3BucketURL is not set for this request in httpd's own files" in reply.log


def test_the_url_is_decoded_once() -> None:
    request = environ(settings=SETTINGS) | {"REQUEST_URI": "/%256dedia/a%252Fb", "PATH_INFO": "/a%2Fb"}
    assert "needs usp_s3_module" in call(request).log


def test_a_request_with_an_encoded_slash_that_httpd_did_not_decode_is_direct() -> None:
    request = environ(settings=SETTINGS) | {"REQUEST_URI": "/media/a%2Fb", "PATH_INFO": "/a%2Fb"}
    assert call(request).status == 400


def test_usp_s3_path_of_a_direct_request() -> None:
    assert (
        operator_settings.from_environ(environ(settings=SETTINGS, USP_S3_PATH="/media//x")).served_path == "/media//x"
    )
