"""``S3ProxySet``: the worker parameters of mod_proxy, for the connections to S3."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from usp_s3_wsgi.config.parsers import integer, on_off


@dataclass(frozen=True, slots=True)
class ProxySet:
    """Worker parameters of mod_proxy, with its names and meanings. Times are in seconds.

    The defaults are those of the line in mod_unified_s3_auth's documentation. ``max`` 0: no limit. ``acquire`` 0: wait
    for ``timeout`` seconds, not without a limit as mod_proxy does. ``addressttl``: no limit by default.
    https://httpd.apache.org/docs/2.4/mod/mod_proxy.html#proxypass
    """

    connectiontimeout: float = 5.0
    timeout: float = 30.0
    ttl: float = 300.0
    retry: float = 0.0
    keepalive: bool = True
    enablereuse: bool = True
    max: int = 0
    acquire: float = 0.0
    addressttl: float = math.inf


_UNITS = {"ms": 0.001, "s": 1.0, "mi": 60.0, "h": 3600.0}
_MAX_SECONDS = 7 * 24 * 3600.0


def _duration(default_unit: str, low: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        match = re.fullmatch(r"([0-9]{1,9})(ms|s|mi|h)?", text)
        if not match or not low <= (seconds := int(match[1]) * _UNITS[match[2] or default_unit]) <= _MAX_SECONDS:
            minimum = f"{low:g} s" if low >= 1 else "1 ms" if low else "0"
            raise ValueError(f"must be a time such as 500ms, 5 ({default_unit}) or 2mi, from {minimum} to a week")
        return seconds

    return parse


_seconds = _duration("s", 0)


def _address_ttl(text: str) -> float:
    if text == "-1":
        return math.inf
    if (seconds := _seconds(text)) % 1:
        raise ValueError("must be whole seconds, or -1")  # as for mod_proxy
    return seconds


#: The parser of each parameter.
PARAMETERS: dict[str, Callable[[str], Any]] = {
    "connectiontimeout": _duration("s", 0.001),
    "timeout": _duration("s", 0.001),
    "ttl": _duration("s", 1),
    "retry": _duration("s", 0),
    "keepalive": on_off,
    "enablereuse": on_off,
    "disablereuse": on_off,
    "max": integer(1, 100_000),
    "acquire": _duration("ms", 0.001),
    "addressttl": _address_ttl,
}


def parse(text: str) -> ProxySet:
    """Parse ``name=value`` pairs separated by spaces, as in mod_proxy's ``ProxySet`` directive. Raises: ValueError."""
    values: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if name not in PARAMETERS or not equals:
            raise ValueError("must be name=value with the names " + " ".join(PARAMETERS))
        if name in values:
            raise ValueError(f"must not have {name} twice")
        try:
            values[name] = PARAMETERS[name](value)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    if "disablereuse" in values:
        if "enablereuse" in values:
            raise ValueError("must not have both enablereuse and disablereuse")
        values["enablereuse"] = not values.pop("disablereuse")
    return ProxySet(**values)
