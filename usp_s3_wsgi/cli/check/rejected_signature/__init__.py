"""Says why S3 rejects a signature: the usual causes, each tried with a request of one byte."""
