"""What CDNs send to an origin beside the request: headers of their own, and the ranges in which they read.

``sources`` are the pages that document it. What is marked "known" was not found in these pages: it is what operators of
origins know, and not checked against a CDN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MEGABYTE = 1 << 20
#: In the values below: the client's address, and the CDN's.
CLIENT, EDGE = "198.51.100.7", "192.0.2.77"
VIEWER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
    "Accept": "*/*",
    "Accept-Language": "en-GB,en;q=0.9",
    "Origin": "https://player.example.com",
    "Referer": "https://player.example.com/film?token=a-viewers-token",
    "Cookie": "session=a-viewers-session",
    "Sec-Fetch-Mode": "cors",
    "Priority": "u=4, i",
}


@dataclass(frozen=True, slots=True)
class Cdn:
    """``headers``: of each request. ``ranges``: how it reads an object. ``encodings``: its Accept-Encoding."""

    sources: tuple[str, ...]
    headers: Mapping[str, str]
    ranges: tuple[str, ...]
    encodings: tuple[str, ...] = ("gzip",)


CDNS: dict[str, Cdn] = {
    "CloudFront": Cdn(
        (
            "https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/RequestAndResponseBehaviorCustomOrigin.html",
            "https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/adding-cloudfront-headers.html",
            "https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/RangeGETs.html",
        ),
        {
            "User-Agent": "Amazon CloudFront",
            "Via": "2.0 0123456789abcdef.cloudfront.net (CloudFront)",
            "X-Amz-Cf-Id": "MRVMF7KydIvxMWfJIglgwHQwZsbG2IhRJ07sn9AkKUFSHS9EXAMPLE==",
            "X-Forwarded-For": CLIENT,
            "Connection": "Keep-Alive",
            "CloudFront-Forwarded-Proto": "https",
            "CloudFront-Is-Desktop-Viewer": "true",
            "CloudFront-Is-Mobile-Viewer": "false",
            "CloudFront-Viewer-Address": f"{CLIENT}:46532",
            "CloudFront-Viewer-ASN": "64496",
            "CloudFront-Viewer-Country": "NL",
            "CloudFront-Viewer-Http-Version": "3.0",
            "CloudFront-Viewer-JA3-Fingerprint": "0123456789abcdef0123456789abcdef",
            "CloudFront-Viewer-TLS": "TLSv1.3:TLS_AES_128_GCM_SHA256:connectionReused",
        },
        # The viewer's own, or a larger one.
        ("bytes=0-", "bytes=0-1", f"bytes=0-{MEGABYTE - 1}", f"bytes={MEGABYTE}-{4 * MEGABYTE - 1}"),
        ("gzip", "br,gzip", "identity"),
    ),
    # An origin access control signs for S3 and other services of AWS. "no-override" passes a viewer's Authorization on.
    "CloudFront that signs": Cdn(
        ("https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_OriginAccessControlConfig.html",),
        {
            "User-Agent": "Amazon CloudFront",
            "Via": "1.1 0123456789abcdef.cloudfront.net (CloudFront)",
            "X-Amz-Cf-Id": "MRVMF7KydIvxMWfJIglgwHQwZsbG2IhRJ07sn9AkKUFSHS9EXAMPLE==",
            "X-Forwarded-For": CLIENT,
            "Authorization": (
                "AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/20261128/eu-central-1/s3/aws4_request, "
                "SignedHeaders=host;x-amz-cf-id;x-amz-content-sha256;x-amz-date;x-amz-security-token, "
                f"Signature={'0' * 64}"
            ),
            "X-Amz-Date": "20261128T120000Z",
            "X-Amz-Content-SHA256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "X-Amz-Security-Token": "a-token-of-cloudfront",
            # Known: these two, and which headers are signed.
            "X-Amz-Source-Account": "111122223333",
            "X-Amz-Source-Arn": "arn:aws:cloudfront::111122223333:distribution/EXAMPLE",
        },
        ("bytes=0-", f"bytes={MEGABYTE}-{2 * MEGABYTE - 1}"),
    ),
    "Akamai": Cdn(
        (
            "https://techdocs.akamai.com/property-mgr/docs/large-file-optimization-lfo",
            "https://techdocs.akamai.com/terraform/docs/g2oheader",
            "https://blog.slinkyworks.net/how-to-use-nginx-to-show-request-headers/",
            "https://learn.akamai.com/en-us/webhelp/object-delivery/object-delivery-implementation-guide/"
            "GUID-90CBCB8F-813E-4222-8558-748F34DB7A74.html",
        ),
        {
            # Known: Via, Akamai-Origin-Hop, Edgescape, TE, Surrogate-Capability, Cache-Control, CDN-Loop.
            "Via": "1.1 v1-akamaitech.net(ghost) (AkamaiGHost), 1.1 akamai.net(ghost) (AkamaiGHost)",
            "X-Forwarded-For": f"{CLIENT}, {EDGE}",
            "True-Client-IP": CLIENT,
            "Akamai-Origin-Hop": "2",
            "X-Akamai-CONFIG-LOG-DETAIL": "true",
            "X-Akamai-SR-Hop": "1",
            "X-Akamai-Edgescape": "georegion=0,country_code=NL,city=AMSTERDAM,lat=52.35,long=4.92,throughput=vhigh",
            "X-Akamai-G2O-Auth-Data": f"3, {EDGE}, {CLIENT}, 1764331200, 28837411.100421221, nonce",
            "X-Akamai-G2O-Auth-Sign": "cmVxdWVzdCBzaWduZWQgYnkgYWthbWFp",
            "Authorization": "Basic b3JpZ2luOnBhc3N3b3Jk",
            "CDN-Loop": "akamai;v=1.0;c=2",
            "Surrogate-Capability": 'akamai="ESI/1.0"',
            "Pragma": "akamai-x-cache-remote-on, akamai-x-get-request-id, no-cache",
            "Cache-Control": "no-cache, max-age=0",
            "TE": "chunked;q=1.0",
            "Connection": "TE, keep-alive",
        },
        # The first byte says whether the object is large, then come parts. Known: they have 2 MB.
        ("bytes=0-0", *(f"bytes={2 * part * MEGABYTE}-{2 * (part + 1) * MEGABYTE - 1}" for part in range(3))),
        ("gzip", "gzip, br", "identity;q=0, gzip;q=0.5", ""),
    ),
    "Fastly": Cdn(
        (
            "https://www.fastly.com/documentation/reference/vcl/special-headers",
            "https://docs.fastly.com/en/guides/segmented-caching",
            "https://docs.fastly.com/en/guides/tls-termination",
            "https://fastly.co.jp/documentation/reference/http/http-headers/X-Forwarded-Server",
        ),
        {
            "Fastly-FF": "dGhpcyBpcyBubyBzaWduYXR1cmU!AMS!cache-ams21023-AMS",
            "Fastly-Client-IP": CLIENT,
            "Fastly-SSL": "1",
            "X-Forwarded-Host": "media.example.com",
            "X-Forwarded-Server": "cache-ams21023-AMS, cache-fra-eddf8230073-FRA",
            # Known: these.
            "Fastly-Client": "1",
            "Fastly-Orig-Accept-Encoding": "gzip, deflate, br, zstd",
            "X-Varnish": "1234567890 987654321",
            "X-Timer": "S1764331200.123456,VS0",
            "X-Forwarded-For": f"{CLIENT}, {EDGE}",
            "X-Forwarded-Proto": "https",
            "CDN-Loop": "Fastly, Fastly",
            "Expect": "100-continue",
            "TE": "trailers",
        },
        tuple(f"bytes={part * MEGABYTE}-{(part + 1) * MEGABYTE - 1}" for part in range(2, 6)),
        ("gzip", "br"),
    ),
    # Cloud CDN and Media CDN.
    "Google": Cdn(
        (
            "https://cloud.google.com/load-balancing/docs/https",
            "https://cloud.google.com/cdn/docs/caching",
            "https://docs.cloud.google.com/load-balancing/docs/https/custom-headers-regional",
        ),
        {
            "Via": "1.1 google",
            "X-Forwarded-For": f"{CLIENT}, {EDGE}",
            "X-Forwarded-Proto": "https",
            "X-Cloud-Trace-Context": "105445aa7843bc8bf206b12000100000/1;o=1",
            # Known: these, and that the header above has this form.
            "traceparent": "00-105445aa7843bc8bf206b12000100000-0000000000000001-01",
            "X-Client-Geo-Location": "NL,Amsterdam",
            "tracestate": "google=1",
            "Forwarded": f'for={CLIENT};proto=https;by="[2001:db8::1]";host=media.example.com',
            "CDN-Loop": "google",
            "Cache-Control": "no-cache",
        },
        # Known: about 2 MB, aligned.
        ("bytes=0-2097135", "bytes=2097136-4194271", "bytes=4194272-6291407", f"bytes={MEGABYTE}-{MEGABYTE}"),
        ("gzip", "gzip, br", "identity;q=0"),
    ),
}
