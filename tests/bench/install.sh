#!/bin/sh
# Install what the benchmark needs, as root: Debian's nginx, wrk and Traffic Server (which includes s3_auth), and matplotlib
# in the virtual environment. No service is started or left enabled for the next boot.
#
# usage: tests/bench/install.sh VENV
set -eu
umask 022
venv=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
policy=/usr/sbin/policy-rc.d

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

"$venv/bin/python" -c 'import matplotlib' 2>/dev/null || {
  say "matplotlib, for the chart"
  "$venv/bin/python" -m pip --disable-pip-version-check install -q --require-hashes -r "$root/tests/requirements/bench.txt" ||
    die "pip could not install matplotlib." "Its message is above. Is the package index reachable?"
}

packages=
have nginx || packages="$packages nginx-light"
have wrk || packages="$packages wrk"
have traffic_server || packages="$packages trafficserver"
have curl || packages="$packages curl"
have openssl || packages="$packages openssl"
have httxt2dbm || packages="$packages apache2-utils"
[ -n "$packages" ] || exit 0
have apt-get && [ "$(id -u)" = 0 ] ||
  die "Missing on this machine:$packages" "Run this script as root on Debian, or install them yourself."

say "Debian packages:$packages (no service is started)"
export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
created_policy=
# An interrupted run must not leave a policy that keeps all services from starting.
clean_up() {
  if [ -n "$created_policy" ]; then rm -f "$policy"; fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# A package's scripts call policy-rc.d before they start a service; 101 forbids it. An existing policy is the operator's.
if [ ! -e "$policy" ]; then
  created_policy=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
{ apt-get update -q && apt-get install -y -q --no-install-recommends $packages; } >"$work/log" 2>&1 </dev/null ||
  { tail -n 20 "$work/log"; die "apt-get could not install:$packages" "Its last lines are above. Is the network available?"; }

# The packages have enabled their services for the next boot. Disable only those that were installed now.
now=
if [ -d /run/systemd/system ]; then now=--now; fi
for package in $packages; do
  service=${package%-light}
  [ -e "/etc/init.d/$service" ] || continue
  if have systemctl; then systemctl --quiet disable $now "$service" >/dev/null 2>&1 || say "$service could not be disabled"; fi
  update-rc.d "$service" disable >/dev/null 2>&1 || say "/etc/init.d/$service could not be disabled"
done
