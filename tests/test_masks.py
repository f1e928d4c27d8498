"""`Masks`: a value that says which weights are kept, and survives a file."""

from __future__ import annotations

import json
import pathlib
import tempfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_prac.errors import ArgumentError, FileError, MismatchError
from tf_prac.pruning.masks import Masks
from tf_prac.storage.files import write_json, write_npz

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NAMES = NAMES.filter(lambda name: not name.startswith("__"))
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
ARRAYS = st.dictionaries(NAMES, SHAPES.flatmap(lambda shape: hnp.arrays(bool, shape)), max_size=4)


def pairs():
    """Two masks of the same network."""
    shapes = st.dictionaries(NAMES, SHAPES, min_size=1, max_size=3)
    return shapes.flatmap(
        lambda found: st.tuples(
            *[
                st.fixed_dictionaries({name: hnp.arrays(bool, s) for name, s in found.items()})
                for _ in range(2)
            ]
        )
    )


def elements(masks):
    """Every element with its place, in plain Python."""
    return [(name, i, bool(v)) for name in sorted(masks) for i, v in enumerate(masks[name].ravel())]


@given(ARRAYS)
def test_counts_are_those_of_a_loop_over_all_elements(arrays):
    masks = Masks(arrays)
    kept = sum(value for _, _, value in elements(arrays))
    size = len(elements(arrays))
    assert (masks.size, masks.remaining, len(masks)) == (size, kept, len(arrays))
    assert masks.density == pytest.approx(kept / size if size else 1)
    assert masks.sparsity == pytest.approx(1 - kept / size if size else 0)
    assert list(masks) == list(arrays)
    assert masks.shapes == {name: array.shape for name, array in arrays.items()}


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float16, np.float32])
def test_zeros_and_ones_of_any_type_are_booleans_then(dtype):
    masks = Masks({"a": np.array([[0, 1], [1, 1]], dtype)})
    assert masks["a"].dtype == bool
    assert masks["a"].tolist() == [[False, True], [True, True]]
    assert Masks({"a": [[0, 1], [1, 1]]}) == masks


@pytest.mark.parametrize(
    "array",
    [[0, 2], [-1, 1], [0.5], [np.nan], [np.inf], ["1"], [None], [b"\1"]],
    ids=str,
)
def test_anything_but_zeros_and_ones_is_refused_by_name(array):
    with pytest.raises(MismatchError, match="first/kernel must contain only zeros and ones"):
        Masks({"first/kernel": np.array(array)})


def test_a_mask_cannot_be_changed_from_inside_or_outside():
    array = np.array([True, False])
    masks = Masks({"a": array})
    digest = masks.digest()
    array[:] = False
    with pytest.raises(ValueError, match="read-only"):
        masks["a"][0] = False
    with pytest.raises(TypeError):
        masks["a"] = array
    assert masks["a"].tolist() == [True, False] and masks.digest() == digest


def test_dense_masks_keep_everything():
    masks = Masks.ones_like({"a": np.zeros((2, 3)), "b": np.float32(0)})
    assert masks.shapes == {"a": (2, 3), "b": ()}
    assert masks.remaining == masks.size == 7
    assert (masks.density, masks.sparsity) == (1.0, 0.0)
    assert "7 of 7" in repr(masks)


@given(ARRAYS, st.randoms())
def test_equal_masks_are_one_key_whatever_their_order(arrays, random):
    shuffled = list(arrays.items())
    random.shuffle(shuffled)
    one, other = Masks(arrays), Masks(dict(shuffled))
    assert one == other and hash(one) == hash(other) and one.digest() == other.digest()
    assert {one: "found"}[other] == "found"
    assert one != dict(arrays)


@given(ARRAYS, st.data())
def test_the_digest_changes_with_any_bit(arrays, data):
    places = [(name, i) for name, i, _ in elements(arrays)]
    if not places:
        return
    name, position = data.draw(st.sampled_from(places))
    changed = {n: a.copy() for n, a in arrays.items()}
    changed[name].flat[position] ^= True
    one, other = Masks(arrays), Masks(changed)
    assert one != other and one.digest() != other.digest()


@pytest.mark.parametrize(
    "other",
    [
        {"b": np.ones((2, 8))},
        {"a": np.ones((8, 2))},
        {"a": np.ones(16)},
        {"a": np.ones((2, 8, 1))},
        {"a": np.ones((2, 8)), "b": np.ones(0)},
        {},
    ],
)
def test_the_digest_changes_with_shape_and_name(other):
    masks = Masks({"a": np.ones((2, 8))})
    assert masks != Masks(other) and masks.digest() != Masks(other).digest()


def test_a_name_cannot_pose_as_another_mask():
    letter = np.unpackbits(np.frombuffer(b"A", np.uint8))
    two = Masks({"a": letter, "b": np.ones(8)})
    assert two.digest() != Masks({"a(8,)Ab": np.ones(8)}).digest()
    assert two.digest() != Masks({"'a'(8,)A'b'": np.ones(8)}).digest()


