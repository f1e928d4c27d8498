"""Files are complete or absent, and what a file declares is checked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import pickle
import struct
import tempfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_prac.errors import ArgumentError, DamagedFileError, FileError, TfPracError
from tf_prac.storage.files import (
    MAX_BYTES,
    SCHEMA,
    atomic_write,
    inside,
    read_json,
    read_npz,
    sha256,
    write_json,
    write_npz,
)

PERMISSIONS = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


def files_in(directory):
    return sorted(p.name for p in directory.rglob("*") if p.is_file())


# Writing


def test_a_file_appears_when_its_block_ends(tmp_path):
    path = tmp_path / "new" / "deep" / "file"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert files_in(tmp_path) == ["file"]


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(os.fstat(number).st_ino))
    monkeypatch.setattr(os, "replace", lambda *names: calls.append("replace") or replace(*names))
    write_json(tmp_path / "file", "note", {})
    inodes = [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]
    assert calls == [inodes[0], "replace", inodes[1]]


class Interrupted(BaseException):
    """Like KeyboardInterrupt: not an Exception."""


@pytest.mark.parametrize("error", [ValueError, Interrupted, FileError])
def test_an_error_inside_the_block_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error, match="inside"), atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        raise error("inside")
    assert path.read_bytes() == b"old"
    assert files_in(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(call, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with (
        pytest.raises(FileError, match="file: cannot be written: No space left on device"),
        atomic_write(path) as file,
    ):
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert files_in(tmp_path) == ["file"]


def test_a_file_in_place_of_a_directory_is_reported(tmp_path):
    (tmp_path / "runs").write_bytes(b"")
    for path in (tmp_path / "runs" / "file", tmp_path / "runs" / "deep" / "file"):
        for write in (
            lambda p: write_json(p, "note", {}),
            lambda p: write_npz(p, "masks", {"a": np.ones(2)}),
        ):
            with pytest.raises(FileError, match="cannot be written: (Not a dir|File exists)"):
                write(path)
    assert files_in(tmp_path) == ["runs"]


def test_a_directory_in_place_of_the_file_is_reported(tmp_path):
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(FileError, match="file: cannot be written: Is a directory"):
        write_json(path, "note", {})
    assert list(tmp_path.rglob("*")) == [path]


@PERMISSIONS
def test_a_read_only_directory_is_reported(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileError, match="cannot be written: Permission denied"):
            write_json(tmp_path / "file", "note", {})
    finally:
        tmp_path.chmod(0o700)


def test_a_directory_that_may_not_be_written_is_reported(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(FileError, match="cannot be written: Permission denied"):
        write_json(tmp_path / "file", "note", {})


# JSON

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), JSON, max_size=5))
def test_json_comes_back_as_it_was(content):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "round.json"
        write_json(path, "note", content)
        assert read_json(path, "note") == content
        document = json.loads(path.read_text("utf-8"))
        checksum = document.pop("sha256")
        assert document == {"kind": "note", "schema": SCHEMA, **content}
        assert checksum == hashlib.sha256(json.dumps(document).encode()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_nan_and_keeps_the_old_file(value, tmp_path):
    path = tmp_path / "round.json"
    write_json(path, "note", {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, "note", {"losses": [0.5, value]})
    assert read_json(path, "note")["loss"] == 1.0
    assert files_in(tmp_path) == ["round.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "damaged, not a JSON document"),
        (b"{", "damaged, not a JSON document"),
        (b'{"kind": "note", "schema": 1', "damaged, not a JSON document"),
        (b"\xff\xfe\x00", "damaged, not a JSON document"),
        (b"[" * 100_000, "damaged, not a JSON document"),
        (b'{"schema": ' + b"9" * 10_000 + b"}", "damaged, not a JSON document"),
        (b"[1, 2]", "not a note file of tf_prac"),
        (b'"note"', "not a note file of tf_prac"),
        (b"{}", "not a note file of tf_prac .its kind is None"),
        (b'{"kind": "summary", "schema": 1}', "not a note file of tf_prac .its kind is 'summary'"),
        (b'{"kind": ["note"], "schema": 1}', "not a note file of tf_prac"),
        (b'{"kind": "note"}', "damaged, its schema number is None"),
        (b'{"kind": "note", "schema": "1"}', "damaged, its schema number is '1'"),
        (b'{"kind": "note", "schema": true}', "damaged, its schema number is True"),
        (b'{"kind": "note", "schema": 0}', "damaged, its schema number is 0"),
        (b'{"kind": "note", "schema": 1.5}', "damaged, its schema number is 1.5"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_json_that_is_not_ours_is_refused(text, message, tmp_path):
    path = tmp_path / "round.json"
    path.write_bytes(text)
    with pytest.raises(FileError, match=f"round.json: {message}"):
        read_json(path, "note")
    assert path.read_bytes() == text


@settings(deadline=None)
@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_reading_json_fail_in_another_way(text):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "round.json"
        path.write_bytes(text)
        with pytest.raises(FileError):
            read_json(path, "note")


def test_a_newer_schema_is_refused_and_both_numbers_named(tmp_path):
    text = json.dumps({"kind": "note", "schema": SCHEMA + 6})
    (tmp_path / "round.json").write_text(text)
    newer = f"newer tf_prac .schema {SCHEMA + 6}; this one reads up to {SCHEMA}"
    with pytest.raises(FileError, match=newer):
        read_json(tmp_path / "round.json", "note")
    np.savez(tmp_path / "masks.npz", __kind__="masks", __schema__=SCHEMA + 6)
    with pytest.raises(FileError, match=newer):
        read_npz(tmp_path / "masks.npz", "masks")


READERS = [
    lambda path: read_json(path, "note"),
    lambda path: read_npz(path, "masks"),
    sha256,
]


@pytest.mark.parametrize("read", READERS, ids=["json", "npz", "sha256"])
def test_what_is_missing_or_no_file_is_reported(read, tmp_path):
    with pytest.raises(FileError, match="nothing: no such file"):
        read(tmp_path / "nothing")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        read(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="cannot be read: Not a directory"):
        read(tmp_path / "file" / "below")


def test_every_file_error_is_one_of_ours_and_an_os_error(tmp_path):
    with pytest.raises(TfPracError) as caught:
        read_json(tmp_path / "nothing", "note")
    assert isinstance(caught.value, OSError)


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_sha256_is_that_of_the_bytes(content):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "file"
        path.write_bytes(content)
        assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_sha256_reads_more_than_one_block(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


# Arrays

DTYPES = hnp.scalar_dtypes().filter(lambda dtype: dtype.kind not in "mM")
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))


def same(one, other):
    """Whether two sets of arrays are the same to the bit, in names, types and shapes too."""
    return list(one) == list(other) and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in zip(one.values(), other.values(), strict=True)
    )


RESERVED = ("__kind__", "__schema__", "__sha256__")


@settings(deadline=None)
@given(st.dictionaries(st.text("a/ü._-9", max_size=6), ARRAYS, max_size=4))
def test_arrays_come_back_to_the_bit_and_in_order(arrays):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "weights.npz"
        write_npz(path, "arrays", arrays)
        assert same(read_npz(path, "arrays"), arrays)
        with np.load(path, allow_pickle=False) as plain:
            assert set(plain.files) == {*arrays, *RESERVED}


def test_arrays_that_are_not_contiguous_come_back_too(tmp_path):
    arrays = {"f": np.asfortranarray(np.arange(6).reshape(2, 3)), "s": np.arange(20)[::3]}
    write_npz(tmp_path / "a.npz", "arrays", arrays)
    assert same(read_npz(tmp_path / "a.npz", "arrays"), arrays)


def test_the_same_arrays_are_the_same_bytes(tmp_path):
    arrays = {"a": np.arange(100.0), "b": np.zeros((3, 4))}
    for name in ("one", "two"):
        write_npz(tmp_path / name, "arrays", arrays)
    assert sha256(tmp_path / "one") == sha256(tmp_path / "two")


def test_objects_are_neither_written_nor_read(tmp_path):
    path = tmp_path / "masks.npz"
    write_npz(path, "masks", {"a": np.ones(2)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        write_npz(path, "masks", {"a": np.array([print])})
    assert path.read_bytes() == before and files_in(tmp_path) == ["masks.npz"]


class Bomb:
    """Its pickle makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    touched = tmp_path / "touched"
    objects = io.BytesIO()
    np.save(objects, np.array([Bomb(touched)]))
    bomb = pickle.dumps(Bomb(touched))
    (tmp_path / "objects.npz").write_bytes(archive_of({"a.npy": objects.getvalue()}))
    (tmp_path / "pickle.npz").write_bytes(archive_of({"a.npy": bomb}))
    (tmp_path / "bare.npz").write_bytes(bomb)
    for name in ("objects", "pickle", "bare"):
        with pytest.raises(FileError, match=f"{name}.npz: damaged"):
            read_npz(tmp_path / f"{name}.npz", "arrays")
    assert not touched.exists()
    pickle.loads(pickle.dumps(Bomb(touched)))
    assert touched.exists(), "the bomb works"


