"""Data as people have it: each kind gives the samples of the same NumPy arrays, or says why not."""

from __future__ import annotations

import importlib
import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from source_tree import ROOT

from tf_prac import (
    ForgettingLogger,
    PracModel,
    PruningConfig,
    SampleScores,
    TicketSearch,
    TrainingRecipe,
    with_sample_ids,
)
from tf_prac.data import as_samples
from tf_prac.data.folder import FolderSamples
from tf_prac.data.splits import names_split
from tf_prac.errors import ArgumentError, DataError
from tf_prac.keras_api import FLAVORS

COUNT = 40
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(COUNT, 8)).astype(np.float32)
Y = GENERATOR.integers(0, 3, COUNT)
slices = tf.data.Dataset.from_tensor_slices
both = pytest.mark.parametrize("flavor", FLAVORS)


def batches_by_index(flavor, shuffle=False, size=7):
    keras = importlib.import_module(flavor)
    base = keras.utils.PyDataset if flavor == "keras" else keras.utils.Sequence

    class Batches(base):
        order = np.arange(COUNT)

        def __len__(self):
            return -(-COUNT // size)

        def __getitem__(self, index):
            ids = self.order[size * index : size * (index + 1)]
            return X[ids], Y[ids]

        if shuffle:

            def on_epoch_end(self):
                self.order = GENERATOR.permutation(self.order)

    return Batches()


def generator(shuffle=False, samples=False):
    def start():
        order = GENERATOR.permutation(COUNT) if shuffle else np.arange(COUNT)
        if samples:
            yield from zip(X[order], Y[order].tolist(), strict=True)
            return
        for ids in np.split(order, range(7, COUNT, 7)):
            yield X[ids], Y[ids]

    return start


class Loader:
    """An iterable that starts again with each pass, such as a DataLoader of PyTorch."""

    def __init__(self, shuffle=False):
        self.start = generator(shuffle)

    def __iter__(self):
        return self.start()


def flow(shuffle):
    import tf_keras

    images = X.reshape(COUNT, 2, 4, 1)
    flow = tf_keras.preprocessing.image.ImageDataGenerator().flow
    data = flow(images, Y, batch_size=7, shuffle=shuffle)
    keep = slices((X.reshape(COUNT, 2, 4, 1), Y))
    return data, keep


def unchanged(x, y):
    return x, y


FIXED = {
    "tensors": lambda _: (tf.constant(X), tf.constant(Y)),
    "a list": lambda _: [X, Y],
    "no weights": lambda _: (X, Y, None),
    "a list without weights": lambda _: [X, Y, None],
    "pandas": lambda _: (pd.DataFrame(X), pd.Series(Y)),
    "a categorical": lambda _: (pd.DataFrame(X), pd.Series(pd.Categorical(Y))),
    "dataset": lambda _: slices((X, Y)),
    "batched": lambda _: slices((X, Y)).batch(7).prefetch(1),
    "shuffled once": lambda _: slices((X, Y)).shuffle(1).cache().batch(7),
    "by index": batches_by_index,
    "a generator": lambda _: generator()(),
    "a function": lambda _: generator(),
    "samples": lambda _: generator(samples=True),
    "an iterable": lambda _: Loader(),
    "a list of batches": lambda _: list(generator()()),
    "a function of a dataset": lambda _: lambda: slices((X, Y)).batch(7),
    "shuffled": lambda _: slices((X, Y)).shuffle(COUNT),
    "shuffled and batched": lambda _: slices((X, Y)).shuffle(COUNT, seed=1).batch(7).prefetch(1),
    "shuffled batches": lambda _: slices((X, Y)).batch(7).shuffle(6),
    "shuffled twice": lambda _: slices((X, Y)).shuffle(9).batch(7).shuffle(6),
}
SHUFFLED = {
    "dataset": lambda _: slices((X, Y)).shuffle(COUNT, seed=1).map(unchanged),
    "another seed": lambda _: slices((X, Y)).shuffle(COUNT, seed=2).map(unchanged),
    "batched": lambda _: slices((X, Y)).shuffle(COUNT).map(unchanged).batch(7).prefetch(1),
    "shuffled batches": lambda _: slices((X, Y)).batch(7).shuffle(6).map(unchanged),
    "by index": lambda flavor: batches_by_index(flavor, shuffle=True),
    "by index, few batches": lambda flavor: batches_by_index(flavor, shuffle=True, size=20),
    "a function": lambda _: generator(shuffle=True),
    "an iterable": lambda _: Loader(shuffle=True),
}


@both
@pytest.mark.parametrize("kind", FIXED)
def test_data_in_a_fixed_order_is_that_of_the_arrays(kind, flavor):
    samples = as_samples(FIXED[kind](flavor))
    expected = as_samples((X, Y))
    assert samples.identity.order_hash == expected.identity.order_hash
    np.testing.assert_array_equal(samples.inputs(range(COUNT)), X)
    np.testing.assert_array_equal(samples.labels, Y)


@both
@pytest.mark.parametrize("kind", SHUFFLED)
def test_shuffled_data_has_one_order(kind, flavor):
    samples = as_samples(SHUFFLED[kind](flavor))
    expected = as_samples(SHUFFLED["dataset"](flavor))
    assert samples.identity.order_hash == expected.identity.order_hash
    rows = {row.tobytes(): label for row, label in zip(X, Y, strict=True)}
    inputs = samples.inputs(range(COUNT))
    assert [rows.pop(row.tobytes()) for row in inputs] == samples.labels.tolist()
    assert not rows


def network(flavor):
    keras = importlib.import_module(flavor)
    layers = keras.layers
    ones = keras.initializers.RandomNormal(seed=1)
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(8, activation="relu", kernel_initializer=ones),
            layers.Dense(3, kernel_initializer=ones),
        ]
    )


