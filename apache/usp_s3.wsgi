"""What WSGIScriptAlias points at: Apache finds the gateway here. There is nothing to configure in this file."""

from usp_s3_wsgi.application import application

__all__ = ["application"]
