"""The callbacks one by one, in a `fit` of any model and by hand, over both flavors."""

from __future__ import annotations

import copy
import importlib
import json
import math
import pathlib
import re
import subprocess
import sys

import callback_battery
import numpy as np
import precision
import pytest
import tensorflow as tf
from halved import halved
from source_tree import ROOT

from tf_prac import (
    ConstantSparsity,
    ForgettingLogger,
    MaskDistance,
    MaskedWeights,
    Masks,
    PracModel,
    PruningConfig,
    RewindCheckpoint,
    SampleScores,
    SparsityLogger,
    Targets,
    Ticket,
    prunable_weights,
    prune,
    random_mask,
    rewind,
    snapshot,
    with_sample_ids,
)
from tf_prac.callbacks import BestWeights
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.training.data_pass import DataPass

both = pytest.mark.parametrize("flavor", FLAVORS)
X, Y = callback_battery.data("sparse")
DATA = tf.data.Dataset.from_tensor_slices((X, Y))
COVERING = [
    "keras-sparse-logits-3-one-single",
    "keras-multi_label-probabilities-1-two-single",
    "tf_keras-one_hot-probabilities-3-one-single",
    "tf_keras-binary-logits-1-two-single",
    "tf_keras-multi_label-logits-3-one-single",
]


def network(flavor, **options):
    """A compiled plain model."""
    return callback_battery.compiled(
        callback_battery.make_network(flavor, "sparse", True, "one"),
        flavor,
        "sparse",
        True,
        "one",
        **options,
    )


def pruned_network(flavor, **options):
    """The same as `prune` returns it."""
    pruned = prune(network(flavor), **options)
    return callback_battery.compiled(pruned, flavor, "sparse", True, "one")


def fit(model, *callbacks, epochs=3, **options):
    options = {"batch_size": 11, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options).history


@pytest.mark.parametrize("case", COVERING)
def test_a_part_of_the_battery(case):
    callback_battery.check(case)


@pytest.mark.slow
def test_the_whole_battery():
    script = pathlib.Path(callback_battery.__file__)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == len(callback_battery.CASES)


@both
def test_every_callback_works_alone_with_a_plain_compiled_model(flavor):
    keras = importlib.import_module(flavor)
    model = network(flavor)
    each = {
        "mask_distance": MaskDistance(0.3),
        "sparsity": SparsityLogger(),
        "rewind_step": RewindCheckpoint("5it"),
        "forgetting_events": ForgettingLogger((X, Y)),
        "entropy": SampleScores(DATA, "entropy"),
    }
    for name, callback in each.items():
        stop = keras.callbacks.EarlyStopping(monitor=name, mode="min", patience=100)
        assert len(fit(model, callback, stop)[name]) == 3
    assert each["sparsity"]._prunable.keys() == prunable_weights(model).keys()


@both
def test_a_part_of_a_model_that_is_named_network_is_not_taken_for_the_model(flavor):
    """As a wrapper of this library has its network in an attribute of that name."""
    keras = importlib.import_module(flavor)

    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.network = keras.layers.Dense(12, activation="relu")
            self.head = keras.layers.Dense(4)

        def call(self, inputs):
            return self.head(self.network(inputs))

    model = callback_battery.compiled(Mine(), flavor, "sparse", True, "one")
    model(X[:2])
    early, best = RewindCheckpoint("3it"), BestWeights("loss", "min")
    grand = SampleScores((X, Y), "grand")
    fit(model, early, best, grand)
    names = snapshot(model).keys()
    assert early.weights.keys() == best.weights.keys() == names and len(names) == 4
    logits = model(X).numpy()
    error = np.exp(logits - logits.max(1, keepdims=True))
    error = error / error.sum(1, keepdims=True) - np.eye(4)[Y]
    # By hand: of the head, and through it of the first layer.
    hidden = model.network(X).numpy()
    inner = (error @ model.head.get_weights()[0].T) * (hidden > 0)
    squares = [(np.square(e).sum(1)) for e in (error, inner)]
    inputs = [1 + np.square(each).sum(1) for each in (hidden, X)]
    expected = np.sqrt(squares[0] * inputs[0] + squares[1] * inputs[1])
    np.testing.assert_allclose(grand.values, expected, rtol=1e-4)
    pruned = prune(model, sparsity=0.5)
    assert Ticket.from_model(pruned).weights.keys() == names


