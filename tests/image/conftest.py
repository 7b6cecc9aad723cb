"""Fixtures for the tests of the container image. Only ``make test-image`` runs them: another image may be old."""

from __future__ import annotations

import os

import pytest

from tests.image.__main__ import IMAGE_VARIABLE
from tests.image.engine import Engine, find, why_none


@pytest.fixture(autouse=True, scope="session")
def only_by_make_test_image() -> None:
    """Skip the tests of this folder where no image was built for them."""
    if not os.environ.get(IMAGE_VARIABLE):
        pytest.skip('"make test-image" builds and tests the image')


@pytest.fixture(scope="session")
def engine(only_by_make_test_image: None) -> Engine:
    """The container engine of this machine."""
    found = find()
    if found is None:
        pytest.fail(f"no container engine works here: {why_none()}")
    return found


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The name of the image to test."""
    name = os.environ[IMAGE_VARIABLE]
    assert engine.has_image(name), f"{engine.name} has no image {name}"
    return name
