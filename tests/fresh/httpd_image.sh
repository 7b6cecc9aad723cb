#!/bin/sh
# Turn this Debian trixie into the layout of the official httpd image: httpd compiled into /usr/local/apache2 with the
# options of the image, and the build dependencies purged: no gcc, no python3, no libapr1-dev.
# See https://github.com/docker-library/httpd/blob/master/2.4/Dockerfile. The source comes from PyPI's mod_wsgi-httpd.
# The image's metadata (ENV, CMD...) and httpd-foreground are in tests/image/base.py.
set -eu
export DEBIAN_FRONTEND=noninteractive
prefix=/usr/local/apache2
work=$(mktemp -d)
mkdir -p "$prefix"
chown www-data:www-data "$prefix"
cd "$work"

apt-get update -q
apt-get install -y -q --no-install-recommends ca-certificates libaprutil1-ldap libldap-common
manual=$(apt-mark showmanual)

# pip runs the setup.py of a download, and this one compiles an httpd with another layout. There is no compiler yet, so it
# fails at once, and --no-clean keeps the unpacked source.
apt-get install -y -q --no-install-recommends python3-pip
TMPDIR=$work python3 -m pip download -q --no-cache-dir --no-clean --no-deps --no-binary :all: mod_wsgi-httpd \
  >pip.log 2>&1 || true
source=$(find "$work" -path '*/upstream/httpd-*.tar.gz')
[ -f "$source" ] || { cat pip.log; echo "the source of httpd is not available from PyPI's mod_wsgi-httpd" >&2; exit 1; }

apt-get install -y -q --no-install-recommends dpkg-dev gcc libapr1-dev libaprutil1-dev libbrotli-dev \
  libcurl4-openssl-dev libjansson-dev liblua5.2-dev libnghttp2-dev libpcre2-dev libssl-dev libxml2-dev make zlib1g-dev
mkdir src
tar -xf "$source" -C src --strip-components=1
cd src
./configure --build="$(dpkg-architecture --query DEB_BUILD_GNU_TYPE)" --prefix="$prefix" \
  --enable-mods-shared=reallyall --enable-mpms-shared=all --enable-pie \
  CFLAGS="-pipe $(dpkg-buildflags --get CFLAGS)" CPPFLAGS="$(dpkg-buildflags --get CPPFLAGS)" \
  LDFLAGS="-Wl,--as-needed $(dpkg-buildflags --get LDFLAGS)"
make -j "$(nproc)"
make install
cd /
rm -rf "$work" "$prefix/man" "$prefix/manual"
sed -ri \
  -e 's!^(\s*CustomLog)\s+\S+!\1 /proc/self/fd/1!g' \
  -e 's!^(\s*ErrorLog)\s+\S+!\1 /proc/self/fd/2!g' \
  -e 's!^(\s*TransferLog)\s+\S+!\1 /proc/self/fd/1!g' \
  -e 's!^(\s*User)\s+daemon\s*$!\1 www-data!g' \
  -e 's!^(\s*Group)\s+daemon\s*$!\1 www-data!g' \
  "$prefix/conf/httpd.conf" "$prefix/conf/extra/httpd-ssl.conf"

apt-mark auto '.*' >/dev/null
apt-mark manual $manual >/dev/null
find "$prefix" -type f -executable -exec ldd '{}' ';' |
  awk '/=>/ { so = $(NF-1); if (index(so, "/usr/local/") == 1) next; gsub("^/(usr/)?", "", so); print "*" so }' |
  sort -u | xargs -r dpkg-query --search | cut -d: -f1 | sort -u | xargs -r apt-mark manual >/dev/null
apt-get purge -y -q --auto-remove -o APT::AutoRemove::RecommendsImportant=false -o APT::AutoRemove::SuggestsImportant=false
apt-get dist-clean
"$prefix/bin/httpd" -v
hash -r
for program in gcc make python3 apr-1-config; do
  if command -v "$program"; then echo "$program is still installed" >&2; exit 1; fi
done
