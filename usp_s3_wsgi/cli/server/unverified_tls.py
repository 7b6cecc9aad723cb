"""TLS without a look at the certificate, for connections on which nothing secret is sent."""

from __future__ import annotations

import ssl


def unverified_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
