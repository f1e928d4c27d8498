"""Runs one test file with pytest: the script that Bazel's py_test starts."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