@pytest.mark.parametrize("name", RESERVED)
def test_an_array_cannot_have_a_name_of_the_header(name, tmp_path):
    with pytest.raises(ArgumentError, match=f"received '{name}'"):
        write_npz(tmp_path / "a.npz", "arrays", {"a": np.ones(1), name: np.ones(1)})
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "not a masks file of tf_prac .its kind is None"),
        (
            {"__kind__": "prac_set", "__schema__": 1},
            "not a masks file of tf_prac .its kind is 'prac_set'",
        ),
        ({"__kind__": ["masks"], "__schema__": 1}, "not a masks file of tf_prac .its kind is None"),
        ({"__kind__": "masks"}, "its schema number is None"),
        ({"__kind__": "masks", "__schema__": [1]}, "its schema number is None"),
        ({"__kind__": "masks", "__schema__": 1.0}, "its schema number is 1.0"),
        ({"__kind__": "masks", "__schema__": -1}, "its schema number is -1"),
        ({"__kind__": "masks", "__schema__": True}, "its schema number is True"),
    ],
)
def test_arrays_without_a_proper_header_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "masks.npz", **arrays, a=np.ones(3))
    with pytest.raises(FileError, match=message):
        read_npz(tmp_path / "masks.npz", "masks")


# Damage: every cut, and any flips, of one small file


