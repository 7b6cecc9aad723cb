"""How much of S3's responses is read into memory, by the gateway and by usp_s3_module. No setting changes it."""

from __future__ import annotations

#: Bytes of a response header, from its status line to its end; http.client has this limit for a single line.
MAX_HEADER_SIZE = 65_536
#: Bytes of an error document; S3's are far shorter.
MAX_ERROR_DOCUMENT_SIZE = 65_536
