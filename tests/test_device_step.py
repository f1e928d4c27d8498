"""The training step stays on the accelerator, and XLA changes no statistics."""

from __future__ import annotations

import functools
import importlib
import pathlib
import re

import device_walk
import numpy as np
import pytest
import tensorflow as tf
from halved import halved
from source_tree import ROOT
from tensorflow.python.framework import config

from tf_prac import (
    ForgettingLogger,
    ForgettingRecorder,
    MaskedWeights,
    Masks,
    PracModel,
    PruningConfig,
    SampleScores,
    TrainingRecipe,
    build_model,
    prunable_weights,
    prune,
    random_mask,
    with_sample_ids,
)
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS, Flavor, make_optimizer
from tf_prac.models import MODELS
from tf_prac.training import recorder as recorder_module
from tf_prac.training.batch_map import BatchMap
from tf_prac.training.inference import Predictor
from tf_prac.training.loop import StepLoop, as_batches
from tf_prac.training.placement import DataPlacement
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
COUNT, BATCH = 24, 8
GENERATOR = np.random.default_rng(0)
Y = np.arange(COUNT) % 3
X = (GENERATOR.normal(size=(COUNT, 6, 6, 1)) + Y[:, None, None, None]).astype(np.float32)
DATA = tf.data.Dataset.from_tensor_slices((X, Y))
BATCHES = with_sample_ids(DATA).batch(BATCH)
# Keras 3's `argmax`, of the accuracy, compares sign bits in int32. XLA fuses it away.
OF_KERAS = {"keras": r"host reads from the device: Less\b", "tf_keras": "(?!)"}
# TensorFlow's `vectorized_map` computes shapes in int32, once for each batch that is scored.
OF_VECTORIZED_MAP = r"host reads from the device: .*/pfor/|no kernel for GPUs: Split {'T': 'int32'}"


@pytest.fixture(autouse=True)
def not_deterministic():
    """Another test of this process may have enabled determinism, which takes other operations."""
    was_enabled = config.is_op_determinism_enabled()
    config.disable_op_determinism()
    yield
    (config.enable_op_determinism if was_enabled else config.disable_op_determinism)()


def network(flavor):
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    hidden = keras.layers.Conv2D(4, 3, use_bias=False)(inputs)
    hidden = keras.layers.ReLU()(keras.layers.BatchNormalization()(hidden))
    hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(hidden))
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def compiled(model, flavor, **options):
    keras = importlib.import_module(flavor)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(0.01, use_ema=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **{"jit_compile": False, **options})
    model.optimizer.build(model.trainable_variables)
    return model


def recording(flavor, **options):
    plain = network(flavor)
    masks = random_mask(Masks.ones_like(prunable_weights(plain)), 0.4, seed=0)
    return compiled(PracModel(plain, masks=masks, num_samples=COUNT), flavor, **options)


def in_a_scope(callback, flavor):
    callback.set_model(compiled(network(flavor), flavor))
    callback.on_train_begin()
    return callback


def own_loop(flavor, jit_compile=None):
    """The custom training loop of docs/callbacks.md."""
    keras = importlib.import_module(flavor)
    model = network(flavor)
    masked, recorder = MaskedWeights(prunable_weights(model)), ForgettingRecorder(COUNT)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step(x, y):
        with tf.GradientTape() as tape:
            logits = model(x["inputs"], training=True)
            loss = loss_of(y, logits)
        recorder.record(x["sample_id"], tf.argmax(logits, -1) == y)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        masked.apply_masks(optimizer)

    return step, recorder


def with_spec(function, *spec):
    """Traces twice, as metrics create their variables in the first trace."""
    function = function if hasattr(function, "get_concrete_function") else tf.function(function)
    return function.get_concrete_function(*spec)


X_SPEC, Y_SPEC = BATCHES.element_spec
PADDED = (X_SPEC, Y_SPEC, tf.TensorSpec([None], tf.float32))


def padded(flavor):
    model = recording(flavor)
    model.padded_batches = True
    return with_spec(model.train_step, PADDED)


def weighted(flavor):
    """Loss weights by sample id, and PyTorch's momentum."""
    model = recording(flavor)
    model.loss_weights_by_id = tf.Variable(tf.ones([COUNT]), trainable=False)
    options = {"momentum": 0.9, "momentum_form": "pytorch", "learning_rate": 0.1}
    model.optimizer = make_optimizer(Flavor(flavor), "sgd", weight_decay=1e-4, **options)
    model.optimizer.build(model.trainable_variables)
    return with_spec(model.train_step, (X_SPEC, Y_SPEC))


def loop(flavor):
    model = recording(flavor)
    steps, batches = StepLoop(model), as_batches(iter(BATCHES))
    steps.trace(batches)
    (function,) = steps._compiled.values()
    return with_spec(function, batches.take(1)[1])


