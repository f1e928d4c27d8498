"""Reading and writing files so that nothing is half-written, trusted blindly or executed.

Every file is written under a temporary name, flushed to disk and renamed. Arrays are plain `.npz`
without pickle; every file names its kind and the number of its schema, and a newer schema is
refused. Sizes that a file declares are checked before memory is taken for them.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from tf_prac.errors import ArgumentError, FileError

SCHEMA = 1
MAX_BYTES = 64 * 2**30
MAX_RATIO = 1032  # deflate codes at most 258 bytes in two bits
_KIND, _SCHEMA = "__kind__", "__schema__"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Yields a binary file that becomes `path` only when the block ends without an error.

    Raises:
        FileError: the file cannot be written (read-only directory, full disk).
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, kind: str, content: Mapping[str, Any]) -> None:
    """Writes `content` as JSON with its kind and schema; NaN is refused."""
    header = {"kind": kind, "schema": SCHEMA}
    document = {**header, **content, **header}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def read_json(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """Reads what `write_json` wrote: the content, without kind and schema.

    Raises:
        FileError: missing, not JSON, of another kind or of a newer schema.
    """
    try:
        document = json.loads(pathlib.Path(path).read_bytes())
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file.") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: damaged, not a JSON document ({error}).") from error
    if not isinstance(document, dict):
        raise FileError(f"{path}: not a {kind} of tf_prac.")
    _check_header(path, kind, document.pop("kind", None), document.pop("schema", None))
    return document


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows that may lack some columns; the columns are in order of first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def write_npz(path: str | os.PathLike, kind: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as one compressed `.npz`, with the kind and schema of the file.

    Raises:
        ArgumentError: an array has the name of the kind or the schema.
        ValueError: an array holds Python objects, which only pickle could write.
        FileError: the file cannot be written.
    """
    header = {_KIND: np.array(kind), _SCHEMA: np.array(SCHEMA)}
    if reserved := header.keys() & arrays.keys():
        raise ArgumentError("arrays", min(reserved), f"names other than {_KIND} and {_SCHEMA}")
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {**arrays, **header}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_npz(path: str | os.PathLike, kind: str) -> dict[str, np.ndarray]:
    """Reads what `write_npz` wrote, without pickle and within `MAX_BYTES`.

    Raises:
        FileError: missing, damaged, of another kind, of a newer schema or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive)
            arrays = {
                info.filename.removesuffix(".npy"): _read_member(path, archive, info)
                for info in archive.infolist()
            }
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file.") from error
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # zipfile and numpy raise nearly anything on damaged bytes
        raise FileError(f"{path}: damaged, not a readable .npz archive ({error}).") from error
    found = arrays.pop(_KIND, None), arrays.pop(_SCHEMA, None)
    _check_header(path, kind, *(None if a is None or a.ndim else a.item() for a in found))
    return arrays


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file.") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _check_header(path: str | os.PathLike, kind: str, found: object, schema: object) -> None:
    if found != kind:
        raise FileError(f"{path}: not a {kind} of tf_prac (it says {found!r}).")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise FileError(f"{path}: damaged, its schema number is {schema!r}.")
    if schema > SCHEMA:
        raise FileError(
            f"{path}: written by a newer tf_prac (schema {schema}; this one reads up to {SCHEMA})."
        )


def _check_sizes(path: str | os.PathLike, archive: zipfile.ZipFile) -> None:
    names = [info.filename for info in archive.infolist()]
    if len(set(names)) != len(names):
        raise FileError(f"{path}: damaged, an array is there twice.")
    declared = sum(info.file_size for info in archive.infolist())
    allowed = min(MAX_BYTES, MAX_RATIO * os.path.getsize(path))
    if declared > allowed:
        raise FileError(f"{path}: damaged, it declares {declared} bytes, more than {allowed}.")


def _read_member(path: str | os.PathLike, archive: zipfile.ZipFile, info: zipfile.ZipInfo):
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise FileError(f"{path}: {info.filename} has an unknown array format {version}.")
        shape, _, dtype = read_header(member)
        count = 1
        for size in shape:
            count *= int(size)
        if dtype.hasobject or count * dtype.itemsize != info.file_size - member.tell():
            raise FileError(f"{path}: damaged, {info.filename} does not have the size it declares.")
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _sync_directory(directory: pathlib.Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
