"""The gateway: a WSGI application that requests objects from S3 and sends them to the client."""
