"""Searches of every task, of compiled models, and of text, at the smallest size."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_diabetes, load_digits

import tf_prac
from tf_prac import (
    PracConfig,
    PracSet,
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    prunable_weights,
)
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.errors import ArgumentError, DataError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.storage.files import read_json
from tf_prac.tasks import MultiLabel, OneHot, Outputs, Regression, Sparse
from tf_prac.training.loop import StepLoop

both = pytest.mark.parametrize("flavor", FLAVORS)
N = 64
X, Y = load_digits(return_X_y=True)
X, Y = (X[:N] / 16).astype(np.float32), Y[:N]
PIXELS = (X.reshape(N, 8, 8) > 0.5).astype(np.int64)
PIXELS[:, 0], PIXELS[5] = 255, 255
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
DIABETES, PROGRESS = DIABETES[:N].astype(np.float32), (PROGRESS[:N] / 100).astype(np.float32)
EVEN = Y % 2
RECIPE = TrainingRecipe(epochs=2, batch_size=16, validation_split=0.25)
PRUNING = PruningConfig(rounds=1, rewind="2it")


def dense(keras, units, activation=None, features=64):
    layers = keras.layers
    hidden = [keras.Input((features,)), layers.Dense(8, activation="relu")]
    return keras.Sequential([*hidden, layers.Dense(units, activation=activation)])


def pixels(keras):
    layers = keras.layers
    hidden = layers.Conv2D(3, 3, padding="same", activation="relu")
    return keras.Sequential([keras.Input((8, 8, 1)), hidden, layers.Conv2D(2, 1)])


def two(keras):
    inputs = {"image": keras.Input((64,), name="image"), "even": keras.Input((1,), name="even")}
    x = keras.layers.Concatenate()([inputs["image"], inputs["even"]])
    x = keras.layers.Dense(8, activation="relu")(x)
    outputs = [keras.layers.Dense(10, name="digit")(x), keras.layers.Dense(1, name="dark")(x)]
    return keras.Model(inputs, outputs)


BOTH_INPUTS = {"image": X, "even": EVEN[:, None].astype(np.float32)}
BOTH_LABELS = {"digit": Y, "dark": X.mean(1)}
TWO = Outputs(tasks={"digit": Sparse(), "dark": Regression(quantile=0.5)}, judge="any")
CASES = {
    "sparse": (lambda k: dense(k, 10), X, Y, None),
    "one_hot": (lambda k: dense(k, 10, "softmax"), X, np.eye(10)[Y], OneHot(label_smoothing=0.1)),
    "binary": (lambda k: dense(k, 1, "sigmoid"), X, EVEN, None),
    "binary logits": (lambda k: dense(k, 1), X, EVEN[:, None] * 1.0, "binary"),
    "multi_label": (lambda k: dense(k, 4), X, X[:, 2:6] > 0.5, MultiLabel(fraction=0.5)),
    "pixels": (pixels, X.reshape(N, 8, 8, 1), PIXELS, Sparse(ignore_class=255, fraction=0.8)),
    "regression": (lambda k: dense(k, 1, None, 10), DIABETES, PROGRESS, Regression(quantile=0.4)),
    "outputs": (two, BOTH_INPUTS, BOTH_LABELS, TWO),
}


def search(flavor, model, directory, task=None, **options):
    keras = importlib.import_module(flavor)
    options = {"recipe": RECIPE, "pruning": PRUNING, "verbose": False, **options}
    model_fn = (lambda: model(keras)) if inspect.isfunction(model) else model
    return TicketSearch(model_fn, directory=directory, task=task, **options)


ALIKE = {("keras", "one_hot"), ("tf_keras", "sparse"), ("keras", "binary"), ("tf_keras", "outputs")}
SEARCHES = [
    pytest.param(flavor, name, marks=[pytest.mark.slow] if (flavor, name) in ALIKE else [])
    for flavor in FLAVORS
    for name in CASES
]


@pytest.mark.parametrize(("flavor", "name"), SEARCHES)
def test_a_search_of_each_task(flavor, name, tmp_path):
    model, x, y, task = CASES[name]
    started = search(flavor, model, tmp_path / "run", task)
    result = started.run((x, y), test=(x, y))
    network, summary = result.model, result.summary
    masks = result.tickets[1].masks
    for weight, variable in prunable_weights(network).items():
        assert not np.asarray(variable)[~masks[weight]].any()

    measured = summary["tickets"][1]["test_accuracy"]
    outputs = network(tf.nest.map_structure(tf.constant, x))
    assert measured == pytest.approx(metric_of(name, outputs, y), abs=1e-5)
    assert result.metric.higher_is_better == (name != "regression")
    verdict = "as good as dense" if result.as_good_as_dense else "worse than dense"
    assert verdict in repr(result) and "\n" not in repr(result)

    config = read_json(result.directory / "config.json", "config")
    assert ("task" in config["search"]) == (name != "sparse")
    if name == "regression":
        assert summary["metric"] == {"name": "mean_absolute_error", "higher_is_better": False}
        assert config["search"]["task"]["bound"] and "mean absolute error" in repr(result)
    else:
        assert "metric" not in summary
    prac_set = PracSet.load(result.directory / "round_00" / "prac_set.npz")
    if name == "pixels":  # the sample without a label is not critical
        assert 5 not in prac_set.cet and 5 not in prac_set.cep


def metric_of(name, outputs, y):
    """The metric of a case in NumPy."""
    if name == "outputs":
        digit, dark = (np.asarray(each) for each in outputs)
        middle = np.median(y["dark"])
        bound = np.quantile(np.abs(y["dark"] - middle), 0.5)
        return np.mean((digit.argmax(-1) == y["digit"]) | (np.abs(dark[:, 0] - y["dark"]) <= bound))
    outputs = np.asarray(outputs)
    if name in ("sparse", "one_hot"):
        return np.mean(outputs.argmax(-1) == Y)
    if name.startswith("binary"):
        return np.mean((outputs[:, 0] > (0.5 if name == "binary" else 0)) == EVEN)
    if name == "multi_label":
        return np.mean((outputs > 0) == y)
    if name == "pixels":
        return np.mean((outputs.argmax(-1) == y)[y != 255])
    return np.mean(np.abs(outputs[:, 0] - y))


@pytest.mark.parametrize(("flavor", "selector"), [("keras", "entropy"), ("tf_keras", "grand")])
def test_selectors_of_multi_label_samples(flavor, selector, tmp_path):
    model, x, y, task = CASES["multi_label"]
    prac = PracConfig(selector=selector, subset_size=0.5)
    result = search(flavor, model, tmp_path / "run", task, prac=prac, retrain="none").run((x, y))
    assert result.summary["rounds"][0]["prac_size"] == 24
    assert "none retrained" in repr(result) and result.best_round is None
    with pytest.raises(ArgumentError, match="no retrained ticket"):
        _ = result.model


def test_what_a_task_cannot_do_is_refused_before_anything_is_written(tmp_path):
    _, x, y, _ = CASES["regression"]
    unbounded = CASES["regression"][0]
    multi, bits = CASES["multi_label"][0], X[:, 2:6] > 0.5
    bounded, balanced = Regression(bound=0.3), PracConfig(class_balanced=True)
    no_data = {"prac": PracConfig(use_cet=False, use_cep=False)}
    synflow = {**no_data, "pruning": PruningConfig(rounds=1, criterion="synflow")}

    of_digits = CASES["sparse"][0], (X, Y), None
    of_pixels = pixels, (X.reshape(N, 8, 8, 1), PIXELS), CASES["pixels"][3]

    def half_pruned(keras):
        return tf_prac.prune(dense(keras, 10), sparsity=0.5)

    def prune(**options):
        return {"pruning": PruningConfig(**{"rounds": 1, "rewind": "2it", **options})}

    def select(selector, balanced=False):
        return {"prac": PracConfig(selector=selector, subset_size=0.5, class_balanced=balanced)}

    for model, data, task, options, message in (
        (unbounded, (x, y), "regression", {}, "without an error bound"),
        (unbounded, (x, y), None, {}, "task: received 'no loss.*float32.*one of sparse"),
        (multi, (X, bits), None, {}, "task: received 'no loss, labels bool"),
        (CASES["sparse"][0], (X, Y - 1), None, {}, r"Sparse\(ignore_class=-1\)"),
        (CASES["sparse"][0], (X, Y / 2), "sparse", {}, "integer class numbers"),
        (lambda k: dense(k, 3), (X, Y), None, {}, "3 outputs.*10 classes"),
        (two, (BOTH_INPUTS, Y), None, {}, "a dictionary of the labels of each output: digit, dark"),
        (two, (BOTH_INPUTS, (Y, EVEN)), None, {}, "a dictionary of them by the name of the output"),
        (unbounded, (x, y), bounded, select("entropy"), "entropy needs class probabilities"),
        (unbounded, (x, y), bounded, select("margin"), "margin needs class probabilities"),
        (multi, (X, bits), "multi_label", {"prac": balanced}, "class_balanced.*multi_label"),
        (multi, (X, bits), "multi_label", select("random", True), "class_balanced.*multi_label"),
        (lambda k: dense(k, 10, "softmax"), (X, Y), None, synflow, "synflow.*without the last sof"),
        (*of_pixels, prune(block_size=(1, 4)), "block_size: .*kernel has shape"),
        (*of_digits, prune(min_layer_density=0.9), "min_layer_density: .*at most the density"),
        (*of_digits, prune(rounds=3, min_layer_density=0.6), "min_layer_density: .*0.511719"),
        (half_pruned, *of_digits[1:], prune(sparsities=(0.3,)), "sparsity: .*at least the current"),
    ):
        with pytest.raises((ArgumentError, DataError), match=message):
            search("keras", model, tmp_path / "run", task, **options).run(data)
        assert not (tmp_path / "run" / "config.json").exists()
    trains = {"prac": PracConfig(use_cet=False, use_cep=False)}
    result = search("keras", unbounded, tmp_path / "r3", "regression", **trains).run((x, y))
    stats = ForgettingStats.load(result.directory / "round_00" / "forgetting.npz")
    assert not stats.events.any() and not stats.never_learned.any()  # not judged


@both
def test_data_that_does_not_fit_is_refused_before_training_by_split(flavor, tmp_path):
    wide, missing = np.tile(X, 2), np.concatenate([X[:1] * np.nan, X[1:]])
    for train, splits, message in (
        ((wide, Y), {}, r"inputs: float32 \(N, 128\) received; allowed: float32 \(N, 64\)"),
        ((X.astype(str)[:, 0], Y), {}, r"inputs: string \(N\) received; allowed: float32"),
        ((X, Y), {"test": (wide, Y)}, r"test: inputs: float32 \(N, 128\) received"),
        ((X, Y), {"validation": (wide, Y)}, r"validation: inputs: float32 \(N, 128\) received"),
        ((X, Y), {"test": (X, np.eye(10)[Y])}, r"test: labels: .*labels.argmax\(axis=-1\)"),
        ((X, Y), {"validation": (X, -1 - Y)}, "validation: labels: -10 received"),
        ((X, Y), {"test": (X, Y + 3)}, "test: model: received '10 outputs'.*each of the 13 cl"),
        ((X, Y), {"validation": (X, Y + 1)}, "validation: model: .*each of the 11 classes"),
        ((X, Y), {"test": (missing, Y)}, "test: inputs: sample 0 has NaN"),
        ((X, Y), {"validation": (X, Y[1:])}, "validation: lengths differ"),
        (([X, X[:, :5]], Y), {}, r"inputs: .*\(N, 5\).* received; allowed: float32 \(N, 64\)"),
        (([X, X[:9, :5]], Y), {}, r"a list of arrays of shapes \(64, 64\), \(9, 5\) received"),
        ((X, Y), {"test": X}, "test: received 'ndarray'.*Pass inputs and labels together"),
        ((X[:1], Y[:1]), {}, "validation_split: received '0.25, 1 training samples'.*Set it to 0"),
    ):
        with pytest.raises((ArgumentError, DataError), match=message):
            search(flavor, CASES["sparse"][0], tmp_path / "run").run(train, **splits)
        assert not (tmp_path / "run" / "config.json").exists()


def compiled(keras, rate=None, loss=None):
    model = dense(keras, 10)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.02, 8, 0.001)
    optimizer = keras.optimizers.Adam(rate or schedule, beta_1=0.8, weight_decay=0.001)
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    top3 = keras.metrics.SparseTopKCategoricalAccuracy(3, name="top3")
    model.compile(optimizer, loss, metrics=["accuracy", top3])
    return model


@both
def test_a_compiled_model_keeps_its_loss_metrics_optimizer_and_schedule(flavor, tmp_path):
    """Against `fit` batch by batch with the same data order."""
    keras = importlib.import_module(flavor)
    made, rates = [], []
    original = StepLoop.train

    def train(loop, *arguments, **options):
        made.append(loop._model.optimizer)
        taken = original(loop, *arguments, **options)
        rates.append(float(made[-1].learning_rate))
        return taken

    model = compiled(keras)
    weights = [w.copy() for w in model.get_weights()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepLoop, "train", train)
        result = search(flavor, model, tmp_path / "run").run((X, Y), test=(X, Y))
    assert all(np.array_equal(*w) for w in zip(weights, model.get_weights(), strict=True))
    optimizer = made[0]
    assert type(optimizer) is type(model.optimizer) and optimizer is not model.optimizer
    assert (optimizer.beta_1, optimizer.weight_decay) == (0.8, 0.001)
    # 48 samples are 3 steps an epoch, 6 steps in all. Each training ends at the rate of its end.
    history = (result.directory / "tickets/round_01/history.csv").read_text().splitlines()
    assert {"accuracy", "top3", "val_accuracy", "val_top3"} <= set(history[0].split(","))
    column = history[0].split(",").index("learning_rate")
    last = float(history[-1].split(",")[column])
    expected = 0.001 + (0.02 - 0.001) * (1 - 5 / 8)
    assert last == pytest.approx(expected, rel=1e-5) and rates[-1] == pytest.approx(last, rel=0.2)
    first = float(history[1].split(",")[column])  # the end of the first epoch from step 2
    assert first > last
    changed = compiled(keras, rate=0.01)
    with pytest.raises(MismatchError, match="compiled"):
        search(flavor, changed, tmp_path / "run").run((X, Y), test=(X, Y))
    with pytest.raises(ArgumentError, match="learning_rate, momentum for a model that is compiled"):
        recipe = TrainingRecipe(learning_rate=0.5, momentum=0.1)
        search(flavor, changed, tmp_path / "new", recipe=recipe).run((X, Y))


@both
def test_sample_and_class_weights(flavor, tmp_path):
    """A sample of weight 0 does not change the result, whatever its label."""
    weights = np.ones(N, np.float32)
    weights[:8] = 0
    other = Y.copy()
    other[:8] = (Y[:8] + 1) % 10
    results = []
    for number, labels in enumerate((Y, other)):
        started = search(flavor, CASES["sparse"][0], tmp_path / f"{number}")
        results.append(started.run((X, labels, weights), validation=(X, Y)))
    first, second = (
        [(r["cet"], r["cep"], r["val_accuracy"]) for r in each.summary["rounds"]]
        for each in results
    )
    assert first == second
    prac_set = PracSet.load(results[0].directory / "round_00" / "prac_set.npz")
    assert not set(range(8)) & {*prac_set.cet.tolist(), *prac_set.cep.tolist()}
    by_class = {number: float(number != 3) for number in range(10)}
    started = search(flavor, CASES["sparse"][0], tmp_path / "c", class_weight=by_class)
    result = started.run((X, Y), validation=(X, Y))
    prac_set = PracSet.load(result.directory / "round_00" / "prac_set.npz")
    assert not set(np.flatnonzero(Y == 3).tolist()) & set(prac_set.cet.tolist())
    assert read_json(result.directory / "config.json", "config")["search"]["class_weight"]["3"] == 0
    for wrong, message in (({0: 1.0}, "1 is missing"), (by_class, "no single class")):
        name = "sparse" if message.startswith("1") else "multi_label"
        model, x, y, task = CASES[name]
        with pytest.raises(ArgumentError, match=f"class_weight: .*{message}"):
            search(flavor, model, tmp_path / "w", task, class_weight=wrong).run((x, y))
