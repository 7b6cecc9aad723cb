"""``usp-s3 get``: download an object from S3, through Apache, or both ways to compare."""
