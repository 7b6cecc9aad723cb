#!/bin/sh
# Remove what the image does not use from a virtual environment. Of botocore's 400 services those that issue credentials
# stay; its own certificates are not used, because certifi is installed.
#
# usage: slim.sh VENV
set -eu
packages=$(echo "$1"/lib/python3.*/site-packages)
for service in "$packages"/botocore/data/*/; do
  case $(basename "$service") in sts | sso | sso-oidc | signin) ;; *) rm -r "$service" ;; esac
done
rm -f "$packages"/botocore/cacert.pem
rm -rf "$packages"/mod_wsgi/docs
find "$1/bin" ! -name usp-s3 ! -name 'python*' -type f -delete