EXAMPLE = {
    "conv/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "mask": np.array([True, False, True]),
    "empty": np.zeros((0, 2)),
}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The bytes of a small file."""
    path = tmp_path_factory.getbasetemp() / "example.npz"
    write_npz(path, "arrays", EXAMPLE)
    return path.read_bytes()


@pytest.fixture(scope="module")
def read_bytes(tmp_path_factory):
    """What `read_npz` makes of bytes: arrays, or None when it refuses them."""
    path = tmp_path_factory.getbasetemp() / "damaged.npz"

    def read(content):
        path.write_bytes(content)
        try:
            return read_npz(path, "arrays")
        except FileError as error:
            assert str(error).startswith(str(path))
            return None

    return read


def test_the_example_is_read(example, read_bytes):
    assert same(read_bytes(example), EXAMPLE)


def test_a_file_cut_anywhere_is_refused(example, read_bytes):
    assert [n for n in range(len(example)) if read_bytes(example[:n]) is not None] == []


@pytest.mark.parametrize("flip", [0x01, 0x06, 0xFF])  # 0x06 turns deflate (8) into LZMA (14)
def test_no_single_byte_can_change_what_is_read(flip, example, read_bytes):
    for position in range(len(example)):
        found = read_bytes(_flipped(example, {position: flip}))
        assert found is None or same(found, EXAMPLE), position


def _flipped(content, flips):
    damaged = bytearray(content)
    for position, flip in flips.items():
        damaged[position % len(damaged)] ^= flip
    return bytes(damaged)


@settings(deadline=None, max_examples=300)
@given(flips=st.dictionaries(st.integers(0, 5000), st.integers(1, 255), min_size=1, max_size=12))
def test_no_flips_can_change_what_is_read(example, read_bytes, flips):
    found = read_bytes(_flipped(example, flips))
    assert found is None or same(found, EXAMPLE)


@settings(deadline=None)
@given(inserted=st.binary(max_size=200), start=st.integers(0, 2000), removed=st.integers(0, 300))
def test_no_bytes_put_in_can_change_what_is_read(example, read_bytes, inserted, start, removed):
    start %= len(example)
    found = read_bytes(example[:start] + inserted + example[start + removed :])
    assert found is None or same(found, EXAMPLE)


def array_bytes(value):
    """The `.npy` file of an array."""
    content = io.BytesIO()
    np.save(content, np.array(value))
    return content.getvalue()


def archive_of(members, declared=None):
    """An `.npz` with a valid header and checksum, with other members, given as bytes.

    The checksum covers the sizes in `declared`, though the members may have others.
    """
    members = {
        "__kind__.npy": array_bytes("arrays"),
        "__schema__.npy": array_bytes(1),
        **members,
    }
    sizes = {**{name: len(data) for name, data in members.items()}, **(declared or {})}
    lines = [f"{zlib.crc32(data):08x} {sizes[n]} {n}\n" for n, data in members.items()]
    checksum = hashlib.sha256("".join(lines).encode()).hexdigest()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"__sha256__.npy": array_bytes(checksum), **members}.items():
            archive.writestr(name, data)
    return content.getvalue()


def npy(header, data=b"", version=(1, 0)):
    """A `.npy` with a header as it is, damaged or not."""
    text = header if isinstance(header, bytes) else repr(header).encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def described(shape, descr="<f8"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


def test_a_crafted_archive_can_be_read_at_all(read_bytes):
    data = np.arange(3.0).tobytes()
    for version in ((1, 0), (2, 0)):
        found = read_bytes(archive_of({"a.npy": npy(described((3,)), data, version)}))
        assert same(found, {"a": np.arange(3.0)})


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"\x93NUMPY",
        b"not numpy at all, but long enough to be",
        npy(described((3,)), bytes(24), (3, 0)),
        npy(described((3,)), bytes(24), (9, 0)),
        npy(described((3,)), bytes(23)),
        npy(described((3,)), bytes(25)),
        npy(described((-3,)), bytes(24)),
        npy(described((-1, -3)), bytes(24)),
        npy(described((3,), ()), bytes(24)),
        npy(described((3,), "|O"), bytes(24)),
        npy(described((3,), [("x", "|O")]), bytes(24)),
        npy(described((3,), "nonsense"), bytes(24)),
        npy(described(3), bytes(24)),
        npy(described((2.5,)), bytes(20)),
        npy(described(("3",)), bytes(24)),
        npy({"descr": "<f8", "shape": (3,)}, bytes(24)),
        npy(b"", bytes(24)),
        npy(b"[" * 3000, bytes(24)),
        npy(b"{'descr': '<f8', 'shape': (3,", bytes(24)),
        npy(b"'''", bytes(24)),
        npy(b"\xff\xfe", bytes(24)),
        npy(b"__import__('os').abort()", bytes(24)),
    ],
    ids=lambda member: repr(member[8:60]),
)
def test_arrays_that_numpy_did_not_write_are_refused(member, read_bytes):
    assert read_bytes(archive_of({"a.npy": member})) is None


def test_an_array_given_twice_is_refused(read_bytes):
    good = npy(described((1,)), bytes(8))
    content = archive_of({"a.npy": good, "b.npy": good})
    assert list(read_bytes(content)) == ["a", "b"]
    assert read_bytes(content.replace(b"b.npy", b"a.npy")) is None


def test_an_array_under_another_name_or_with_another_content_is_refused(tmp_path):
    """As `numpy.savez` would write it again; the copy with everything as it was is read."""
    path = tmp_path / "weights.npz"
    write_npz(path, "arrays", {"a": np.zeros(2), "b": np.ones(2)})
    with np.load(path) as file:
        arrays = dict(file)
    swapped = {"a": arrays["b"], "b": arrays["a"]}
    fewer = {name: array for name, array in arrays.items() if name != "b"}
    renamed = {**fewer, "c": arrays["b"]}
    unchecked = {name: array for name, array in arrays.items() if name != "__sha256__"}
    more = {**arrays, "c": arrays["b"]}
    for changed in ({**arrays, **swapped}, fewer, renamed, unchecked, more):
        np.savez(path, **changed)
        with pytest.raises(DamagedFileError, match="weights.npz: damaged, or changed since"):
            read_npz(path, "arrays")
    np.savez(path, **arrays)
    assert same(read_npz(path, "arrays"), {"a": np.zeros(2), "b": np.ones(2)})


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(steps=6),
        lambda d: d.update(steps=5.0),
        lambda d: d.update(more=None),
        lambda d: d.update(Steps=d.pop("steps")),
        lambda d: d.pop("losses"),
        lambda d: d["losses"].reverse(),
        lambda d: d.pop("sha256"),
        lambda d: d.update(sha256=None),
        lambda d: d.update(sha256="0" * 64),
    ],
)
def test_json_that_was_changed_is_refused(change, tmp_path):
    path = tmp_path / "round.json"
    write_json(path, "note", {"steps": 5, "losses": [1.5, 0.1]})
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document))
    assert read_json(path, "note") == {"steps": 5, "losses": [1.5, 0.1]}, "layout is free"
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(DamagedFileError, match="round.json: damaged, or changed since"):
        read_json(path, "note")


def test_a_field_cannot_have_the_name_of_the_checksum(tmp_path):
    with pytest.raises(ArgumentError, match="received 'sha256'"):
        write_json(tmp_path / "round.json", "note", {"sha256": "0" * 64})
    assert files_in(tmp_path) == []


# Links, pipes and devices


@pytest.mark.parametrize("read", READERS, ids=["json", "npz", "sha256"])
def test_what_is_no_regular_file_is_refused_without_waiting(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "endless"):
        with pytest.raises(FileError, match=f"{name}: cannot be read: not a regular file"):
            read(tmp_path / name)
    with pytest.raises(FileError, match="loop: cannot be read: Too many levels"):
        read(tmp_path / "loop")


def test_a_link_may_stay_inside_but_not_lead_out(tmp_path):
    run = tmp_path / "run"
    (run / "round_00").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(run)
    (run / "to_round").symlink_to("round_00")
    (run / "out").symlink_to("..")
    (run / "absolute").symlink_to("/etc/hostname")
    for names in (("config.json",), ("round_00", "masks.npz"), ("to_round", "masks.npz")):
        for directory in (run, tmp_path / "alias"):
            assert inside(directory, *names) == directory.joinpath(*names)
    for names in (("out",), ("out", "secret"), ("absolute",), ("..", "x"), ("/etc", "hostname")):
        with pytest.raises(FileError, match="a link that points outside"):
            inside(run, *names)


# Sizes


def test_json_of_any_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "round.json"
    with open(path, "wb") as file:
        file.truncate(2**40)  # a hole, which takes no space
    monkeypatch.setattr("tf_prac.storage.files.MAX_JSON_BYTES", 2**20)

    def read():
        with pytest.raises(FileError, match="round.json: damaged, it has more than 1048576 bytes"):
            read_json(path, "note")

    assert peak_memory(read) < 2**16
    (tmp_path / "round.json").write_bytes(b"{}")
    assert peak_memory(lambda: pytest.raises(FileError, read_json, path, "note")) < 2**16


def test_members_that_share_their_bytes_are_refused(read_bytes):
    """A quine of many: each directory entry points at the same compressed zeros."""
    content = archive_of({f"{n}.npy": array_bytes(np.zeros(2**16)) for n in range(9)})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        offsets = [i.header_offset for i in archive.infolist() if i.filename[0].isdigit()]
    assert len(read_bytes(content)) == 9
    for offset in offsets[1:]:
        content = content.replace(struct.pack("<I", offset), struct.pack("<I", offsets[0]))
    assert read_bytes(content) is None


def peak_memory(read):
    """The most bytes that Python and numpy took at a time."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def declare_size(content, size):
    """Writes `size` as the uncompressed size of the last member, in both of its zip headers."""
    damaged = bytearray(content)
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", damaged, content.rindex(signature) + offset, size)
    return bytes(damaged)


