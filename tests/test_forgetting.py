"""Forgetting statistics against a state machine for each sample, in plain Python."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac.data.forgetting import COLUMNS, ForgettingStats
from tf_prac.errors import ArgumentError, DataError, FileError
from tf_prac.storage.files import write_npz


@dataclasses.dataclass
class Sample:
    """The history of one sample, updated with each presentation."""

    history: list[bool] = dataclasses.field(default_factory=list)

    def present(self, correct: bool) -> None:
        self.history.append(correct)

    @property
    def events(self) -> int:
        return sum(before and not after for before, after in itertools.pairwise(self.history))

    @property
    def never_learned(self) -> bool:
        return bool(self.history) and not any(self.history)

    @property
    def unforgettable(self) -> bool:
        return any(self.history) and self.events == 0

    def is_critical(self, threshold: int, never_learned: str) -> bool:
        return self.events > threshold or (never_learned == "critical" and self.never_learned)


@st.composite
def presentations(draw):
    """A number of samples and batches of (id, correct), each sample at most once a batch."""
    num_samples = draw(st.integers(1, 12))
    shown = st.tuples(st.integers(0, num_samples - 1), st.booleans())
    batch = st.lists(shown, max_size=num_samples, unique_by=lambda pair: pair[0])
    return num_samples, draw(st.lists(batch, max_size=25))


def both(num_samples, batches):
    """The statistics and the state machines after the same presentations."""
    stats, samples = ForgettingStats(num_samples), [Sample() for _ in range(num_samples)]
    for batch in batches:
        stats.update(np.array([i for i, _ in batch], int), np.array([c for _, c in batch], bool))
        for sample_id, correct in batch:
            samples[sample_id].present(correct)
    return stats, samples


@given(presentations())
def test_statistics_are_those_of_the_state_machines(shown):
    stats, samples = both(*shown)
    assert stats.presentations.tolist() == [len(s.history) for s in samples]
    assert stats.events.tolist() == [s.events for s in samples]
    assert stats.seen.tolist() == [bool(s.history) for s in samples]
    assert stats.never_learned.tolist() == [s.never_learned for s in samples]
    assert stats.unforgettable.tolist() == [s.unforgettable for s in samples]
    assert stats.table.dtype == np.int32 and stats.table.shape == (len(samples), len(COLUMNS))
    columns = dict(zip(COLUMNS, stats.table.T.tolist(), strict=True))
    assert columns["last_correct"] == [bool(s.history) and s.history[-1] for s in samples]
    assert columns["learned"] == [any(s.history) for s in samples]


@pytest.mark.parametrize("word", ["critical", "ignore"])
@given(shown=presentations(), threshold=st.integers(0, 4))
def test_cet_is_that_of_the_state_machines(word, shown, threshold):
    stats, samples = both(*shown)
    cet = stats.critical_for_training(threshold, word)
    assert cet.dtype == np.int64
    assert cet.tolist() == [i for i, s in enumerate(samples) if s.is_critical(threshold, word)]
    assert not set(cet) & set(np.flatnonzero(stats.unforgettable))
    assert set(stats.critical_for_training(threshold + 1, word)) <= set(cet)


@given(presentations())
def test_by_default_one_event_or_no_success_is_critical(shown):
    stats, _ = both(*shown)
    expected = stats.critical_for_training(0, "critical")
    assert stats.critical_for_training().tolist() == expected.tolist()


@given(presentations(), st.randoms())
def test_the_order_inside_a_batch_does_not_matter(shown, random):
    num_samples, batches = shown
    stats, _ = both(num_samples, batches)
    for batch in batches:
        random.shuffle(batch)
    assert np.array_equal(both(num_samples, batches)[0].table, stats.table)


def test_being_wrong_from_the_start_is_not_forgetting():
    stats = ForgettingStats(3)
    for correct in ([0, 0, 1], [0, 1, 1], [0, 1, 0]):
        stats.update([0, 1, 2], correct)
    assert stats.events.tolist() == [0, 0, 1]
    assert stats.never_learned.tolist() == [True, False, False]
    assert stats.critical_for_training().tolist() == [0, 2]
    assert stats.critical_for_training(never_learned="ignore").tolist() == [2]
    assert stats.critical_for_training(1).tolist() == [0]


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_correctness_may_be_any_truth_value(dtype):
    stats = ForgettingStats(2)
    for correct in ([3, 1], [0, 1], [2, 1], [0, 1]):
        stats.update(np.array([1, 0], np.uint8), np.array(correct).astype(dtype))
    assert stats.events.tolist() == [0, 2]
    assert stats.table.max() == 4  # presentations; nothing else counts above its truth


@settings(deadline=None)
@given(shown=presentations())
def test_a_copy_and_a_file_have_the_same_content(tmp_path_factory, shown):
    stats, _ = both(*shown)
    path = tmp_path_factory.getbasetemp() / "forgetting.npz"
    stats.save(path)
    loaded = ForgettingStats.load(path)
    assert loaded.table.dtype == np.int32 and np.array_equal(loaded.table, stats.table)
    copy = ForgettingStats.from_table(stats.table)
    copy.update([0], [True])
    assert copy.presentations[0] == stats.presentations[0] + 1


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([1, 2, 1], DataError, "the same sample twice"),
        ([0, 4, 5], DataError, "0 to 5 received; allowed: 0 to 4"),
        ([-1, 2, 3], DataError, "-1 to 3 received; allowed: 0 to 4"),
        ([0.0, 1.0, 2.0], ArgumentError, "ids: .*integer sample ids"),
        ([True, False, True], ArgumentError, "integer sample ids"),
        ([[0, 1, 2]], ArgumentError, "a vector"),
        ([0, 1], ArgumentError, r"correct: received \(3,\); allowed: .*\(2,\)"),
    ],
)
def test_invalid_ids_are_refused_and_count_nothing(ids, error, message):
    stats = ForgettingStats(5)
    with pytest.raises(error, match=message):
        stats.update(np.array(ids), [True, True, True])
    assert not stats.table.any()


def test_an_empty_batch_counts_nothing():
    stats = ForgettingStats(5)
    stats.update([], [])
    assert not stats.table.any()


@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_a_data_set_has_at_least_one_sample(size):
    with pytest.raises(ArgumentError, match="num_samples"):
        ForgettingStats(size)


def test_invalid_thresholds_and_words():
    stats = ForgettingStats(2)
    for threshold in (-1, 0.5):
        with pytest.raises(ArgumentError, match="forget_threshold.*integer >= 0"):
            stats.critical_for_training(threshold)
    with pytest.raises(ArgumentError, match="never_learned.*critical, ignore"):
        stats.critical_for_training(0, "drop")


COLUMN = np.array([1, 0], np.int32)


@pytest.mark.parametrize(
    "changed",
    [
        {"events": None},
        {"events": np.array([1, -1], np.int32)},
        {"events": np.array([1, 0], np.int64)},
        {"events": np.array([1, 0, 0], np.int32)},
        {"events": np.array(["1", "0"])},
        dict.fromkeys(COLUMNS, np.zeros(0, np.int32)),
        dict.fromkeys(COLUMNS, np.int32(1)),
        dict.fromkeys(COLUMNS, np.zeros((2, 2), np.int32)),
    ],
)
def test_files_without_counts_are_refused(changed, tmp_path):
    path = tmp_path / "forgetting.npz"
    arrays = {**dict.fromkeys(COLUMNS, COLUMN), **changed}
    write_npz(path, "forgetting", {n: a for n, a in arrays.items() if a is not None})
    with pytest.raises(FileError, match="forgetting.npz: damaged"):
        ForgettingStats.load(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "forgetting.npz"
    write_npz(path, "masks", dict.fromkeys(COLUMNS, COLUMN))
    with pytest.raises(FileError, match="not a forgetting file of tf_prac .*'masks'"):
        ForgettingStats.load(path)
