"""The command ``usp-s3``: a module for each subcommand."""
