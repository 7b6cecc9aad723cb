"""The WSGI application, under the name that ``apache/scripts/usp_s3.wsgi`` and installed configurations use."""

from usp_s3_wsgi.gateway.handler import application

__all__ = ["application"]
