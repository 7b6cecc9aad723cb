#!/bin/sh
# Run a command in a chroot. tests/fresh calls this in new namespaces, whose mounts and processes end with the command.
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