def searched(data, flavor, directory):
    recipe, pruning = TrainingRecipe(epochs=1, batch_size=8), PruningConfig(rounds=1)
    search = TicketSearch(
        lambda: network(flavor), recipe, pruning, directory=directory, verbose=False
    )
    result = search.run(data)
    ticket = result.tickets[-1]
    metrics = {k: v for k, v in result.summary["tickets"][-1].items() if "second" not in k}
    return ticket.masks, ticket.weights, metrics


@both
def test_searches_are_those_of_the_arrays_to_the_bit(flavor, tmp_path):
    first = as_samples(SHUFFLED["dataset"](flavor))
    in_order = first.inputs(range(COUNT)), first.labels
    tables = {
        "fixed": [(X, Y), FIXED["by index"](flavor)],
        "shuffled": [in_order, *(SHUFFLED[kind](flavor) for kind in ("batched", "another seed"))],
    }
    for name, table in tables.items():
        results = [
            searched(data, flavor, tmp_path / f"{name}{number}")
            for number, data in enumerate(table)
        ]
        for masks, weights, metrics in results[1:]:
            assert metrics == results[0][2]
            for one, other in ((masks, results[0][0]), (weights, results[0][1])):
                assert one.keys() == other.keys()
                for key in one:
                    np.testing.assert_array_equal(one[key], other[key])


def trained(flavor, data):
    keras = importlib.import_module(flavor)
    model = network(flavor)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss)
    logger, scores = ForgettingLogger(data), SampleScores(data, "el2n")
    model.fit(X, Y, batch_size=8, epochs=3, verbose=0, shuffle=False, callbacks=[logger, scores])
    return logger.stats, scores.values


@both
def test_callbacks_see_the_samples_of_the_arrays(flavor):
    stats, scores = trained(flavor, (X, Y))
    again, values = trained(flavor, FIXED["by index"](flavor))
    np.testing.assert_array_equal(again.events, stats.events)
    np.testing.assert_allclose(values, scores, rtol=1e-5)
    samples = as_samples(SHUFFLED["dataset"](flavor))
    order = [np.flatnonzero((row == X).all(-1))[0] for row in samples.inputs(range(COUNT))]
    with pytest.warns(UserWarning, match="shuffled in each pass"):
        again, values = trained(flavor, SHUFFLED["by index"](flavor))
    np.testing.assert_array_equal(again.events, stats.events[order])
    np.testing.assert_allclose(values, scores[order], rtol=1e-5)


