#!/bin/sh
# Install Ceph's RGW (S3 with a real STS) from Debian, for the tests in this folder, as root; ceph-mon and ceph-osd are
# what it stores in. No service is started and none stays enabled, now or at the next boot.
#
# usage: tests/rgw/install.sh
set -eu
umask 022
packages="radosgw ceph-mon ceph-osd ceph-common"
policy=/usr/sbin/policy-rc.d

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }
installed() { dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p' | sort; }

missing=
for program in radosgw radosgw-admin ceph ceph-mon ceph-osd monmaptool; do
  have "$program" || missing="$missing $program"
done
if [ -z "$missing" ]; then
  say "Ceph's packages: all there"
  exit 0
fi
have apt-get || die "Missing on this machine:$missing" "There is no apt-get here: install Ceph's radosgw, mon and osd by hand."
[ "$(id -u)" = 0 ] || die "Missing on this machine:$missing" "This is not root. As root: $0"

say "Debian packages: $packages and what they need (about 80 MB; no service is started)"
export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
own_policy=
# An interrupted one must not leave a machine behind on which no service starts any more.
clean_up() {
  if [ -n "$own_policy" ]; then rm -f "$policy"; fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# A package's scripts enable its units and ask policy-rc.d before they start them; 101 is "no". Where systemd does not
# run (containers, chroots) they start nothing anyway: they only leave links below /etc/systemd/system and /etc/rc?.d.
# A policy that the machine has already is the operator's: it is left as it is, and what it lets start is stopped below.
if [ ! -e "$policy" ]; then
  own_policy=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
installed >"$work/before"
{ apt-get update -q && apt-get install -y -q --no-install-recommends $packages; } >"$work/log" 2>&1 </dev/null ||
  { tail -n 20 "$work/log"; die "apt-get could not install: $packages" "Its last words are above; is the network there?"; }

# What came in just now shall not start at the next boot either: ceph-crash, uuidd, smartmontools, radosgw's init script...
installed | comm -13 "$work/before" - >"$work/new"
xargs -r dpkg -L <"$work/new" | sort -u >"$work/files"
now=
if [ -d /run/systemd/system ]; then now=--now; fi
if have systemctl; then
  sed -n 's,^\(/usr\)\?/lib/systemd/system/\([^/@]*\.\(service\|socket\|target\|timer\|path\)\)$,\2,p' "$work/files" |
    xargs -r systemctl --quiet disable $now >"$work/disabled" 2>&1 || { cat "$work/disabled" >&2; say "not all units could be disabled"; }
fi
sed -n 's,^/etc/init\.d/\([^/]*\)$,\1,p' "$work/files" | while read -r script; do
  update-rc.d "$script" disable >/dev/null 2>&1 || say "/etc/init.d/$script could not be disabled"
done
say "$(wc -l <"$work/new") packages installed; to remove them: apt-get purge --autoremove $packages"
