"""``usp-s3 sign``: a signed request for a private object, as headers, URL or curl command, and how it was computed."""
