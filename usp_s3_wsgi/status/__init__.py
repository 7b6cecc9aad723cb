"""What an operator sees of the running server ("UspS3Metrics On"): the status page, its JSON, and the health checks."""
