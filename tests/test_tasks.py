"""Correct, disagree, metric and scores of each task, against a slow reference in plain Python."""

from __future__ import annotations

import functools
import importlib
import math
import warnings

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tf_prac import ForgettingLogger, PracModel, SampleScores, Targets, TrainingRecipe
from tf_prac.data.selection import choose
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError, DataError
from tf_prac.keras_api import FLAVORS
from tf_prac.registry import TASKS
from tf_prac.search.scoring import few_of_each_class
from tf_prac.tasks import Binary, MultiLabel, OneHot, Outputs, Regression, Sparse, Task
from tf_prac.tasks.infer import as_task, infer
from tf_prac.training.scores import parts_of, score_of
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
IGNORED = 9


class Case:
    """A task with a reference: what one position predicts, its target, and whether they are equal.

    `predict` and `target` take the outputs and labels of one position as Python numbers.
    """

    def __init__(self, task, make_labels, units, predict, target=None, equal=None):
        self.task, self.make_labels, self.units, self.predict = task, make_labels, units, predict
        self.target = target or (lambda label: label)
        self.equal = equal or (lambda a, b: a == b)


def highest(values):
    return list(values).index(max(values))


def above(limit):
    return lambda values: [value > limit for value in values]


def is_one(values):
    return [value > 0.5 for value in values]


def near(bound):
    return lambda a, b: all(
        abs(np.float32(x) - np.float32(y)) <= bound for x, y in zip(a, b, strict=True)
    )


def classes(generator, shape):
    return generator.integers(0, 3, shape)


def one_hot(generator, shape):
    return np.eye(3)[classes(generator, shape)]


def with_ignored(generator, shape):
    return np.where(generator.random(shape) < 0.4, IGNORED, classes(generator, shape))


def bits(count):
    return lambda generator, shape: generator.integers(0, 2, (*shape, count))


CASES = {
    "sparse": Case(Sparse(from_logits=True), classes, 3, highest),
    "ignored": Case(Sparse(from_logits=False, ignore_class=IGNORED), with_ignored, 3, highest),
    "two thirds": Case(
        Sparse(from_logits=True, ignore_class=IGNORED, fraction=2 / 3), with_ignored, 3, highest
    ),
    "one_hot": Case(OneHot(from_logits=True), one_hot, 3, highest, highest),
    "smoothed": Case(
        OneHot(from_logits=True), lambda g, s: 0.9 * one_hot(g, s) + 0.1 / 3, 3, highest, highest
    ),
    "binary logits": Case(Binary(from_logits=True), bits(1), 1, above(0), is_one),
    "binary": Case(Binary(from_logits=False), bits(1), 1, above(0.5), is_one),
    "multi_label": Case(MultiLabel(from_logits=True), bits(4), 4, above(0), is_one),
    "half": Case(MultiLabel(from_logits=False, fraction=0.5), bits(4), 4, above(0.5), is_one),
    "regression": Case(
        Regression(bound=0.6), lambda g, s: g.normal(size=(*s, 2)), 2, list, list, near(0.6)
    ),
}
POSITIONS = [(), (4,), (2, 3)]


def one_by_one(case, labels, outputs, weight, mask):
    """Whether each prediction of each sample is correct, and whether it counts: lists of lists."""
    rows = []
    for index in range(len(outputs)):
        row = []
        for position in np.ndindex(outputs.shape[1:-1]):
            label, output = labels[index][position], outputs[index][position]
            counts = bool(weight is None or weight[index] > 0)
            counts &= mask is None or bool(mask[index][position])
            if isinstance(case.task, Sparse) and case.task.ignore_class is not None:
                counts &= int(label) != case.task.ignore_class
            row += predictions(case, case.predict(output), case.target(label), counts)
        rows.append(row)
    return rows


def predictions(case, first, second, counts):
    if isinstance(first, list):  # several numbers or labels at a position
        return [(case.equal([a], [b]), counts) for a, b in zip(first, second, strict=True)]
    return [(case.equal(first, second), counts)]


