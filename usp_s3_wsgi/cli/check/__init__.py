"""``usp-s3 check``: says for each configured bucket what is fine and what is wrong, and what to change."""
