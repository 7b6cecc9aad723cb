"""The same questions to every S3 server that can be had here, through both ways in: ``make test-servers``.

A server is a small class (swift.py, ceph.py, seaweedfs.py, rclone.py, moto.py), the questions are in battery/, a folder
of its own for nothing but them. What is stored (stock.py) and asked directly (direct.py) is stored and asked by
botocore. verdict.py says whose a wrong answer is: the server's own where botocore meets the same, else ours, and then
the test fails. report.py makes the table of docs/servers.md from results.json, which the last run has written.

``make test`` has Swift's part.
"""
