"""Properties of every source of samples: order, replay, and reading only requested samples."""

from __future__ import annotations

import functools
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac.data.folder import FolderSamples
from tf_prac.data.ids import filter_ids, split_validation, with_sample_ids
from tf_prac.data.pipeline import training_batches
from tf_prac.data.prac_set import PracSet
from tf_prac.data.reading import read_errors
from tf_prac.data.samples import as_samples
from tf_prac.data.source import ArraySamples, DatasetIdentity
from tf_prac.data.stream import StreamSamples
from tf_prac.errors import ArgumentError, DataError, FileError

quick = settings(max_examples=8, deadline=None)


def arrays(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that encode the id of the sample, and labels."""
    x = np.arange(count, dtype=np.float32)[:, None] * [1.0, -1.0]
    return x.astype(np.float32), np.arange(count) % 3


def dataset(count: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(arrays(count))


def generator(count: int, reads: list[int]) -> tf.data.Dataset:
    """A dataset that records which elements are read."""
    x, y = arrays(count)

    def elements():
        for i in range(count):
            reads.append(i)
            yield x[i], y[i]

    signature = tf.TensorSpec([2], tf.float32), tf.TensorSpec([], tf.int64)
    return tf.data.Dataset.from_generator(elements, output_signature=signature)


@functools.cache
def in_memory(count: int) -> ArraySamples:
    return ArraySamples(*arrays(count))


@functools.cache
def held(count: int) -> StreamSamples:
    return StreamSamples(dataset(count), check_order=False)


@functools.cache
def read_again(count: int) -> StreamSamples:
    return StreamSamples(dataset(count), memory_limit_bytes=0, buffer_size=7, check_order=False)


SOURCES = pytest.mark.parametrize("source", [in_memory, held, read_again])


def triple(batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, labels and ids of a batch of ({"inputs": x, "sample_id": id}, y)."""
    inputs, labels = batch
    assert set(inputs) == {"inputs", "sample_id"}
    return inputs["inputs"], labels, inputs["sample_id"]


def read(batches: tf.data.Dataset) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [triple(batch) for batch in batches.as_numpy_iterator()]


def assert_same(first: list, second: list) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


subsets = st.lists(st.integers(0, 29), min_size=1, unique=True)


class TestOrder:
    @SOURCES
    @quick
    @given(ids=subsets, batch_size=st.integers(1, 12), seed=st.tuples(st.integers(0, 2**70)))
    def test_every_epoch_has_every_id_once(self, source, ids, batch_size, seed):
        samples = source(30)
        per_epoch = -(-len(ids) // batch_size)
        steps = read(samples.batches(ids, batch_size, seed=seed, steps=3 * per_epoch))
        for epoch in range(3):
            batches = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
            sizes = [len(batch[2]) for batch in batches]
            assert sizes[:-1] == [batch_size] * (per_epoch - 1)
            assert sorted(np.concatenate([batch[2] for batch in batches])) == sorted(ids)

    @SOURCES
    @quick
    @given(ids=subsets, batch_size=st.integers(1, 12), start=st.integers(0, 40))
    def test_start_step_returns_the_tail_of_the_sequence(self, source, ids, batch_size, start):
        samples = source(30)
        whole = samples.batches(ids, batch_size, seed=(1, 2), steps=start + 5)
        tail = samples.batches(ids, batch_size, seed=(1, 2), start_step=start, steps=5)
        assert_same(read(whole)[start:], read(tail))

    @SOURCES
    def test_inputs_and_labels_are_those_of_the_id(self, source):
        x, y = arrays(30)
        for inputs, labels, ids in read(source(30).batches(range(3, 30, 2), 4, seed=(5,), steps=9)):
            assert ids.dtype == labels.dtype == np.int64
            np.testing.assert_array_equal(inputs, x[ids])
            np.testing.assert_array_equal(labels, y[ids])

    @SOURCES
    def test_order_depends_on_seed_and_epoch_only(self, source):
        def order(seed, batch_size=30):
            steps = 3 * (30 // batch_size)
            batches = source(30).batches(range(30), batch_size, seed=seed, steps=steps)
            return np.concatenate([batch[2] for batch in read(batches)])

        first = order((1, 2))
        tf.random.set_seed(99)
        np.testing.assert_array_equal(first, order((1, 2)))
        np.testing.assert_array_equal(first, order((1, 2), batch_size=5))
        orders = [order((1, 2)), order((2, 1)), order((1,)), order((1, 0))]
        epochs = [part for whole in orders for part in np.split(whole, 3)]
        assert len({part.tobytes() for part in epochs}) == len(epochs)

    def test_held_stream_and_arrays_have_the_same_order(self):
        one = in_memory(30).batches(range(20), 6, seed=(3,), steps=8)
        other = held(30).batches(range(20), 6, seed=(3,), steps=8)
        assert_same(read(one), read(other))

    def test_shuffle_is_uniform(self):
        """Chi-square over the position of sample 0, seven degrees of freedom, p < 1e-5."""
        batches = in_memory(8).batches(range(8), 8, seed=(0,), steps=4000)
        where = np.array([np.flatnonzero(batch[2] == 0)[0] for batch in read(batches)])
        counts = np.bincount(where, minlength=8)
        assert ((counts - 500) ** 2 / 500).sum() < 36

    def test_blocks_move_between_epochs(self):
        """Samples 6 and 7, next to a fixed boundary of blocks of seven, share a block sometimes."""
        batches = read_again(30).batches(range(30), 30, seed=(0,), steps=40)
        orders = [batch[2].tolist() for batch in read(batches)]
        assert any(order.index(7) < order.index(6) for order in orders)
        assert max(abs(i - order.index(i)) for order in orders for i in range(30)) < 7

    @SOURCES
    def test_one_pass_without_seed(self, source):
        ids = [1, 2, 5, 9, 28]
        batches = source(30).batches(ids, 2)
        assert int(batches.cardinality()) == 3
        assert [batch[2].tolist() for batch in read(batches)] == [[1, 2], [5, 9], [28]]
        rest = source(30).batches(ids, 2, start_step=1, steps=1)
        assert [batch[2].tolist() for batch in read(rest)] == [[5, 9]]

    @SOURCES
    def test_cardinality_is_known(self, source):
        samples = source(30)
        assert int(samples.batches(range(9), 4, seed=(1,), steps=7).cardinality()) == 7
        endless = samples.batches(range(9), 4, seed=(1,))
        assert int(endless.cardinality()) == tf.data.INFINITE_CARDINALITY
        assert len(read(endless.take(20))) == 20

    def test_a_subclass_may_still_return_three_parts(self):
        class Earlier(ArraySamples):
            def _read(self, order, ids):
                return super()._read(order, ids).map(lambda x, y: (x["inputs"], y, x["sample_id"]))

        options = {"ids": range(30), "batch_size": 7, "seed": (1,), "steps": 9}
        earlier = read(Earlier(*arrays(30)).batches(**options))
        assert_same(earlier, read(in_memory(30).batches(**options)))

    @SOURCES
    def test_arguments_are_checked(self, source):
        samples = source(30)
        for ids in ([], [30], [-1], [1, 1]):
            with pytest.raises(DataError, match="ids"):
                samples.batches(ids, 2)
        for ids in ([0.5], [[1]]):
            with pytest.raises(ArgumentError, match="ids"):
                samples.batches(ids, 2)
        bad = ({"batch_size": 0}, {"start_step": -1}, {"steps": -1}, {"steps": 16}, {"seed": 3})
        for change in (*bad, {"seed": (-1,)}, {"seed": ()}, {"seed": (0.5,)}):
            options = {"ids": range(30), "batch_size": 2} | change
            with pytest.raises(ArgumentError, match=next(iter(change))):
                samples.batches(**options)


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float32, ">f4"])
    def test_dtype_is_kept(self, dtype):
        samples = ArraySamples(np.ones([4, 2, 2, 1], dtype), [0, 1, 0, 1])
        inputs = read(samples.batches(range(4), 4))[0][0]
        assert inputs.dtype == np.dtype(dtype).newbyteorder("=")

    def test_later_changes_of_the_array_have_no_effect(self):
        x, y = np.zeros([4, 1000]), np.array([0, 1, 0, 1])
        samples = ArraySamples(x, y)
        x[:], y[:] = 1, 0
        inputs, labels, _ = read(samples.batches(range(4), 4))[0]
        assert inputs.max() == 0 and labels.tolist() == samples.labels.tolist() == [0, 1, 0, 1]
        with pytest.raises(ValueError, match="read-only"):
            samples.labels[0] = 1

    def test_identity_differs_between_data_sets(self):
        x, y = np.arange(12, dtype=np.uint8).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])
        variants = [
            (x, y),
            (x[::-1], y[::-1]),
            (x, y[::-1]),
            (x + 1, y),
            (x.reshape(6, 2, 1), y),
            (x.astype(np.int8), y),
            (x[:5], y[:5]),
        ]
        hashes = [ArraySamples(*variant).identity.order_hash for variant in variants]
        assert len(set(hashes)) == len(hashes)
        assert ArraySamples(x.copy(), y.tolist()).identity.order_hash == hashes[0]

    def test_identity_survives_json(self):
        identity = ArraySamples(*arrays(5), name="a", version="1", split="test").identity
        assert DatasetIdentity.from_json(identity.to_json()) == identity
        for damage in ({"count": "5"}, {"count": True}, {"more": 1}, {"name": None}):
            with pytest.raises(FileError):
                DatasetIdentity.from_json(identity.to_json() | damage)

    def test_number_of_classes(self):
        assert ArraySamples(np.ones([3, 1]), [[0], [4], [1]]).num_classes == 5
        assert ArraySamples(np.ones([3, 1]), [0, 4, 1], num_classes=7).num_classes == 7

    @pytest.mark.parametrize(
        "y", [[0.0, np.nan], [0, 1, 1], [], 1, ["a", "b"], {"a": [0, 1], "b": [0]}, ([1], [2])]
    )
    def test_bad_labels(self, y):
        with pytest.raises(DataError, match="labels"):
            ArraySamples(np.ones([2, 3]), y)

    @pytest.mark.parametrize(
        "y",
        [[0.0, 1.0], [True, False], [-1, 0], [[0, 1], [1, 0]], {"a": [0, 1], "b": [[0.5], [1]]}],
    )
    def test_labels_of_any_kind_are_those_of_the_id(self, y):
        labels = y if isinstance(y, dict) else {"": y}
        samples = ArraySamples(np.ones([2, 3]), y)
        _, batch = next(iter(samples.batches([1, 0], 2)))
        for name, expected in labels.items():
            found = (batch[name] if name else batch).numpy()
            np.testing.assert_array_equal(found, np.asarray(expected)[::-1])
            assert found.dtype.kind == np.asarray(expected).dtype.kind.replace("b", "i")
        other = ArraySamples(np.ones([2, 3]), [0, 0])
        assert samples.identity.order_hash != other.identity.order_hash
        first = next(iter(samples.batches([0], 1)))[0]["inputs"].numpy()
        assert first.tolist() == [[1, 1, 1]]

    def test_several_inputs_strings_and_weights(self):
        x = {"text": [["a"], ["b"]], "number": np.ones([2, 1])}
        samples = as_samples((x, [0, 1], [0.5, 2.0]))
        inputs, labels, weights = next(
            iter(training_batches(samples, [0, 1], batch_size=2, seed=(1,)))
        )
        order = inputs["sample_id"].numpy()
        assert inputs["inputs"]["text"].numpy()[:, 0].tolist() == [[b"a", b"b"][n] for n in order]
        assert labels.numpy().tolist() == order.tolist()
        assert weights.numpy().tolist() == [[0.5, 2.0][n] for n in order]
        slices = tf.data.Dataset.from_tensor_slices((x, [0, 1], [0.5, 2.0]))
        again = as_samples(slices)
        assert again.weights.tolist() == [0.5, 2.0] and again.labels.tolist() == [0, 1]
        marked = slices.enumerate().map(lambda i, e: ({"inputs": e[0], "sample_id": 1 - i}, *e[1:]))
        assert as_samples(marked).labels.tolist() == [1, 0]
        with pytest.raises(DataError, match="64 bytes.*up to 3 bytes.*memory_limit_bytes"):
            as_samples(slices, memory_limit_bytes=3)
        labels = np.random.default_rng(0).normal(size=(9, 3))
        shuffled = tf.data.Dataset.from_tensor_slices((np.ones([9, 2]), labels)).shuffle(9)
        assert as_samples(shuffled).labels.tolist() == as_samples(shuffled).labels.tolist()
        for weights in ([1.0], [1.0, -1.0], [np.nan, 1]):
            with pytest.raises(DataError, match="sample weights"):
                as_samples((np.ones([2, 1]), [0, 1], np.array(weights)))
        with pytest.raises(DataError, match="2, 'b': 3"):
            as_samples(({"a": np.ones([2, 1]), "b": np.ones([3, 1])}, [0, 1]))

    def test_labels_outside_the_classes(self):
        with pytest.raises(DataError, match="from 0 to 3 received; allowed: 0 to 2"):
            ArraySamples(np.ones([2, 3]), [0, 3], num_classes=3)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_inputs_that_are_not_finite(self, bad):
        x = np.ones([3, 2])
        x[1, 1] = bad
        with pytest.raises(DataError, match="sample 1"):
            ArraySamples(x, [0, 1, 0])

    @pytest.mark.parametrize("x", [np.ones(2), [[None], [1]], [[1j], [2j]], 3])
    def test_inputs_that_are_not_numeric_arrays(self, x):
        with pytest.raises(ArgumentError, match="inputs"):
            ArraySamples(x, [0, 1])

    def test_empty(self):
        with pytest.raises(DataError, match="at least one"):
            ArraySamples(np.zeros([0, 3]), np.zeros(0, int))

    @pytest.mark.parametrize(
        "change",
        [
            {"mean": (0.5,)},
            {"std": (0.5,)},
            {"mean": (0.5, 0.5), "std": (1.0, 1.0)},
            {"mean": (0.5,), "std": (0.0,)},
            {"mean": (np.nan,), "std": (1.0,)},
        ],
    )
    def test_statistics_match_the_channels(self, change):
        with pytest.raises(ArgumentError, match="mean|std"):
            ArraySamples(np.ones([2, 4, 4, 1]), [0, 1], **change)


