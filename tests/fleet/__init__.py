"""Several servers behind HAProxy: the files in apache/fleet with real network failures (``make test-fleet``)."""
