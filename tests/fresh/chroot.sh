#!/bin/sh
# Run a command in a chroot. tests/fresh calls this in new namespaces, whose mounts and processes end with the command.
#
# usage: chroot.sh FOLDER [--own-network] [--userspec=UID:GID] COMMAND...
set -eu
folder=$1
shift
mount --make-rprivate /
mount -t proc proc "$folder/proc"
mount --rbind /dev "$folder/dev"
mount -t tmpfs -o mode=755 tmpfs "$folder/run"
mkdir -m 1777 "$folder/run/lock"
cat /etc/resolv.conf >"$folder/etc/resolv.conf"
cat /etc/hosts >"$folder/etc/hosts"
if [ "$1" = --own-network ]; then
  shift
  ip link set lo up
  # tests/fresh/network.py connects this namespace; 10.0.2.3 is the name server of slirp4netns.
  tries=0
  until ip -4 addr show tap0 2>/dev/null | grep -q inet; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "slirp4netns does not connect this network" >&2; exit 1; }
    sleep 0.1
  done
  echo "nameserver 10.0.2.3" >"$folder/etc/resolv.conf"
fi
case $1 in
  --userspec=*) user=$1; shift; exec chroot "$user" "$folder" "$@" ;;
esac
exec chroot "$folder" "$@"