class TestStream:
    def test_source_is_not_read_again_while_it_fits(self):
        reads: list[int] = []
        samples = StreamSamples(generator(30, reads))
        reads.clear()
        for round_number in range(3):
            read(samples.batches(range(0, 30, 2), 4, seed=(round_number,), steps=8))
        read(samples.batches(range(30), 4))
        assert reads == []

    def test_a_selection_that_fits_is_read_once(self):
        reads: list[int] = []
        size = StreamSamples(dataset(30))._sizes[0]
        samples = StreamSamples(generator(30, reads), memory_limit_bytes=int(size) * 20)
        reads.clear()
        for round_number in range(3):
            read(samples.batches(range(10, 24), 4, seed=(round_number,), steps=8))
            read(samples.batches(range(0, 5), 4))
        assert len(reads) == 2 * 30
        read(samples.batches(range(12), 4))
        assert len(reads) == 3 * 30

    @pytest.mark.parametrize("limit", [0, 600, 2**30])
    def test_only_requested_samples_are_decoded(self, limit):
        decoded: list[int] = []

        def decode(x):
            def note(value):
                decoded.append(int(value[0]))
                return value

            return tf.ensure_shape(tf.numpy_function(note, [x], tf.float32), [2])

        samples = StreamSamples(dataset(30), decode=decode, memory_limit_bytes=limit)
        decoded.clear()
        read(samples.batches(range(5, 20), 4, seed=(1,), steps=4))
        assert sorted(decoded) == list(range(5, 20))
        decoded.clear()
        read(samples.batches(range(5, 20), 4, seed=(1,), start_step=9, steps=3))
        assert len(decoded) == 4 + 4 + 3

    def test_shuffled_dataset_with_ids_is_sorted(self):
        mixed = with_sample_ids(dataset(30)).shuffle(30)
        for limit in (2**20, 200):
            samples = as_samples(mixed, memory_limit_bytes=limit)
            assert samples.labels.tolist() == arrays(30)[1].tolist()
        assert isinstance(samples, StreamSamples)
        assert samples.identity.order_hash == StreamSamples(dataset(30)).identity.order_hash
        with pytest.raises(DataError, match="memory_limit_bytes"):
            samples.batches(range(30), 4, seed=(1,))

    def test_fixed_order_of_ids_can_be_read_again(self):
        mixed = with_sample_ids(dataset(30)).shuffle(30, seed=1, reshuffle_each_iteration=False)
        samples = StreamSamples(mixed, memory_limit_bytes=0)
        order = [int(x["sample_id"]) for x, _ in mixed]
        steps = read(samples.batches(range(30), 4, seed=(1,), steps=8))
        assert sorted(np.concatenate([step[2] for step in steps])) == list(range(30))
        assert np.concatenate([s[2] for s in read(samples.batches(order, 4))]).tolist() == order
        with pytest.raises(ArgumentError, match="Sort the ids"):
            samples.batches(order[::-1], 4)

    def test_identity_depends_on_data_and_order(self):
        x, y = arrays(6)
        variants = [(x, y), (x[::-1], y[::-1]), (x, y[::-1]), (x + 1, y)]
        hashes = [
            StreamSamples(tf.data.Dataset.from_tensor_slices(part)).identity.order_hash
            for part in variants
        ]
        assert len(set(hashes)) == len(hashes)

    def test_strings_need_a_decoder(self):
        strings = tf.data.Dataset.from_tensor_slices((["a", "b"], [0, 1]))
        with pytest.raises(ArgumentError, match="decode"):
            StreamSamples(strings)
        samples = as_samples(strings, decode=lambda text: tf.io.decode_raw(text, tf.uint8)[:1])
        assert read(samples.batches([1, 0], 2))[0][0].tolist() == [[98], [97]]


