"""``usp-s3 check``: try each bucket of httpd's configuration, and say what is wrong and what to change."""
