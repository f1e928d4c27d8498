"""Damage to the files of a run, drawn at random: what disks, people and attackers do to them."""

from __future__ import annotations

import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from tf_prac.search.ticket import W_K_OF_RUN
from tf_prac.storage.files import read_json, sha256, write_json

VALUES = [None, True, -1, 0, 1.5, "", "../..", [], {}, [[0]], 10**400, "\ud800"]
NOT_JSON = [b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 5000 + b"]" * 5000, b'"\xff"']


class Damage:
    """One way to damage a run.

    Args:
        name: says what is done, for the report of a failing example.
        files: the files or directories it touches, relative to the run.
        do: does it; takes the directory of the run.
        foreign: whether what it puts there is intact, but of another place or run.
    """

    def __init__(
        self, name: str, files: list[str], do: Callable[[pathlib.Path], None], foreign: bool = False
    ):
        self.name, self.files, self.do, self.foreign = name, files, do, foreign

    def __repr__(self) -> str:
        return f"{self.name} {' '.join(self.files)}"


class Touch:
    """Its pickle makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def files_of(run: pathlib.Path) -> list[str]:
    """Every file of a run, relative to it; the lock is not one."""
    paths = (p for p in run.rglob("*") if p.is_file() and not p.name.startswith("."))
    return sorted(str(p.relative_to(run)) for p in paths)


def replaced(path: pathlib.Path, content: bytes) -> None:
    """Gives a path new content; other names of the old file keep theirs."""
    path.unlink()
    path.write_bytes(content)


@st.composite
def damages(draw, run: pathlib.Path, donors: list[pathlib.Path], touched: pathlib.Path):
    """Draws one `Damage` of an intact run.

    Args:
        draw: given by Hypothesis.
        run: the intact run, whose files the damage is drawn for.
        donors: other intact runs of as many rounds.
        touched: the file that planted pickles would make.
    """
    files = files_of(run)
    kinds = [_bytes, _bytes, _foreign, _kind_of_file, _json, _json, _arrays, _reference]
    kind = draw(st.sampled_from(kinds))
    suffix = {_json: ".json", _arrays: ".npz", _reference: "ticket.json"}.get(kind, "")
    name = draw(st.sampled_from([f for f in files if f.endswith(suffix)]))
    return kind(draw, name, run, donors, touched)


def _bytes(draw, name, run, donors, touched):
    """Flips, cuts, holes, growth."""
    size = (run / name).stat().st_size
    place = st.integers(0, size - 1)
    what = draw(st.sampled_from(["flip", "cut", "zero", "grow", "insert", "hole"]))
    start, flips = draw(place), draw(st.dictionaries(place, st.integers(1, 255), min_size=1))
    more = draw(st.binary(min_size=1, max_size=600))

    def do(path):
        old = (path / name).read_bytes()
        if what == "flip":
            new = bytearray(old)
            for position, bits in flips.items():
                new[position] ^= bits
        elif what == "hole":
            new = old + bytes(2**26)
        else:
            new = {
                "cut": old[:start],
                "zero": old[:start] + bytes(len(old) - start),
                "grow": old + more,
                "insert": old[:start] + more + old[start:],
            }[what]
        replaced(path / name, bytes(new))

    return Damage(f"{what} at {sorted(flips) if what == 'flip' else start}", [name], do)


def _foreign(draw, name, run, donors, touched):
    """Files and directories of another run, or of another place in this one."""
    if draw(st.booleans()):
        name = draw(st.sampled_from([name, name.split("/")[0], str(pathlib.Path(name).parent)]))
        name = name if name not in (".", "tickets") else "tickets/round_02"
        donor = draw(st.sampled_from(donors))

        def do(path):
            _remove(path / name)
            _copy(donor / name, path / name)

        return Damage(f"from {donor.name}", [name], do, foreign=True)
    base = name.rpartition("/")[2]
    others = [n for n in files_of(run) if n != name and n.rpartition("/")[2] == base]
    other = draw(st.sampled_from(others or ["round_00/round.json"]))
    whole = bool(others) and draw(st.booleans())
    pair = [str(pathlib.Path(n).parent) for n in (name, other)] if whole else [name, other]

    def swap(path):
        _remove(path / pair[0])
        _remove(path / pair[1])
        _copy(run / pair[0], path / pair[1])
        _copy(run / pair[1], path / pair[0])

    return Damage("swapped", pair, swap, foreign=True)


def _kind_of_file(draw, name, run, donors, touched):
    """Something else, or nothing, in place of a file."""
    kinds = ["missing", "empty", "directory", "pipe", "device", "dangling", "loop", "link out"]
    what = draw(st.sampled_from(kinds))

    def do(path):
        file = path / name
        file.unlink()
        {
            "missing": lambda: None,
            "empty": file.touch,
            "directory": file.mkdir,
            "pipe": lambda: os.mkfifo(file),
            "device": lambda: file.symlink_to("/dev/zero"),
            "dangling": lambda: file.symlink_to("nowhere"),
            "loop": lambda: file.symlink_to(file.name),
            "link out": lambda: file.symlink_to(run / name),
        }[what]()

    return Damage(what, [name], do)


def _json(draw, name, run, donors, touched):
    """Fields renamed, removed or changed, some to what no JSON parser likes."""
    document = json.loads((run / name).read_bytes())
    inner, key = draw(st.sampled_from(list(_places(document))))
    what = draw(st.sampled_from(["rename", "remove", "value", "value", "text", "twice", "pickle"]))
    value, text = draw(st.sampled_from(VALUES)), draw(st.sampled_from(NOT_JSON))

    def do(path):
        changed = json.loads((run / name).read_bytes())
        place = changed
        for step in inner:
            place = place[step]
        old = place.pop(key)
        if what == "rename":
            place = place.update({f"{key}_": old}) if isinstance(place, dict) else place
        elif what != "remove":
            new = {"value": value, "text": "@", "twice": old, "pickle": "@"}[what]
            place.update({key: new}) if isinstance(place, dict) else place.insert(key, new)
        content = json.dumps(changed).encode()
        if what == "text":
            content = content.replace(b'"@"', text)
        elif what == "twice":
            content = content[:-1] + b', "kind": "other", "steps": 1}'
        elif what == "pickle":
            content = pickle.dumps(Touch(touched))
        replaced(path / name, content)

    place = ".".join(map(str, [*inner, key]))
    return Damage(f"{what} {str(value)[:9]} {text[:9]!r} of {place}", [name], do)


def _reference(draw, name, run, donors, touched):
    """A ticket.json with a valid seal that refers to other weights than the W_k of its run."""
    content = read_json(run / name, "ticket")
    digest = content["files"].pop(W_K_OF_RUN)
    what = draw(st.sampled_from(["digest", "path", "path", "path", "both", "extra", "none"]))
    files = {
        "digest": {W_K_OF_RUN: sha256(donors[0] / "rewind.npz")},
        "path": {draw(st.sampled_from(other_references(run))): digest},
        "both": {W_K_OF_RUN: digest, "weights.npz": digest},
        "extra": {W_K_OF_RUN: digest, str(touched): digest},
        "none": {},
    }[what]
    content["files"] |= files

    def do(path):
        write_json(path / name, "ticket", content)

    return Damage(f"reference {what} {' '.join(files)}", [name], do)


def other_references(run: pathlib.Path) -> list[str]:
    """References to a file with the right content that a ticket must not follow."""
    return [
        str(run / "rewind.npz"),
        f"../../../{run.name}/rewind.npz",
        "../../tickets/../rewind.npz",
        "..//../rewind.npz",
        "./../../rewind.npz",
        "../../rewind.npz/",
        "../rewind.npz",
        "rewind.npz",
        f"../../../../../../../..{run}/rewind.npz",
        f"file://{run}/rewind.npz",
    ]


def _places(document, above=()):
    """Every (path to a container, key in it) of a JSON document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield above, key
        if isinstance(value, dict | list) and len(value) < 40:
            yield from _places(value, (*above, key))