@both
def test_best_weights_of_a_plain_and_a_pruned_model(flavor):
    for model in (network(flavor), pruned_network(flavor, sparsity=0.5)):
        best = BestWeights("loss", "min")
        losses = fit(model, best, epochs=2)["loss"]
        assert best.epoch == int(np.argmin(losses)) and best.value == min(losses)
        rewind(model, best.weights)
        start = best.weights
        fit(model, best, epochs=1)  # with weights of its own, not the best of the fit before
        assert best.epoch == 0 and best.weights is not start


def test_a_value_that_is_not_finite_is_never_the_best():
    best = BestWeights()
    best.set_model(network("keras"))
    for epoch, value in enumerate([math.nan, math.inf, 0.5, math.nan, 0.25]):
        best.on_epoch_end(epoch, {"val_accuracy": value})
    assert (best.value, best.epoch) == (0.5, 2)


@both
def test_one_callback_without_a_list_is_taken_with_a_schedule_too(flavor):
    model = pruned_network(flavor, schedule=ConstantSparsity(0.5, begin_step=0, frequency=1))
    logger = SparsityLogger()
    for callbacks in (logger, (logger,), [[logger]]):
        history = model.fit(X, Y, callbacks=callbacks, verbose=0).history
        assert len(history["sparsity"]) == 1


@both
def test_an_instance_can_be_reused_copied_and_serialized(flavor):
    model = network(flavor)
    start = snapshot(model)
    callbacks = [
        MaskDistance(0.3, eps=0.01, pruning=PruningConfig(prune_last_dense=True)),
        SparsityLogger(per_layer=True),
        RewindCheckpoint("5it"),
        ForgettingLogger(DATA, targets=Targets("sparse")),
        SampleScores(DATA.batch(7), "margin", every=2),
    ]
    others = [{}, {}, {}, {"data": DATA}, {"data": DATA.batch(7)}]
    first = fit(model, *callbacks)
    copies = copy.deepcopy(callbacks)
    described = [
        type(callback).from_config(json.loads(json.dumps(callback.get_config())), **data)
        for callback, data in zip(callbacks, others, strict=True)
    ]
    assert all(each.model is None for each in copies)
    np.testing.assert_array_equal(copies[3].stats.table, callbacks[3].stats.table)
    np.testing.assert_array_equal(copies[4].values, callbacks[4].values)
    assert copies[4].data is callbacks[4].data
    for again in (callbacks, copies, described):
        rewind(model, start)
        assert fit(model, *again) == first


@both
def test_mask_distance_uses_the_masks_of_the_model(flavor):
    pruned = prune(callback_battery.make_network(flavor, "sparse", True, "one"), sparsity=0.5)
    pruned.compile("sgd", "sparse_categorical_crossentropy")
    watch = MaskDistance(0.3)
    fit(pruned, watch, epochs=2)
    assert watch.tentative.remaining == round(pruned.masks.remaining * 0.7)
    assert np.all(pruned.masks[name] >= mask for name, mask in watch.tentative.items())


