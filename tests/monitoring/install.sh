#!/bin/sh
# Install what "make test-monitoring" needs: Prometheus and rsyslog from Debian, only unpacked into build/monitoring, because an
# installation would start services; and the model of Grafana's dashboards from PyPI.
#
# usage: tests/monitoring/install.sh VENV
set -eu
umask 022
venv=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/build/monitoring
log=$folder/install.log

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

mkdir -p "$folder"

# The first argument is the package with the program, and the others are the libraries that it needs.
unpack() {
  say "Debian's $1, unpacked in build/monitoring"
  work=$(mktemp -d)
  (cd "$work" && apt-get download -q "$@" && for package in ./*.deb; do dpkg-deb -x "$package" "$folder"; done) >"$log" 2>&1 || {
    rm -rf "$work"
    cat "$log" >&2
    die "Debian's $1 cannot be downloaded." "apt-get's message is above. As root: apt-get update"
  }
  rm -rf "$work"
}
[ -x "$folder/usr/bin/prometheus" ] || unpack prometheus
[ -x "$folder/usr/sbin/rsyslogd" ] || unpack rsyslog libestr0 libfastjson4 liblognorm5

"$venv/bin/python" -c 'import grafana_foundation_sdk' 2>/dev/null || {
  say "the model of Grafana's dashboards (1 MB)"
  "$venv/bin/python" -m pip --disable-pip-version-check install -q --require-hashes -r "$root/tests/requirements/monitoring.txt" ||
    die "pip could not install it." "Its message is above. Is the package index reachable?"
}
