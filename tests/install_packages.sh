#!/bin/sh
# Install Debian packages as root. No service is started, or left enabled for the next boot.
#
# usage: tests/install_packages.sh PACKAGE...
set -eu
umask 022
policy=/usr/sbin/policy-rc.d

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }
installed() { dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p' | sort; }

have apt-get || die "Missing on this machine: $*" "apt-get not found: install them yourself."
[ "$(id -u)" = 0 ] || die "Missing on this machine: $*" "Run this as root: $0 $*"

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

# A package's scripts enable its units and call policy-rc.d before they start them; 101 forbids it. Where systemd does not
# run (containers, chroots) they only create links below /etc/systemd/system and /etc/rc?.d.
# An existing policy is the operator's and is not changed; services that it allows to start are stopped below.
if [ ! -e "$policy" ]; then
  created_policy=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
installed >"$work/before"
{ apt-get -o DPkg::Lock::Timeout=300 update -q &&
  apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@"; } >"$work/log" 2>&1 </dev/null ||
  { tail -n 20 "$work/log"; die "apt-get could not install: $*" "Its last lines are above. Is the network available?"; }

# Disable the services of the new packages.
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
say "$(wc -l <"$work/new") packages installed; to remove them: apt-get purge --autoremove $*"
