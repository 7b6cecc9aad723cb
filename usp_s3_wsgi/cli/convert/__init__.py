"""From the configuration of mod_unified_s3_auth to ours, and whether httpd will serve what comes of it.

``conversion.convert`` does it: :mod:`proxy` or :mod:`gateway` note what becomes of which line (:mod:`edits`), then
:mod:`judgement` has the configuration that results checked as ``httpd -t`` checks it.
"""
