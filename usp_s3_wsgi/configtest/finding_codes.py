"""The codes of findings: stable, one for each kind of message, documented in docs/errors.md."""

from __future__ import annotations

from enum import StrEnum


class FindingCode(StrEnum):
    """What was found. A code is never reused for another kind of finding."""

    # The value of a setting is not allowed.
    INVALID_VALUE = "USPS30801"
    # The name of a setting is misspelled.
    MISSPELLED_SETTING = "USPS30802"
    # The settings that apply to a request are incomplete, or contradict each other.
    INCONSISTENT_SETTINGS = "USPS30803"
    # A setting that only the gateway has applies to requests that mod_proxy sends.
    GATEWAY_ONLY_SETTING = "USPS30804"
    # The file that a setting names cannot be read.
    FILE_NOT_READABLE = "USPS30805"
    # The file that a setting names contains no certificate.
    FILE_WITHOUT_CERTIFICATE = "USPS30806"
    # The file that a setting names contains no valid key or token.
    FILE_WITHOUT_KEY = "USPS30807"
    # Some files could not be checked, because the user who runs configtest may not read them.
    FILES_NOT_CHECKED = "USPS30808"
    # No proxied request matches a <Proxy> section with S3 settings.
    SECTION_NOT_USED = "USPS30809"
    # The same, and a directive has a similar URL, which is not signed.
    SECTION_NOT_USED_SIMILAR_URL = "USPS30810"
    # A URL is only known at request time, so that it is unknown whether requests match a <Proxy> section.
    SECTION_NOT_CHECKED = "USPS30811"
    # mod_proxy does not apply a <Proxy> section, because its URL is written differently from that of the requests.
    SECTION_URL_MISMATCH = "USPS30812"
    # SetEnvIf, BrowserMatch or RewriteRule [E=] computes a setting for requests that mod_proxy sends.
    COMPUTED_SETTING = "USPS30813"
    # Requests are proxied to a bucket by HTTP/2.
    HTTP2_NOT_SIGNED = "USPS30814"
    # Neither the host of the URL nor a setting names the bucket.
    BUCKET_NOT_NAMED = "USPS30815"
    # S3BucketURL has another scheme, host or port than the URL that requests are proxied to.
    BUCKET_URL_MISMATCH = "USPS30816"
    # The URL that requests are proxied to is not valid.
    INVALID_PROXY_URL = "USPS30817"
    # Credentials apply to a RewriteRule [P] or SetHandler, and nothing says for which bucket they are.
    CREDENTIALS_WITHOUT_BUCKET = "USPS30818"
    # The credentials of a <Proxy> section would sign requests to any host.
    CREDENTIALS_FOR_ANY_HOST = "USPS30819"
    # No directive serves or proxies the path of a <Location> with S3 settings.
    LOCATION_NOT_USED = "USPS30820"
    # The settings of a <Location> do not apply to the ProxyPass of a path within it.
    LOCATION_NOT_APPLIED = "USPS30821"
    # The S3BucketURL of a <Location> is not the bucket that the ProxyPass of this path uses.
    LOCATION_OF_OTHER_BUCKET = "USPS30822"
    # Settings outside of sections apply to no request.
    SERVER_SETTINGS_NOT_USED = "USPS30823"
    # mod_proxy_hcheck sends health checks to a bucket, which are not signed.
    HEALTH_CHECK_NOT_SIGNED = "USPS30824"
    # There were more findings than are shown.
    FINDINGS_SUPPRESSED = "USPS30825"
