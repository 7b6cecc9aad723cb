"""Credentials that live: where they come from, and how they are renewed."""