@both
@pytest.mark.parametrize("nested", [False, True])
def test_a_prac_model_numbers_arrays_and_datasets(flavor, nested):
    keras = importlib.import_module(flavor)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if nested:
        a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
        net = keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(keras.layers.Add()([a, b])))
        x = {"a": X, "b": X}
    else:
        net, x = network(flavor), X
    for data in ((x, Y), (slices((x, Y)).batch(8),)):
        model = PracModel(net, num_samples=COUNT)
        model.compile("sgd", loss)
        options = {} if len(data) == 2 else {"shuffle": False}
        model.fit(*data, epochs=2, verbose=0, **options)
        assert model.forgetting.stats.presentations.tolist() == [2] * COUNT
    with pytest.raises(ArgumentError, match="with_sample_ids"):
        model.fit(batches_by_index(flavor), verbose=0)


@both
def test_images_and_texts_from_a_directory(flavor, tmp_path):
    utils = importlib.import_module(flavor).utils
    values = iter(range(100, 140))
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "texts" / name).mkdir(parents=True)
        for number in range(6):
            value = next(values)
            png = tf.io.encode_png(np.full((4, 4, 3), value, np.uint8)).numpy()
            (tmp_path / "images" / name / f"{number}.png").write_bytes(png)
            (tmp_path / "texts" / name / f"{number}.txt").write_text(f"word {value}")
    options = {"batch_size": 5}
    images, sorted_images = (
        as_samples(
            utils.image_dataset_from_directory(
                tmp_path / "images", image_size=(4, 4), shuffle=shuffle, seed=1, **options
            )
        )
        for shuffle in (True, False)
    )
    for samples in (images, sorted_images):
        assert samples.classes == ("cat", "dog") and samples.input_shape == (4, 4, 3)
        pixels = samples.inputs(range(12))[:, 0, 0, 0]
        assert sorted(pixels) == list(range(100, 112))
        np.testing.assert_array_equal(samples.labels, pixels >= 106)
    assert sorted_images.labels.tolist() == [0] * 6 + [1] * 6
    texts = as_samples(utils.text_dataset_from_directory(tmp_path / "texts", **options))
    assert texts.classes == ("cat", "dog")
    numbers = [int(text.split()[1]) for text in texts.inputs(range(12))]
    np.testing.assert_array_equal(texts.labels, np.array(numbers) >= 106)


def test_tensorflow_datasets(tfds_dir):
    import tensorflow_datasets as tfds

    options = {"split": "train[:300]", "data_dir": tfds_dir}
    dataset = tfds.load("mnist", as_supervised=True, **options)
    samples = as_samples(dataset)
    for data in (dataset.batch(32), tfds.as_numpy(dataset)):
        assert as_samples(data).identity.order_hash == samples.identity.order_hash
    assert len(as_samples(dataset.shuffle(300).batch(32))) == 300
    with pytest.raises(ArgumentError, match=r"e\['image'\], e\['label'\].*as_supervised=True"):
        as_samples(tfds.load("mnist", **options))


def test_iterators_of_keras_for_images():
    data, _ = flow(False)
    np.testing.assert_array_equal(as_samples(data).labels, Y)
    shuffled, arrays = flow(True)
    expected = as_samples(arrays.shuffle(COUNT).map(unchanged)).identity.order_hash
    assert as_samples(shuffled).identity.order_hash == expected


@pytest.mark.filterwarnings("ignore:.*shuffled in each pass:UserWarning")
@pytest.mark.parametrize("change", [lambda data: data, lambda data: data.map(unchanged)])
def test_equal_samples_are_interchangeable(change):
    x, y = np.repeat(X[:5], 4, 0), np.repeat(Y[:5], 4)
    data = change(slices((x, y)).shuffle(20))
    one, other = as_samples(data), as_samples(data)
    assert one.identity == other.identity and len(one) == 20
    numbered = with_sample_ids(data)
    for _ in range(2):
        ids = [int(element["sample_id"]) for element, _ in numbered]
        assert sorted(ids) == list(range(20))


def test_later_passes_are_checked_too():
    values = [0.0]
    data = slices((X.astype(np.float64), Y)).shuffle(COUNT)
    data = data.map(lambda x, y: (x + tf.numpy_function(lambda: values[0], [], tf.float64), y))
    with pytest.warns(UserWarning, match="shuffled"):
        numbered = with_sample_ids(data)
    assert len(list(numbered)) == COUNT
    values[0] = 1.0
    with pytest.raises(tf.errors.InvalidArgumentError, match="no earlier pass"):
        list(numbered)


FRAME = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "c": [True, False, True]})
LABELS = [0, 1, 0]


