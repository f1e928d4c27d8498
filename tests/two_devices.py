"""Two devices train as one does; `test_distribution.py` runs this in a process of its own."""

import collections
import importlib

import numpy as np
import precision
import pytest
import tensorflow as tf

from tf_prac import (
    ForgettingLogger,
    Masks,
    PracModel,
    TicketSearch,
    TrainingRecipe,
    build_model,
    load_dataset,
    prunable_weights,
    random_mask,
    snapshot,
    with_sample_ids,
)
from tf_prac.config import CheckpointConfig, PruningConfig
from tf_prac.data.pipeline import training_batches
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.data.stream import StreamSamples
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.distribution import Distribution
from tf_prac.training.gradients import GradientNorms
from tf_prac.training.loop import StepLoop, as_batches
from tf_prac.training.schedules import Budget
from tf_prac.training.strategies import make_distribution
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
COUNT, TRAINED, RECIPE = 120, 100, TrainingRecipe(epochs=3, batch_size=16, weight_decay=1e-3)


@pytest.fixture(scope="module")
def two():
    """Two devices; a process has one number of them."""
    return make_distribution("mirrored", 2)


def samples():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, COUNT)
    return ArraySamples((generator.normal(size=(COUNT, 6)) + np.eye(3, 6)[y]).astype("f4"), y)


def network(flavor, norm=False):
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden) if norm else hidden
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def trained(flavor, distribution):
    """Two rounds on 100 and 30 samples, with partial batches; predictions and GraNd of some."""
    data = samples()
    with distribution.strategy.scope():
        net = network(flavor)
        trainer = Trainer(net, RECIPE, data, Split(data, np.arange(TRAINED, COUNT)))
        weights, dense = snapshot(net), Masks.ones_like(prunable_weights(net))
        masks = random_mask(dense, 0.4, seed=0)
        results = [
            trainer.train(
                weights, masks, ids, Budget.full(RECIPE, len(ids)), (1,), snapshot_at=(4,)
            )
            for ids in (np.arange(TRAINED), np.arange(5, 35))
        ]
        norms = GradientNorms(
            net, trainer.model.prunable, lambda *y: tf.reduce_mean(trainer.task.losses(*y))
        )
        norms.set_masks(masks)
        split, predictor = Split(data, np.arange(7, 95)), trainer.predictor
        return trainer, results, predictor.classes(split), predictor.gradient_norms(split, norms)


@both
def test_two_devices_train_as_one_does(flavor, two):
    _, one, classes_of_one, norms_of_one = trained(flavor, Distribution())
    trainer, results, classes, norms = trained(flavor, two)
    assert trainer.model.traces <= 4  # twice in each replica where that makes variables
    for a, b in zip(one, results, strict=True):
        for name in a.weights:
            np.testing.assert_allclose(a.weights[name], b.weights[name], atol=1e-5)
            np.testing.assert_allclose(
                a.snapshots[4][name], b.snapshots[4][name], atol=precision.rounding(1e-6)
            )
        assert np.array_equal(a.forgetting.table, b.forgetting.table)
        for before, after in zip(a.history, b.history, strict=True):
            assert before["accuracy"] == pytest.approx(after["accuracy"], abs=1e-6)
            assert before["val_accuracy"] == pytest.approx(after["val_accuracy"], abs=1e-6)
            assert before["val_loss"] == pytest.approx(after["val_loss"], rel=1e-4)
    assert np.array_equal(classes_of_one, classes)
    np.testing.assert_allclose(norms, norms_of_one, atol=1e-4)
    assert len(norms) == 88 and (norms > 1e-3).any()
    presented = np.bincount(np.arange(5, 35), minlength=COUNT) * RECIPE.epochs
    assert np.array_equal(results[1].forgetting.presentations, presented)
    finite_steps, _ = trainer.model.records
    recorded = [finite_steps, *trainer.model.forgetting.variables]
    for variable in [*trainer.model.prunable.values(), *recorded]:
        copies = two.strategy.experimental_local_results(getattr(variable, "_value", variable))
        assert len(copies) == 2 and np.array_equal(copies[0].numpy(), copies[1].numpy())
    for name, mask in trainer.model.masks.items():
        assert not results[1].weights[name][~mask].any()


class Stopped(Exception):
    """Ends a training after a checkpoint."""


