"""Temporary credentials: the AWS providers they come from, and how they are refreshed."""
