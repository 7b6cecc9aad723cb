"""What the operator sees: the lines of the error log, and metrics."""
