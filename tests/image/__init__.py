"""The container image, and the project's own tests with the httpd of the official image: see tests/README.md."""
