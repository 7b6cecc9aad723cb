"""Sign requests to Amazon S3 and compatible servers: Signature v4 and v2, in headers or in the query string.

Everything here is pure: no input or output, no clock, no settings. :mod:`signer` chooses the version, :mod:`sigv4` and
:mod:`sigv2` have one function for each step of the specification. Cached are v4's signing keys, and what the
signatures of one second have in common.
"""
