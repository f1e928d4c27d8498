"""Reading and writing files so that nothing is half-written, trusted blindly or executed.

Every file is written under a temporary name, flushed to disk and renamed. Arrays are plain `.npz`
without pickle; every file names its kind and the number of its schema, and a newer schema is
refused. A seal, a SHA-256 over names and contents, shows what was changed since. Sizes that a file
declares are checked before memory is taken for them, and links lead nowhere outside.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from tf_prac.errors import ArgumentError, DamagedFileError, FileError

SCHEMA = 1
MAX_BYTES = 64 * 2**30
MAX_RATIO = 1032  # deflate codes at most 258 bytes in two bits
MAX_JSON_BYTES = 64 * 2**20
SEAL = "sha256"
_KIND, _SCHEMA, _SEAL = "__kind__", "__schema__", "__sha256__"
_NOT_WAITING = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for its other end


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
        sync(path.parent)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def inside(directory: str | os.PathLike, *names: str) -> pathlib.Path:
    """Returns the path of a file or directory below a directory.

    Raises:
        FileError: a symbolic link leads out of the directory.
    """
    path = pathlib.Path(directory, *names)
    if not pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        raise FileError(
            f"{path}: a link that leads out of {directory}. Put the thing itself there."
        )
    return path


def write_json(
    path: str | os.PathLike, kind: str, content: Mapping[str, Any], indent: int | None = 2
) -> None:
    """Writes `content` as JSON with its kind, schema and seal; NaN is refused. No indent: one line.

    Raises:
        ArgumentError: the content has a field of the name of the seal.
    """
    if SEAL in content:
        raise ArgumentError("content", SEAL, "other names of fields")
    header = {"kind": kind, "schema": SCHEMA}
    document = {**header, **content, **header}
    document[SEAL] = _sealed_json(document)
    text = json.dumps(document, indent=indent, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def read_json(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """Reads what `write_json` wrote: the content, without kind, schema and seal.

    Raises:
        FileError: missing, not JSON, too large, of another kind or of a newer schema, or changed
            since it was written.
    """
    with _opened(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_JSON_BYTES:
            raise DamagedFileError(f"{path}: damaged, it has more than {MAX_JSON_BYTES} bytes.")
        text = file.read()
    try:
        document = json.loads(text)
        seal = document.pop(SEAL, None) if isinstance(document, dict) else None
        fits = seal == _sealed_json(document)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: damaged, not a JSON document ({error}).") from error
    if not isinstance(document, dict):
        raise DamagedFileError(f"{path}: not a {kind} of tf_prac.")
    _check_header(path, kind, document.pop("kind", None), document.pop("schema", None))
    if not fits:
        raise DamagedFileError(f"{path}: damaged, or changed since tf_prac wrote it.")
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
    """Writes named arrays as one compressed `.npz`, with the kind, schema and seal of the file.

    Raises:
        ArgumentError: an array has the name of the kind, the schema or the seal.
        ValueError: an array holds Python objects, which only pickle could write.
        FileError: the file cannot be written.
    """
    header = {_KIND: np.array(kind), _SCHEMA: np.array(SCHEMA)}
    reserved = {*header, _SEAL}
    if taken := reserved & arrays.keys():
        raise ArgumentError("arrays", min(taken), f"names other than {', '.join(sorted(reserved))}")
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {**arrays, **header}.items():
            _write_member(archive, name, np.asanyarray(array))
        _write_member(archive, _SEAL, np.array(_sealed_members(archive.infolist())))


def read_npz(path: str | os.PathLike, kind: str) -> dict[str, np.ndarray]:
    """Reads what `write_npz` wrote, without pickle and within `MAX_BYTES`.

    Raises:
        FileError: missing, damaged, of another kind, of a newer schema, too large, or changed
            since it was written.
    """
    try:
        with _opened(path) as file, zipfile.ZipFile(file) as archive:
            members = _members(path, archive)
            header = {
                name: _read_member(path, archive, members.pop(name))
                for name in (_KIND, _SCHEMA, _SEAL)
                if name in members
            }
            values = {name: None if a.ndim else a.item() for name, a in header.items()}
            _check_header(path, kind, values.get(_KIND), values.get(_SCHEMA))
            sealed = [i for i in archive.infolist() if i.filename != f"{_SEAL}.npy"]
            if values.get(_SEAL) != _sealed_members(sealed):
                raise DamagedFileError(f"{path}: damaged, or changed since tf_prac wrote it.")
            return {name: _read_member(path, archive, info) for name, info in members.items()}
    except FileError:
        raise
    except Exception as error:  # zipfile and numpy raise nearly anything on damaged bytes
        raise DamagedFileError(
            f"{path}: damaged, not a readable .npz archive ({error})."
        ) from error


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with _opened(path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a regular file to read; a pipe or a device, which may never end, is refused."""
    try:
        with open(
            path, "rb", opener=lambda name, flags: os.open(name, flags | _NOT_WAITING)
        ) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError(f"{path}: cannot be read: not a regular file.")
            yield file
    except FileNotFoundError as error:
        raise DamagedFileError(f"{path}: no such file.") from error
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _sealed_json(document: Any) -> str:
    text = json.dumps(document, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _sealed_members(members: Sequence[zipfile.ZipInfo]) -> str:
    """Binds names to sizes and CRC-32s, which zipfile holds against the contents."""
    lines = [f"{i.CRC:08x} {i.file_size} {i.filename}\n" for i in members]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_header(path: str | os.PathLike, kind: str, found: object, schema: object) -> None:
    if found != kind:
        raise DamagedFileError(f"{path}: not a {kind} of tf_prac (it says {found!r}).")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise DamagedFileError(f"{path}: damaged, its schema number is {schema!r}.")
    if schema > SCHEMA:
        raise FileError(
            f"{path}: written by a newer tf_prac (schema {schema}; this one reads up to {SCHEMA})."
        )


def _members(path: str | os.PathLike, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Finds the arrays of an archive, and checks what it declares about them."""
    found = archive.infolist()
    members = {info.filename.removesuffix(".npy"): info for info in found}
    if len(members) != len(found):
        raise DamagedFileError(f"{path}: damaged, an array is there twice.")
    declared = sum(info.file_size for info in found)
    allowed = min(MAX_BYTES, MAX_RATIO * os.path.getsize(path))
    if declared > allowed:
        raise DamagedFileError(
            f"{path}: damaged, it declares {declared} bytes, more than {allowed}."
        )
    return members


def _write_member(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _read_member(path: str | os.PathLike, archive: zipfile.ZipFile, info: zipfile.ZipInfo):
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise DamagedFileError(
                f"{path}: damaged, {info.filename} has an unknown array format {version}."
            )
        shape, _, dtype = read_header(member)
        count = 1
        for size in shape:
            count *= int(size)
        if dtype.hasobject or count * dtype.itemsize != info.file_size - member.tell():
            raise DamagedFileError(
                f"{path}: damaged, {info.filename} does not have the size it declares."
            )
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def sync(path: str | os.PathLike) -> None:
    """Waits until a file, or the names in a directory, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
