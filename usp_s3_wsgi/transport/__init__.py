"""Bytes to and from S3: connection pools, TLS, and the HTTP/1.1 exchange on a connection."""