def test_tfmot_s_own_schedule_is_logged_and_not_changed():
    import tf_keras

    from tf_prac.pruning import tfmot

    sparsity = tfmot._tfmot().sparsity.keras
    model = tf_keras.Sequential(
        [tf_keras.layers.InputLayer((6,)), tf_keras.layers.Dense(20), tf_keras.layers.Dense(3)]
    )
    schedule = sparsity.ConstantSparsity(0.5, begin_step=6, frequency=1)
    model = sparsity.prune_low_magnitude(model, pruning_schedule=schedule)
    model.compile("sgd", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    watch = MaskDistance(0.3)
    history = fit(model, sparsity.UpdatePruningStep(), SparsityLogger(), watch)
    assert history["sparsity"][0] == 0
    assert history["sparsity"][-1] == pytest.approx(0.5, abs=0.02)
    assert watch.tentative.sparsity == pytest.approx(1 - 0.5 * 0.7, abs=0.02)


@both
def test_sparsity_is_of_each_layer_too(flavor):
    model = network(flavor)
    masks = random_mask(Masks.ones_like(prunable_weights(model)), 0.3, seed=0)
    model = PracModel(model, masks=masks)
    model.compile("sgd", "sparse_categorical_crossentropy")
    history = fit(model, SparsityLogger(per_layer=True), epochs=1)
    (name,) = masks
    assert history["sparsity"] == history[f"sparsity/{name}"] == [masks.sparsity]


@both
def test_grand_is_the_norm_of_each_sample_s_gradient(flavor):
    model = network(flavor)
    masks = random_mask(Masks.ones_like(prunable_weights(model)), 0.3, seed=0)
    pruned = PracModel(model, masks=masks)
    callback_battery.compiled(pruned, flavor, "sparse", True, "one")
    scores = SampleScores(DATA, "grand")
    history = fit(pruned, scores, epochs=1)
    names = {id(v): n for n, v in pruned.prunable.items()}
    for i in range(0, len(X), 9):
        with tf.GradientTape() as tape:
            loss = -tf.nn.log_softmax(model(X[i : i + 1]))[0, Y[i]]
        total = 0.0
        trainable = model.trainable_variables
        for variable, gradient in zip(trainable, tape.gradient(loss, trainable), strict=True):
            mask = masks.get(names.get(id(variable)), 1)
            total += np.sum((gradient.numpy() * mask) ** 2)
        assert scores.values[i] == pytest.approx(np.sqrt(total), rel=1e-4)
    assert history["grand"] == [pytest.approx(scores.values.mean())]
    order = np.argsort(scores.values)
    assert scores.highest(5).tolist() == sorted(order[-5:])


@halved("flavor, kind", FLAVORS, ["one_hot", "multi_label"])
def test_scores_of_probabilities_are_those_of_their_logits(flavor, kind):
    x, y = callback_battery.data(kind)
    values = {}
    for logits in (True, False):
        model = callback_battery.make_network(flavor, kind, logits, "one")
        callback_battery.compiled(model, flavor, kind, logits, "one")
        for name in ("grand", "loss", "margin"):
            scores = SampleScores((x, y), name)
            scores.set_model(model)
            scores.on_train_begin()
            scores.on_epoch_end(0, {})
            values[name, logits] = scores.values
    for name in ("grand", "loss", "margin"):
        np.testing.assert_allclose(values[name, True], values[name, False], rtol=1e-4, atol=1e-5)


@both
def test_w_k_is_kept_at_every_step_at_which_weights_can_be_read(flavor, tmp_path):
    model = network(flavor)
    expected = [snapshot(model)]
    for number in range(8):
        start = 11 * (number % 4)
        model.train_on_batch(X[start : start + 11], Y[start : start + 11])
        expected.append(snapshot(model))
    points = {1: (("0it", 0), ("6it", 6), ("1.5ep", 6), ("50%", 6), ("2ep", 8))}
    points[3] = (("3it", 3), ("4it", 4), ("1ep", 4), ("8it", 8))
    for at_once, asked in points.items():
        every = [RewindCheckpoint(text, path=tmp_path / f"{k}.npz") for text, k in asked]
        fit(network(flavor, steps=at_once), *every)
        for early, (_, k) in zip(every, asked, strict=True):
            assert early.step == k
            saved = np.load(tmp_path / f"{k}.npz")
            for name, value in early.weights.items():
                np.testing.assert_allclose(value, expected[k][name], atol=precision.rounding(1e-6))
                np.testing.assert_array_equal(saved[name], value)
    for text, nearest in (("2it", "0it or 3it"), ("5it", "4it or 7it"), ("1.5ep", "4it or 7it")):
        with pytest.raises(ArgumentError, match=f"steps_per_execution=3, such as {nearest}"):
            fit(network(flavor, steps=3), RewindCheckpoint(text))
    with pytest.raises(ArgumentError, match="before the end of training \\(12 steps"):
        fit(network(flavor), RewindCheckpoint("12it"))


@both
def test_w_k_of_a_fit_with_an_unknown_number_of_steps(flavor):
    unknown = DATA.batch(11).filter(lambda x, y: True)
    points = {"2ep": 8, "3it": 3, "6it": 6, "0%": 0}
    every = [RewindCheckpoint(text) for text in points]
    model = network(flavor)
    options = {"shuffle": False, "verbose": 0}

    def fit_warns():
        """Keras 3 warns that it has learned the length only now."""
        return pytest.warns() if flavor == "keras" else tf.device(f"{precision.kind()}:0")

    with fit_warns():
        model.fit(unknown, epochs=3, callbacks=every, **options)
    assert [early.step for early in every] == list(points.values())
    resumed = [RewindCheckpoint("2ep"), RewindCheckpoint("3ep")]
    options["epochs"], options["initial_epoch"] = 3, 2
    with fit_warns():
        history = model.fit(unknown, callbacks=resumed, **options).history
    assert [early.step for early in resumed] == [None, None], "the steps before are not known"
    assert all(early.weights.keys() == snapshot(model).keys() for early in resumed)
    assert history["rewind_step"] == [-1]
    for wrong in ("5%", "0.5ep"):
        with pytest.raises(ArgumentError, match="if the number of steps of fit is unknown"):
            model.fit(unknown, callbacks=[RewindCheckpoint(wrong)], shuffle=False, verbose=0)


@both
def test_the_code_of_the_page_about_callbacks_runs(flavor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8")
    keras = importlib.import_module(flavor)
    x = np.pad(X, ((0, 0), (0, 2))).reshape(-1, 2, 4)
    layers = [keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.Dense(10)]
    model = keras.Sequential([keras.layers.InputLayer((2, 4)), *layers])
    names = {
        "x_train": x,
        "y_train": Y,
        "make_model": lambda: keras.models.clone_model(model),
    }
    for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        code = block.replace("import keras\n", f"import {flavor} as keras\n")
        code = re.sub(r"epochs=\d", "verbose=0, epochs=3", code)
        exec(compile(code, "docs/callbacks.md", "exec"), names)
    assert (names["recorder"].stats.presentations == 3).all()
    assert names["logs"]["sparsity"] == names["masked"].masks.sparsity > 0.4
    assert names["w_k"].step == 1 and len(names["hard"]) == len(X) // 4
    assert names["logger"].stats.presentations.tolist() == [3] * len(X)


def test_mask_distance_without_a_keras_model():
    watch = MaskDistance(0.5, eps=0.5, window=1, armed=True)
    weights = np.arange(4.0)

    class Model:
        stop_training = False

        masked_weights = MaskedWeights({"a": tf.Variable(weights)})

    watch.set_model(Model())
    watch.on_train_begin()
    distances = []
    for values in (weights, -weights[::-1], weights, weights):
        Model.masked_weights.variables["a"].assign(values)
        logs = {}
        watch.on_epoch_end(len(distances), logs)
        distances.append(logs["mask_distance"])
    assert distances == [np.inf, 1.0, 1.0, 0.0]
    assert watch.stopped and watch.model.stop_training


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        DATA,
        DATA.batch(5),
        DATA.batch(5, drop_remainder=False).map(lambda x, y: (x, y, tf.ones_like(y))),
        with_sample_ids(DATA),
        with_sample_ids(DATA).shuffle(100).batch(7),
    ],
)
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_data_pass_maps_every_sample_once(data, batch_size):
    ids, (sums, y) = DataPass(data, lambda x, y, *_: (tf.reduce_sum(x, -1), y), batch_size)()
    assert ids.dtype == np.int64 and ids.tolist() == list(range(len(X)))
    np.testing.assert_allclose(sums, X.sum(-1), rtol=precision.rounding(1e-6))
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DATA.repeat(), r"an infinite dataset.*Call repeat\(\) later, or not at all"),
        (X, "data: received 'ndarray'"),
        (
            DATA.map(lambda x, y: x),
            r"elements float32\(6,\).* of \(x, y\) or .*Elements have no labels",
        ),
    ],
)
def test_data_that_cannot_be_iterated_is_refused(data, message):
    with pytest.raises(ArgumentError, match=message):
        DataPass(data, lambda x, y: y)


