"""What the S3 protocol means: object requests, errors, retries, byte ranges, clocks and regions. Without I/O."""
