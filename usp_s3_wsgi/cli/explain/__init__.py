"""``usp-s3 explain``: what an error code means, and what the status page knows of a failed request."""