class StoppingCheckpoints(Checkpoints):
    """Checkpoints every three steps, the first of which ends the training."""

    def __init__(self, path):
        super().__init__(path, CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=3))

    def save(self, state):
        super().save(state)
        raise Stopped


@both
def test_checkpoints_and_resuming_change_no_bit_of_the_result(flavor, two, tmp_path):
    """Sums of metrics and BatchNorm's averages have another value in each replica."""
    data, ids = samples(), np.arange(TRAINED)
    with two.strategy.scope():
        net = network(flavor, norm=True)
        trainer = Trainer(net, RECIPE, data, Split(data, np.arange(TRAINED, COUNT)))
        weights, dense = snapshot(net), Masks.ones_like(prunable_weights(net))

        def train(checkpoints=None, snapshot_at=(4,)):
            budget = Budget.full(RECIPE, len(ids))
            options = {"snapshot_at": snapshot_at, "checkpoints": checkpoints}
            return trainer.train(weights, dense, ids, budget, (1,), **options)

        undisturbed = train()
        with pytest.raises(Stopped):
            train(StoppingCheckpoints(tmp_path / "resumed"))
        config = CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=8)
        resumed = train(Checkpoints(tmp_path / "resumed", config))
        other_snapshots = train(snapshot_at=(2, 4, 5))
    for result in (resumed, other_snapshots):
        for before, after in zip(undisturbed.history, result.history, strict=True):
            assert {**before, "seconds": 0} == {**after, "seconds": 0}
        pairs = [(undisturbed.weights, result.weights)]
        pairs += [(undisturbed.snapshots[4], result.snapshots[4])]
        for before, after in pairs:
            assert all(np.array_equal(before[name], after[name]) for name in before)
    moving = [v for v in net.non_trainable_variables if "moving" in v.name]
    assert len(moving) == 2
    for variable in moving:  # BatchNorm's averages are the same in each replica
        copies = two.strategy.experimental_local_results(getattr(variable, "_value", variable))
        np.testing.assert_array_equal(copies[0].numpy(), copies[1].numpy())
        assert copies[0].numpy().any()
    assert (undisturbed.forgetting.presentations[:TRAINED] == 3).all()


def _reduces(node):
    """Collective operations, and the sum of integers on one device."""
    kind = node.attr["T"].type
    return "Collective" in node.op or (node.op == "AddN" and kind == tf.int64.as_datatype_enum)


def traced_nodes(flavor, distribution, forgetting=True):
    """The operations of the traced training step."""
    with distribution.strategy.scope():
        net = network(flavor)
        keras = importlib.import_module(flavor)
        model = PracModel(net, num_samples=COUNT if forgetting else None)
        model.compile(
            optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.optimizer.build(net.trainable_variables)
    data, ids = samples(), np.arange(COUNT)
    batches = distribution.batches(
        lambda shard: training_batches(data, ids, batch_size=16, seed=(0,), shard=shard), 16
    )
    loop = StepLoop(model, distribution)
    streamed = as_batches(iter(batches))
    loop.trace(streamed)
    (compiled,) = loop._compiled.values()
    graph = compiled.get_concrete_function(streamed.take(0)[1]).graph.as_graph_def()
    return [node for function in graph.library.function for node in function.node_def]


def collectives(nodes):
    """Returns the number of reductions over replicas by dtype."""
    reductions = [node for node in nodes if _reduces(node)]
    return collections.Counter(tf.as_dtype(node.attr["T"].type).name for node in reductions)


@both
def test_replicas_exchange_gradients_and_statistics_and_nothing_else(flavor, two):
    """Each replica has one reduction of all gradients, and one of integers."""
    nodes = traced_nodes(flavor, two)
    assert collectives(nodes) == {"float32": 2, "int64": 2}
    # Each replica reads the rows of a batch; to read them all would copy them in each step.
    tables = [node.input[0] for node in nodes if node.op == "ResourceGather"]
    assert len(tables) == 2
    assert not [n.name for n in nodes if n.op == "ReadVariableOp" and n.input[0] in tables]
    assert collectives(traced_nodes(flavor, two, forgetting=False)) == {"float32": 2}


def test_statistics_take_16_bytes_a_sample_in_each_replica(two):
    with two.strategy.scope():
        model = PracModel(network("keras"), num_samples=1000)
    size = 0
    for variable in model.forgetting.variables:
        first, second = two.strategy.experimental_local_results(variable)
        assert first.shape == second.shape and tf.int32 not in (first.dtype, second.dtype)
        size += first.shape.num_elements() * first.dtype.size
    assert 16 * 1000 <= size < 16 * 1003  # a row and three numbers more


@both
def test_keras_fit_in_a_scope_records_every_sample(flavor, two):
    data = samples()
    dataset = with_sample_ids(
        tf.data.Dataset.from_tensor_slices((data._images.numpy(), data.labels))
    )
    keras = importlib.import_module(flavor)
    with two.strategy.scope():
        model = PracModel(network(flavor), num_samples=COUNT)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, jit_compile=False)
    logger = ForgettingLogger()
    batches = dataset.shuffle(COUNT, seed=0).batch(16)
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[logger])
    assert (logger.stats.presentations == 2).all()