def enough(row, fraction):
    counted = [same for same, counts in row if counts]
    return counted.count(False) <= (1 - fraction) * len(counted) + 1e-9


@pytest.mark.parametrize("name", CASES)
@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from(POSITIONS),
    parts=st.tuples(st.booleans(), st.booleans()),
)
def test_correct_disagree_and_metric_are_those_of_the_reference(name, seed, shape, parts):
    case, generator = CASES[name], np.random.default_rng(seed)
    labels = case.make_labels(generator, (6, *shape))
    outputs, others = (
        generator.normal(size=(6, *shape, case.units)).astype(np.float32) for _ in "ab"
    )
    if case.task.from_logits is False:
        outputs, others = (1 / (1 + np.exp(-each)) for each in (outputs, others))
    weight = generator.integers(0, 3, 6).astype(np.float32) if parts[0] else None
    mask = generator.random((6, *shape)) < 0.7 if parts[1] and shape else None
    tensors = [tf.constant(outputs, tf.float32), tf.constant(others, tf.float32)]
    if mask is not None:
        for tensor in tensors:
            tensor._keras_mask = tf.constant(mask)
    rows = one_by_one(case, labels, outputs, weight, mask)
    arguments = tf.constant(labels), tensors[0], None if weight is None else tf.constant(weight)

    expected = [enough(row, case.task.fraction) for row in rows]
    assert case.task.correct(*arguments).numpy().tolist() == expected

    swapped = [
        [
            each
            for position in np.ndindex(outputs.shape[1:-1])
            for each in predictions(
                case, *(case.predict(of[index][position]) for of in (outputs, others)), True
            )
        ]
        for index in range(6)
    ]
    counts = [[each[1] for each in row] for row in rows]
    expected = [
        not enough(
            [(same, count) for (same, _), count in zip(row, kept, strict=True)], case.task.fraction
        )
        for row, kept in zip(swapped, counts, strict=True)
    ]
    first, second = (case.task.flat_decisions(each) for each in tensors)
    found = case.task.disagree(first, second, case.task.judged(*arguments))
    assert found.numpy().tolist() == expected

    values, weights = case.task.metric_values(*arguments)
    weights = np.ones(values.shape) if weights is None else weights.numpy()
    judged = [each for row in rows for each in row if each[1]]
    if judged and case.task.metric == "accuracy":
        mean = np.mean([same for same, _ in judged])
        assert (values * weights).numpy().sum() / weights.sum() == pytest.approx(mean, abs=1e-6)


@both
def test_what_the_loss_ignores_does_not_change_forgetting_or_scores(flavor):
    """Ignored labels, positions and samples may have any value."""
    keras = importlib.import_module(flavor)
    generator = np.random.default_rng(0)
    x = generator.integers(1, 9, (20, 6))
    x[:, 4:] = 0  # masked by the embedding
    labels = x % 3
    labels[:, 0] = 77  # ignored
    weights = np.ones((20, 6), np.float32)
    weights[3] = 0
    changed = labels.copy()
    changed[:, 4:], changed[3, 1:] = 1, 0

    def run(y):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        network = keras.Sequential([
            keras.Input((6,)), layers.Embedding(10, 6, mask_zero=True),
            layers.Dense(5, activation="tanh"), layers.Dense(3),
        ])  # fmt: skip
        model = PracModel(network, num_samples=20)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=77)
        model.compile(keras.optimizers.Adam(0.05), loss, jit_compile=False)
        inputs = {"inputs": x, "sample_id": np.arange(20)}
        data = tf.data.Dataset.from_tensor_slices((inputs, y, weights))
        callbacks = [SampleScores(data, score) for score in ("el2n", "loss", "margin", "grand")]
        own = ForgettingLogger(data)
        model.fit(data.batch(5), epochs=2, shuffle=False, verbose=0, callbacks=[*callbacks, own])
        return [model.forgetting.stats.table, own.stats.table, *(each.values for each in callbacks)]

    for first, second in zip(run(labels), run(changed), strict=True):
        np.testing.assert_array_equal(first, second)
        if first.dtype == np.int32:
            assert first[3, 3] == 0 and first[3, 2] == 1  # never forgotten, not critical
        else:
            assert first[3] == 0


