"""``make test-fresh``: how it parses the output of the two commands."""

from __future__ import annotations

import pytest

from tests.fresh.__main__ import counts, named_packages


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "....\nSKIPPED [4] x\n15 failed, 3536 passed, 29 skipped in 518.27s (0:08:38)\nmake: *** [test] Error 1",
            (3536, 15, 29),
        ),
        ("3536 passed in 18.27s\n", (3536, 0, 0)),
        ("1 passed, 2 warnings, 3 errors in 1.00s\n", (1, 3, 0)),
        ("Starting ...\n  ✓ film: 200\n  ✗ HEAD: 404\n  · browser: none\n  ✓ HLS\n", (2, 1, 1)),
        ("make: *** [install] Error 1\n", (0, 0, 0)),
    ],
)
def test_counts(output: str, expected: tuple[int, int, int]) -> None:
    assert counts(output) == expected


def test_missing_packages_are_parsed_from_the_message() -> None:
    output = (
        "*** Missing on this machine: gcc\n    As root: apt-get install gcc libapr1-dev \n    Then call make again.\n"
    )
    assert named_packages(output) == "gcc libapr1-dev"
    assert named_packages("make: gcc: No such file or directory\n") is None