def test_a_data_set_without_samples_is_refused():
    with pytest.raises(ArgumentError, match="no samples"):
        DataPass(DATA.take(0), lambda x, y: y)()


@pytest.mark.parametrize(
    ("loss", "y", "y_pred", "kind", "logits"),
    [
        ("sparse_categorical_crossentropy", [0], [[0.5, 0.5]], "sparse", False),
        ("categorical_crossentropy", [[0, 1]], [[0.5, 0.5]], "one_hot", False),
        ("binary_crossentropy", [[1]], [[0.5]], "binary", False),
        ("bce", [1], [0.5], "binary", False),
        ("BinaryCrossentropy", [[1, 0]], [[0.5, 0.5]], "multi_label", False),
        ("mse", [[1.0]], [[0.5]], "regression", True),
        (lambda y, y_pred: 0.0, [[1]], [[0.5]], "binary", None),
        (lambda y, y_pred, from_logits=True: 0.0, [1], [[0.5, 1]], "sparse", True),
        (None, [[1], [0]], [[0.5, 1], [1, 2]], "sparse", None),
    ],
)
def test_the_kind_of_targets_is_inferred_from_the_loss(loss, y, y_pred, kind, logits):
    class Model:
        pass

    model = Model()
    model.loss = loss
    answers = Targets().read(model, tf.constant(y), tf.constant(y_pred, tf.float32))
    assert (answers.kind, answers.from_logits) == (kind, logits)


@both
def test_from_logits_is_inferred_from_every_loss_of_keras(flavor):
    losses = importlib.import_module(flavor).losses
    for name in ("SparseCategorical", "Categorical", "Binary", "BinaryFocal", "CategoricalFocal"):
        cls = getattr(losses, f"{name}Crossentropy")
        for logits in (True, False):
            model = type("Model", (), {"loss": cls(from_logits=logits)})
            outputs = tf.constant([[2.0, -1.0]] if logits else [[1.0, 0.0]])
            predictions = Targets().read(model, tf.constant([[1.0, 0.0]]), outputs)
            assert predictions.from_logits is logits
    model = type("Model", (), {"loss": staticmethod(losses.binary_crossentropy)})
    assert Targets().read(model, tf.constant([1]), tf.constant([[1.0]])).from_logits is False


