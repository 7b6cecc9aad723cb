"""Coverage-guided fuzzing of the parsers and the signer: each target has an oracle. ``python -m tests.fuzz --help``."""
