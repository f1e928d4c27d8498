"""Data as users have it: what is refused, what is accepted, and what is never changed unasked."""

import contextlib
import importlib

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import (
    ForgettingLogger,
    PruningConfig,
    SampleScores,
    TicketSearch,
    TrainingRecipe,
    with_sample_ids,
)
from tf_prac.data import as_samples
from tf_prac.data.folder import FolderSamples
from tf_prac.data.ids import is_batched
from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import full_split
from tf_prac.errors import ArgumentError, DataError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.training.inference import Predictor

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.normal(size=(16, 6, 6, 3)).astype("float32")
MAPS = (IMAGES[..., 0] > 0).astype("int64")
ROWS = GENERATOR.normal(size=(16, 10)).astype("float32")
ONE_HOT = np.eye(10, dtype="float32")[ROWS.argmax(1)]
WORDS = GENERATOR.integers(1, 9, size=(16, 7))
LABELS = np.arange(16) % 4
slices = tf.data.Dataset.from_tensor_slices

KINDS = {
    "classes": (ROWS, LABELS),
    "segmentation": (IMAGES, MAPS),
    "tagging": (WORDS, WORDS % 3),
    "as many features as classes": (ROWS, ONE_HOT),
    "dictionaries": ({"a": ROWS, "b": WORDS}, {"one": LABELS, "two": ONE_HOT}),
}
UNBATCHED = {
    "slices": lambda data: data,
    "shuffled once": lambda data: data.shuffle(16, seed=1, reshuffle_each_iteration=False),
    "mapped": lambda data: data.map(lambda x, y: (x, y)).take(16).repeat(1).cache().prefetch(1),
    "unbatched": lambda data: data.batch(4).unbatch(),
    "counted": lambda data: data.apply(tf.data.experimental.assert_cardinality(16)),
    "concatenated": lambda data: data.concatenate(data),
}
BATCHED = {
    "batch": lambda data: data.batch(4),
    "drop_remainder": lambda data: data.batch(4, drop_remainder=True),
    "parallel": lambda data: data.batch(4, num_parallel_calls=2),
    "mapped": lambda data: data.batch(4).map(lambda x, y: (x, y)).repeat(1).prefetch(1),
    "padded": lambda data: data.padded_batch(4),
    "rebatched": lambda data: data.batch(8).rebatch(4),
    "again": lambda data: data.batch(8).unbatch().batch(4, drop_remainder=True).shuffle(2),
    "zipped": lambda data: tf.data.Dataset.zip((data.batch(4), data.batch(4))).map(lambda a, b: a),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transformations", UNBATCHED)
def test_samples_are_not_taken_for_batches(kind, transformations):
    data = UNBATCHED[transformations](slices(KINDS[kind]))
    assert not is_batched(data)
    ids = [int(x["sample_id"]) for x, _ in with_sample_ids(data)]
    assert ids == list(range(len(ids)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transformations", BATCHED)
def test_batches_are_not_taken_for_samples(kind, transformations):
    data = BATCHED[transformations](slices(KINDS[kind]))
    assert is_batched(data)
    if transformations == "again":
        return  # batches in another order in each pass
    numbered = with_sample_ids(data)
    assert numbered.cardinality() == data.cardinality()
    ids = np.concatenate([x["sample_id"] for x, _ in numbered])
    assert ids.tolist() == list(range(len(ids))) and len(ids) >= 16
    for (x, y), (marked, z) in zip(data, numbered, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, (x, y), (marked["inputs"], z))


def test_batches_that_are_slices_are_rebatched():
    """Elements of the source are batches themselves; which, only `rebatch` says."""
    batches = slices((ROWS.reshape(4, 4, -1), LABELS.reshape(4, 4)))
    for data in (batches.rebatch(8), batches.shuffle(4).rebatch(8).prefetch(1)):
        samples = as_samples(data)
        assert len(samples) == 16 and samples.input_shape == ROWS.shape[1:]
        assert sorted(map(bytes, samples.inputs(np.arange(16)))) == sorted(map(bytes, ROWS))


REPEATED = {
    "samples": lambda data: data.repeat(3),
    "batches": lambda data: data.batch(4).repeat(2).prefetch(1),
    "before batch": lambda data: data.shuffle(4).repeat(3).map(lambda x, y: (x, y)).batch(8),
    "cut": lambda data: data.repeat().take(40),
}


@pytest.mark.parametrize("where", REPEATED)
def test_data_that_repeats_its_samples_is_refused(where):
    """Copies would have ids of their own, and those of a validation sample could be trained on."""
    data = REPEATED[where](slices((ROWS, LABELS)))
    message = (
        r"received 'repeat\(\d?\)'; allowed: .*each sample once.*after tf_prac.with_sample_ids"
    )
    for take in (as_samples, with_sample_ids):
        with pytest.raises(ArgumentError, match=message):
            take(data)


def test_constants_that_are_zipped_with_the_data_may_be_repeated():
    weights = tf.data.Dataset.from_tensors(np.float32(2)).repeat()
    data = tf.data.Dataset.zip((slices((ROWS, LABELS)), weights)).map(lambda data, w: (*data, w))
    assert as_samples(data).weights.tolist() == [2.0] * 16


def test_shapes_decide_where_the_transformations_are_unknown():
    signature = (tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int64))
    batches = tf.data.Dataset.from_generator(lambda: iter([]), output_signature=signature)
    assert is_batched(batches)
    samples = tf.data.Dataset.from_generator(
        lambda: iter([]), output_signature=(tf.TensorSpec([3]), tf.TensorSpec([], tf.int64))
    )
    assert not is_batched(samples)


SHUFFLED = {
    "shuffled": lambda data: data.shuffle(16),
    "shuffled with a seed": lambda data: data.shuffle(16, seed=1).prefetch(1),
    "a small buffer": lambda data: data.shuffle(3, seed=1),
}


def unchanged(data):
    return data.map(lambda *element: element)


def shuffled_ids(data, positions):
    """Numbers shuffled data, with a warning if the ids are not positions."""
    warns = (
        contextlib.nullcontext() if positions else pytest.warns(UserWarning, match="no positions")
    )
    with warns:
        return with_sample_ids(data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", SHUFFLED)
@pytest.mark.parametrize("positions", [True, False])
def test_ids_of_shuffled_data_are_positions_or_those_of_its_content(kind, order, positions):
    data = SHUFFLED[order](slices(KINDS[kind]))
    data = data if positions else unchanged(data)
    numbered = shuffled_ids(data, positions)
    assert int(numbered.cardinality()) == 16
    samples = as_samples(slices(KINDS[kind]) if positions else data)
    seen = set()
    for _ in range(2):
        elements = {int(x["sample_id"]): (x["inputs"], y) for x, y in numbered}
        assert sorted(elements) == list(range(16))
        seen.add(tuple(elements))
        for sample_id, (x, y) in elements.items():
            expected = samples.inputs([sample_id])
            tf.nest.map_structure(lambda e, a: np.testing.assert_array_equal(e[0], a), expected, x)
            rows = tf.nest.map_structure(lambda each, i=sample_id: each[i], samples.labels)
            tf.nest.map_structure(np.testing.assert_array_equal, rows, y)
    assert len(seen) == 2  # the order stays shuffled


@pytest.mark.parametrize("make", [lambda d: d, lambda d: d.batch(4), unchanged])
@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_a_logger_knows_the_samples_of_shuffled_data(make, name):
    keras = importlib.import_module(name)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(4)])
    # A learning rate of 0: no prediction ever changes.
    optimizer = keras.optimizers.SGD(0.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    train = slices((ROWS, LABELS))

    def fit(data):
        logger, scores = ForgettingLogger(data), SampleScores(data, "loss")
        callbacks = [logger, scores]
        model.fit(train.batch(4), epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
        return logger.stats, scores

    shuffled = make(train.shuffle(16, seed=1))
    positions = make is not unchanged
    warns = (
        contextlib.nullcontext() if positions else pytest.warns(UserWarning, match="no positions")
    )
    with warns:
        stats, scores = fit(shuffled)
    assert len(stats.events) == 16 and not stats.events.any()
    expected = fit((ROWS, LABELS))[1]
    hardest = ROWS[expected.highest(4)]
    if positions:
        np.testing.assert_allclose(scores.values, expected.values, rtol=1e-5)
    assert_same_rows(as_samples(shuffled).inputs(scores.highest(4)), hardest)
    assert len(fit(make(with_sample_ids(train).shuffle(16)))[0].events) == 16


def assert_same_rows(first, second):
    assert sorted(map(tuple, first.tolist())) == sorted(map(tuple, second.tolist()))


LARGE = 2**24 + np.arange(16)
DTYPES = [
    # inputs, dtype of those of the model
    (LARGE[:, None], "int64"),
    (LARGE[:, None].astype(np.int32), "int32"),
    (-LARGE[:, None], "int64"),
    (np.full((16, 1), 2**60 + 1), "int64"),
    (np.full((16, 1), 2**60), "float32"),  # which is exact
    (np.arange(16)[:, None], "float32"),
    (LARGE[:, None].astype(np.float64), "float32"),
]


@pytest.mark.parametrize(("inputs", "dtype"), DTYPES)
@pytest.mark.parametrize("make", [lambda *data: data, lambda *data: slices(data).batch(4)])
def test_integers_that_float32_rounds_keep_their_dtype(inputs, dtype, make):
    samples = as_samples(make(inputs, LABELS))
    (batch, _) = next(iter(evaluation_batches(samples, np.arange(16), batch_size=16)))
    assert batch["inputs"].dtype == dtype
    if dtype != "float32":
        np.testing.assert_array_equal(batch["inputs"], inputs)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_lookup_layer_gets_large_ids(flavor):
    layers = importlib.import_module(flavor).layers
    network = [layers.Input((1,), dtype="int64")]
    network += [layers.IntegerLookup(vocabulary=LARGE.tolist(), output_mode="one_hot")]
    model = importlib.import_module(flavor).Sequential([*network, layers.Reshape((17,))])
    found = Predictor(model).classes(full_split((LARGE[:, None], LABELS)))
    np.testing.assert_array_equal(found, 1 + np.arange(16))


@pytest.mark.parametrize("make", [lambda *data: data, lambda *data: slices(data).batch(4)])
def test_numbers_that_are_infinite_in_float32_are_refused(make):
    rows = ROWS.astype(np.float64)
    rows[3] = 1e300
    with pytest.raises(DataError, match="sample 3 has NaN or infinity as float32"):
        as_samples(make(rows, LABELS))


SEVERAL = {
    "dictionary": lambda a, b: {"user": a, "rows": b},
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, b],
}


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("kind", SEVERAL)
def test_several_inputs_may_have_one_number_for_each_sample(flavor, kind):
    layers = importlib.import_module(flavor).layers
    user = layers.Input((), name="user", dtype="int64")
    rows = layers.Input((10,), name="rows")
    inputs = {"user": user, "rows": rows} if kind == "dictionary" else [user, rows]
    both = layers.Concatenate()([layers.Embedding(16, 3)(user), rows])
    model = importlib.import_module(flavor).Model(inputs, layers.Dense(4)(both))
    samples = as_samples((SEVERAL[kind](np.arange(16), ROWS), LABELS))
    assert len(samples) == 16
    given = SEVERAL[kind](np.arange(16), ROWS)
    found = Predictor(model).classes(full_split(samples))
    np.testing.assert_array_equal(found, model.predict(given, verbose=0).argmax(-1))
    with pytest.raises(ArgumentError, match=r"rank >= 2, or strings. For one num.*x\[:, None\]"):
        as_samples((np.arange(16), LABELS))


def test_a_list_of_samples_is_one_input():
    for rows in (list(ROWS), ROWS.tolist()):
        assert as_samples((rows, LABELS)).input_shape == (10,)
    assert as_samples((list(ROWS[:2]), LABELS[:2])).input_shape == (10,)


def test_augmented_data_in_a_fixed_order_has_ids():
    def noisy(x, y):  # a generator of NumPy does not start again with each pass
        return x + tf.numpy_function(lambda: GENERATOR.normal(size=10), [], tf.float64), y

    rows = ROWS.astype(np.float64)
    ids = [int(x["sample_id"]) for x, _ in with_sample_ids(slices((rows, LABELS)).map(noisy))]
    assert ids == list(range(16))
    same = slices((rows, np.zeros(16, np.int64)))
    for data in (same, same.shuffle(16), slices((rows, LABELS)).shuffle(16)):
        with pytest.raises(DataError, match="two passes.*augmentation"):  # labels tell nothing
            with_sample_ids(data.map(noisy))


def test_the_check_reads_only_the_start():
    read = []

    def elements():
        for number in range(10_000):
            read.append(number)
            yield [float(number)], number

    signature = (tf.TensorSpec([1]), tf.TensorSpec([], tf.int64))
    with_sample_ids(tf.data.Dataset.from_generator(elements, output_signature=signature))
    assert len(read) < 1_000


PIXELS = GENERATOR.integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
PIXEL_LABELS = np.arange(12) % 3


def shown_to_the_model(data, **options):
    batches = evaluation_batches(as_samples(data, **options), range(12), batch_size=12)
    return next(iter(batches))[0]["inputs"].numpy()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float16, np.bool_])