@both
def test_an_output_is_selected_by_name_or_index_in_any_nesting(flavor):
    keras = importlib.import_module(flavor)
    inputs = keras.Input((6,))
    a = keras.layers.Dense(3, name="a")(inputs)
    b = keras.layers.Dense(1, name="b")(inputs)
    cross = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for outputs, targets, losses in (
        ([b, a], (X[:, :1], Y), ["mse", cross]),
        ([b, a], {"a": Y, "b": X[:, :1]}, {"a": cross, "b": "mse"}),
        ({"a": a, "b": b}, {"a": Y, "b": X[:, :1]}, {"a": cross, "b": "mse"}),
    ):
        plain = keras.Model(inputs, outputs)
        index = plain.output_names.index("a")
        tables = []
        for output in ("a", index)[: 1 if isinstance(outputs, dict) else 2]:
            rewind(plain, {n: np.full_like(v, 0.1) for n, v in snapshot(plain).items()})
            model = PracModel(
                plain,
                num_samples=len(X),
                targets=Targets(output=output),
                pruning=PruningConfig(prune_last_dense=True),
            )
            model.compile("sgd", losses)
            data = with_sample_ids(tf.data.Dataset.from_tensor_slices((X, targets))).batch(9)
            model.fit(data, epochs=2, shuffle=False, verbose=0)
            tables.append(model.forgetting.stats.table)
        np.testing.assert_array_equal(tables[0], tables[-1])
        assert tables[0][:, 2].any()
        for wrong in (None, "c", 2):
            with pytest.raises(ArgumentError, match="output: received .*one of .*Choose"):
                PracModel(
                    plain,
                    num_samples=9,
                    targets=Targets(output=wrong),
                    pruning=PruningConfig(prune_last_dense=True),
                )


def test_bad_options_are_refused():
    for build, message in (
        (lambda: Targets("dense"), "kind: received 'dense'"),
        (lambda: Targets(from_logits=1), "from_logits"),
        (lambda: Targets(output=1.5), "output: received 1.5"),
        (lambda: SampleScores(DATA, "accuracy"), "score: received 'accuracy'"),
        (lambda: SampleScores(DATA, every=0), "every"),
        (lambda: SparsityLogger(per_layer="yes"), "per_layer"),
        (lambda: RewindCheckpoint("soon"), "rewind: received 'soon'"),
        (lambda: RewindCheckpoint().weights, "weights: received None.*Train 2%"),
        (lambda: MaskDistance(0.3, window=0), "window: received 0"),
        (lambda: MaskDistance(0.3, min_epochs=-1), "min_epochs: received -1"),
        (lambda: ForgettingLogger().stats, "Call fit first"),
        (lambda: SampleScores(DATA).values, "Call fit first"),
    ):
        with pytest.raises(ArgumentError, match=message):
            build()
    unsure = Targets("binary").read(None, tf.constant([1]), tf.constant([[0.3]]))
    with pytest.raises(ArgumentError, match="from_logits: received None.*Targets"):
        unsure.correct()


@both
def test_a_model_that_does_not_record_is_refused_with_both_remedies(flavor):
    for model in (network(flavor), PracModel(network(flavor))):
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(
            ArgumentError, match="Wrap yours: PracModel.*ForgettingLogger\\(data\\)"
        ):
            fit(model, ForgettingLogger())


@halved("flavor, steps", FLAVORS, [1, 3])
def test_more_samples_than_num_samples_are_an_error_that_names_it(flavor, steps):
    model = PracModel(network(flavor), num_samples=len(X) - 1)
    callback_battery.compiled(model, flavor, "sparse", True, "one", steps)
    with pytest.raises(ArgumentError, match="num_samples: received 43; .*above every sample id"):
        model.fit(with_sample_ids(DATA).batch(11), shuffle=False, verbose=0)
    model.forgetting.restart_checks()
    assert (model.forgetting.stats.presentations == 1).all()


@both
def test_nothing_to_prune_is_an_error_before_training(flavor):
    keras = importlib.import_module(flavor)
    model = keras.Sequential([keras.layers.InputLayer((6,)), keras.layers.Dense(3)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    for callback in (MaskDistance(), SparsityLogger()):
        with pytest.raises(ArgumentError, match="the last dense layer"):
            fit(model, callback)
