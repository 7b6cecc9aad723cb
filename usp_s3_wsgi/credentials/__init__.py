"""Credentials for signing: static keys, key files, and temporary credentials from AWS STS and AWS identities."""
