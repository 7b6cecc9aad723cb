"""Lists the buckets that the configuration names, for the status page and the health checks; without a secret.

``mod_usp_s3/configtest.c`` keeps the list in memory that httpd's processes share: a JSON object with ``buckets``, each
with the fields of ConfiguredBucket, and ``omitted``, the number of those for which there was no space.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from usp_s3_wsgi.config.configured_bucket import ConfiguredBucket
from usp_s3_wsgi.config.settings import NAMES, Settings
from usp_s3_wsgi.configtest.bucket_use import BucketUse
from usp_s3_wsgi.configtest.server_config import Value
from usp_s3_wsgi.configtest.urls import without_secrets
from usp_s3_wsgi.credentials import identity
from usp_s3_wsgi.credentials.key_files import shown_path

#: Bytes of the list: less than USP_S3_CONFIGURATION_SIZE of ``shared_memory.h``.
MAX_SIZE = 8_000_000
#: Stands for a value that is not shown.
HIDDEN = "(set)"
#: The settings whose values are shown, but for those that name files.
_NOT_SHOWN = ("AccessKey", "SecretKey", "SecurityToken", "RoleExternalId")


def describe(use: BucketUse) -> list[ConfiguredBucket]:
    """Return the bucket that is used, and its fallback bucket; nothing if its settings differ by request."""
    chosen, reads_files = use.settings, use.reads_files
    if chosen is None:
        return []
    way, path, location = use.place.way, without_secrets(use.place.name), (use.directive.file, use.directive.line)
    is_valid = not isinstance(chosen, str)
    # A value that is not valid may be a secret that was written on the wrong line.
    pairs = [(value.name, _shown(value) if is_valid else HIDDEN) for value in use.given if value.value]
    shown = tuple(pair for pair in pairs if pair[0] in NAMES)
    if isinstance(chosen, str):
        return [ConfiguredBucket(way, path, *location, "", "", "", shown, (), reads_files, False, chosen)]
    found = []
    for settings in (chosen, chosen.fallback):
        if settings is not None:
            url, is_fallback = settings.bucket_url, settings is not chosen
            aws_identity = identity.from_settings(settings)
            name = str(aws_identity) if aws_identity else ""
            bucket = ConfiguredBucket(
                way, path, *location, url.authority, url.bucket, name, shown, _key_files(settings), reads_files,
                is_fallback, "",
            )  # fmt: skip
            found.append(bucket)
    return found


def _key_files(settings: Settings) -> tuple[tuple[str, str], ...]:
    if settings.credential_source != "static":
        return ()
    files = (
        ("S3AccessKeyFile", settings.access_key_file),
        ("S3SecretKeyFile", settings.secret_key_file),
        ("S3SecurityTokenFile", settings.security_token_file),
    )
    return tuple((name, path) for name, path in files if path)


def _shown(value: Value) -> str:
    name = value.name.removeprefix("S3Fallback").removeprefix("S3")
    if name in _NOT_SHOWN:
        return HIDDEN
    if name.endswith("File"):
        return "".join(shown_path(value.value)) or HIDDEN
    return value.value


def to_json(uses: Iterable[BucketUse]) -> str:
    """Return the list as ASCII text, with as many buckets as there is space for."""
    texts: list[str] = []
    size, omitted = 100, 0
    for bucket in dict.fromkeys(bucket for use in uses for bucket in describe(use)):
        text = json.dumps(bucket._asdict(), separators=(",", ":"))
        if omitted or size + len(text) + 1 > MAX_SIZE:
            omitted += 1
        else:
            texts.append(text)
            size += len(text) + 1
    return f'{{"buckets":[{",".join(texts)}],"omitted":{omitted}}}'
