"""The options of ``usp-s3 get``."""

from __future__ import annotations

from dataclasses import dataclass

#: As FILE: standard output.
STDOUT = "-"


@dataclass(frozen=True)
class Options:
    """The options of the command line, by their long names. ``range_header``: of ``--range``."""

    output: str
    through_apache: bool
    compare: bool
    url: str
    range_header: str | None
    must_continue: bool
    force: bool
    repeat: int
    timeout: float
    ca_file: str | None
    insecure: bool
    no_checksums: bool
    as_json: bool
    quiet: bool

    @property
    def from_s3(self) -> bool:
        """Whether S3 is requested."""
        return self.compare or not (self.through_apache or self.url)

    @property
    def from_apache(self) -> bool:
        """Whether Apache is requested."""
        return self.compare or self.through_apache or bool(self.url)