def test_pandas():
    samples = as_samples((FRAME, pd.Series(["dog", "cat", "dog"], dtype="category")))
    assert samples.classes == ("cat", "dog") and samples.labels.tolist() == [1, 0, 1]
    expected = [[1, 0.5, 1], [2, 1.5, 0], [3, 2.5, 1]]
    assert samples.inputs(range(3)).astype(float).tolist() == expected
    nullable = FRAME[["a", "b"]].astype({"a": "Int64", "b": "Float32"})
    labels = pd.Series(LABELS, dtype="Int64")
    weights = pd.Series([1.0, 0.5, 0.0])
    samples = as_samples((nullable, labels, weights))
    assert samples.inputs([1]).tolist() == [[2, 1.5]] and samples.labels.tolist() == LABELS
    assert samples.weights.tolist() == [1, 0.5, 0] and samples.num_classes == 2
    assert as_samples((FRAME, pd.array(LABELS, dtype="Int64"))).labels.tolist() == LABELS
    flags = pd.Series([True, False, True])
    expected = as_samples((FRAME, flags))
    found = as_samples((FRAME, flags.astype("boolean")))
    assert (found.labels.tolist(), found.num_classes) == ([1, 0, 1], expected.num_classes)
    several = as_samples(({"a": FRAME["a"], "text": pd.Series(["x", "y", "z"])}, LABELS))
    assert several.inputs([2])["a"].tolist() == [[3]]
    assert several.inputs([2])["text"].tolist() == [[b"z"]]
    column = pd.DataFrame({"y": [0.1, 0.2, 0.3]})
    assert as_samples((FRAME, column)).labels.tolist() == [
        0.1,
        0.2,
        0.3,
    ]
    test = FRAME, pd.Series(["dog", "cow", "dog"], dtype="category")
    with pytest.raises(DataError, match="test: classes cow, dog received.*: cat, dog"):
        search = TicketSearch(lambda: network("keras"), directory="unused", verbose=False)
        search.run((FRAME, test[1].cat.set_categories(["cat", "dog"]).fillna("cat")), test=test)


class NoLabelsError(DataError):
    def __init__(self, path):
        super().__init__(f"{path}: no labels.")
        self.path = path


class WrongOptionError(ArgumentError):
    def __init__(self, argument):
        super().__init__(argument, 0, "1")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("ids: missing."), "test: ids: missing."),
        (NoLabelsError("a.csv"), "test: a.csv: no labels."),
        (ArgumentError("data", 0, "1", "Add 1."), "test: received 0; allowed: 1. Add 1."),
        (WrongOptionError("size"), "test: size: received 0; allowed: 1."),
    ],
)
def test_an_error_that_names_its_split_keeps_its_class_and_attributes(error, message):
    kind, attributes = type(error), set(vars(error))
    with pytest.raises(type(error)) as caught, names_split("test"):
        raise error
    assert type(caught.value) is kind and str(caught.value) == message
    assert set(vars(caught.value)) == attributes


def noisy(x, y):
    return x + tf.numpy_function(lambda: GENERATOR.normal(size=8), [], tf.float64), y


def endless():
    while True:
        yield X, Y


