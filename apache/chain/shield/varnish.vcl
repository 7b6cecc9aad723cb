# usp_s3_wsgi: a shield with Varnish, in front of the server, for a CDN. Explained in docs/chain.md.
#
# Copy it to /etc/varnish/default.vcl. Replace:
#   192.0.2.10, 80        the server
#   media.example.com     its name
#   a-long-random-word    a secret that only the CDN knows (openssl rand -hex 32); only root and Varnish may read this file:
#                         chgrp varnish, chmod 640 (with 600 Varnish does not start)
#   8g                    in the command below: how much memory the cache may use
# "systemctl edit varnish", and (vsl_mask: without it the shared log that varnishlog shows has the secret)
#   [Service]
#   ExecStart=
#   ExecStart=/usr/sbin/varnishd -j unix,user=vcache -F -a :80 -f /etc/varnish/default.vcl -s malloc,8g -p vsl_mask=-ReqHeader,-ReqUnset
# Then "systemctl restart varnish".
vcl 4.1;

import std;

backend default {
  .host = "192.0.2.10";
  .port = "80";
  .connect_timeout = 5s;
  # The gateway retries for up to twice its timeout (30 s) before it sends an error.
  .first_byte_timeout = 75s;
  .between_bytes_timeout = 75s;
}

# Who may remove objects: curl -X PURGE http://127.0.0.1/media/film.mp4, or with patterns: varnishadm ban req.url "~" ^/media/films/
# If a program on this machine (hitch, HAProxy) sends clients' requests to Varnish, all of them are from 127.0.0.1, and clients could remove
# objects: let it use the PROXY protocol (-a :80,PROXY), which says the client's address.
acl purgers {
  "127.0.0.1";
  "::1";
}

# In place of the secret, or beside it, the CDN's addresses. (They change: most CDNs publish a list.)
#acl cdn {
#  "198.51.100.0"/24;
#}

sub vcl_recv {
  set req.http.Host = "media.example.com";
  if (req.method == "PURGE") {
    if (client.ip !~ purgers) {
      return (synth(405));
    }
    set req.url = regsub(req.url, "\?.*$", "");
    return (purge);
  }

  # Only the CDN may read. This comes before the cache, so it holds for what is stored as well.
  if (req.http.X-Cdn-Secret != "a-long-random-word") {
    return (synth(403));
  }
  #if (client.ip !~ cdn) {
  #  return (synth(403));
  #}
  # The server never gets it.
  unset req.http.X-Cdn-Secret;

  # Only /media is stored: its objects depend on nothing but the path. All else is the server's own.
  if (req.url !~ "^/media/") {
    return (pass);
  }
  # OPTIONS (CORS) is answered by the server. So are requests with a password, which must not be answered from here.
  if ((req.method != "GET" && req.method != "HEAD") || req.http.Authorization) {
    return (pass);
  }
  # S3 sees no query parameters. If S3PassQuery is set, keep those that it names.
  set req.url = regsub(req.url, "\?.*$", "");
  unset req.http.Cookie;
  # Varnish answers 416 to several ranges, and to other units. Without the header the reader gets the whole object (200), as every reader
  # must accept.
  if (req.http.Range !~ "^bytes=([0-9]+-[0-9]*|-[0-9]+)$") {
    unset req.http.Range;
  }
  return (hash);
}

sub vcl_backend_response {
  # What is passed is the server's own answer.
  if (bereq.uncacheable) {
    return (deliver);
  }
  # A failed update in the background does not replace a stale object.
  if (beresp.status >= 500 && bereq.is_bgfetch) {
    return (abandon);
  }
  # Errors are not kept, but those who wait for the same object get the same error. A 404 that appears later is found after 5 s.
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
  # How long, if the server sends no Cache-Control. (docs/caching.md: it should.)
  if (!beresp.http.Cache-Control && !beresp.http.Expires) {
    set beresp.ttl = 10m;
    if (bereq.url ~ "\.(m3u8|mpd)$") {
      set beresp.ttl = 2s;
    }
  }
  # Your choice: how long an old object is sent while the server or S3 is away or fails (0s: an error instead).
  set beresp.grace = 1d;
  set beresp.keep = 7d;
}

sub vcl_backend_error {
  # The server does not answer at all: the stale object stays, too.
  if (bereq.is_bgfetch) {
    return (abandon);
  }
}

sub vcl_deliver {
  # An empty object has no range: Varnish 7.7 would announce 206 and a length, and then end.
  if (resp.http.Content-Length == "0") {
    unset req.http.Range;
  }
  if (obj.hits > 0) {
    set resp.http.X-Cache-Status = "HIT";
  } else {
    set resp.http.X-Cache-Status = "MISS";
  }
}
