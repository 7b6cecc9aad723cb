#!/bin/sh
# Install the browser of "make test-status" as root: Debian's Chromium. Other browsers that tests/browser.py knows are used
# if they are here.
#
# usage: tests/status/install.sh
set -eu
for name in chromium chromium-browser google-chrome google-chrome-stable; do
  if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
exec "$(dirname "$0")/../install_packages.sh" chromium
