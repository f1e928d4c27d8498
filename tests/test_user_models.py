"""Models as users build them: what pruning, masks, `fit` and searches keep of them."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import (
    ConstantSparsity,
    ForgettingLogger,
    PolynomialDecay,
    PracModel,
    SampleScores,
    TicketSearch,
    TrainingRecipe,
    prunable_weights,
    prune,
    snapshot,
    strip,
    with_sample_ids,
)
from tf_prac.data.source import ArraySamples
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.keras_api.compiled_model import copy_of
from tf_prac.pruning.masks import Masks
from tf_prac.training.masked_weights import get_masks, has_masks
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
Y = np.arange(32) % 3


def mlp(keras, inputs=6):
    layers = [keras.layers.InputLayer((inputs,)), keras.layers.Dense(8, activation="relu")]
    return keras.Sequential([*layers, keras.layers.Dense(3)])


def compiled(model, keras, optimizer="sgd"):
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@both
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_sequential_model_keeps_its_input(flavor, policy):
    keras = importlib.import_module(flavor)
    before = keras.mixed_precision.global_policy() if flavor == "tf_keras" else None
    before = before or keras.config.dtype_policy()
    setter = keras.mixed_precision.set_global_policy
    setter(policy)
    try:
        tokens = keras.Input((4,), dtype="int32", name="tokens")
        layers = [keras.layers.Embedding(5000, 4), keras.layers.Flatten()]
        layers += [keras.layers.Dense(4), keras.layers.Dense(3)]
        model = keras.Sequential([tokens, *layers])
        ids = np.arange(4980, 5000, dtype=np.int32).reshape(5, 4)
        expected = model.predict(ids, verbose=0)
        dense = Masks.ones_like(prunable_weights(model))
        for copy in (pruned := prune(model, masks=dense), strip(pruned)):
            np.testing.assert_array_equal(copy.predict(ids, verbose=0), expected)
            (kept,) = copy.inputs
            assert tf.as_dtype(kept.dtype) == tf.int32 and kept.name.startswith("tokens")
    finally:
        setter(before)


def _nested(keras, kind):
    inner = mlp(keras)
    if kind == "subclass":

        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.inside = inner

            def call(self, x, training=None):
                return self.inside(x)

        inner = Own()
        inner(X[:1])
    inner = prune(inner, sparsity=0.75)
    inputs = keras.Input((6,))
    return inner, keras.Model(inputs, keras.layers.Dense(3)(inner(inputs)))


@both
@pytest.mark.parametrize("kind", ["sequential", "subclass"])
@pytest.mark.parametrize("wrap", [prune, PracModel])
def test_masks_of_a_model_inside_another_are_kept(flavor, kind, wrap):
    keras = importlib.import_module(flavor)
    inner, outer = _nested(keras, kind)
    if wrap is prune and flavor == "tf_keras" and kind == "subclass":
        pytest.skip("TFMOT cannot wrap a functional model that contains a subclassed one")
    assert has_masks(outer)
    kept = inner.masks
    found = get_masks(outer)
    assert found.sparsity > 0.3 and found.size >= kept.size
    model = compiled(wrap(outer), keras)
    assert model.masks.sparsity == found.sparsity
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    zeros = sorted(int((w == 0).sum()) for w in map(np.asarray, prunable_weights(outer).values()))
    assert zeros == sorted(int((~mask).sum()) for mask in found.values())


@both
@pytest.mark.parametrize("kind", ["sequential", "subclass"])
def test_strip_leaves_no_pruned_model_inside_another(flavor, kind):
    keras = importlib.import_module(flavor)
    _, outer = _nested(keras, kind)
    plain = strip(outer)
    assert not any("Pruned" in type(layer).__name__ for layer in plain._flatten_layers())
    np.testing.assert_array_equal(plain(X), outer(X))
    assert {id(w) for w in plain.weights} <= {id(w) for w in outer.weights}, "layers are shared"


@both
def test_a_search_refuses_averages_of_the_optimizer(flavor):
    keras = importlib.import_module(flavor)
    model = compiled(mlp(keras), keras, keras.optimizers.SGD(0.1, use_ema=True))
    with pytest.raises(ArgumentError, match="optimizer with use_ema.*round_schedule='swa'"):
        Trainer(model, TrainingRecipe(), ArraySamples(X, Y))


def test_copies_keep_the_bins_of_discretization():
    import keras

    layer = keras.layers.Discretization(num_bins=4)
    layer.adapt(X[:, :1])
    inputs = keras.Input((1,))
    normalized = keras.layers.Normalization(mean=0.5, variance=2.0)(inputs)
    model = keras.Model(inputs, [layer(inputs), normalized])
    for one, other in zip(model(X[:, :1]), copy_of(model)(X[:, :1]), strict=True):
        np.testing.assert_array_equal(one, other)


SCHEDULES = [  # schedule, steps per execution, final sparsity after 16 steps
    (PolynomialDecay(0.0, 0.75, 0, 8, frequency=1), 1, 0.75),
    (PolynomialDecay(0.0, 0.75, 0, 16, frequency=1), 8, 0.75),
    (ConstantSparsity(0.75, begin_step=10), 16, 0.75),
    (ConstantSparsity(0.75, begin_step=10), 1, 0.75),
]


@both
@pytest.mark.parametrize("wrap", [lambda model: model, PracModel])
@pytest.mark.parametrize(("schedule", "steps", "sparsity"), SCHEDULES)
def test_a_schedule_ends_at_its_sparsity(flavor, wrap, schedule, steps, sparsity):
    keras = importlib.import_module(flavor)
    model = wrap(prune(mlp(keras), schedule=schedule))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for _ in range(2):  # the second optimizer starts at step 0, at a lower sparsity
        model.compile("sgd", loss, steps_per_execution=steps)
        model.fit(X, Y, 8, 4, 0, [])
        assert model.masks.sparsity == pytest.approx(sparsity, abs=0.01)
        weights = [np.asarray(variable) for variable in model.prunable.values()]
        zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)
        assert zeros == pytest.approx(sparsity, abs=0.01)


@both
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")  # by Keras itself
def test_fit_takes_any_data_with_ids(flavor):
    keras = importlib.import_module(flavor)
    batches = with_sample_ids(tf.data.Dataset.from_tensor_slices((X, Y))).shuffle(32).batch(8)
    base = keras.utils.PyDataset if flavor == "keras" else keras.utils.Sequence

    class Batches(base):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            part = slice(8 * index, 8 * index + 8)
            return {"inputs": X[part], "sample_id": np.arange(32)[part]}, Y[part]

    def generator():
        while True:
            yield from batches.as_numpy_iterator()

    for data in (lambda: batches, batches.repeat, Batches, generator):
        model = compiled(PracModel(mlp(keras), num_samples=32), keras)
        model.fit(
            data(), epochs=2, steps_per_epoch=4, verbose=0, callbacks=[log := ForgettingLogger()]
        )
        assert (log.stats.presentations == 2).all()
    model = compiled(PracModel(mlp(keras), num_samples=32), keras)
    with pytest.raises(ArgumentError, match="no sample ids"):
        model.fit(((X[:8], Y[:8]) for _ in range(4)), epochs=1, steps_per_epoch=4, verbose=0)


@both
def test_a_pruned_functional_subclass_keeps_the_names_of_its_outputs(flavor):
    keras = importlib.import_module(flavor)

    class Own(keras.Model):
        pass

    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8)(inputs)
    outputs = [keras.layers.Dense(3, name=name)(hidden) for name in ("left", "right")]
    losses = {
        name: keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for name in ("left", "right")
    }
    model = prune(Own(inputs, outputs), sparsity=0.5)
    model.compile("sgd", losses)
    history = model.fit(X, {"left": Y, "right": Y}, verbose=0).history
    assert {"left_loss", "right_loss"} <= set(history)


@both
def test_the_score_loss_is_not_the_loss_of_the_training(flavor):
    keras = importlib.import_module(flavor)
    model, weights = compiled(mlp(keras), keras), np.full(32, 10.0)
    scores = SampleScores((X, Y), "loss")
    history = model.fit(X, Y, sample_weight=weights, verbose=0, callbacks=[scores]).history
    assert history["sample_loss"] == [pytest.approx(scores.values.mean())]
    assert history["loss"][0] > 5 * history["sample_loss"][0]


@both
def test_mixed_precision_of_several_outputs(flavor, tmp_path):
    keras = importlib.import_module(flavor)

    def model_fn():
        inputs = keras.Input((6,))
        return keras.Model(
            inputs,
            {
                name: keras.layers.Dense(3, dtype="float32", name=name)(
                    keras.layers.Dense(4, name=f"of_{name}")(inputs)
                )
                for name in ("a", "b")
            },
        )

    recipe = TrainingRecipe(epochs=2, batch_size=8, mixed_precision=True, validation_split=0.25)
    search = TicketSearch(model_fn, recipe, directory=tmp_path, verbose=False, retrain="none")
    result = search.run((X, {"a": Y, "b": Y}))
    assert result.tickets[-1].sparsity > 0


def test_the_rewound_learning_rate_counts_steps_of_accumulated_gradients():
    import keras

    model = mlp(keras)
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer = Trainer(model, TrainingRecipe(epochs=4, batch_size=8), ArraySamples(X, Y))
    own = trainer._optimizer
    own.keras._iterations.assign(8)
    own.reset({**snapshot(model), **own.snapshot()}, trainer_budget(trainer))
    assert own._iterations == 8 and int(own.keras.iterations) == 2


def trainer_budget(trainer):
    from tf_prac.training.schedules import Budget

    return Budget.full(trainer.recipe, 32)


@both
@pytest.mark.parametrize("steps", [8, 5])
@pytest.mark.parametrize("weights_from", ["fit", "coverage"])
def test_weights_of_samples_multiply_the_losses_of_their_positions(flavor, steps, weights_from):
    keras = importlib.import_module(flavor)
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(8, steps, 6)), generator.integers(0, 3, (8, steps))
    weights = generator.uniform(0.5, 3, 8).astype(np.float32)
    network = keras.Sequential([keras.Input((steps, 6)), keras.layers.Dense(4)])
    network.add(keras.layers.Dense(3))
    model = compiled(PracModel(network, num_samples=8), keras, keras.optimizers.SGD(0.0))
    options = {"sample_weight": weights} if weights_from == "fit" else {}
    if weights_from == "coverage":
        model.loss_weights_by_id = tf.Variable(weights, trainable=False)
    history = model.fit(x, y, batch_size=8, verbose=0, shuffle=False, **options).history
    losses = -tf.nn.log_softmax(tf.cast(network(x), tf.float32)).numpy()
    expected = np.take_along_axis(losses, y[..., None], -1)[..., 0] * weights[:, None]
    assert history["loss"][0] == pytest.approx(expected.mean(), rel=1e-5)
