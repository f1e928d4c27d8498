"""Files of known kinds: written atomically, and verified when read, which never executes them.

Arrays are stored as `.npz` without pickle. Every file contains its kind, a schema number (newer
schemas are refused) and a checksum: a SHA-256 over names and contents that detects later changes.
Sizes that a file declares are checked before memory is allocated, and symbolic links out of a
directory are refused.
What a file of a kind contains is checked against its schema (`documents.py`).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import json
import math
import os
import pathlib
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from tf_prac.errors import ArgumentError, DamagedFileError, FileError
from tf_prac.storage.atomic import atomic_write
from tf_prac.storage.documents import check_arrays, check_document
from tf_prac.storage.names import check_name

SCHEMA = 1
MAX_BYTES = 64 * 2**30
MAX_RATIO = 1032  # deflate codes at most 258 bytes in two bits
MAX_JSON_BYTES = 64 * 2**20
MAX_JSON_VALUES = 4 * 2**20
MAX_JSON_DEPTH = 200
MAX_MEMBERS = 2**17
MAX_ITEM_BYTES = 2**20  # of one element of an array; only texts are larger than 16
CHECKSUM = "sha256"
_KIND, _SCHEMA, _CHECKSUM = "__kind__", "__schema__", "__sha256__"
_DTYPES = "__dtypes__"  # JSON: the dtypes of the arrays that are stored as integers, by name
_AS_INTEGERS = {"bfloat16": np.uint16}
"""Dtypes that .npy does not know, of the package ml_dtypes, and what stores their bits."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # with the apostrophes of texts that have some
_NONBLOCKING = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for its other end


def inside(directory: str | os.PathLike, *names: str) -> pathlib.Path:
    """Returns the path of a file or subdirectory of a directory.

    Raises:
        FileError: If the path is outside the directory, or a symbolic link that points outside.
    """
    path = pathlib.Path(directory, *names)
    check_name(path)
    if not pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        raise FileError(
            f"{path}: a link that points outside {directory}. Replace it with what it points to."
        )
    return path


def write_json(
    path: str | os.PathLike, kind: str, content: Mapping[str, Any], indent: int | None = 2
) -> None:
    """Writes `content` as JSON with its kind, schema number and checksum; NaN is refused.

    Args:
        path: the file; compressed by gzip if its name ends in ".gz".
        kind: what the file contains, such as "round"; `read_json` checks it.
        content: JSON values by name.
        indent: spaces for each level; None writes one line. Default 2.

    Raises:
        ArgumentError: If `content` has a field with the name of the checksum, "sha256".
    """
    if CHECKSUM in content:
        raise ArgumentError("content", CHECKSUM, "other names of fields")
    header = {"kind": kind, "schema": SCHEMA}
    document = {**header, **content, **header}
    document[CHECKSUM] = _json_checksum(document)
    separators = (",", ":") if indent is None else None
    text = json.dumps(document, indent=indent, separators=separators, allow_nan=False) + "\n"
    data = text.encode()
    with atomic_write(path) as file:
        file.write(gzip.compress(data, mtime=0) if _is_compressed(path) else data)