@both
def test_smoothed_labels_change_the_loss_alone(flavor):
    """Forgetting and the task of a run are those of labels that are not smoothed."""
    keras = importlib.import_module(flavor)
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    samples = ArraySamples(x, np.arange(40) % 4)
    weights, stats = [], []
    for smoothing in (0.0, 0.2):
        keras.utils.set_random_seed(0)
        network = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(4)]
        )
        trainer = Trainer(
            network, TrainingRecipe(batch_size=40, label_smoothing=smoothing), samples
        )
        assert trainer.identity() == {} and trainer.task == Sparse(from_logits=True)
        trainer.model.fit(
            {"inputs": x, "sample_id": np.arange(40)}, samples.labels, batch_size=40, verbose=0
        )
        weights.append(network.get_weights()[0])
        stats.append(trainer.model.forgetting.stats.table)
    assert (weights[0] != weights[1]).any()
    np.testing.assert_array_equal(*stats)  # of the first step, from the same weights
    labels, outputs = tf.constant(samples.labels), tf.constant(network.predict(x, verbose=0))
    loss = Sparse(from_logits=True).smoothed(0.2).make_loss(keras)
    expected = -tf.reduce_sum((0.8 * np.eye(4)[labels] + 0.05) * tf.nn.log_softmax(outputs), -1)
    for each in (labels, labels[:, None]):
        np.testing.assert_allclose(loss(each, outputs), expected, rtol=1e-5)
    assert infer(loss, labels, outputs) == Sparse(from_logits=True)


def test_a_compiled_model_keeps_its_loss():
    keras = importlib.import_module("keras")
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(4)])
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    samples = ArraySamples(np.ones((8, 6), np.float32), np.arange(8) % 4)
    with pytest.raises(
        ArgumentError, match=r"label_smoothing: received 0\.1; allowed: 0 for a comp"
    ):
        Trainer(network, TrainingRecipe(label_smoothing=0.1), samples)


@both
def test_regression_without_a_bound_is_refused_before_training(flavor):
    keras = importlib.import_module(flavor)
    x, y = np.ones((8, 3), np.float32), np.ones(8, np.float32)
    for loss in ("mse", "mean_absolute_error", keras.losses.Huber()):
        network = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)]
        )
        model = PracModel(network, num_samples=8)
        for each, callbacks in ((model, []), (network, [ForgettingLogger((x, y))])):
            each.compile("sgd", loss)
            inputs = {"inputs": x, "sample_id": np.arange(8)} if each is model else x
            before = [w.copy() for w in network.get_weights()]
            with pytest.raises(ArgumentError, match=r"without an error bound.*bound=.*quantile"):
                each.fit(inputs, y, verbose=0, callbacks=callbacks)
            assert all(np.array_equal(*w) for w in zip(before, network.get_weights(), strict=True))
    logger = ForgettingLogger((x, y), targets=Targets(Regression(bound=0.5)))
    score = SampleScores((x, y), "el2n")
    network.fit(x, y, verbose=0, callbacks=[logger, score])
    errors = np.abs(np.asarray(network(x))[:, 0] - y)
    assert (logger.stats.table[:, 1] == (errors <= 0.5)).all()
    np.testing.assert_allclose(score.values, errors, rtol=1e-5)
    again = ForgettingLogger.from_config(logger.get_config(), data=(x, y))
    assert again.targets == logger.targets


def test_the_bound_of_a_quantile():
    labels = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0], [10.0, 0.0]])
    task = Regression(quantile=0.5).resolved(labels)
    distances = np.abs(labels - np.median(labels, 0))
    assert task.bound == tuple(np.quantile(distances, 0.5, axis=0)) and task.quantile is None
    with pytest.raises(ArgumentError, match="without the training labels"):
        Regression(quantile=0.5).correct(tf.constant([1.0]), tf.constant([1.0]))


