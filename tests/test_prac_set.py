"""`SampleSet`: ids of a data set; `PracSet`: CET, CEP, their union and its minimum size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac.data.prac_set import PracSet
from tf_prac.data.sample_set import SampleSet
from tf_prac.errors import ArgumentError, DataError, FileError
from tf_prac.storage.files import write_npz

SIZE = 30
NOTHING = np.zeros(0, np.int64)
IDS = st.lists(st.integers(0, SIZE - 1), max_size=20)


@given(IDS, IDS)
def test_it_is_the_union_of_both(cet, cep):
    prac_set = PracSet(cet, cep, SIZE)
    union = set(cet) | set(cep)
    assert prac_set.ids.tolist() == sorted(union) and prac_set.ids.dtype == np.int64
    assert prac_set.cet.tolist() == sorted(set(cet))
    assert prac_set.cep.tolist() == sorted(set(cep))
    assert len(prac_set.filled) == 0
    assert len(prac_set) == len(union)
    assert [i in prac_set for i in range(-3, SIZE + 3)] == [i in union for i in range(-3, SIZE + 3)]
    shared = sum(i in set(cet) for i in set(cep))
    assert prac_set.overlap == pytest.approx(shared / len(set(cep)) if cep else 0)


@given(IDS, IDS, st.randoms())
def test_equality_does_not_depend_on_type_and_order_of_the_arguments(cet, cep, random):
    prac_set = PracSet(cet, cep, SIZE)
    random.shuffle(cet)
    assert prac_set == PracSet(np.array(cet + cet[:2], np.int16), tuple(cep), SIZE)
    assert prac_set != PracSet(cet, cep, SIZE + 1)
    assert prac_set != PracSet(cet, [*cep, SIZE], SIZE + 1)
    assert (prac_set == PracSet(cep, cet, SIZE)) == (set(cet) == set(cep))
    assert prac_set != sorted(set(cet) | set(cep))


def test_it_is_immutable():
    prac_set = PracSet([1], [2], SIZE, filled=[3])
    for array in (prac_set.ids, prac_set.cet, prac_set.cep, prac_set.filled):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    ids = np.array([4, 5])
    prac_set = PracSet(ids, [], SIZE)
    ids[:] = 0
    assert prac_set.ids.tolist() == [4, 5]


def test_repr():
    assert repr(PracSet([1, 2], [2], 10)) == "PracSet(2 of 10: CET 2, CEP 1)"


@given(IDS, IDS, IDS, st.integers(-2, SIZE + 5), st.integers(0, 2**32))
def test_a_set_below_the_minimum_size_is_extended_by_candidates(cet, cep, others, minimum, seed):
    prac_set = PracSet(cet, cep, SIZE)
    filled = prac_set.fill(minimum, np.array(others, int), seed)
    possible = set(prac_set.ids) | set(others)
    assert len(filled) == max(len(prac_set), min(minimum, len(possible)))
    assert set(prac_set.ids) <= set(filled.ids) <= possible
    assert not set(filled.filled) & set(prac_set.ids)
    assert np.array_equal(filled.cet, prac_set.cet) and np.array_equal(filled.cep, prac_set.cep)
    assert filled == prac_set.fill(minimum, others[::-1] + others, seed), "the seed decides"


@given(IDS, st.integers(0, SIZE), st.integers(0, SIZE))
def test_filling_twice_extends_the_set(cet, first, second):
    once = PracSet(cet, [], SIZE).fill(first, np.arange(SIZE), 0)
    twice = once.fill(second, np.arange(SIZE), 1)
    assert set(once.ids) <= set(twice.ids)
    assert len(twice) == max(len(once), second)


def test_the_added_samples_depend_on_the_seed():
    empty = PracSet([], [], 1000)
    seeds = [0, 7, (0, 1), (0, 2), (7, 1)]
    fills = {tuple(empty.fill(10, np.arange(1000), seed).ids) for seed in seeds}
    assert len(fills) == len(seeds)
    assert all(len(ids) == 10 for ids in fills)


def test_candidates_outside_the_data_set_are_refused():
    with pytest.raises(DataError, match="filled: .*allowed: 0 to 9"):
        PracSet([1], [], 10).fill(5, np.arange(10, 20), 0)


@settings(deadline=None)
@given(IDS, IDS, IDS)
def test_save_and_load_return_an_equal_set(tmp_path_factory, cet, cep, filled):
    prac_set = PracSet(cet, cep, SIZE, filled=filled)
    path = tmp_path_factory.getbasetemp() / "prac_set.npz"
    prac_set.save(path)
    loaded = PracSet.load(path)
    assert loaded == prac_set and np.array_equal(loaded.ids, prac_set.ids)
    assert loaded.num_samples == SIZE


@pytest.mark.parametrize("part", ["cet", "cep", "filled"])
@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([3, 10], DataError, "from 3 to 10 received; allowed: 0 to 9"),
        ([-1], DataError, "from -1 to -1 received"),
        (np.array([2**64 - 1], np.uint64), DataError, "allowed: 0 to 9"),
        ([0.0, 1.0], ArgumentError, "a vector of integer sample ids"),
        ([True, False], ArgumentError, "a vector of integer sample ids"),
        (["1"], ArgumentError, "a vector of integer sample ids"),
        ([[1, 2]], ArgumentError, "a vector of integer sample ids"),
        (5, ArgumentError, "a vector of integer sample ids"),
        (None, ArgumentError, "a vector of integer sample ids"),
    ],
)
def test_invalid_ids_are_refused_by_name(part, ids, error, message):
    parts = {"cet": [], "cep": [], part: ids}
    with pytest.raises(error, match=f"{part}: .*{message}"):
        PracSet(**parts, num_samples=10)


@pytest.mark.parametrize(
    "changed",
    [
        {"cet": None},
        {"filled": None},
        {"num_samples": None},
        {**dict.fromkeys(["cet", "cep", "filled"], NOTHING), "num_samples": np.array(0)},
        {"num_samples": np.array([10])},
        {"num_samples": np.array(10.0)},
        {"num_samples": np.array("10")},
        {"cet": np.array([1, 10])},
        {"cep": np.array([-1])},
        {"cep": np.array([0.5])},
        {"cet": np.array(["a"])},
        {"filled": np.array([[1]])},
        {"filled": np.array([1, 1])},
        {"cep": np.array([2, 1])},
        {"cet": np.array([2**64 - 1], np.uint64)},
    ],
)
def test_files_without_a_valid_set_are_refused(changed, tmp_path):
    path = tmp_path / "prac_set.npz"
    ids = np.array([1, 2])
    arrays = {"cet": ids, "cep": ids, "filled": ids, "num_samples": np.array(10), **changed}
    write_npz(path, "prac_set", {n: a for n, a in arrays.items() if a is not None})
    with pytest.raises(FileError, match="prac_set.npz: damaged"):
        PracSet.load(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "prac_set.npz"
    write_npz(path, "masks", {"cet": np.array([1])})
    with pytest.raises(FileError, match="not a prac_set file of tf_prac"):
        PracSet.load(path)


@given(IDS)
def test_a_sample_set_has_sorted_ids_each_once(ids):
    sample_set = SampleSet(ids, SIZE)
    assert sample_set.ids.tolist() == sorted(set(ids)) and sample_set.ids.dtype == np.int64
    assert len(sample_set) == len(set(ids)) and sample_set.num_samples == SIZE
    assert [i in sample_set for i in range(-3, SIZE + 3)] == [
        i in set(ids) for i in range(-3, SIZE + 3)
    ]
    with pytest.raises(ValueError, match="read-only"):
        sample_set.ids[:] = 0


def test_sample_sets_are_equal_by_their_ids_and_kind():
    assert SampleSet([2, 1, 1], 10) == SampleSet(np.array([1, 2], np.int8), 10)
    assert SampleSet([1, 2], 10) != SampleSet([1, 2], 11)
    assert SampleSet([1, 2], 10) != SampleSet([1, 3], 10)
    assert SampleSet([1, 2], 10) != PracSet([1], [2], 10) != SampleSet([1, 2], 10)
    assert SampleSet([1, 2], 10) != [1, 2]
    assert repr(SampleSet([1, 2], 10)) == "SampleSet(2 of 10)"


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([3, 10], DataError, "from 3 to 10 received; allowed: 0 to 9"),
        ([0.0], ArgumentError, "a vector of integer sample ids"),
        ([[1, 2]], ArgumentError, "a vector of integer sample ids"),
    ],
)
def test_ids_of_a_sample_set_are_checked(ids, error, message):
    with pytest.raises(error, match=f"^ids: .*{message}"):
        SampleSet(ids, 10)


def test_both_sets_read_the_files_of_each_other(tmp_path):
    """The file of any set is prac_set.npz; that of a `SampleSet` has all ids as `filled`."""
    path = tmp_path / "prac_set.npz"
    SampleSet([5, 2], 10).save(path)
    assert path.read_bytes() == saved(PracSet([], [], 10, filled=[2, 5]), tmp_path)
    assert SampleSet.load(path) == SampleSet([2, 5], 10)
    assert PracSet.load(path) == PracSet([], [], 10, filled=[2, 5])
    PracSet([1], [3], 10, filled=[7]).save(path)
    assert type(SampleSet.load(path)) is SampleSet
    assert SampleSet.load(path) == SampleSet([1, 3, 7], 10)


def saved(sample_set, directory):
    sample_set.save(directory / "other.npz")
    return (directory / "other.npz").read_bytes()
