"""The Debian packages on minimal machines of each suite: ``make test-deb``."""
