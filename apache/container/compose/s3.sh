#!/bin/bash
# The S3 of compose.yaml. One key pair, from the secrets of the container, may do everything; all data is in /tmp.
#
# usage: s3 run | s3 health
set -eu

run() {
  umask 077
  mkdir -p /tmp/data /tmp/log
  printf '{"identities": [{"name": "demo", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Admin"]}]}\n' \
    "$(cat /run/secrets/access-key)" "$(cat /run/secrets/secret-key)" >/tmp/s3.json
  # Only errors are on stderr. Only S3 can be reached from outside. By default SeaweedFS reports statistics to its makers.
  exec weed -logtostderr=false -alsologtostderr=false -stderrthreshold=ERROR -logdir=/tmp/log -log_max_size_mb=4 -log_max_files=2 \
    server -s3 -s3.config=/tmp/s3.json -s3.ip.bind=0.0.0.0 -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0 \
    -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir=/tmp/data -volume.max=8 -master.volumeSizeLimitMB=32 -master.telemetry=false
}

health() {
  exec 3<>/dev/tcp/127.0.0.1/8333
  printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
  read -r -t 4 line <&3
  [[ $line == "HTTP/1."?" 200 "* ]]
}

case ${1:-} in
  run | health) "$1" ;;
  *) echo "usage: s3 run | s3 health" >&2; exit 2 ;;
esac
