"""What several test modules share."""

from __future__ import annotations

import os
import pathlib

import precision
import pytest
from hypothesis import settings

# A loaded machine is slower than Hypothesis' default deadline allows.
settings.register_profile("tf_prac", deadline=None)
settings.load_profile("tf_prac")

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


precision.prepare()


@pytest.fixture(autouse=True, scope="session")
def no_fsync():
    """Leaves the flushing of files to the system: it takes about 10 ms, twice for each file.

    Tests of what is flushed, and when, replace `os.fsync` themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def device():
    """Undoes what an earlier test did to the options of a GPU."""
    precision.prepare()


@pytest.fixture(scope="session")
def tfds_dir() -> pathlib.Path:
    """A directory with MNIST and CIFAR-10 in TFDS format."""
    default = REPOSITORY.parent / "shared" / "tfds"
    directory = pathlib.Path(os.environ.get("TF_PRAC_TEST_DATA", default))
    if not (directory / "mnist").is_dir():
        pytest.skip("needs MNIST in TFDS format; set TF_PRAC_TEST_DATA")
    return directory
