"""Blocks in other languages: programs in Python are run, with an S3 of the tests; the syntax of others is checked."""

from __future__ import annotations

import json
import sys

import pytest

from tests.docs.blocks import Block, parameters
from tests.docs.names import Names
from tests.docs.shell import run_script

KEY, OBJECT = "film/film.mp4", b"a film\n" * 1000


@pytest.mark.parametrize("block", parameters("python"))
def test_python_block(block: Block, names: Names) -> None:
    program = names.localized_script(block.text)
    for bucket in names.buckets.values():
        names.s3(bucket.url).put(bucket.name, KEY, OBJECT)
    status, output = run_script(program, names.folder, sys.executable, "-")
    assert status == 0, output


@pytest.mark.parametrize("block", parameters("json"))
def test_json_block(block: Block) -> None:
    json.loads(block.text)