def _arrays(draw, name, run, donors, touched):
    """Members of an archive renamed, removed, exchanged, or of other types and shapes."""
    with np.load(run / name) as file:
        names = file.files
    member, other = draw(st.sampled_from(names)), draw(st.sampled_from(names))
    changes = {
        "rename": lambda a: {f"{member}_": a},
        "remove": lambda a: {},
        "exchange": lambda a: {member: a, other: None},
        "double": lambda a: {member: np.asarray(a, a.dtype).astype(np.float64, casting="unsafe")},
        "text": lambda a: {member: a.astype(str)},
        "more dims": lambda a: {member: a[None, ..., None]},
        "reverse": lambda a: {member: a.ravel()[::-1].reshape(a.shape)},
        "negative": lambda a: {member: a.astype(np.int64) - 2**40},
        "repeat": lambda a: {member: np.repeat(np.atleast_1d(a), 2, axis=0)},
        "objects": lambda a: {member: np.array([Touch(touched)], object)},
        "shape": None,
        "member": None,
    }
    numeric = member not in ("__kind__", "__sha256__")
    usable = [c for c in changes if numeric or c not in ("double", "negative")]
    what = draw(st.sampled_from(usable))
    shape = draw(st.sampled_from([(2**60,), (2**31, 2**31), (-1,), (2**28,), (10**30,), (2**64,)]))
    seal = draw(st.booleans())

    def do(path):
        with np.load(run / name) as file:
            arrays = dict(file)
        if what in ("shape", "member"):
            new = _huge(arrays[member], shape) if what == "shape" else pickle.dumps(Touch(touched))
            members = {n: _npy(a) for n, a in arrays.items()}
            replaced(path / name, _archive({**members, member: new}, seal))
            return
        array = arrays.pop(member)
        changed = changes[what](array)
        if what == "exchange" and other != member:
            changed[member], changed[other] = arrays[other], array
        changed = {n: a for n, a in changed.items() if a is not None}
        content = io.BytesIO()
        np.savez_compressed(content, **{**arrays, **changed})
        replaced(path / name, content.getvalue())

    return Damage(f"{what} {member} {shape if what == 'shape' else other}", [name], do)


def _npy(array) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _huge(array, shape) -> bytes:
    """An array whose header declares more than there is."""
    header = repr({"descr": array.dtype.str, "fortran_order": False, "shape": shape}).encode()
    data = array.tobytes()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _archive(members: dict[str, bytes], with_checksum: bool) -> bytes:
    """An archive of members as they are; `with_checksum` adds the checksum that matches them."""
    from tf_prac.storage.files import _archive_checksum

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            if name != "__sha256__" or not with_checksum:
                archive.writestr(f"{name}.npy", data)
        if with_checksum:
            checksum = _archive_checksum(archive.infolist())
            archive.writestr("__sha256__.npy", _npy(np.array(checksum)))
    return content.getvalue()


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link)
    elif source.exists():
        os.link(source, target)
