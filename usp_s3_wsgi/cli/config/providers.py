"""The providers that ``usp-s3 config`` knows, a row of ``PROVIDERS`` for each.

docs/providers.md has a section for each row, and the source of what is said here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Style = Literal["path", "host"]
Signature = Literal["v4", "v2"]
#: A name that can be the first label of a host with a certificate for ``*.endpoint``: without dots.
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])")


@dataclass(frozen=True, slots=True)
class Account:
    """What a provider's endpoint contains besides the region. ``pattern``: its form, which ``form`` describes."""

    label: str
    where: str
    pattern: str
    form: str
    example: str


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider.

    ``name``: for --provider. ``endpoint``: the URL of the service with ``{region}`` and ``{account}``; empty if every
    installation has its own. ``endpoint_example``: for the question. ``other_endpoints``: by the beginning of the
    region. ``styles``: where the bucket's name may be in the URL, the default first. ``signatures``: the versions that
    the provider accepts, the default first. ``region``: the default; empty if it must be known. ``credentials``:
    "keys", or "aws" for an identity of AWS. ``roles``: whose STS has roles: "aws", or "own" for the endpoint's own.
    ``key``: what S3AccessKey is there. ``peculiarities``: comments for the
    configuration, a sentence or two each. ``source``: the provider's documentation.
    """

    name: str
    title: str
    endpoint: str
    region_help: str
    key: str
    peculiarities: tuple[str, ...]
    source: str
    endpoint_example: str = ""
    other_endpoints: Mapping[str, str] = field(default_factory=dict)
    styles: tuple[Style, ...] = ("path",)
    signatures: tuple[Signature, ...] = ("v4",)
    region: str = ""
    account: Account | None = None
    credentials: Literal["keys", "aws"] = "keys"
    roles: Literal["", "aws", "own"] = ""

    @property
    def has_own_endpoint(self) -> bool:
        """Whether each installation has an endpoint of its own, perhaps with a certificate of a private authority."""
        return not self.endpoint

    @property
    def names_region(self) -> bool:
        """Whether the region is a part of the endpoint's name."""
        return "{region}" in self.endpoint

    def endpoint_in(self, region: str, account: str) -> str:
        """Return the URL of the service, without a slash at the end."""
        special = (url for begin, url in self.other_endpoints.items() if region.startswith(begin))
        return next(special, self.endpoint).format(region=region, account=account)

    def style_for(self, bucket: str) -> Style:
        """Return the default style for a bucket: its name can be in the host only if a certificate has that host."""
        return "path" if "path" in self.styles and not _HOST_LABEL.fullmatch(bucket) else self.styles[0]


_AWS_ENDPOINTS = {"cn-": "https://s3.{region}.amazonaws.com.cn"}
_AWS_REGION = 'The bucket\'s region, such as eu-central-1 ("aws s3api get-bucket-location"; null means us-east-1).'
_AWS_RIGHTS = (
    "s3:GetObject is needed. With s3:ListBucket S3 answers 404 for objects that do not exist, without it 403.",
)

