"""Checks the way to the bucket's host: its name, its addresses, a connection to each of them."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator, Sequence

from usp_s3_wsgi.cli.check.result import Result, fine, look, wrong
from usp_s3_wsgi.config.bucket_url import BucketURL

#: More addresses of a host are not tried.
_MAX_ADDRESSES = 8
#: This machine has no address of that family, or no route.
_NO_ROUTE = frozenset({errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL})


def check(url: BucketURL, connect_timeout: float) -> Iterator[Result]:
    """Yield the results of "name" and "connection"; "connection" only if the name has an address.

    ``connect_timeout``: seconds for each address.
    """
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a valid name"
        yield wrong(
            "name",
            f"{url.host} has no address: {reason}",
            f"correct the host in the bucket's URL, or this server's DNS: getent hosts {url.host}",
        )
        return
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    shown = ", ".join(str(address[0]) for _, address in addresses[:_MAX_ADDRESSES])
    yield fine("name", f"{url.host}: {shown}" if shown != url.host else f"{url.host}, an address")
    yield _connect(url, addresses[:_MAX_ADDRESSES], connect_timeout)


def _connect(url: BucketURL, addresses: Sequence[tuple[int, tuple[object, ...]]], timeout: float) -> Result:
    times: dict[int, list[float]] = {}
    failures: dict[int, list[tuple[str, bool]]] = {}
    for family, address in addresses:
        started_at = time.monotonic()
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout)
                connection.connect(address)
        except OSError as error:
            reason = f"no response within {timeout:g} s" if isinstance(error, TimeoutError) else error.strerror
            failures.setdefault(family, []).append((f"{address[0]}: {reason}", error.errno in _NO_ROUTE))
        else:
            times.setdefault(family, []).append(time.monotonic() - started_at)
    failed = [text for found in failures.values() for text, _ in found]
    if not times:
        text = f"port {url.port} accepts no connection: {'; '.join(failed)}"
        action = "correct host and port of the bucket's URL, start the server there, or open the firewall between"
        return wrong("connection", text, action)
    text = f"port {url.port}, connected in {max(max(one) for one in times.values()) * 1000:.1f} ms"
    # A server without IPv6 has no way to the IPv6 addresses of a host, which is no fault of theirs.
    unused = {family for family, found in failures.items() if family not in times and all(one for _, one in found)}
    failed = [text for family, found in failures.items() if family not in unused for text, _ in found]
    if failed:
        text = f"{text}, but not to each address: {'; '.join(failed)}"
        return look("connection", text, "remove the address from DNS, or repair the way to it: it costs time")
    return fine("connection", text)
