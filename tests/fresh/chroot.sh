#!/bin/sh
# Run a command inside a folder with a system in it. Called by tests/fresh in namespaces of its own, whose mounts and
# processes end with it.
#
# usage: chroot.sh FOLDER [--userspec=UID:GID] COMMAND...
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
case $1 in
  --userspec=*) user=$1; shift; exec chroot "$user" "$folder" "$@" ;;
esac
exec chroot "$folder" "$@"
