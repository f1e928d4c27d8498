"""The version, read by `pyproject.toml` and by `tf_prac.__version__`."""

VERSION = "0.1.0"
