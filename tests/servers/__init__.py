"""The same requests to several S3 servers, through the gateway and ``<Proxy>``: ``make test-servers``.

A server is a small class (swift.py, ceph.py, seaweedfs.py, rclone.py, moto.py); the requests are in battery/. botocore
stores the objects (stored_objects.py) and sends the same requests directly to the server (botocore_client.py).
verdict.py decides whose fault an unexpected response is: the server's if botocore also gets an unexpected response,
otherwise ours, and then the test fails. report.py writes docs/servers.md from results.json, the results of the last
complete run.

``make test`` includes the part for Swift.
"""