class TestAsSamples:
    def test_type_of_the_result(self):
        samples = in_memory(30)
        assert as_samples(samples) is samples
        for data in (arrays(30), dataset(30), with_sample_ids(dataset(30)), generator(30, [])):
            made = as_samples(data)
            assert made.identity.order_hash == samples.identity.order_hash
        large = as_samples(dataset(30), memory_limit_bytes=100, name="large", num_classes=5)
        assert isinstance(large, StreamSamples) and large.num_classes == 5
        assert large.input_shape == (2,) and large.identity.name == "large"

    def test_unknown_size_and_shape(self):
        x, y = arrays(10)
        signature = tf.TensorSpec(None, tf.float32), tf.TensorSpec([], tf.int32)
        unknown = tf.data.Dataset.from_generator(
            lambda: zip(x, y, strict=True), output_signature=signature
        )
        for limit in (2**20, 10):
            samples = as_samples(unknown, memory_limit_bytes=limit)
            assert samples.input_shape == (2,) and len(samples) == 10
            batch = read(samples.batches(range(10), 10))[0]
            np.testing.assert_array_equal(batch[0], x)

    def test_different_shapes(self):
        signature = tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)
        ragged = tf.data.Dataset.from_generator(
            lambda: iter([([1.0], 0), ([1.0, 2.0], 1)]), output_signature=signature
        )
        with pytest.raises(DataError, match="cannot be read"):
            as_samples(ragged)

    @pytest.mark.parametrize(
        ("message", "reason"),
        [("", "UnknownError"), (" \n", "UnknownError"), ("\n no disk\nand more", "no disk")],
    )
    def test_the_reason_is_one_line_also_without_a_message(self, message, reason):
        with pytest.raises(DataError, match=f"^a: cannot be read: {reason}$"), read_errors("a"):
            raise tf.errors.UnknownError(None, None, message)

    @pytest.mark.parametrize("limit", [2**20, 0])
    def test_order_that_changes_between_passes(self, limit):
        one, other = (
            as_samples(dataset(30).shuffle(30, seed=seed), memory_limit_bytes=limit)
            for seed in (1, 2)
        )
        assert one.identity == other.identity and len(one) == 30
        with pytest.raises(DataError, match="two passes"):  # other ids in each pass
            wrong = dataset(30).shuffle(30).enumerate()
            wrong = wrong.map(lambda i, e: ({"inputs": e[0], "sample_id": i}, e[1]))
            as_samples(wrong, memory_limit_bytes=limit)
        fixed = dataset(30).shuffle(30, seed=3, reshuffle_each_iteration=False)
        assert len(as_samples(fixed, memory_limit_bytes=limit)) == 30

    @pytest.mark.parametrize("make", [as_samples, StreamSamples])
    def test_dataset_that_can_be_read_once_only(self, make):
        once = iter([(np.ones(2, np.float32), 0), (np.zeros(2, np.float32), 1)])
        signature = tf.TensorSpec([2], tf.float32), tf.TensorSpec([], tf.int32)
        spent = tf.data.Dataset.from_generator(lambda: once, output_signature=signature)
        with pytest.raises(DataError, match="two passes"):
            make(spent)

    @pytest.mark.parametrize("ids", [[0, 1, 1], [0, 2, 3], [1, 2, 3], [-1, 0, 1]])
    @pytest.mark.parametrize("limit", [2**20, 0])
    def test_duplicate_or_missing_ids(self, ids, limit):
        inputs = {"inputs": np.ones([3, 2]), "sample_id": ids}
        data = tf.data.Dataset.from_tensor_slices((inputs, [0, 1, 0]))
        with pytest.raises(DataError, match="sample ids"):
            as_samples(data, memory_limit_bytes=limit)

    @pytest.mark.parametrize("limit", [2**20, 0])
    def test_inputs_that_are_not_finite(self, limit):
        data = tf.data.Dataset.from_tensor_slices(([[1.0], [np.nan]], [0, 1]))
        with pytest.raises(DataError, match="finite"):
            as_samples(data, memory_limit_bytes=limit)

    @pytest.mark.parametrize("limit", [2**20, 0])
    def test_labels_outside_the_classes(self, limit):
        with pytest.raises(DataError, match="labels"):
            as_samples(dataset(30), num_classes=2, memory_limit_bytes=limit)

    def test_datasets_of_another_kind(self):
        x, y = arrays(8)
        slices = tf.data.Dataset.from_tensor_slices
        one_hot = slices((np.ones([8, 5]), np.eye(8)[:, :3].astype(int)))
        for data, remedy in (
            (dataset(8).repeat(), "finite"),
            (slices(x), "no labels"),
            (slices({"image": x, "label": y}), "e\\['image'\\], e\\['label'\\].*as_supervised"),
        ):
            with pytest.raises(ArgumentError, match=remedy):
                as_samples(data)
        batched = dataset(8).batch(4), with_sample_ids(dataset(8)).batch(4)
        for other in (one_hot, slices((x, y.astype(np.float32))), slices((x, y, y)), *batched):
            assert len(as_samples(other)) == 8
        with pytest.raises(DataError, match="at least one"):
            as_samples(dataset(8).take(0))

    @pytest.mark.parametrize("data", [None, 3, "mnist", [1, 2], (1,), arrays(3) + (1,)])
    def test_data_of_another_kind(self, data):
        with pytest.raises(ArgumentError, match="data"):
            as_samples(data)

    def test_lengths_differ(self):
        with pytest.raises(DataError, match="3 inputs and 2 labels"):
            as_samples((np.ones([3, 1]), [0, 1]))

    def test_no_options_for_samples(self):
        with pytest.raises(ArgumentError, match="mean"):
            as_samples(in_memory(3), mean=(1.0,))