def test_several_outputs_all_any_or_one():
    labels = {"a": tf.constant([0, 1, 0, 1]), "b": tf.constant([[0.0], [0.0], [1.0], [1.0]])}
    outputs = [
        tf.constant([[2.0, 1], [1, 2], [1, 2], [2, 1]]),
        tf.constant([[-1.0], [1], [1], [-1]]),
    ]
    tasks = {"a": Sparse(from_logits=True), "b": Binary(from_logits=True)}
    expected = {"a": [1, 1, 0, 0], "b": [1, 0, 1, 0], "all": [1, 0, 0, 0], "any": [1, 1, 1, 0]}
    for judge, correct in expected.items():
        task = Outputs(tasks=tasks, judge=judge)
        assert task.correct(labels, outputs).numpy().tolist() == [bool(each) for each in correct]
        first = task.flat_decisions(outputs)
        second = task.flat_decisions([outputs[0][:, ::-1], outputs[1]])
        disagree = task.disagree(first, second, task.judged(labels, outputs)).numpy()
        assert disagree.all() == (judge in ("a", "all")) and disagree.any() == disagree.all()
        values, _ = task.metric_values(labels, outputs)
        assert np.mean(values) == np.mean(correct)
        assert as_task(task.to_json()) == task
    with pytest.raises(
        ArgumentError, match="judge: received 'c'; allowed: all, any, or one of a, b"
    ):
        Outputs(tasks=tasks, judge="c")


@pytest.mark.parametrize(
    "task", [Sparse(from_logits=True), MultiLabel(from_logits=True), Regression()]
)
def test_scores_of_a_task(task):
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(7, 4)).astype(np.float32)
    labels = {
        "sparse": generator.integers(0, 4, 7),
        "multi_label": generator.integers(0, 2, (7, 4)),
    }
    y = labels.get(task.name, generator.normal(size=(7, 4)))
    for score in ("el2n", "loss", "entropy", "margin"):
        if task.name == "regression" and score in ("entropy", "margin"):
            with pytest.raises(ArgumentError, match=f"{score} needs class probabilities"):
                parts_of(score, task, y, outputs)
            continue
        parts = tf.nest.map_structure(np.asarray, parts_of(score, task, tf.constant(y), outputs))
        found = score_of(score, parts)
        for index in range(7):
            assert found[index] == pytest.approx(
                slow_score(task, score, y[index], outputs[index]), rel=1e-4
            )
    losses = task.losses(tf.constant(y), tf.constant(outputs)).numpy()
    for index in range(7):
        assert losses[index] == pytest.approx(
            slow_score(task, "loss", y[index], outputs[index]), rel=1e-4
        )


@pytest.mark.parametrize(
    ("task", "classes"),
    [(Sparse(from_logits=True), 3), (MultiLabel(from_logits=True), 2), (Regression(), 2)],
    ids=lambda value: getattr(value, "name", value),
)
def test_sample_weights_multiply_the_losses_of_samples_and_positions(task, classes):
    generator = np.random.default_rng(0)
    outputs = tf.constant(generator.normal(size=(4, 5, classes)), tf.float32)
    labels = generator.integers(0, classes, (4, 5, *([] if classes == 3 else [classes])))
    each = np.array([  # the losses of positions, one by one
        [task.losses(labels[i : i + 1, j : j + 1], outputs[i : i + 1, j : j + 1]) for j in range(5)]
        for i in range(4)
    ])[..., 0]  # fmt: skip
    for shape in ((4,), (4, 1), (4, 5)):
        weights = generator.integers(0, 3, shape).astype(np.float32)
        found = task.weighted_losses(labels, outputs, weights)
        expected = (each * weights.reshape(4, -1)).sum(1)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        if weights.size == 4:  # a task of a user, which has only `losses`
            np.testing.assert_allclose(Task.weighted_losses(task, labels, outputs, weights), found)
            both = Outputs(tasks={"a": task, "b": task})
            pair = {"a": labels, "b": labels}, {"a": outputs, "b": outputs}
            np.testing.assert_allclose(both.weighted_losses(*pair, weights), 2 * found)
    np.testing.assert_array_equal(
        task.weighted_losses(labels, outputs), task.losses(labels, outputs)
    )


