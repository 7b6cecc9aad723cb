"""From the operator's ``SetEnv`` lines to a frozen ``Settings`` object. The table of settings is in ``settings.py``."""