class TestIds:
    def test_ids_are_positions_and_stay_with_their_samples(self):
        x, y = arrays(20)
        weighted = tf.data.Dataset.from_tensor_slices((x, y, y / 2))
        marked = with_sample_ids(weighted)
        assert int(marked.cardinality()) == 20
        for inputs, label, weight in marked.shuffle(20).as_numpy_iterator():
            i = inputs["sample_id"]
            assert i.dtype == np.int64
            np.testing.assert_array_equal(inputs["inputs"], x[i])
            assert (label, weight) == (y[i], y[i] / 2)

    def test_datasets_that_cannot_have_ids(self):
        x, y = arrays(8)
        for data in (
            tf.data.Dataset.from_tensor_slices(x),
            with_sample_ids(dataset(8)),
            dataset(8).repeat(),
            {"x": x, "y": y},
        ):
            with pytest.raises(ArgumentError, match="data"):
                with_sample_ids(data)

    @quick
    @given(ids=st.sets(st.integers(0, 19)))
    def test_filter_keeps_exactly_the_ids(self, ids):
        kept = filter_ids(with_sample_ids(dataset(20)), sorted(ids, reverse=True))
        assert int(kept.cardinality()) == len(ids)
        assert [int(x["sample_id"]) for x, _ in kept] == sorted(ids)

    def test_maps_after_the_filter_receive_no_other_sample(self):
        seen: list[int] = []

        def decode(inputs, label):
            tf.numpy_function(lambda i: seen.append(int(i)), [inputs["sample_id"]], [])
            return inputs, label

        prac_set = PracSet(cet=[3, 5], cep=[5, 8], num_samples=20)
        list(prac_set.filter(with_sample_ids(dataset(20))).map(decode))
        assert seen == [3, 5, 8]

    def test_filter_of_batches_returns_batches(self):
        kept = filter_ids(with_sample_ids(dataset(20)).batch(3), [1, 4, 5, 9, 19])
        assert [x["sample_id"].tolist() for x, _ in kept.as_numpy_iterator()] == [
            [1, 4, 5],
            [9, 19],
        ]

    @pytest.mark.parametrize("batched", [False, True])
    def test_a_filter_without_ids_gives_what_any_model_takes(self, batched):
        data = with_sample_ids(dataset(20))
        data, chosen = data.batch(3) if batched else data, PracSet([3], [5, 19], 20)
        plain = chosen.filter(data, keep_ids=False)
        expected = [(x["inputs"], y) for x, y in chosen.filter(data)]
        for one, other in zip(plain, expected, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, one, other)
        assert plain.cardinality() == len(expected)

    def test_filter_needs_ids(self):
        marked = with_sample_ids(dataset(8))
        for data, ids in ((dataset(8), [1]), (marked, [0.5]), (3, [1])):
            with pytest.raises(ArgumentError):
                filter_ids(data, ids)

    def test_filter_notices_a_missing_id(self):
        with pytest.raises(tf.errors.OpError, match="2 elements"):
            list(filter_ids(with_sample_ids(dataset(8)), [3, 99]))