def slow_score(task, score, label, outputs):
    if task.name == "regression":
        squares = sum((float(a) - float(b)) ** 2 for a, b in zip(outputs, label, strict=True))
        return math.sqrt(squares) if score == "el2n" else squares
    if task.name == "sparse":
        exponents = [math.exp(value) for value in outputs]
        rows = [([value / sum(exponents) for value in exponents], int(label))]
    else:
        chances = [1 / (1 + math.exp(-value)) for value in outputs]
        rows = [([1 - p, p], int(wanted)) for p, wanted in zip(chances, label, strict=True)]
    each = []
    for p, right in rows:
        each.append({
            "el2n": math.sqrt(sum((q - (n == right)) ** 2 for n, q in enumerate(p))),
            "loss": -math.log(p[right]),
            "entropy": -sum(q * math.log(q) for q in p),
            "margin": 1 - (sorted(p)[-1] - sorted(p)[-2]),
        }[score])  # fmt: skip
    if score == "el2n":
        return math.sqrt(sum(value**2 for value in each))
    return max(each) if score == "margin" else sum(each)


def ending(keras, end):
    """A model of three classes, or of one unit for "sigmoid" and "unit"."""
    layers, (name, _, last) = keras.layers, end.partition(", ")
    units = 1 if name in ("sigmoid", "unit") else 3
    own = name if name in ("softmax", "sigmoid") else None
    network = [keras.Input((6,)), layers.Dense(8), layers.Dense(units, activation=own)]
    network += [layers.Softmax()] if name == "layer" else []
    network += [layers.Activation("softmax")] if name == "activation" else []
    network += [layers.Reshape((units,)), layers.Dropout(0.1)] if last == "reshaped" else []
    network += [layers.Rescaling(1.0)] if last == "rescaled" else []  # its activation is not known
    return keras.Sequential(network)


NO_LOGITS = "received; allowed: probabilities, because of from_logits=False. Set from_logits=True"
SOFTMAX = "probabilities of a softmax received; allowed: logits, because of from_logits=True"
SIGMOID = SOFTMAX.replace("softmax", "sigmoid")
ENDS = [
    # end of the model, from_logits, warning of a search, which sees outputs, and of a traced `fit`
    ("linear", False, NO_LOGITS, NO_LOGITS),
    ("linear, reshaped", False, NO_LOGITS, NO_LOGITS),
    ("linear, rescaled", False, NO_LOGITS, None),
    ("linear", True, None, None),
    ("unit", False, NO_LOGITS, NO_LOGITS),
    ("unit", True, None, None),
    ("softmax", True, SOFTMAX, SOFTMAX),
    ("softmax", False, None, None),
    ("softmax, reshaped", True, SOFTMAX, SOFTMAX),
    ("softmax, rescaled", True, "rows that sum to 1 received; allowed: logits", None),
    ("layer", True, SOFTMAX, SOFTMAX),
    ("layer", False, None, None),
    ("activation", True, SOFTMAX, SOFTMAX),
    ("sigmoid", True, SIGMOID, SIGMOID),
    ("sigmoid", False, None, None),
]


