"""S3ProxySet: the parameters of mod_proxy, with its names and units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usp_s3_wsgi.config.proxy_set import ProxySet
from usp_s3_wsgi.config.proxy_set import parse as proxy_set


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ProxySet()),
        ("connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300", ProxySet()),
        ("connectiontimeout=2", ProxySet(connectiontimeout=2)),
        ("timeout=500ms", ProxySet(timeout=0.5)),
        ("timeout=1ms", ProxySet(timeout=0.001)),
        ("timeout=5s", ProxySet(timeout=5)),
        ("timeout=2mi", ProxySet(timeout=120)),
        ("ttl=1h", ProxySet(ttl=3600)),
        ("ttl=1000ms", ProxySet(ttl=1)),
        ("retry=0", ProxySet(retry=0)),
        ("retry=60", ProxySet(retry=60)),
        ("acquire=3000", ProxySet(acquire=3)),  # milliseconds, as in mod_proxy
        ("acquire=1", ProxySet(acquire=0.001)),
        ("acquire=3s", ProxySet(acquire=3)),
        ("addressttl=60", ProxySet(addressttl=60)),
        ("addressttl=2mi", ProxySet(addressttl=120)),
        ("addressttl=0", ProxySet(addressttl=0)),
        ("addressttl=-1", ProxySet()),  # mod_proxy's default: no limit
        ("max=1", ProxySet(max=1)),
        ("max=100000", ProxySet(max=100_000)),
        ("keepalive=Off", ProxySet(keepalive=False)),
        ("enablereuse=off", ProxySet(enablereuse=False)),
        ("disablereuse=on", ProxySet(enablereuse=False)),
        ("disablereuse=off", ProxySet(enablereuse=True)),
        ("  max=2 \t timeout=3  ", ProxySet(max=2, timeout=3)),
    ],
)
def test_parameters(text: str, expected: ProxySet) -> None:
    assert proxy_set(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timeout", "name=value"),
        ("timeout 30", "name=value"),
        ("loadfactor=1", "name=value"),
        ("Timeout=30", "name=value"),
        ("timeout=", "timeout must be a time"),
        ("timeout=0", "timeout must be a time"),
        ("timeout=-1", "timeout must be a time"),
        ("timeout=1.5", "timeout must be a time"),
        ("timeout=5m", "timeout must be a time"),
        ("timeout=5us", "timeout must be a time"),
        ("connectiontimeout=0", "connectiontimeout must be a time"),
        ("ttl=0", "ttl must be a time"),
        ("ttl=999ms", "ttl must be a time"),
        ("acquire=0", "acquire must be a time"),
        ("addressttl=1500ms", "addressttl must be whole seconds"),
        ("addressttl=-2", "addressttl must be a time"),
        ("retry=1e9", "retry must be a time"),
        ("max=0", "max must be a whole number"),
        ("max=100001", "max must be a whole number"),
        ("max=all", "max must be a whole number"),
        ("max=1 max=2", "must not have max twice"),
        ("keepalive=yes", "keepalive must be on or off"),
        ("enablereuse=on disablereuse=off", "both enablereuse and disablereuse"),
    ],
)
def test_invalid_parameters(text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        proxy_set(text)
    assert expected in str(caught.value)


@given(st.sampled_from(["", "timeout=", "timeout=5 ", "max=1 acquire="]), st.text())
@hypothesis_settings(deadline=None)
def test_a_message_never_shows_the_value(prefix: str, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        proxy_set(f"{prefix}5ec4e7{text}")
    assert "5ec4e7" not in str(caught.value)