@pytest.mark.parametrize("source", [lambda x, y: (x, y), lambda x, y: slices((x, y))])
def test_inputs_are_shown_as_they_are(dtype, source):
    inputs = PIXELS.astype(dtype)
    shown = shown_to_the_model(source(inputs, PIXEL_LABELS))
    np.testing.assert_array_equal(shown, inputs.astype(np.float32))


def test_scaling_and_normalization_are_options():
    data = (PIXELS, PIXEL_LABELS)
    scaled = shown_to_the_model(data, rescale=True)
    np.testing.assert_allclose(scaled, PIXELS / np.float32(255), rtol=1e-6)
    normalized = shown_to_the_model(data, mean=[0.5], std=[0.25])
    np.testing.assert_allclose(normalized, (PIXELS / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)


def test_a_run_on_scaled_inputs_is_not_continued_on_unscaled_ones(tmp_path):
    import keras

    def model():
        layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
        return keras.Sequential([*layers[:2], keras.layers.Dense(4), layers[2]])

    recipe, pruning = TrainingRecipe(epochs=1, batch_size=4), PruningConfig(rounds=1)
    search = TicketSearch(model, recipe, pruning, directory=tmp_path / "run", verbose=False)
    scaled = ArraySamples(PIXELS, PIXEL_LABELS, rescale=True)
    result = search.run(scaled)
    assert "unscaled_inputs" not in (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(MismatchError, match="unscaled_inputs"):
        search.run((PIXELS, PIXEL_LABELS))
    assert search.run(scaled).summary == result.summary


@pytest.mark.parametrize("suffix", [".tif", ".AVIF", ".tiff"])
def test_images_that_cannot_be_read_are_not_left_out_in_silence(tmp_path, suffix):
    for number in range(2):
        (tmp_path / f"class{number}").mkdir()
        png = tf.io.encode_png(PIXELS[number]).numpy()
        (tmp_path / f"class{number}" / "a.png").write_bytes(png)
    (tmp_path / "class0" / "notes.txt").write_text("not an image")
    assert len(FolderSamples(tmp_path)) == 2
    (tmp_path / "class1" / f"b{suffix}").write_bytes(b"image")
    with pytest.raises(DataError, match=rf"b{suffix}: not a readable image format"):
        FolderSamples(tmp_path)