STEPS = {
    "fit": lambda flavor: with_spec(recording(flavor).train_step, (X_SPEC, Y_SPEC)),
    "padded": padded,
    "weighted": weighted,
    "loop": loop,
    "custom loop": lambda flavor: with_spec(own_loop(flavor)[0], X_SPEC, Y_SPEC),
    "pruned": lambda flavor: with_spec(
        compiled(prune(network(flavor), sparsity=0.5), flavor).train_step,
        (X_SPEC["inputs"], Y_SPEC),
    ),
    "forgetting of data": lambda flavor: with_spec(
        in_a_scope(ForgettingLogger(DATA), flavor)._pass._fn, X_SPEC["inputs"], Y_SPEC
    ),
    "el2n": lambda flavor: with_spec(
        in_a_scope(SampleScores(DATA), flavor)._pass._fn, X_SPEC["inputs"], Y_SPEC
    ),
    "grand": lambda flavor: with_spec(
        in_a_scope(SampleScores(DATA, "grand"), flavor)._pass._fn, X_SPEC["inputs"], Y_SPEC
    ),
    "predictions": lambda flavor: with_spec(
        Predictor(network(flavor))._decide, *BATCHES.element_spec
    ),
}


@pytest.mark.skipif(not device_walk.has_gpu_kernels(), reason="TensorFlow without GPU kernels")
@halved("flavor, name", FLAVORS, tuple(STEPS))
def test_a_step_stays_on_the_accelerator(flavor, name):
    allowed = re.compile(OF_VECTORIZED_MAP if name == "grand" else OF_KERAS[flavor])
    lines = device_walk.findings(STEPS[name](flavor))
    assert [line for line in lines if not allowed.match(line)] == []


# Without XLA only: the gradient of a mean over the axes of an image, the seed of Keras 3's Dropout
# and the arguments of `tf.random.Generator`, and once a call, the shape of concatenated results.
OF_TENSORFLOW = (
    r"host reads from the device: (Reshape gradient_tape.*DynamicStitch:merged"
    r"|StatelessRandomGetKeyCounter|RngReadAndSkip|TensorListConcatV2 .*Const|Tile .*)"
)


@pytest.fixture
def gpu(monkeypatch):
    """TensorFlow reports a GPU; the samples are on the CPU."""
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: ["GPU:0"])
    monkeypatch.setattr(DataPlacement, "device", "CPU:0")


def resident_functions(flavor, make_network, size, augment="crop_flip"):
    """Returns the compiled functions of training, evaluation and predictions, by name."""
    images = ArraySamples(
        np.zeros((20, size, size, 3), np.uint8), np.arange(20) % 4, mean=[0.5] * 3, std=[1.0] * 3
    )
    net = make_network(flavor, size)
    options = {"jit_compile": False, "tf32": False, "mixed_precision": False}
    recipe = TrainingRecipe(batch_size=8, augment=augment, weight_decay=1e-4, **options)
    split = Split(images, np.arange(10))
    trainer = Trainer(net, recipe, images, split, PruningConfig(), "device")
    placement, predictor = trainer.placement, trainer.predictor
    batches = placement.training(images, np.arange(20), batch_size=8, seed=(0,), augment=augment)
    passes = placement.evaluation(split, 8)
    for step, each in (("train_step", batches), ("test_step", passes)):
        trainer._loop._run(step, each, 0)
    functions = {key.split()[0]: fn for key, fn in trainer._loop._compiled.items()}
    functions["decisions"] = BatchMap(trainer.distribution, predictor._decide)._loop(passes)
    score = functools.partial(predictor._parts, "el2n")
    functions["scores"] = BatchMap(trainer.distribution, score)._loop(passes)
    return {name: fn.get_concrete_function() for name, fn in functions.items()}


