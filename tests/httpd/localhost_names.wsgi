"""Names below localhost are this machine (RFC 6761, section 6.3), also where its resolver does not say so.

Loaded by WSGIImportScript in tests: it stands in for the DNS of virtual-host style bucket names.
"""

import socket

_getaddrinfo = socket.getaddrinfo


def _with_localhost(host, *arguments, **keywords):
    if isinstance(host, str) and host.endswith(".localhost"):
        host = "127.0.0.1"
    return _getaddrinfo(host, *arguments, **keywords)


socket.getaddrinfo = _with_localhost
