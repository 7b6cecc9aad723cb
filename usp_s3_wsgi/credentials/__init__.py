"""From a bucket's settings to the key pair that signs: static keys, key files, roles and identities of AWS."""