@given(pairs())
def test_distance_and_overlap_are_those_of_a_loop(two):
    one, other = Masks(two[0]), Masks(two[1])
    a, b = [v for *_, v in elements(two[0])], [v for *_, v in elements(two[1])]
    either = sum(x or y for x, y in zip(a, b, strict=True))
    both = sum(x and y for x, y in zip(a, b, strict=True))
    assert one.hamming(other) == other.hamming(one) == sum(map(bool.__xor__, a, b))
    assert one.iou(other) == other.iou(one) == pytest.approx(both / either if either else 1)
    assert one.hamming(one) == 0 and one.iou(one) == 1
    assert (one == other) == (one.hamming(other) == 0)


@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(width=32)),
    hnp.arrays(bool, (3, 4)),
)
def test_apply_zeroes_what_is_pruned_and_keeps_the_rest_to_the_bit(kernel, mask):
    original, bias = kernel.copy(), np.array([np.nan, -0.0, 3.0])
    applied = Masks({"kernel": mask}).apply({"kernel": kernel, "bias": bias})
    assert list(applied) == ["kernel", "bias"]
    assert applied["bias"] is bias
    assert applied["kernel"].dtype == np.float32
    expected = [v.tobytes() if m else bytes(4) for v, m in zip(kernel.flat, mask.flat, strict=True)]
    assert applied["kernel"].tobytes() == b"".join(expected)
    assert kernel.tobytes() == original.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_apply_keeps_the_type_of_a_weight(dtype):
    applied = Masks({"a": np.array([1, 0])}).apply({"a": np.array([3, 4], dtype)})
    assert applied["a"].dtype == dtype and applied["a"].tolist() == [3, 0]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"a": (2, 2)}, "there is a mask for 'b'.*prunable weights \\(a\\).*same architecture"),
        ({}, "there is a mask for 'a'.*\\(none\\)"),
        ({"a": (2, 2), "b": (4,)}, "b has shape \\(4,\\), its mask \\(3,\\)"),
        ({"a": (2, 2), "b": (3,), "c": (1,)}, "'c' has no mask"),
    ],
)
def test_masks_of_another_network_are_refused(shapes, message):
    masks = Masks({"a": np.ones((2, 2)), "b": np.ones(3)})
    other = Masks({name: np.ones(shape) for name, shape in shapes.items()})
    for use in (
        lambda: masks.check_shapes(shapes),
        lambda: masks.hamming(other),
        lambda: masks.iou(other),
    ):
        with pytest.raises(MismatchError, match=message):
            use()


def test_apply_refuses_a_missing_or_misshapen_weight():
    masks = Masks({"a": np.ones((2, 2))})
    with pytest.raises(MismatchError, match="'a'"):
        masks.apply({"b": np.ones(3)})
    with pytest.raises(MismatchError, match="a has shape"):
        masks.apply({"a": np.ones((4, 1))})


@settings(deadline=None)
@given(ARRAYS)
def test_a_file_gives_back_the_same_masks_in_the_same_order(arrays):
    masks = Masks(arrays)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "masks.npz"
        masks.save(path)
        loaded = Masks.load(path)
    assert loaded == masks and list(loaded) == list(masks)
    assert loaded.digest() == masks.digest()


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a.npy", "../escape", "args", ""])
def test_no_name_is_special_in_a_file(name, tmp_path):
    masks = Masks({name: np.array([True, False])})
    masks.save(tmp_path / "masks.npz")
    assert Masks.load(tmp_path / "masks.npz") == masks
    assert [p.name for p in tmp_path.iterdir()] == ["masks.npz"]


@pytest.mark.parametrize("name", ["__kind__", "__schema__"])
def test_a_name_that_the_file_itself_needs_is_refused_and_nothing_written(name, tmp_path):
    masks = Masks({"a": np.ones(2), name: np.ones(2)})
    with pytest.raises(ArgumentError, match=f"received '{name}'; allowed: names other than"):
        masks.save(tmp_path / "masks.npz")
    assert not list(tmp_path.iterdir())


def test_foreign_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "masks.npz"
    with pytest.raises(FileError, match="no such file"):
        Masks.load(path)
    np.savez(path, a=np.ones(3, bool))
    with pytest.raises(FileError, match="not a masks file of tf_prac"):
        Masks.load(path)
    write_npz(path, "forgetting", {"a": np.ones(3, bool)})
    with pytest.raises(FileError, match="its kind is 'forgetting'"):
        Masks.load(path)
    write_json(path, "masks", {"a": [1, 0]})
    with pytest.raises(FileError, match="damaged"):
        Masks.load(path)
    assert json.loads(path.read_text())["a"] == [1, 0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"nothing of numpy's")
    with pytest.raises(FileError, match="damaged"):
        Masks.load(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, "U1"])
def test_a_file_whose_masks_are_not_boolean_is_refused(dtype, tmp_path):
    write_npz(tmp_path / "masks.npz", "masks", {"conv/kernel": np.array([0, 1]).astype(dtype)})
    with pytest.raises(FileError, match="conv/kernel: received .*; allowed: boolean"):
        Masks.load(tmp_path / "masks.npz")
