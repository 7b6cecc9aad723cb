"""What the S3 protocol means: requests for objects, errors, retries, byte ranges, clocks and regions. No input or output."""
