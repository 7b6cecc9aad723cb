"""``usp-s3 convert``: from a configuration of mod_unified_s3_auth to one of usp_s3_wsgi.

:func:`conversion.convert` runs the steps: :mod:`proxy` or :mod:`gateway` collects the edits of each line
(:mod:`line_edits`), then :mod:`configtest_check` checks the result as ``httpd -t`` does.
"""
