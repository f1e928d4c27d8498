"""Manifests: JSON documents with the SHA-256 of the files they belong to.

A manifest is written last, so a directory that has one is complete. Its "files" are the digests of
the files next to it. Its "made_from", if it has one, are the digests of the files of a run that its
content was computed from, so the files of two runs cannot be mixed.
"""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tf_prac.errors import DamagedFileError
from tf_prac.storage.files import inside, read_json, sha256, write_json

MADE_FROM = "made_from"


def write_manifest(
    directory: pathlib.Path, name: str, kind: str, document: Mapping[str, Any]
) -> None:
    """Writes a document as JSON, with the SHA-256 of every other file in the directory.

    Args:
        directory: the directory; files whose names start with a dot are skipped.
        name: file name of the manifest.
        kind: what it describes, such as "round".
        document: JSON values by name.
    """
    files = sorted(p for p in directory.iterdir() if p.is_file() and p.name != name)
    digests = {p.name: sha256(p) for p in files if not p.name.startswith(".")}
    write_json(directory / name, kind, {**document, "files": digests})


def read_manifest(directory: pathlib.Path, name: str, kind: str) -> dict[str, Any] | None:
    """Reads the document of a manifest and verifies its files; None if there is no manifest.

    Raises:
        DamagedFileError: If the manifest or one of its files is damaged or missing; the file is
            named.
    """
    if not (directory / name).exists():
        return None
    document = read_json(inside(directory, name), kind)
    files = document.pop("files", None)
    if not isinstance(files, dict):
        raise DamagedFileError(f"{directory / name}: damaged, it names no files.")
    for file, digest in files.items():
        if pathlib.PurePath(file).name != file:
            raise DamagedFileError(
                f"{directory / name}: damaged, {file!r} is not in the directory."
            )
        if sha256(inside(directory, file)) != digest:
            raise DamagedFileError(
                f"{directory / file}: damaged, its SHA-256 is not the one in {name}. "
                "Run the same search again to restore it."
            )
    return document


def file_digests(directory: pathlib.Path, names: Sequence[str]) -> dict[str, str]:
    """Returns the SHA-256 of files of a directory, by name."""
    return {name: sha256(inside(directory, name)) for name in names}


def check_made_from(
    directory: pathlib.Path,
    file: pathlib.Path,
    document: Mapping[str, Any],
    names: Sequence[str],
    earlier: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:
    """Returns a document without "made_from", after comparing it with the files of a run.

    Args:
        directory: the directory of the run.
        file: the file that contains the document.
        document: what it contains.
        names: the files of the run that it has to be computed from.
        earlier: SHA-256 of earlier versions of a file that are as good, by its name. Default None.

    Raises:
        DamagedFileError: If one of these files has changed or belongs to another run.
    """
    content = dict(document)
    recorded, current = content.pop(MADE_FROM, None), file_digests(directory, names)
    if not isinstance(recorded, dict):
        raise DamagedFileError(f"{file}: damaged, it does not say what it was made from.")
    for name in [*current, *recorded]:
        allowed = {current.get(name), *(earlier or {}).get(name, ())}
        if recorded.get(name) not in allowed:
            raise DamagedFileError(
                f"{directory / name}: damaged, or of another run: "
                f"{file} was not made from this one."
            )
    return content