PROVIDERS = (
    Provider(
        name="aws",
        title="Amazon S3, with keys",
        endpoint="https://s3.{region}.amazonaws.com",
        other_endpoints=_AWS_ENDPOINTS,
        styles=("host", "path"),
        region_help=_AWS_REGION,
        roles="aws",
        key="the access key of an IAM user (AKIA...)",
        peculiarities=_AWS_RIGHTS,
        source="https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html",
    ),
    Provider(
        name="aws-role",
        title="Amazon S3, with a role or the identity of this server: no keys",
        endpoint="https://s3.{region}.amazonaws.com",
        other_endpoints=_AWS_ENDPOINTS,
        styles=("host", "path"),
        region_help=_AWS_REGION,
        credentials="aws",
        roles="aws",
        key="",
        peculiarities=(
            "botocore finds the identity of the instance, container or pod. It is an optional dependency: "
            "pip install '.[aws]'. The error log says which identity signs (USPS30602).",
            *_AWS_RIGHTS,
        ),
        source="https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_switch-role-ec2.html",
    ),
    Provider(
        name="ceph",
        title="Ceph RGW",
        endpoint="",
        endpoint_example="https://s3.example",
        styles=("path", "host"),
        signatures=("v4", "v2"),
        region="default",
        region_help="RGW accepts any region. It is customary to write the zonegroup's name.",
        roles="own",
        key='the access key of an RGW user ("radosgw-admin user info --uid=...")',
        peculiarities=(
            "The bucket's name can be in the host only if RGW has rgw_dns_name (or hostnames in its zonegroup), and "
            "DNS and certificate have a wildcard.",
            "Ceph 16.2 answers wrong keys with AccessDenied, so that clients get 403 and not 502.",
        ),
        source="https://docs.ceph.com/en/latest/radosgw/s3/commons/",
    ),
    Provider(
        name="minio",
        title="MinIO",
        endpoint="",
        endpoint_example="https://minio.example:9000",
        styles=("path", "host"),
        region="us-east-1",
        region_help="us-east-1, unless the server was configured with another one (MINIO_SITE_REGION).",
        key="an access key that may s3:GetObject, not that of MinIO's root user",
        peculiarities=(
            "The bucket's name can be in the host only if the server has MINIO_DOMAIN, and DNS and certificate have a "
            "wildcard.",
        ),
        source="https://docs.min.io/community/minio-object-store/reference/minio-server/settings/core.html",
    ),
    Provider(
        name="google",
        title="Google Cloud Storage (XML API with HMAC keys)",
        endpoint="https://storage.googleapis.com",
        styles=("path", "host"),
        region="auto",
        region_help="auto, for all buckets.",
        key="the access ID of an HMAC key (GOOG...) of a service account with the role Storage Object Viewer",
        peculiarities=(
            "Requests are signed as for Amazon (AWS4-HMAC-SHA256, x-amz-...), which the XML API accepts beside its "
            "own x-goog-... headers.",
            "Objects with Content-Encoding: gzip are decompressed by Google, without a length and without ranges, "
            "unless S3PassAcceptEncoding is on and the client accepts gzip.",
        ),
        source="https://docs.cloud.google.com/storage/docs/aws-simple-migration",
    ),
    Provider(
        name="oracle",
        title="Oracle Cloud Object Storage (Amazon S3 Compatibility API)",
        endpoint="https://{account}.compat.objectstorage.{region}.oraclecloud.com",
        region_help="The region identifier of the bucket, such as eu-frankfurt-1.",
        account=Account(
            "Object Storage namespace",
            'In the console below the tenancy\'s details, or "oci os ns get".',
            r"[a-z0-9][a-z0-9_-]{0,62}",
            "the namespace in lowercase letters, digits, - and _",
            "axaxnpcrorw5",
        ),
        key="the access key of a customer secret key; other keys of Oracle (API signing keys) do not work",
        peculiarities=(
            "The bucket's name is in the path. Hosts with vhcompat are for buckets that were created through them.",
        ),
        source="https://docs.oracle.com/en-us/iaas/Content/Object/Tasks/s3compatibleapi.htm",
    ),
    Provider(
        name="r2",
        title="Cloudflare R2",
        endpoint="https://{account}.r2.cloudflarestorage.com",
        region="auto",
        region_help="auto, for all buckets.",
        account=Account(
            "account ID",
            "On the overview page of R2 in Cloudflare's dashboard.",
            r"[0-9a-f]{32}",
            "32 hexadecimal digits, in lowercase",
            "023e105f4ecef8ad9ca31a8372d0c353",
        ),
        key="the access key ID of an R2 API token with the permission Object Read only, for this bucket only",
        peculiarities=(
            "A bucket with a jurisdiction has another endpoint: use "
            "--endpoint https://ACCOUNT_ID.eu.r2.cloudflarestorage.com.",
        ),
        source="https://developers.cloudflare.com/r2/api/tokens/",
    ),
    Provider(
        name="wasabi",
        title="Wasabi",
        endpoint="https://s3.{region}.wasabisys.com",
        region="us-east-1",
        region_help="The bucket's region, such as eu-central-1.",
        styles=("path", "host"),
        key="the access key of a sub-user with a policy that allows s3:GetObject; a root user's may do everything",
        peculiarities=("Wasabi recommends path style. The endpoint must be that of the bucket's region.",),
        source="https://docs.wasabi.com/docs/service-urls-for-wasabis-storage-regions",
    ),
    Provider(
        name="backblaze",
        title="Backblaze B2",
        endpoint="https://s3.{region}.backblazeb2.com",
        region_help="The part of the bucket's endpoint after s3, such as us-west-004.",
        styles=("path", "host"),
        key="the keyID of an application key that may read files; the master application key does not work",
        peculiarities=("Only Signature v4 and https are accepted.",),
        source="https://www.backblaze.com/docs/cloud-storage-call-the-s3-compatible-api",
    ),
    Provider(
        name="swift",
        title="OpenStack Swift (s3api)",
        endpoint="",
        endpoint_example="https://swift.example:8080",
        styles=("path", "host"),
        signatures=("v4", "v2"),
        region="us-east-1",
        region_help="The option location of [filter:s3api] in Swift's proxy-server.conf; its default is us-east-1.",
        key='the access key of EC2 credentials ("openstack ec2 credentials create")',
        peculiarities=(
            "The credentials belong to a user and a project: to that of the bucket, or to one that the bucket's ACL "
            "lets read. With the option s3_acl each object has an ACL of its own.",
            "The bucket's name can be in the host only if s3api has storage_domain, and DNS and certificate have a "
            "wildcard.",
        ),
        source="https://docs.openstack.org/swift/latest/middleware.html#aws-s3-api",
    ),
    Provider(
        name="other",
        title="another server with the API of S3",
        endpoint="",
        endpoint_example="https://s3.example",
        styles=("path", "host"),
        signatures=("v4", "v2"),
        region="us-east-1",
        region_help="The region that the server was configured with; us-east-1 is the usual default.",
        key="an access key that may read the objects of the bucket, and nothing else",
        peculiarities=(),
        source="",
    ),
)
BY_NAME = {provider.name: provider for provider in PROVIDERS}