class TestSplit:
    @given(
        count=st.integers(2, 500),
        fraction=st.floats(0, 0.99),
        method=st.sampled_from(["seeded", "last"]),
        seed=st.integers(0, 2**40),
    )
    @settings(deadline=None)
    def test_disjoint_complete_and_exact(self, count, fraction, method, seed):
        held_out = round(count * fraction)
        options = {"fraction": fraction, "method": method, "seed": seed}
        if held_out == count or (fraction > 0 and held_out == 0):
            with pytest.raises(ArgumentError, match="fraction"):
                split_validation(count, **options)
            return
        train, validation = split_validation(count, **options)
        assert train.dtype == validation.dtype == np.int64
        assert len(validation) == held_out
        assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
        assert sorted([*train, *validation]) == list(range(count))
        if method == "last":
            assert train.tolist() == list(range(count - held_out))

    def test_seed_decides(self):
        splits = [split_validation(100, seed=seed)[1].tolist() for seed in (0, 0, 1)]
        assert splits[0] == splits[1] != splits[2]

    @pytest.mark.parametrize(
        "change",
        [
            {"count": 0},
            {"fraction": 1},
            {"fraction": -0.1},
            {"fraction": float("nan")},
            {"method": "first"},
            {"seed": -1},
        ],
    )
    def test_bad_arguments(self, change):
        with pytest.raises(ArgumentError, match=next(iter(change))):
            split_validation(**({"count": 100} | change))


