"""`check_name`: whether a path can be the name of a file."""

from __future__ import annotations

import os
import re

from tf_prac.errors import FileError

MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095  # of Linux's file systems
_ADDRESS = re.compile(r"(gs|s3|hdfs|viewfs|https?|ftp|abfss?|wasbs?|az|file):/")


def check_name(path: str | os.PathLike) -> None:
    """Raises `FileError` for a path that no local file can have, or that is not text in UTF-8."""
    name = os.fspath(path)
    if isinstance(name, str) and _ADDRESS.match(name):
        raise FileError(
            f"{name}: not a local path. Files are written and read on local disks only; name a "
            "directory there, and copy it."
        )
    try:
        encoded = name.encode() if isinstance(name, str) else bytes(name)
    except UnicodeEncodeError as error:
        raise FileError(f"{ascii(name)}: not the name of a file: it is not UTF-8.") from error
    longest = max(map(len, encoded.split(b"/")))
    if b"\0" in encoded:
        raise FileError(f"{ascii(name)}: not the name of a file: it contains NUL.")
    if longest > MAX_NAME_BYTES or len(encoded) > MAX_PATH_BYTES:
        raise FileError(
            f"{name[:40]}...{name[-10:]}: not the name of a file: it has {len(encoded)} bytes, "
            f"the longest part {longest}; allowed: {MAX_PATH_BYTES} and {MAX_NAME_BYTES}."
        )
