"""From the operator's ``SetEnv`` lines to one frozen ``Settings``; ``settings.py`` has the table of all of them."""
