"""The test cases. Each subject has a file with the objects it needs (OBJECTS) and its requests (CASES)."""

from __future__ import annotations

from tests.servers.battery import conditions, errors, keys, metadata, modes, parts, ranges, versions

_SUBJECTS = (modes, keys, ranges, conditions, versions, parts, metadata, errors)
CASES = [case for subject in _SUBJECTS for case in subject.CASES]
OBJECTS = [stored for subject in _SUBJECTS for stored in subject.OBJECTS]