def read_json(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """Reads a file written by `write_json`; returns its content without kind, schema, checksum.

    Raises:
        FileError: If the file is missing, not JSON, too large or too deep, of another kind or of a
            newer schema, was changed after it was written, or does not fit the schema of its kind.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        text = file.read() if size <= MAX_JSON_BYTES else b""
    if _is_compressed(path):
        text = _decompressed(path, text)
    if max(size, len(text)) > MAX_JSON_BYTES:
        raise DamagedFileError(f"{path}: damaged, it has more than {MAX_JSON_BYTES} bytes.")
    values = sum(text.count(each) for each in (b",", b"[", b"{"))  # at least as many as there are
    if values > MAX_JSON_VALUES:
        raise DamagedFileError(f"{path}: damaged, it has more than {MAX_JSON_VALUES} values.")
    try:
        document = json.loads(text)
        _check_depth(path, document)
        checksum = document.pop(CHECKSUM, None) if isinstance(document, dict) else None
        unchanged = checksum == _json_checksum(document)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: damaged, not a JSON document ({error}).") from error
    if not isinstance(document, dict):
        raise DamagedFileError(f"{path}: not a {kind} file of tf_prac.")
    _check_header(path, kind, document.pop("kind", None), document.pop("schema", None))
    if not unchanged:
        raise DamagedFileError(f"{path}: damaged, or changed since tf_prac wrote it.")
    check_document(path, kind, document)
    return document


def _is_compressed(path: str | os.PathLike) -> bool:
    return pathlib.Path(path).suffix == ".gz"


def _decompressed(path: str | os.PathLike, data: bytes) -> bytes:
    decoder = zlib.decompressobj(wbits=31)  # of gzip
    try:
        text = decoder.decompress(data, MAX_JSON_BYTES + 1)
    except zlib.error as error:
        raise DamagedFileError(f"{path}: damaged, not a gzip file ({error}).") from error
    if len(text) <= MAX_JSON_BYTES and not decoder.eof:
        raise DamagedFileError(f"{path}: damaged, not a whole gzip file.")
    return text


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as CSV. Columns are in order of first appearance; a row may lack some.

    A text that a spreadsheet would read as a formula gets an apostrophe in front, as OWASP advises;
    `read_csv` removes it. NUL, which Python 3.10 cannot read from CSV, becomes the text `\\x00`.
    Numbers stay as they are.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells: list[list[Any]] = [columns, *([row.get(name) for name in columns] for row in rows)]
    text = "".join(map(_csv_line, cells))
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads the rows of a file written by `write_csv`, as texts.

    Raises:
        FileError: If the file is missing, or is not CSV in UTF-8.
    """
    with open_regular(path) as file:
        text = file.read()
    try:
        rows = csv.DictReader(io.StringIO(text.decode(), newline=""), strict=True)
        return [{_csv_text(k): _csv_text(v or "") for k, v in row.items() if k} for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedFileError(f"{path}: damaged, not a CSV file ({error}).") from error


def write_npz(path: str | os.PathLike, kind: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as one compressed `.npz` with its kind, schema number and checksum.

    Arrays of bfloat16 are stored as uint16 with the same bits, and their names in one more array.

    Raises:
        ArgumentError: If an array has the name of the kind, the schema or the checksum.
        ValueError: If an array contains Python objects, which need pickle.
        FileError: If the file cannot be written.
    """
    header = {_KIND: np.array(kind), _SCHEMA: np.array(SCHEMA)}
    reserved = {*header, _CHECKSUM, _DTYPES}
    dtypes = {n: a.dtype.name for n, a in arrays.items() if _dtype_name(a) in _AS_INTEGERS}
    if dtypes:
        header[_DTYPES] = np.array(json.dumps(dtypes))
    if clashes := reserved & arrays.keys():
        allowed = f"names other than {', '.join(sorted(reserved))}"
        raise ArgumentError("arrays", min(clashes), allowed)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {**arrays, **header}.items():
            bits = _AS_INTEGERS[dtypes[name]] if name in dtypes else None
            array = np.asanyarray(array)
            _write_member(archive, name, array if bits is None else array.view(bits))
        _write_member(archive, _CHECKSUM, np.array(_archive_checksum(archive.infolist())))


def read_npz(path: str | os.PathLike, kind: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a file written by `write_npz`: at most `MAX_BYTES`, without pickle.

    Raises:
        FileError: If the file is missing, damaged, of another kind, of a newer schema or too
            large, was changed after it was written, or does not fit the schema of its kind.
    """
    with _open_archive(path, kind) as (archive, members, dtypes):
        arrays = {name: _read_member(path, archive, info) for name, info in members.items()}
        for name, dtype in dtypes.items():
            arrays[name] = arrays[name].view(_extension_dtype(dtype))
    check_arrays(path, kind, arrays)
    return arrays


def read_shapes(path: str | os.PathLike, kind: str) -> dict[str, tuple[int, ...]]:
    """Reads the shapes of the arrays of a file written by `write_npz`, and not their elements.

    Raises:
        FileError: As for `read_npz`.
    """
    with _open_archive(path, kind) as (archive, members, _):
        return {name: _read_shape(path, archive, info) for name, info in members.items()}


def _dtype_name(array: Any) -> str:
    return getattr(getattr(array, "dtype", None), "name", "")


def _extension_dtype(name: str) -> np.dtype:
    """Returns a dtype of `_AS_INTEGERS`; raises `KeyError` for another."""
    import ml_dtypes  # only files with bfloat16 need it

    return {"bfloat16": np.dtype(ml_dtypes.bfloat16)}[name]


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open_regular(path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


@contextlib.contextmanager
def open_regular(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a regular file for reading; a pipe or device, which may be endless, is refused."""
    check_name(path)
    try:
        with open(
            path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCKING)
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


@contextlib.contextmanager
def _open_archive(
    path: str | os.PathLike, kind: str
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo], dict[str, str]]]:
    """Opens an archive, verifies its header; yields it, its arrays and their extension dtypes."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = zip_members(path, archive)
            header = {
                name: _read_member(path, archive, members.pop(name))
                for name in (_KIND, _SCHEMA, _CHECKSUM, _DTYPES)
                if name in members
            }
            values = {name: None if a.ndim else a.item() for name, a in header.items()}
            _check_header(path, kind, values.get(_KIND), values.get(_SCHEMA))
            covered = [i for i in archive.infolist() if i.filename != f"{_CHECKSUM}.npy"]
            if values.get(_CHECKSUM) != _archive_checksum(covered):
                raise DamagedFileError(f"{path}: damaged, or changed since tf_prac wrote it.")
            yield archive, members, json.loads(values.get(_DTYPES) or "{}")
    except FileError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds of errors on damaged bytes
        raise DamagedFileError(
            f"{path}: damaged, not a readable .npz archive ({error})."
        ) from error


def _check_depth(path: str | os.PathLike, document: Any) -> None:
    """Raises `DamagedFileError` for values that are nested too deeply for recursive functions."""
    level = [document]
    for _ in range(MAX_JSON_DEPTH):
        nested = [value for value in level if isinstance(value, (dict, list))]
        level = [
            item
            for value in nested
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise DamagedFileError(f"{path}: damaged, it has more than {MAX_JSON_DEPTH} levels.")


def _csv_line(cells: Sequence[Any]) -> str:
    """Returns a line of CSV; the terminator of the writer has to be CR LF for CR to be quoted."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(map(_csv_cell, cells))
    return line.getvalue().removesuffix("\r\n") + "\n"


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\0", "\\x00")
    return f"'{text}" if _FORMULA.match(text) else text


def _csv_text(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def _json_checksum(document: Any) -> str:
    text = json.dumps(document, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _archive_checksum(members: Sequence[zipfile.ZipInfo]) -> str:
    """The SHA-256 of names, sizes and CRC-32s; zipfile checks the contents against the latter."""
    lines = [f"{i.CRC:08x} {i.file_size} {i.filename}\n" for i in members]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_header(path: str | os.PathLike, expected: str, kind: object, schema: object) -> None:
    if kind != expected:
        raise DamagedFileError(f"{path}: not a {expected} file of tf_prac (its kind is {kind!r}).")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise DamagedFileError(f"{path}: damaged, its schema number is {schema!r}.")
    if schema > SCHEMA:
        raise FileError(
            f"{path}: written by a newer tf_prac (schema {schema}; this one reads up to {SCHEMA})."
        )


def zip_members(path: str | os.PathLike, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns the members of an archive by array name, after checking their declared sizes."""
    infos = archive.infolist()
    members = {info.filename.removesuffix(".npy"): info for info in infos}
    if len(members) != len(infos):
        raise DamagedFileError(f"{path}: damaged, it contains an array twice.")
    if len(infos) > MAX_MEMBERS:
        raise DamagedFileError(f"{path}: damaged, it has more than {MAX_MEMBERS} arrays.")
    declared = sum(info.file_size for info in infos)
    allowed = min(MAX_BYTES, MAX_RATIO * os.path.getsize(path))
    if declared > allowed:
        raise DamagedFileError(
            f"{path}: damaged, it declares {declared} bytes, more than {allowed}."
        )
    return members


def _write_member(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _read_member(
    path: str | os.PathLike, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> np.ndarray:
    _read_shape(path, archive, info)
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _read_shape(
    path: str | os.PathLike, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> tuple[int, ...]:
    """Returns the shape of an array, after checking that its file has the size it declares."""
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
        header_bytes = member.tell()
    declared = math.prod(map(int, shape)) * dtype.itemsize
    if dtype.hasobject or declared != info.file_size - header_bytes:
        raise DamagedFileError(
            f"{path}: damaged, {info.filename} does not have the size it declares."
        )
    if dtype.itemsize > MAX_ITEM_BYTES or min(shape, default=0) < 0:
        raise DamagedFileError(f"{path}: damaged, {info.filename} has the type {dtype.str!r}.")
    return shape
