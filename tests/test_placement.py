"""`DataPlacement`: samples on the device or streamed give the same training, bit for bit."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac import TicketSearch, random_mask
from tf_prac.analysis.comparison import Comparison
from tf_prac.analysis.sweep import RewindSweep
from tf_prac.cli.main import main
from tf_prac.config import CheckpointConfig, PruningConfig, TrainingRecipe
from tf_prac.data import batches as batches_module
from tf_prac.data.batches import (
    ChunkedBatches,
    DeviceBatches,
    gather_on_device,
    gathers_on_gpu,
)
from tf_prac.data.pipeline import Preprocessing, evaluation_batches, training_batches
from tf_prac.data.source import ArraySamples, Samples
from tf_prac.data.splits import Split
from tf_prac.data.stream import StreamSamples
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prunable_weights, snapshot
from tf_prac.training import placement as placement_module
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.distribution import Distribution
from tf_prac.training.loop import StepLoop
from tf_prac.training.placement import DataPlacement, as_text
from tf_prac.training.schedules import Budget
from tf_prac.training.trained_network import TrainedNetwork
from tf_prac.training.trainer import Trainer

COUNT, TRAINED = 50, 37  # batches of 8: four full ones and one of 5
RNG = np.random.default_rng(0)
Y = np.arange(COUNT) % 4
IMAGES = RNG.integers(0, 256, (COUNT, 6, 5, 3), np.uint8)
DATA = {
    "images": ArraySamples(IMAGES, Y, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    "gray": ArraySamples(IMAGES[..., :1], Y),
    "float": ArraySamples(RNG.normal(size=(COUNT, 6, 5, 3)).astype(np.float32), Y),
    "table": ArraySamples(RNG.normal(size=(COUNT, 12)), Y),
}
CASES = {
    "augmented": ("images", {"augment": "crop_flip"}),
    "batch larger than the data": ("images", {"batch_size": 64}),
    "Adam": ("gray", {"augment": "flip", "optimizer": "adam", "learning_rate": 0.01}),
    "one batch": ("float", {"augment": "crop", "batch_size": TRAINED}),
    "table": ("table", {"batch_size": 5, "weight_decay": 0.01, "schedule": "cosine"}),
}
both = pytest.mark.parametrize("flavor", FLAVORS)


def network(flavor: str, input_shape: tuple[int, ...]):
    """A network; for images with batch normalization and dropout, which have states."""
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = inputs = keras.Input(input_shape)
    if len(input_shape) == 3:
        x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
        x = layers.Dropout(0.2)(layers.ReLU()(layers.BatchNormalization()(x)))
        x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Dense(8, "relu")(x)))


def make_trainer(flavor: str, data: str, placement: str, **options) -> Trainer:
    samples = DATA[data]
    recipe = TrainingRecipe(**{"epochs": 3, "batch_size": 8, **options})
    validation = Split(samples, np.arange(TRAINED, COUNT))
    net = network(flavor, samples.input_shape)
    return Trainer(net, recipe, samples, validation, PruningConfig(), placement)


def train(trainer: Trainer, **options) -> TrainedNetwork:
    weights = snapshot(trainer.network)
    masks = random_mask(Masks.ones_like(prunable_weights(trainer.network)), 0.5, seed=0)
    budget = Budget.full(trainer.recipe, TRAINED)
    ids = np.arange(TRAINED)
    return trainer.train(weights, masks, ids, budget, (0, 1), snapshot_at=(2, 7), **options)


def assert_same(one: TrainedNetwork, other: TrainedNetwork) -> None:
    assert one.snapshots.keys() == other.snapshots.keys()
    for step, expected in {**one.snapshots, -1: one.weights}.items():
        actual = other.weights if step == -1 else other.snapshots[step]
        for name, value in expected.items():
            assert value.tobytes() == actual[name].tobytes(), (step, name)
    np.testing.assert_array_equal(one.forgetting.table, other.forgetting.table)
    for a, b in zip(one.history, other.history, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


QUICK = ("augmented", "batch larger than the data", "table")


@both
@pytest.mark.parametrize(
    "case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_both_placements_train_the_same_network(flavor, case):
    data, options = CASES[case]
    one, other = (make_trainer(flavor, data, name, **options) for name in ("device", "stream"))
    assert_same(train(one), train(other))
    assert one.model.traces == other.model.traces == 1


@both
@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_both_placements_train_the_same_network_with_xla(flavor, case):
    check_with_xla(flavor, case)


@both
def test_both_placements_train_the_same_table_with_xla(flavor):
    check_with_xla(flavor, "table")


def check_with_xla(flavor, case):
    data, options = CASES[case]
    options = {**options, "jit_compile": True}
    one, other = (make_trainer(flavor, data, name, **options) for name in ("device", "stream"))
    assert_same(train(one), train(other))


@pytest.mark.parametrize(
    ("flavor", "names"),
    [("keras", ("device", "stream")), ("tf_keras", ("stream", "device"))],
)
def test_a_run_resumes_with_the_other_placement(flavor, names, tmp_path):
    """Killed in the middle of the second epoch; the checkpoint does not know the placement."""
    options = {"augment": "crop_flip"}
    killed = make_trainer(flavor, "images", names[0], **options)

    class Killed(Exception):
        pass

    class KilledAfter(Checkpoints):
        def save(self, state):
            super().save(state)
            if state.step >= 7:
                raise Killed

    often = CheckpointConfig(checkpoint_steps=1)
    with pytest.raises(Killed):
        train(killed, checkpoints=KilledAfter(tmp_path, often, lambda line: None))
    resumed = make_trainer(flavor, "images", names[1], **options)
    log: list[str] = []
    result = train(resumed, checkpoints=Checkpoints(tmp_path, often, log.append))
    assert any("7" in line for line in log)
    assert_same(train(make_trainer(flavor, "images", names[0], **options)), result)


def gathered(kind: str, samples: Samples, ids, size: int, **options):
    """Returns gathered batches of either kind."""
    options = {"preprocessing": Preprocessing.of(samples, options.pop("augment")), **options}
    if kind.startswith("device"):
        rows = ({"inputs": samples.arrays[0], "sample_id": tf.range(len(samples), dtype=tf.int64)},)
        static = kind == "device, static"
        return DeviceBatches((*rows, samples.arrays[1]), ids, size, "CPU:0", static, **options)
    seed, first = options["seed"], options.get("first_step", 0)
    stored = samples.batches(ids, size, seed=seed, start_step=first) if seed else None
    stored = samples.batches(ids, size).repeat() if stored is None else stored
    return ChunkedBatches(stored, len(ids), size, "CPU:0", **options)


@pytest.mark.parametrize("kind", ["device", "device, static", "chunks"])
@settings(max_examples=6, deadline=None)
@given(
    data=st.sampled_from(list(DATA)),
    ids=st.lists(st.integers(0, COUNT - 1), min_size=1, unique=True),
    batch_size=st.integers(1, 15),
    first_step=st.integers(0, 20),
    augment=st.sampled_from(["none", "crop_flip", "resized_crop_flip"]),
    seeded=st.booleans(),
    calls=st.lists(st.integers(0, 9), min_size=1, max_size=5),
)
def test_gathered_batches_are_those_of_the_pipeline(
    kind, data, ids, batch_size, first_step, augment, seeded, calls
):
    samples, seed = DATA[data], (3, 1) if seeded else None
    augment = augment if seeded and data != "table" else "none"
    options = {"augment": augment, "first_step": first_step} if seeded else {"augment": augment}
    batches = gathered(kind, samples, ids, batch_size, seed=seed, **options)
    if seeded:
        pipeline = training_batches(
            samples, ids, batch_size=batch_size, seed=seed, start_step=first_step, augment=augment
        )
    else:
        pipeline = evaluation_batches(samples, ids, batch_size=batch_size).repeat()
    expected = pipeline.as_numpy_iterator()
    for limit in calls:
        taken, call = batches.take(limit)
        assert 0 <= taken <= limit and (taken or not limit) and int(call.steps) == taken
        for index in range(taken):
            stored = batches.read(call.source, tf.constant(index))
            batch = batches.preprocessing(stored, call.key, call.first_step + index)
            flat, flat_expected = map(tf.nest.flatten, (batch, next(expected)))
            for actual, wanted in zip(flat, flat_expected, strict=True):
                assert actual.dtype == wanted.dtype
                assert actual.numpy().tobytes() == wanted.tobytes()


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("counts", [(19, 21, 16), (24,), (5, 3)])
def test_a_program_of_xla_has_the_same_shapes_in_all_rounds(counts, deterministic, monkeypatch):
    monkeypatch.setattr(batches_module, "is_op_determinism_enabled", lambda: deterministic)
    full, partial = set(), set()
    for count in counts:
        batches = gathered(
            "device, static", DATA["images"], range(count), 8, seed=(0,), augment="none"
        )
        for _ in range(6):
            _, call = batches.take(9)
            shapes = tuple(part.shape for part in tf.nest.flatten(call.source))
            size = len(batches.read(call.source, tf.constant(0))[1])
            (full if size == 8 else partial).add((batches.is_static(call), shapes))
            signature = tf.nest.flatten(batches.signature_of(call))
            for part, spec in zip(tf.nest.flatten(call), signature, strict=True):
                assert spec.is_compatible_with(part)
    assert len(full) <= 1 and all(static for static, _ in full)
    assert all(static is deterministic for static, _ in partial)


@pytest.mark.parametrize(
    "dtype, shape, on_gpu",
    [
        ("uint8", (32, 32, 3), True),  # words of 8 bytes
        ("uint8", (2, 2), True),
        ("int8", (6,), True),
        ("uint8", (5, 5, 3), False),  # an odd number
        ("uint8", (), False),
        ("uint16", (3,), True),
        ("uint64", (1,), True),
        ("int32", (8,), False),  # in host memory
        ("int64", (), True),
        ("float32", (5,), True),
        ("bool", (3,), True),
        ("uint8", (0,), False),
    ],
)
def test_small_integers_are_gathered_as_words(dtype, shape, on_gpu):
    part = tf.constant(RNG.integers(0, 256, (7, *shape)).astype(dtype))
    rows = tf.constant([6, 0, 3], tf.int64)
    assert gathers_on_gpu(part) is on_gpu
    gathered = gather_on_device(part, rows)
    assert gathered.dtype == part.dtype and gathered.shape == (3, *shape)
    assert gathered.numpy().tobytes() == tf.gather(part, rows).numpy().tobytes()


def test_samples_that_a_gpu_cannot_gather_are_streamed(monkeypatch):
    monkeypatch.setattr(DataPlacement, "device", "GPU:0")
    odd, text = ArraySamples(np.zeros((4, 5, 5, 3), np.uint8), Y[:4]), np.zeros((4, 6), np.int32)
    for samples, dtype in ((odd, "uint8"), (ArraySamples(text, Y[:4]), "int32")):
        reason = f"TensorFlow gathers samples of this size in {dtype} on the host"
        assert str(DataPlacement(Distribution()).place(samples)) == f"streamed ({reason})"
        with pytest.raises(ArgumentError, match=f"allowed: auto or stream, as {reason}"):
            DataPlacement(Distribution(), "device").place(samples)


HOST = ("Iterator", "Dataset", "PyFunc", "Print", "Assert", "Recv", "Send", "String")


@both
@pytest.mark.parametrize("step", ["train_step", "test_step"])
def test_the_loop_reads_no_host_memory(flavor, step):
    """Walks the traced function and all functions that it calls."""
    trainer = make_trainer(flavor, "images", "device", augment="crop_flip")
    loop = StepLoop(trainer.model, trainer.distribution)
    batches = trainer.placement.training(
        trainer.samples,
        np.arange(TRAINED),
        batch_size=8,
        seed=(0,),
        first_step=0,
        steps=9,
        augment="crop_flip",
    )
    loop._run(step, batches, 0)
    (compiled,) = loop._compiled.values()
    concrete = compiled.get_concrete_function()
    graph = concrete.graph.as_graph_def(add_shapes=True)
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    ops = {node.op for node in nodes}
    found = {op for op in ops for name in HOST if name in op}
    assert not found and {"GatherV2", "StatelessWhile", "While"} & ops
    assert all(captured.dtype in (tf.resource, tf.float32) for captured in concrete.captured_inputs)
    # The samples are arguments, whose dtype is the stored one, not constants in the graph.
    assert tf.uint8 in [spec.dtype for spec in tf.nest.flatten(concrete.structured_input_signature)]
    assert graph.ByteSize() < 2_000_000


def on_demand() -> Samples:
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, Y))
    return StreamSamples(dataset, decode=lambda x: tf.cast(x, tf.float32), name="photos")


def test_auto_chooses_the_device_for_arrays_and_a_stream_for_others():
    auto = DataPlacement(Distribution())
    place = auto.place(DATA["images"])
    assert place is auto.place(DATA["images"])
    assert str(place) == "on the device CPU:0 (4.9 kB)"
    expected = {"placement": "device", "device": "CPU:0", "bytes": COUNT * (90 + 8)}
    assert place.summary() == {**expected, "description": str(place)}
    assert "read on demand" in str(auto.place(on_demand()))
    assert str(DataPlacement(Distribution(), "stream").place(DATA["images"])) == (
        "streamed (as requested)"
    )


def test_auto_streams_what_does_not_fit_and_device_is_refused(monkeypatch):
    """The memory is that of an accelerator with little of it free."""
    size = COUNT * (90 + 8)
    monkeypatch.setattr(placement_module, "free_memory", lambda device: 3 * size)
    place = DataPlacement(Distribution()).place(DATA["images"])
    assert place.samples is None
    expected = "4.9 kB of arrays do not fit 25% of the 14.7 kB of memory that are free on CPU:0"
    assert str(place) == f"streamed (the {expected})"
    assert DataPlacement(Distribution(), "device").place(DATA["images"]).size == size
    monkeypatch.setattr(placement_module, "free_memory", lambda device: size - 1)
    with pytest.raises(
        ArgumentError, match=r"the 4.9 kB of arrays do not fit the 4.9 kB of memory"
    ):
        DataPlacement(Distribution(), "device").place(DATA["images"])


def test_other_bad_placements_are_refused(tmp_path):
    with pytest.raises(
        ArgumentError, match=r"allowed: auto or stream, as the samples of photos are read"
    ):
        DataPlacement(Distribution(), "device").place(on_demand())
    with pytest.raises(ArgumentError, match="data_placement: received 'gpu'"):
        DataPlacement(Distribution(), "gpu")
    with pytest.raises(ArgumentError, match="data_placement: received 'disk'"):
        TicketSearch(lambda: None, directory=tmp_path / "run", data_placement="disk")
    assert not (tmp_path / "run").exists()


def test_comparisons_and_sweeps_place_the_data_of_their_searches(tmp_path):
    options = {"directory": tmp_path / "runs", "data_placement": "stream"}
    comparison = Comparison(lambda: None, ["imp"], **options)
    sweep = RewindSweep(lambda: None, ["0it"], **options)
    placements = {comparison.search("imp", 0).data_placement, sweep.search("0it", 0).data_placement}
    assert placements == {"stream"}


def test_a_subclass_with_its_own_read_is_streamed():
    class Inverted(ArraySamples):
        def _read(self, order, ids):
            return super()._read(order, ids)

    assert DataPlacement(Distribution()).place(Inverted(IMAGES, Y)).samples is None


def test_sizes_as_text():
    assert [as_text(n) for n in (12, 150_000_000, 21_000_000_000)] == [
        "0.012 kB",
        "150 MB",
        "21 GB",
    ]


@pytest.mark.slow
@both
def test_streams_of_several_chunks_train_the_same_network_with_xla(flavor, monkeypatch):
    monkeypatch.setattr(batches_module, "CHUNK_STEPS", 2)
    check_with_xla(flavor, "table")


def test_a_search_shows_where_its_data_is(tmp_path, capsys):
    """The flag changes neither the configuration of a run nor its results."""
    command = ["search", "--epochs=1", "--rounds=1", "--limit_train=300", "--retrain=none"]
    summaries, configs = [], []
    for placement, line in (("device", "on the device CPU:0 (21.6 kB)"), ("stream", "streamed")):
        path = tmp_path / placement
        assert main([*command, f"--data_placement={placement}", f"--output_dir={path}"]) == 0
        assert f"data: {line}" in capsys.readouterr().out
        assert main(["info", str(path)]) == 0
        assert f"data             {line}" in capsys.readouterr().out
        summaries.append(json.loads((path / "summary.json").read_text()))
        configs.append((path / "config.json").read_bytes())
    assert configs[0] == configs[1]
    assert [s["data_placement"]["placement"] for s in summaries] == ["device", "stream"]
    tickets = [(tmp_path / name / "tickets/round_01/masks.npz") for name in ("device", "stream")]
    assert tickets[0].read_bytes() == tickets[1].read_bytes()