def write_images(root: pathlib.Path, files: dict[str, tuple[int, int, int]]) -> None:
    """Writes images of one value: path to (value, height, width)."""
    for path, (value, height, width) in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        image = np.full([height, width, 3], value, np.uint8)
        encode = tf.io.encode_png if target.suffix == ".png" else tf.io.encode_jpeg
        target.write_bytes(encode(image).numpy())


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    files = {f"b/{i}.png": (10 + i, 6, 5) for i in range(4)}
    files |= {f"a/images/{i}.JPEG": (100 + i, 6, 5) for i in range(2)}
    write_images(tmp_path, files | {"c/x.png": (200, 6, 5)})
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


class TestFolder:
    def test_samples_alternate_between_classes(self, folder):
        samples = FolderSamples(folder)
        assert samples.classes == ("a", "b", "c")
        assert samples.labels.tolist() == [0, 1, 2, 0, 1, 1, 1]
        assert samples.paths[:3] == ("a/images/0.JPEG", "b/0.png", "c/x.png")
        assert samples.input_shape == (6, 5, 3)
        inputs, labels, _ = read(samples.batches([3, 2, 6], 3))[0]
        assert inputs.shape == (3, 6, 5, 3) and inputs.dtype == np.uint8
        assert inputs[:, 0, 0, 0].tolist() == [101, 200, 13] and labels.tolist() == [0, 2, 1]

    def test_only_requested_files_are_read(self, folder):
        samples = FolderSamples(folder)
        for i in (1, 2, 5):
            (folder / samples.paths[i]).unlink()
        steps = read(samples.batches([0, 3, 4, 6], 3, seed=(1,), steps=4))
        assert sorted(np.concatenate([step[2] for step in steps[:2]])) == [0, 3, 4, 6]
        with pytest.raises(tf.errors.NotFoundError):
            read(samples.batches([1], 1))

    def test_resizing(self, folder):
        write_images(folder, {"b/large.png": (50, 12, 20)})
        with pytest.raises(DataError, match=r"b/large.png.*image_size"):
            FolderSamples(folder)
        samples = FolderSamples(folder, image_size=(3, 4), channels=1)
        assert samples.input_shape == (3, 4, 1)
        values = read(samples.batches(range(8), 8))[0][0]
        assert values.shape == (8, 3, 4, 1) and (values[-1] == 50).all()

    @pytest.mark.parametrize("size", [None, (3, 4)])
    @pytest.mark.parametrize("name", ["b/0.png", "a/images/1.JPEG"])
    @pytest.mark.parametrize("damage", ["text", "cut", "empty", "longer"])
    def test_a_damaged_file_is_named(self, folder, name, size, damage):
        content = (folder / name).read_bytes()
        damaged = {"text": b"no image", "cut": content[:-20], "empty": b""}
        (folder / name).write_bytes(damaged.get(damage, content + b"1"))
        if damage == "longer":  # decoders ignore what follows the image
            assert len(FolderSamples(folder, image_size=size)) == 7
            return
        with pytest.raises(DataError, match=f"^{name}: not a readable image"):
            FolderSamples(folder, image_size=size)

    def test_classes_of_training_and_limit(self, folder):
        samples = FolderSamples(folder, classes=["c", "b", "a", "z"], limit=4)
        assert samples.num_classes == 4 and samples.labels.tolist() == [0, 1, 2, 1]
        with pytest.raises(DataError, match="'c'"):
            FolderSamples(folder, classes=["a", "b"])

    def test_identity_depends_on_the_files(self, folder):
        first = FolderSamples(folder).identity
        assert FolderSamples(folder).identity == first
        (folder / "b" / "3.png").rename(folder / "b" / "9.png")
        assert FolderSamples(folder).identity.order_hash != first.order_hash

    def test_bad_folders(self, folder, tmp_path_factory):
        empty = tmp_path_factory.mktemp("empty")
        with pytest.raises(ArgumentError, match="directory"):
            FolderSamples(empty / "missing")
        with pytest.raises(DataError, match="no class folders"):
            FolderSamples(empty)
        (empty / "a").mkdir()
        with pytest.raises(DataError, match="no images"):
            FolderSamples(empty)
        for change in ({"image_size": (0, 4)}, {"image_size": 4}, {"channels": 2}, {"limit": 0}):
            with pytest.raises(ArgumentError, match=next(iter(change))):
                FolderSamples(folder, **change)

    def test_damaged_file_is_named(self, folder):
        for path in ("a/images/0.JPEG", "b/2.png"):
            (folder / path).write_bytes(b"not an image")
            with pytest.raises(DataError, match=path):
                FolderSamples(folder)
            write_images(folder, {path: (1, 6, 5)})


def test_batches_of_every_source_are_the_same_in_every_call():
    """Datasets of the same samples that are read at the same time are independent."""
    samples = read_again(30)
    one = samples.batches(range(30), 4, seed=(1,), steps=8)
    other = samples.batches(range(15), 4, seed=(2,), steps=8)
    alone = read(one), read(other)
    pairs = zip(one.as_numpy_iterator(), other.as_numpy_iterator(), strict=True)
    together = list(pairs)
    assert_same(alone[0], [triple(pair[0]) for pair in together])
    assert_same(alone[1], [triple(pair[1]) for pair in together])
