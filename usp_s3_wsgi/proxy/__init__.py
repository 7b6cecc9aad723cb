"""Signing inside ``<Proxy>`` sections of mod_proxy: callbacks in Python, and usp_s3_module in C (``mod_usp_s3``)."""