def warnings_of(call):
    """Returns the warnings about the outputs of the model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    messages = {str(each.message) for each in caught}
    return [each for each in messages if each.startswith("outputs of the model: ")]


@both
@pytest.mark.parametrize(("end", "from_logits", "of_search", "of_fit"), ENDS)
def test_logits_and_probabilities_are_not_mistaken(flavor, end, from_logits, of_search, of_fit):
    keras = importlib.import_module(flavor)
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32) * 9
    y = np.arange(20) % 2
    samples = ArraySamples(x, y)
    network = ending(keras, end)
    task = (Binary if network.output_shape[-1] == 1 else Sparse)(from_logits=from_logits)
    compiled = ending(keras, end)
    compiled.compile("sgd", task.make_loss(keras))

    def traced(model, targets):
        return tf.function(lambda: targets.read(model, y, model(x)).correct())

    for call, expected in (
        (lambda: Trainer(compiled, TrainingRecipe(), samples), of_search),
        (lambda: Trainer(network, TrainingRecipe(), samples, task=task), of_search),
        (traced(compiled, Targets()), of_fit),
        (traced(network, Targets(task)), of_fit),
    ):
        messages = warnings_of(call)
        assert len(messages) == (expected is not None)
        assert expected is None or expected in messages[0]


INFERRED = [
    # end of the model, scale of its inputs, from_logits; None: it cannot be inferred
    ("unit", 0, True),
    ("unit, reshaped", 0, True),
    ("unit, rescaled", 9, True),
    ("unit, rescaled", 0, None),
    ("sigmoid", 9, False),
    ("sigmoid, reshaped", 9, False),
    ("sigmoid, rescaled", 9, None),
    ("linear, rescaled", 0, True),
    ("softmax, rescaled", 9, False),
]


@both
@pytest.mark.parametrize(("end", "scale", "from_logits"), INFERRED)
def test_outputs_in_0_1_do_not_show_whether_they_are_logits(flavor, end, scale, from_logits):
    keras = importlib.import_module(flavor)
    x = scale * np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    samples, network = ArraySamples(x, np.arange(20) % 2), ending(keras, end)
    if from_logits is not None:
        assert Trainer(network, TrainingRecipe(), samples).task.from_logits is from_logits
        return
    with pytest.raises(ArgumentError, match=r"from_logits: .*Set it: task=Binary\(from_logits="):
        Trainer(network, TrainingRecipe(), samples)
    network.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    assert Trainer(network, TrainingRecipe(), samples).task.from_logits is True


@both
@pytest.mark.parametrize("ignored", [255, -1, 2**20])
def test_ignored_labels_are_no_class(flavor, ignored):
    """They need no output, have no class weight, and are no class of scores and subsets."""
    keras = importlib.import_module(flavor)
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    y = np.where(np.arange(20) % 4 == 3, ignored, np.arange(20) % 4)
    task, samples = Sparse(ignore_class=ignored), ArraySamples(x, y)
    classes = task.classes(y)
    assert set(classes) == {-1, 0, 1, 2} and (classes == -1).sum() == 5
    weights = {0: 1.0, 1: 2.0, 2: 1.0}
    trainer = Trainer(
        ending(keras, "linear"), TrainingRecipe(), samples, task=task, class_weight=weights
    )
    assert trainer.samples.weights.tolist() == [2.0 if each == 1 else 1.0 for each in classes]
    chosen = few_of_each_class(Split(samples, np.arange(20)), classes, 2, seed=0)
    assert np.bincount(classes[chosen]).tolist() == [2, 2, 2]
    chosen = choose(np.arange(20), 6, seed=0, labels=classes)
    assert np.bincount(classes[chosen]).tolist() == [2, 2, 2]
    assert len(choose(np.arange(20), 20, seed=0, labels=classes)) == 15
    with pytest.raises(ArgumentError, match="3 outputs'; allowed: one for each of the 4 classes"):
        Trainer(ending(keras, "linear"), TrainingRecipe(), ArraySamples(x, y + (y == 2)), task=task)


def test_each_class_of_positions_and_of_several_outputs_has_an_output():
    labels, outputs = np.array([[0, 3], [1, 0]], np.uint8), tf.zeros((2, 2, 3))
    both_labels, both_outputs = {"a": labels, "b": labels[:, 0]}, {"a": outputs, "b": outputs[0]}
    task = Outputs(tasks={"a": Sparse(), "b": Sparse()})
    for each, y, y_pred in ((Sparse(), labels, outputs), (task, both_labels, both_outputs)):
        with pytest.raises(ArgumentError, match="3 outputs'; allowed: one for each of the 4 clas"):
            each.check_classes(y, y_pred)
    Sparse(ignore_class=3).check_classes(labels, outputs)


REGRESSION_ERRORS = [
    # bound, labels and outputs of a sample, message
    ((1.0, 2.0), 3, 3, r"bound: received \(1.0, 2.0\); allowed: a number, or 3: one for each outp"),
    ((1.0, 2.0, 3.0), 2, 2, "bound: .*a number, or 2"),
    (1.0, 2, 3, "model: received '3 outputs'; allowed: 2, as the labels"),
]


@pytest.mark.parametrize(("bound", "labels", "outputs", "message"), REGRESSION_ERRORS)
def test_bounds_are_those_of_the_outputs(bound, labels, outputs, message):
    with pytest.raises(ArgumentError, match=message):
        Regression(bound=bound).check_outputs(np.ones((2, labels)), np.ones((2, outputs)))
    for good in (1.0, (1.0,), (1.0, 2.0)):
        Regression(bound=good).check_outputs(np.ones((2, 2)), np.ones((2, 2)))


@pytest.mark.parametrize("bound", [np.ones((1, 2)), [[1.0]], ["a"], [None], (), np.array(1.0)])
def test_a_bound_is_a_number_or_one_for_each_output(bound):
    with pytest.raises(ArgumentError, match="bound: received .*a number, or one for each output"):
        Regression(bound=bound)


def test_a_quantile_at_which_nothing_may_differ_is_refused():
    """Half of the labels are 0, their median; a quarter of the distances are, too."""
    labels = np.array([[0.0, 1], [0, 2], [0, 3], [1, 4], [2, 5]])
    with pytest.raises(ArgumentError, match="quantile: .* 60% of the labels of output 0 are equal"):
        Regression(quantile=0.25).resolved(labels)
    assert Regression(quantile=0.8).resolved(labels).bound[0] > 0


@both
def test_training_with_a_loss_of_other_outputs_warns(flavor):
    keras = importlib.import_module(flavor)
    x, y = np.ones((8, 6), np.float32), np.arange(8) % 2
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    for make, callbacks in (
        (lambda network: PracModel(network, num_samples=8), []),
        (lambda network: network, [ForgettingLogger((x, y))]),
    ):
        model = make(ending(keras, "sigmoid"))
        model.compile("sgd", loss)
        fit = functools.partial(model.fit, x, y, verbose=0, callbacks=callbacks)
        (message,) = warnings_of(fit)
        assert SIGMOID in message


@both
def test_the_task_of_each_loss(flavor):
    losses = importlib.import_module(flavor).losses
    ints, floats = np.array([0, 1]), np.array([[0.0, 1.0], [1.0, 0.0]])
    one, two = tf.zeros([2, 1]), tf.zeros([2, 2])
    for loss, labels, outputs, expected in (
        (losses.SparseCategoricalCrossentropy(ignore_class=3), ints, two,
         Sparse(from_logits=False, ignore_class=3)),
        (losses.CategoricalCrossentropy(from_logits=True), floats, two, OneHot(from_logits=True)),
        (losses.BinaryCrossentropy(from_logits=True), ints, one, Binary(from_logits=True)),
        ("binary_crossentropy", floats, two, MultiLabel(from_logits=False)),
        (losses.Huber(), floats, two, Regression()),
        ("mse", ints, one, Regression()),
        (losses.MeanAbsoluteError(), floats, two, Regression()),
        (None, ints, two, Sparse()),
        (None, ints, one, Binary()),
    ):  # fmt: skip
        assert infer(loss, labels, outputs) == expected
    for loss, labels, outputs in (
        (None, floats, two), (None, floats[:, :1], one), ("hinge", floats, two),
        (losses.CosineSimilarity(), floats, two), (lambda y, p: 0.0, floats, two),
    ):  # fmt: skip
        with pytest.raises(
            ArgumentError, match="task: .*one of sparse, one_hot, binary, multi_label"
        ):
            infer(loss, labels, outputs)
    losses = {"a": "mse", "b": losses.BinaryCrossentropy()}
    task = infer(losses, {"a": floats, "b": ints}, [two, one], ["a", "b"])
    assert task.tasks == {"a": Regression(), "b": Binary(from_logits=False)}
    for labels in (ints, {"a": ints}):
        with pytest.raises(ArgumentError, match="a dictionary of the labels of each output: a, b"):
            infer(losses, labels, [two, one], ["a", "b"])


def test_labels_are_checked_at_the_door():
    for task, labels, message in (
        (Sparse(), np.array([0.5, 1.0]), "float64 of shape .*integer class numbers.*astype"),
        (Sparse(), np.eye(3)[[1, 2]], r"one-hot labels with labels.argmax\(axis=-1\)"),
        (Sparse(), np.array([-1, 2]), r"-1 received.*Sparse\(ignore_class=-1\)"),
        (OneHot(), np.array([[1, 1], [0, 1]]), "rows that sum to 1 to 2.*multi_label"),
        (OneHot(), np.array([1, 2]), "int64 of shape.*task sparse"),
        (Binary(), np.array([-1, 1]), r"from -1 to 1 received.*\(labels \+ 1\) / 2"),
        (MultiLabel(), np.array([[0, 2]]), "from 0 to 2 received; allowed: 0 or 1"),
        (Regression(), np.array([np.nan]), "finite"),
    ):
        with pytest.raises(DataError, match=message):
            task.check_labels(labels)
    for task, labels in (
        (Sparse(ignore_class=-1), np.array([-1, 2])), (Sparse(), np.zeros((2, 3, 3), int)),
        (OneHot(), np.eye(2)), (Binary(), np.array([True, False])), (Regression(), np.array([3])),
    ):  # fmt: skip
        task.check_labels(labels)
    for task, labels, shape in (
        (Sparse(), np.zeros((2, 4), int), (2, 4)), (OneHot(), np.eye(2), (2, 3)),
        (Binary(), np.zeros(2), (2, 3)), (Regression(), np.zeros((2, 2)), (2, 1)),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match="model: received"):
            task.check_outputs(labels, tf.zeros(shape))


def test_bad_options_of_tasks_are_refused():
    for build, message in (
        (lambda: Sparse(fraction=0), "fraction"),
        (lambda: Sparse(from_logits=1), "from_logits"),
        (lambda: OneHot(label_smoothing=1), "label_smoothing"),
        (lambda: Sparse(label_smoothing=-0.1), "label_smoothing"),
        (lambda: Sparse(label_smoothing=0.1, ignore_class=9), "0 with an ignore_class"),
        (lambda: Regression(bound=1).smoothed(0.1), "0 for the task regression"),
        (lambda: Regression(bound=-1), "bound"),
        (lambda: Regression(bound=1, quantile=0.5), "quantile"),
        (lambda: Outputs(tasks={}), "tasks"),
        (lambda: as_task("segmentation"), "task: received 'segmentation'; allowed: one of sparse"),
        (lambda: as_task(3), "task: received 3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            build()


def test_a_task_of_ones_own_is_one_short_class_and_one_line(monkeypatch):
    class Ordinal(Task):
        """Ratings, which are correct within one."""

        def decisions(self, outputs):
            return tf.round(outputs)

        def same(self, first, second):
            return tf.abs(first - tf.cast(second, first.dtype)) <= 1

    monkeypatch.setitem(TASKS._objects, "ordinal", Ordinal)
    task = as_task("ordinal")
    assert task.correct(tf.constant([1, 5]), tf.constant([[1.6], [3.2]])).numpy().tolist() == [
        True,
        False,
    ]
    with pytest.raises(ArgumentError, match="score: received 'the task Ordinal'"):
        parts_of("entropy", task, tf.constant([1]), tf.constant([[1.0]]))
    targets = Targets("ordinal").read(None, tf.constant([1]), tf.constant([[1.6]]))
    assert targets.correct().numpy().tolist() == [True]