WRONG = {
    "string labels": ((X, np.array(["a", "b"])[Y % 2]), "np.unique.*pandas.Categorical"),
    "string labels in pandas": ((X, pd.Series(list("ab" * 20))), "np.unique.*pandas.Categorical"),
    "string labels in a dataset": (slices((X, np.array(["a"] * COUNT))), "np.unique"),
    "missing labels": ((X, pd.Series([None, *Y[1:].tolist()])), "NaN|missing values"),
    "missing label in an array of pandas": (
        (FRAME, pd.array([0, None, 1], dtype="Int64")),
        "sample 1 has NaN",
    ),
    "missing category": ((FRAME, pd.Series(pd.Categorical(["a", None, "b"]))), "for sample 1"),
    "missing value": ((pd.DataFrame({"a": [1, None]}, dtype="Int64"), [0, 1]), "sample 1 has NaN"),
    "columns of strings": (
        (pd.DataFrame({"city": ["x", "y"], "n": [1, 2]}), [0, 1]),
        r"columns city \(.*get_dummies",
    ),
    "no labels": (X, r"\(x, y\)"),
    "a dictionary": ({"x": X, "y": Y}, r"Pass inputs and labels together: \(x, y\)"),
    "a class": (Loader, "received 'type'"),
    "a function with arguments": (lambda x: x, "function without arguments"),
    "a generator of inputs": (lambda: iter([X, X]), r"allowed: \(x, y\)"),
    "batches of other lengths": (lambda: iter([(X, Y[:3])]), "as many labels as inputs"),
    "batches of other shapes": (lambda: iter([(X, Y), (X[:, :2], Y)]), "different shapes"),
    "nothing": (lambda: iter([]), "at least one.*pass the function"),
    "augmented": (slices((X.astype(float), Y)).shuffle(COUNT).map(noisy), "two passes.*augment"),
    "an augmenting function": (
        lambda: iter([(GENERATOR.normal(size=(8, 2)), Y[:8])]),
        "two passes.*augment",
    ),
    "an infinite function": (endless, r"[\d,]+ bytes in the first .*allowed: 10,000 bytes"),
    "an infinite dataset": (slices((X, Y)).repeat(), "repeat"),
    "several shapes": (
        tf.data.Dataset.from_generator(
            lambda: iter([([1.0], 0), ([1.0, 2.0], 1)]),
            output_signature=(tf.TensorSpec([None]), tf.TensorSpec([], tf.int64)),
        ),
        "resize images, pad sequences",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_taken_says_what_to_do(kind):
    data, message = WRONG[kind]
    with pytest.raises((ArgumentError, DataError), match=message):
        as_samples(data, memory_limit_bytes=10_000)


@pytest.mark.parametrize(
    "option", [{"decode": tf.io.decode_png}, {"buffer_size": 10}, {"check_order": False}]
)
@pytest.mark.parametrize("data", [(X, Y), generator()])
def test_options_of_datasets_are_for_datasets(option, data):
    name = next(iter(option))
    with pytest.raises(ArgumentError, match=f"^{name}: received .*; allowed: .*Dataset"):
        as_samples(data, **option)


def test_a_generator_is_empty_after_its_first_use():
    data = generator()()
    assert len(as_samples(data)) == COUNT
    with pytest.raises(DataError, match="empty after its first use: pass the function"):
        as_samples(data)


def test_batches_by_index_are_streamed_if_they_are_large():
    samples = as_samples(batches_by_index("keras"), memory_limit_bytes=500)
    assert type(samples).__name__ == "StreamSamples"
    batches = samples.batches(range(COUNT), 8, seed=(1,), steps=5).as_numpy_iterator()
    for x, y in batches:
        np.testing.assert_array_equal(x["inputs"], X[x["sample_id"]])
        np.testing.assert_array_equal(y, Y[x["sample_id"]])
    shuffled = as_samples(slices((X, Y)).shuffle(COUNT), memory_limit_bytes=500)
    with pytest.raises(DataError, match=r"bytes in another order.*allowed: up to 500 bytes"):
        shuffled.batches(range(COUNT), 8, seed=(1,))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_format_are_read(tmp_path, channels):
    from PIL import Image

    pixels = np.full((4, 4, 3), 120, np.uint8)
    formats = {"png": {}, "jpg": {}, "jfif": {"format": "jpeg"}, "bmp": {}, "gif": {}}
    formats["webp"] = {"lossless": True}
    (tmp_path / "one").mkdir()
    for suffix, options in formats.items():
        Image.fromarray(pixels).save(tmp_path / "one" / f"image.{suffix}", **options)
    samples = FolderSamples(tmp_path, channels=channels)
    assert len(samples) == len(formats)
    inputs = samples.inputs(range(len(formats)))
    assert inputs.shape == (len(formats), 4, 4, channels)
    assert np.abs(inputs.astype(int) - 120).max() <= 2


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@both
def test_the_page_about_data_runs_as_it_stands(flavor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```", page, re.M | re.S))
    if flavor == "tf_keras":
        code = code.replace("import keras", "import tf_keras as keras")
        code = code.replace("PyDataset", "Sequence")
    x = GENERATOR.uniform(size=(300, 8)).astype(np.float32)
    names = {"x_train": x, "y_train": GENERATOR.integers(0, 3, 300)}
    names["make_model"] = lambda: network(flavor)
    exec(compile(code, "docs/data.md", "exec"), names)
    assert names["table"].classes == ("digit 0", "digit 1", "digit 2")
    assert names["inputs"].shape == (3, 8) and names["result"].best
    np.testing.assert_array_equal(names["logger"].stats.presentations, 2)
