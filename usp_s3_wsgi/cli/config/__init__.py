"""``usp-s3 config``: writes the configuration of a bucket, from options or from answers on a terminal."""