@pytest.mark.parametrize(
    "shape",
    [(2**60,), (2**40, 2**40), (10**30,), (2**32, 2**32), (2**63, 2), (2**28,)],
    ids=str,
)
@pytest.mark.parametrize("descr", ["<f8", "|V0", "<U0", "<U100"])
def test_a_huge_shape_is_refused_and_no_memory_taken(shape, descr, read_bytes):
    content = archive_of({"a.npy": npy(described(shape, descr), bytes(100))})
    assert peak_memory(lambda: read_bytes(content)) < 2**20
    assert read_bytes(content) is None


def test_a_size_that_zip_and_array_agree_on_is_refused_and_no_memory_taken(read_bytes):
    header = npy(described((2**26,)))
    size = 2**29 + len(header)
    content = declare_size(archive_of({"a.npy": header}, {"a.npy": size}), size)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.infolist()[-1].file_size > 2**29
    found = []
    assert peak_memory(lambda: found.append(read_bytes(content))) < 2**20
    assert found == [None]


def test_more_than_the_limit_is_refused_whatever_the_file_has(tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    write_npz(path, "arrays", {"a": np.zeros(2**20)})
    assert MAX_BYTES >= 2**33, "a network of a billion parameters must fit"
    assert read_npz(path, "arrays")["a"].shape == (2**20,)
    monkeypatch.setattr("tf_prac.storage.files.MAX_BYTES", 2**20)
    with pytest.raises(FileError, match="declares .* bytes, more than 1048576"):
        read_npz(path, "arrays")


@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_arrays_that_compress_as_well_as_they_can_are_read(dtype, tmp_path):
    arrays = {"a": np.zeros(2**24, dtype)}
    write_npz(tmp_path / "a.npz", "arrays", arrays)
    assert same(read_npz(tmp_path / "a.npz", "arrays"), arrays)