def random_network(flavor, size):
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(4, 3, use_bias=False)(layers.GaussianNoise(0.1)(x))
    x = layers.Dropout(0.1)(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def model_of(name):
    def make(flavor, size):
        importlib.import_module(flavor)
        return build_model(name, keras=flavor, input_shape=(size, size, 3), num_classes=4)

    return make


def check_resident(flavor, *options):
    for name, function in resident_functions(flavor, *options).items():
        allowed = re.compile(f"{OF_KERAS[flavor]}|{OF_TENSORFLOW}")
        lines = [line for line in device_walk.findings(function) if not allowed.match(line)]
        assert lines == [], name


@pytest.mark.skipif(not device_walk.has_gpu_kernels(), reason="TensorFlow without GPU kernels")
@pytest.mark.parametrize(
    "flavor, augment", [("keras", "resized_crop_flip"), ("tf_keras", "crop_flip")]
)
def test_resident_samples_stay_on_the_accelerator(flavor, augment, gpu):
    check_resident(flavor, random_network, 8, augment)


SIZES = {"inception_v3": 76}  # at least 75; images with an odd number of bytes are streamed


@pytest.mark.slow
@pytest.mark.skipif(not device_walk.has_gpu_kernels(), reason="TensorFlow without GPU kernels")
@both
@pytest.mark.parametrize("name", MODELS)
def test_every_network_stays_on_the_accelerator(flavor, name, gpu):
    check_resident(flavor, model_of(name), SIZES.get(name, 32))


def test_the_walk_sees_what_does_not_stay():
    table = tf.Variable(tf.zeros([4, 2], tf.int32))
    counts = tf.Variable(tf.zeros([2], tf.int64))

    def step(ids):
        tf.debugging.assert_less(tf.reduce_max(ids), tf.constant(4, tf.int64))
        table.scatter_add(tf.IndexedSlices(tf.ones([1, 2], tf.int32), ids))
        first, second = tf.unstack(counts)
        tf.numpy_function(lambda value: None, [first], [])
        tf.strings.as_string(tf.reduce_min(ids))
        return tf.boolean_mask(ids, ids > second)

    lines = device_walk.findings(with_spec(step, tf.TensorSpec([1], tf.int64)))
    for expected in ("variable in int32", "Assert", "PyFunc", "AsString", "Where", "Min", "Unpack"):
        assert any(expected in line for line in lines), (expected, lines)


@halved("flavor, name", FLAVORS, ["fit", "padded", "custom loop"])
def test_xla_gives_the_same_statistics(flavor, name):
    tables = []
    for jit in (False, True):
        if name == "custom loop":
            step, recorder = own_loop(flavor, jit)
        else:
            model = recording(flavor)
            model.padded_batches = name == "padded"
            function = tf.function(model.train_step, jit_compile=jit)
            recorder, step = model.forgetting, lambda *batch, run=function: run(batch)
        for _ in range(3):
            for x, y in BATCHES:
                step(x, y)
        tables.append(recorder.stats.table)
    np.testing.assert_array_equal(*tables)
    assert (tables[0][:, 0] == 3).all() and tables[0][:, 2].any()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_statistics_of_a_deterministic_gpu_are_the_same(jit_compile, monkeypatch):
    """Unique ids in each batch, padding, ids out of range, and again."""
    tables = []
    for is_slow in (False, True):
        monkeypatch.setattr(recorder_module, "scatters_are_slow", lambda is_slow=is_slow: is_slow)
        recorder, generator = ForgettingRecorder(COUNT), np.random.default_rng(0)
        step = tf.function(recorder.record, jit_compile=jit_compile)
        for _ in range(20):
            ids = generator.permutation(COUNT)[:BATCH]
            ids[:2] = -1
            step(tf.constant(ids), tf.constant(generator.random(BATCH) < 0.6), padded=True)
        tables.append(recorder.stats.table)
        assert recorder.stats.presentations.sum() == 20 * (BATCH - 2)
        step(tf.constant([3, 3, 5]), tf.constant([True] * 3))
        with pytest.raises(ArgumentError, match="1 samples with an id that their batch has"):
            _ = recorder.stats
        recorder.restart_checks()
        step(tf.constant([3, COUNT]), tf.constant([True] * 2))
        with pytest.raises(ArgumentError, match=f"num_samples: received {COUNT}"):
            _ = recorder.stats
    np.testing.assert_array_equal(*tables)


@pytest.mark.skipif(not device_walk.has_gpu_kernels(), reason="TensorFlow without GPU kernels")
def test_the_statistics_of_a_deterministic_gpu_stay_there(gpu):
    config.enable_op_determinism()
    specs = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.bool)
    function = with_spec(ForgettingRecorder(COUNT).record, *specs)
    assert device_walk.findings(function) == []
    assert not any("Scatter" in op.type for op in function.graph.get_operations())


def test_scatters_are_slow_with_determinism_on_a_gpu(monkeypatch):
    assert not recorder_module.scatters_are_slow()
    config.enable_op_determinism()
    assert not recorder_module.scatters_are_slow()
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: ["GPU:0"])
    assert recorder_module.scatters_are_slow()
    config.disable_op_determinism()
    assert not recorder_module.scatters_are_slow()


def test_no_variable_of_tf_prac_is_int32():
    """TensorFlow keeps int32 variables in the memory of the host."""
    pattern = re.compile(r"Variable\([^)]*int32|add_weight\([^)]*int32", re.S)
    for path in pathlib.Path(ROOT, "tf_prac").rglob("*.py"):
        if "export" not in path.parts:  # there, a variable is read once, when a model is loaded
            assert not pattern.search(path.read_text(encoding="utf-8")), path