@both
def test_invalid_ids_on_any_replica_end_a_fit(flavor, two):
    keras = importlib.import_module(flavor)
    with two.strategy.scope():
        model = PracModel(network(flavor), num_samples=COUNT)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, jit_compile=False)
    for position, sample_id, message in (
        (3, COUNT, f"num_samples: received {COUNT}; .*, which go up to {COUNT}"),
        (12, 2**40, f"sample_id: received {2**40}; allowed: 0 to {COUNT - 1}"),
        (12, -1, "sample_id: received -1"),
        (3, 12, "sample_id: received '1 samples with an id"),  # the other 12 is on replica 1
    ):
        ids, labels = np.arange(32), np.arange(32) % 3
        ids[position] = sample_id
        x = {"inputs": np.ones((32, 6), "f4"), "sample_id": ids}
        with pytest.raises(ArgumentError, match=message):
            model.fit(x, labels, batch_size=16, epochs=2, shuffle=False, verbose=0)
    rows = model.forgetting._rows.numpy()[:-1]
    assert not rows[32:].any() and rows[:32].any(1).all()


@both
def test_a_search_on_two_devices_resumes_and_reports_its_devices(flavor, two, tmp_path, capsys):
    data = samples()

    def search(strategy, directory, rounds=1):
        return TicketSearch(
            lambda: network(flavor, norm=True),
            short_recipe(),
            PruningConfig(rounds=rounds, prune_rate=0.3, rewind="3it"),
            directory=tmp_path / directory,
            strategy=strategy,
        )

    result = search(two, "run").run(data)
    assert result.summary["distribution"] == {
        "strategy": "MirroredStrategy",
        "replicas": 2,
        "workers": 1,
        "devices": [f"{precision.kind()}:{n}" for n in range(2)],
        "global_batch_size": 16,
        "replica_batch_size": 8,
    }
    kind = precision.kind()
    assert f"{kind}:0, {kind}:1; batches of 16, 8 for each of 2 replicas" in capsys.readouterr().out
    again = search(two, "run").run(data)
    assert again.tickets[-1].masks == result.tickets[-1].masks


def test_a_data_set_that_memory_does_not_hold_streams_to_both_devices(two, tfds_dir):
    data = load_dataset("mnist", data_dir=tfds_dir, limit_train=300, memory_limit_bytes=0).train
    assert isinstance(data, StreamSamples)
    ids, recipe = np.arange(250), TrainingRecipe(epochs=2, batch_size=32, augment="crop_flip")
    with two.strategy.scope():
        net = build_model("lenet300", keras="keras", input_shape=data.input_shape, num_classes=10)
        trainer = Trainer(net, recipe, data)
        weights, dense = snapshot(net), Masks.ones_like(prunable_weights(net))
        result = trainer.train(weights, dense, ids, Budget.full(recipe, len(ids)), (1,))
    assert np.array_equal(result.forgetting.presentations, 2 * (np.arange(300) < 250))


def short_recipe():
    return TrainingRecipe(epochs=2, batch_size=16, learning_rate=0.01)


def test_an_indivisible_batch_size_is_refused_with_possible_ones(two, tmp_path):
    search = TicketSearch(
        lambda: network("keras"),
        TrainingRecipe(batch_size=15),
        directory=tmp_path / "run",
        strategy=two,
    )
    with pytest.raises(ArgumentError, match="15.*multiple of the 2 replicas, such as 14 or 16"):
        search.run(samples())
    assert not (tmp_path / "run").exists()
