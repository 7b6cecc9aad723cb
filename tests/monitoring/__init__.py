"""The files in apache/monitoring with the programs that read them (``make test-monitoring``).

What needs none of these programs is in ``make test`` too.
"""
