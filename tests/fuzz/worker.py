"""The process that fuzzes one target: ``python -m tests.fuzz.worker TARGET [OPTION of libFuzzer | FOLDER ...]``."""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.target import check_input, load


def main() -> None:
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["usp_s3_wsgi"]):
        target = load(name)
    atheris.Setup([sys.argv[0], *options], lambda data: check_input(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
