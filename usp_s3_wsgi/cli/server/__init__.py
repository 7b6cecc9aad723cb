"""What the commands know of the server: httpd's configuration, its buckets and their settings."""
