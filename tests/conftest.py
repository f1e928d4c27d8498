"""What several test modules share."""

from __future__ import annotations

import os
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def tfds_dir() -> pathlib.Path:
    """A directory with MNIST and CIFAR-10 in TFDS format."""
    default = REPOSITORY.parent / "shared" / "tfds"
    directory = pathlib.Path(os.environ.get("TF_PRAC_TEST_DATA", default))
    if not (directory / "mnist").is_dir():
        pytest.skip("needs MNIST in TFDS format; set TF_PRAC_TEST_DATA")
    return directory
