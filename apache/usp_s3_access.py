"""What WSGIImportScript loads into each child of httpd: it makes <Proxy> sections sign. Nothing is configured here."""

from usp_s3_wsgi.access import allow_access, install

__all__ = ["allow_access"]

install()
