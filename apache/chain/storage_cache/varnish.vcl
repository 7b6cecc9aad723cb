# usp_s3_wsgi: a storage cache with Varnish, between whoever reads (an origin, httpd's public virtual host) and the virtual host that
# signs. Explained in docs/chain.md.
#
# Copy it to /etc/varnish/default.vcl, and gateway.conf or proxy.conf of this folder to Apache. Varnish has its address in the command
# that starts it, not here: "systemctl edit varnish", and
#   [Service]
#   ExecStart=
#   ExecStart=/usr/sbin/varnishd -j unix,user=vcache -F -a 127.0.0.1:8091 -f /etc/varnish/default.vcl -s malloc,8g
# Then "systemctl restart varnish". Replace:
#   8g                 how much memory the cache may use
#   127.0.0.1:8091     in that command: where this cache listens
#   127.0.0.1, 8090    where httpd signs, if that is another machine
#
# ##########################################################################################################################
# # THIS CACHE HAS PRIVATE OBJECTS, AND SENDS THEM TO WHOEVER REACHES IT: NO SIGNATURE, NO PASSWORD. So -a is loopback, or   #
# # an address of a network of its own that no client can reach, and "readers" below are those who may read.                #
# ##########################################################################################################################
#
# Varnish stores whole objects. The first reader of an object, also of a range of it, makes it read all of it, once, and everybody gets
# each byte as it arrives: a range at the beginning at once, a range at the end of a large object after all that is before it. Where an
# origin reads indexes at the end of large files, use nginx (slices).
vcl 4.1;

import std;

backend default {
  .host = "127.0.0.1";
  .port = "8090";
  .connect_timeout = 5s;
  # The gateway retries for up to twice its timeout (30 s) before it sends an error.
  .first_byte_timeout = 75s;
  .between_bytes_timeout = 75s;
}

# Who may read. With an address of another network in -a: those of the origin or of httpd.
acl readers {
  "127.0.0.1";
  "::1";
}

# Who may remove objects: curl -X PURGE http://127.0.0.1:8091/bucket/film.mp4, or with patterns: varnishadm ban req.url "~" ^/bucket/films/
acl purgers {
  "127.0.0.1";
  "::1";
}

sub vcl_recv {
  if (client.ip !~ readers) {
    return (synth(403));
  }
  # S3 sees no query parameters. If S3PassQuery is set, keep those that it names.
  set req.url = regsub(req.url, "\?.*$", "");
  # One name, whatever the reader sends: the name is part of Varnish's key.
  set req.http.Host = "media.example.com";
  if (req.method == "PURGE") {
    if (client.ip !~ purgers) {
      return (synth(405));
    }
    return (purge);
  }
  if (req.method != "GET" && req.method != "HEAD") {
    return (synth(405));
  }
  # S3 sees neither, and Varnish would not store what is asked with them.
  unset req.http.Cookie;
  unset req.http.Authorization;
  # Varnish answers 416 to several ranges, and to other units. Without the header the reader gets the whole object (200), as every reader
  # must accept.
  if (req.http.Range !~ "^bytes=([0-9]+-[0-9]*|-[0-9]+)$") {
    unset req.http.Range;
  }
  return (hash);
}

sub vcl_backend_response {
  # A failed update in the background does not replace a stale object.
  if (beresp.status >= 500 && bereq.is_bgfetch) {
    return (abandon);
  }
  # Errors of S3 are not kept, but those who wait for the same object get the same error. A 404 that appears later is found after 5 s.
  if (beresp.status >= 400) {
    set beresp.ttl = 1s;
    if (beresp.status == 404) {
      set beresp.ttl = 5s;
    }
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    return (deliver);
  }
  # Objects that do not fit into the storage (-s) would push out all others, and fail. They are read by their ranges, and not stored.
  if (std.integer(beresp.http.Content-Length, 0) > 1073741824) {
    return (pass(1h));
  }
  # How long an object is used without a question to S3. After that a reader gets the old object once more, while Varnish asks S3 in the
  # background (304 if it is the same). An object that was replaced is never mixed with its predecessor. Cache-Control of S3 is for players
  # and CDNs, and they get it: many objects were uploaded with "no-cache", and of those each reader would go to S3.
  set beresp.ttl = 10m;
  if (bereq.url ~ "\.(m3u8|mpd|ism|isml|ismc|vtt|webvtt|srt|ttml|json|xml|key)$") {
    set beresp.ttl = 2s;
  }
  # Your choice: how long an old object is sent while S3 is away or fails (0s: an error instead), and how much longer it can still be
  # asked for with a condition (304) instead of being read again.
  set beresp.grace = 1d;
  set beresp.keep = 7d;
  return (deliver);
}

sub vcl_backend_error {
  # httpd itself does not answer: the stale object stays, too.
  if (bereq.is_bgfetch) {
    return (abandon);
  }
}

sub vcl_deliver {
  # An empty object has no range: Varnish 7.7 would announce 206 and a length, and then end.
  if (resp.http.Content-Length == "0") {
    unset req.http.Range;
  }
  # It belongs to the lifetime that is used here. With S3's Cache-Control it would mean something else.
  unset resp.http.Age;
  if (obj.hits > 0) {
    set resp.http.X-Cache-Status = "HIT";
  } else {
    set resp.http.X-Cache-Status = "MISS";
  }
}
