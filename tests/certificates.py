"""Certificate chains like those of public providers: a root CA, intermediate CAs, and the server's certificate."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = timedelta(days=1)


class Certificate(NamedTuple):
    """PEM files. ``chain``: what the server sends, its own certificate first, without the root. ``key``: the server's
    private key. ``root``: the CA that clients trust.
    """

    chain: Path
    key: Path
    root: Path


class _Issued(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificate(
    directory: Path,
    names: str = "IP:127.0.0.1,DNS:localhost,DNS:*.s3.localhost",
    *,
    days: int = 30,
    between: int = 2,
    like_rfc5280: bool = True,
) -> Certificate:
    """Make a server certificate and its CAs.

    ``names``: in the syntax of openssl's subjectAltName. ``days``: negative for an expired certificate.
    ``between``: the number of intermediate CAs; public providers have one or two. ``like_rfc5280``: False for CAs
    without the extensions that RFC 5280 requires, as the usual instructions for openssl make them.
    """
    issuer = root = _make_ca("Test Root", None, like_rfc5280)
    intermediates: list[_Issued] = []
    for number in range(between):
        issuer = _make_ca(f"Test Intermediate {number + 1}", issuer, like_rfc5280)
        intermediates.insert(0, issuer)
    leaf = _issue("s3", _server_builder(names), issuer, days, like_rfc5280)
    return _write(
        Certificate(directory / "s3.pem", directory / "s3.key", directory / "root.pem"), leaf, *intermediates, root
    )


def make_client_certificates(directory: Path, *names: str) -> list[Certificate]:
    """Make certificates of clients, with which they authenticate themselves in TLS, and the CA that has issued them."""
    root = _make_ca("Test Clients", None, like_rfc5280=True)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    made = []
    for name in names:
        leaf = _issue(name, x509.CertificateBuilder().add_extension(usage, critical=False), root, 30, like_rfc5280=True)
        files = Certificate(directory / f"{name}.pem", directory / f"{name}.key", directory / "clients.pem")
        made.append(_write(files, leaf, root))
    return made


def _write(files: Certificate, leaf: _Issued, *issuers: _Issued) -> Certificate:
    """Write the files of a certificate. ``issuers``: the last one is the root."""
    files.chain.write_bytes(b"".join(_pem(issued) for issued in (leaf, *issuers[:-1])))
    files.key.touch(mode=0o600)
    files.key.write_bytes(
        leaf.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    files.root.write_bytes(_pem(issuers[-1]))
    for file in (files.chain, files.root):
        file.chmod(0o644)
    return files


def _pem(issued: _Issued) -> bytes:
    return issued.certificate.public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    return x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value)


def _server_builder(names: str) -> x509.CertificateBuilder:
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names.split(",")])
    return (
        x509.CertificateBuilder()
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )


def _make_ca(name: str, issuer: _Issued | None, like_rfc5280: bool) -> _Issued:
    builder = x509.CertificateBuilder().add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if like_rfc5280:
        unused = dict.fromkeys(
            "digital_signature content_commitment key_encipherment data_encipherment key_agreement encipher_only "
            "decipher_only".split(),
            False,
        )
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **unused)
        builder = builder.add_extension(usage, critical=True)
    return _issue(name, builder, issuer, 30, like_rfc5280)


def _issue(
    name: str, builder: x509.CertificateBuilder, issuer: _Issued | None, days: int, like_rfc5280: bool
) -> _Issued:
    """Sign a certificate; ``issuer`` None: it is self-signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    now = datetime.now(UTC)
    end = now + days * _DAY
    if like_rfc5280:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(identifier, critical=False)
    subject = _name(name)
    certificate = (
        builder.subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - _DAY)
        .not_valid_after(end)
        .sign(signer, hashes.SHA256())
    )
    return _Issued(certificate, key)
