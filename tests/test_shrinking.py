"""Shrinking: smaller models with the same outputs and gradients; folded batch normalization."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import random_networks
import tensorflow as tf
from hypothesis import example, given, settings

import tf_prac
from tf_prac import export
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.export.shrinking.network import LAST
from tf_prac.export.shrinking.rebuild import rebuild, sliced
from tf_prac.export.shrinking.shrink import network_of

FLAVORS = ("keras", "tf_keras")
GENERATOR = np.random.default_rng(0)


@pytest.fixture(params=FLAVORS)
def keras(request):
    return importlib.import_module(request.param)


def inputs_of(model, count=3):
    return GENERATOR.normal(size=(count, *model.input_shape[1:])).astype(np.float32)


def same_outputs(model, other, x=None, tolerance=1e-5):
    x = inputs_of(model) if x is None else x
    pairs = zip(*(tf.nest.flatten(m(x, training=False)) for m in (model, other)), strict=True)
    for a, b in pairs:
        scale = max(1, np.abs(a).max())
        np.testing.assert_allclose(np.asarray(b) / scale, np.asarray(a) / scale, atol=tolerance)


def gradients(model, x, variables):
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(model(x, training=False))
        loss = sum(tf.reduce_sum(tf.sin(y * (1 + i))) for i, y in enumerate(outputs))
    plain = [getattr(v, "value", v) if hasattr(v, "_value") else v for v in variables]
    found = tape.gradient(loss, plain)
    return [None if g is None else np.asarray(tf.convert_to_tensor(g)) for g in found]


def same_gradients(model, masks, x):
    """Compares the gradients of all weights that remain for a reason, without merging."""
    plain, network, by_id = network_of(model, None, masks)
    network.solve(merge=False)
    smaller, _ = rebuild(plain, network, by_id)
    new_layers = {layer.name: layer for layer in smaller.layers}
    pairs = []
    for layer in network.layers.values():
        new = new_layers.get(layer.layer.name)
        if new is None or not layer.weights or type(new) is not type(layer.layer):
            continue
        groups = np.concatenate([network.channels.get(v, []) for v in layer.calls[0].outputs])
        if any(network.pinned.get(int(group)) == LAST for group in groups):
            continue  # the channel is a constant that the next bias has absorbed
        indices = layer.kind.indices(layer, network)
        axes, after = layer.kind.axes(layer.layer), layer.kind.variables(new)
        for role, variable in layer.kind.variables(layer.layer).items():
            if variable.trainable:
                pairs.append((variable, after[role], axes[role], indices))
    if pairs:
        before = gradients(plain, x, [pair[0] for pair in pairs])
        after = gradients(smaller, x, [pair[1] for pair in pairs])
        for a, b, (variable, _, axes, indices) in zip(before, after, pairs, strict=True):
            if a is None or b is None:
                assert not np.any(a) and not np.any(b)
                continue
            a = sliced(a, axes, indices)
            scale = max(1, np.abs(a).max())
            np.testing.assert_allclose(b / scale, a / scale, atol=1e-4, err_msg=variable.name)


def check_plan(flavor, plan):
    keras = importlib.import_module(flavor)
    keras.backend.clear_session()
    model, masks = random_networks.build(keras, plan)
    x = inputs_of(model)
    shrunk = export.shrink(model, masks=masks)
    same_outputs(model, shrunk.model, x)
    weights = {w.name for w in tf_prac.keras_api.named_weights(shrunk.model)}
    assert set(shrunk.masks) <= weights
    same_gradients(model, masks, x)
    same_outputs(model, export.fold_batch_norm(model, masks=masks, check=False).model, x, 1e-4)


@pytest.mark.parametrize("flavor", FLAVORS)
@example((985, ("conv", "excite", "average", "nested"), "global", 0.6))  # all channels are constant
@given(plan=random_networks.plans())
@settings(max_examples=2, deadline=None)
def test_random_networks(flavor, plan):
    check_plan(flavor, plan)


@pytest.mark.slow
@pytest.mark.parametrize("flavor", FLAVORS)
@given(plan=random_networks.plans())
@settings(max_examples=100, deadline=None)
def test_more_random_networks(flavor, plan):
    check_plan(flavor, plan)


def zoo(keras, name):
    if name == "mobilenetv2":
        return keras.applications.MobileNetV2(
            weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
        )
    shape = (28, 28, 1) if name == "lenet300" else (32, 32, 3)
    return tf_prac.build_model(name, keras=keras.__name__, input_shape=shape, num_classes=10)


def randomized(model, masks):
    """Sets biases and statistics to random values, and applies masks."""
    weights = {}
    for name, value in tf_prac.snapshot(model).items():
        if value.ndim == 1:
            signs = 1 if "variance" in name else GENERATOR.choice([-1, 1], value.shape)
            value = (GENERATOR.uniform(0.5, 1.5, value.shape) * signs).astype(value.dtype)
        weights[name] = value
    tf_prac.rewind(model, weights, masks)


ZOO = {
    **dict.fromkeys(("lenet300", "conv2", "resnet20"), ()),
    **dict.fromkeys(("vgg16", "mobilenetv2"), (pytest.mark.slow,)),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=marks) for n, marks in ZOO.items()])
def test_networks_of_the_zoo(keras, name):
    model = zoo(keras, name)
    dense = tf_prac.Masks.ones_like(tf_prac.prunable_weights(model))
    masks = {}
    for weight, mask in dense.items():  # three quarters of the outputs, half of the other weights
        mask = mask & (GENERATOR.random(mask.shape) < 0.5)
        masks[weight] = mask & (GENERATOR.random(mask.shape[-1]) < 0.25)
    masks = tf_prac.Masks(masks)
    randomized(model, masks)
    shrunk = export.shrink(model, masks=masks)
    same_outputs(model, shrunk.model)
    assert shrunk.max_error <= 1e-5 * max(1, np.abs(np.asarray(model(inputs_of(model)))).max())
    assert shrunk.report.parameters[1] < 0.8 * shrunk.report.parameters[0]
    assert set(shrunk.masks) == set(masks)
    assert repr(shrunk.report).startswith("ShrinkReport(")
    folded = export.fold_batch_norm(shrunk.model, masks=shrunk.masks)
    same_outputs(shrunk.model, folded.model, tolerance=1e-4)
    left = [each for each in folded.model.layers if "BatchNormalization" in type(each).__name__]
    assert not left and not folded.kept


def chain(keras, *layers, shape=(6, 6, 3)):
    model = keras.Sequential([keras.Input(shape), *layers])
    randomized(model, None)
    return model


def test_dead_channels_go_through_batch_norm_and_pooling(keras):
    layers = keras.layers
    model = chain(
        keras,
        layers.Conv2D(4, 3, padding="same", name="one"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Conv2D(5, 3, padding="same", name="two"),
    )
    pruned = tf_prac.prune(model)
    masks = {name: mask.copy() for name, mask in pruned.masks.items()}
    masks["two/kernel"][:, :, 1:3] = False  # nobody reads channels 1 and 2
    pruned.set_masks(tf_prac.Masks(masks))
    shrunk = export.shrink(pruned)
    assert [w.shape[-1] for w in shrunk.masks.values()] == [2, 5]
    assert shrunk.masks["one/kernel"].all() and shrunk.report.channels == (13, 9)
    same_outputs(pruned, shrunk.model)


@pytest.mark.parametrize(
    ("padding", "kept", "merged"), [("valid", 1, 0), ("same", 2, 2)], ids=["valid", "same"]
)
def test_constants_are_absorbed_or_merged(keras, padding, kept, merged):
    layers = keras.layers
    model = chain(
        keras,
        layers.Conv2D(4, 1, activation="sigmoid", name="one"),
        layers.Conv2D(5, 3, padding=padding, use_bias=False, name="two"),
        layers.Dense(2),
    )
    mask = np.ones((1, 1, 3, 4), bool)
    mask[..., 1:] = False
    model.get_layer("one").kernel.assign(model.get_layer("one").kernel * mask)
    shrunk = export.shrink(model, masks={"one/kernel": mask})
    assert shrunk.model.get_layer("one").filters == kept and shrunk.report.merged == merged
    assert shrunk.model.get_layer("two").use_bias == (padding == "valid")
    same_outputs(model, shrunk.model)
    unmerged = export.shrink(model, masks={"one/kernel": mask}, merge=False)
    assert unmerged.model.get_layer("one").filters == (1 if padding == "valid" else 4)
    text = unmerged.report.text()
    assert ("3: two pads its input with zeros" in text) == (padding == "same")


def test_a_dead_branch_is_left_out(keras):
    layers = keras.layers
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    branch = layers.Conv2D(4, 3, padding="same", use_bias=False, name="dead")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="end")(layers.Add()([x, branch])))
    mask = np.zeros((3, 3, 4, 4), bool)
    model.get_layer("dead").kernel.assign(np.zeros((3, 3, 4, 4)))
    shrunk = export.shrink(model, masks={"dead/kernel": mask})
    names = [layer.name for layer in shrunk.model.layers]
    assert [name for name in names if name in ("stem", "dead", "end")] == ["stem", "end"]
    assert [(each.name, each.after) for each in shrunk.report.layers][1] == ("dead", 0)
    same_outputs(model, shrunk.model)


@pytest.mark.parametrize("kind", ["Add", "Concatenate", "Average"])
def test_a_tensor_that_is_joined_twice_stays_twice(keras, kind):
    inputs = keras.Input((6,))
    x, dead = keras.layers.Dense(4)(inputs), keras.layers.Dense(4, name="dead", use_bias=False)
    joined = getattr(keras.layers, kind)()([x, x, dead(inputs)])
    model = keras.Model(inputs, keras.layers.Dense(3)(joined))
    dead.kernel.assign(np.zeros((6, 4)))
    shrunk = export.shrink(model, masks={"dead/kernel": np.zeros((6, 4), bool)})
    removed = [layer.name for layer in shrunk.model.layers if layer.name == "dead"] == []
    assert removed == (kind != "Average")  # the mean divides by the number of branches
    same_outputs(model, shrunk.model)


def test_an_addition_that_is_an_output_without_its_dead_branch(keras):
    """A shared addition, one call of which is left out."""
    inputs = keras.Input((6,))
    x, y, add = keras.layers.Dense(4)(inputs), keras.layers.Dense(4)(inputs), keras.layers.Add()
    dead = keras.layers.Dense(4, name="dead", use_bias=False)
    model = keras.Model(inputs, [add([x, dead(inputs)]), add([x, y])])
    dead.kernel.assign(np.zeros((6, 4)))
    same_outputs(model, export.shrink(model, masks={"dead/kernel": np.zeros((6, 4), bool)}).model)


def test_heads_of_attention(keras):
    layers = keras.layers
    inputs = keras.Input((5, 6))
    attended = layers.MultiHeadAttention(4, 2, name="attention")(inputs, inputs)
    model = keras.Model(inputs, layers.Dense(3)(attended))
    randomized(model, None)
    names = [n for n in tf_prac.snapshot(model) if n.endswith("output/kernel")]
    mask = np.ones((4, 2, 6), bool)
    mask[[0, 2]] = False
    (name,) = names
    tf_prac.rewind(model, tf_prac.snapshot(model), tf_prac.Masks({name: mask}))
    shrunk = export.shrink(model, masks={name: mask})
    assert shrunk.model.get_layer("attention").get_config()["num_heads"] == 2
    assert shrunk.masks[name].shape == (2, 2, 6)
    same_outputs(model, shrunk.model)


def sequences(keras):
    layers = keras.layers
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(5, 6)(inputs)
    x = layers.SpatialDropout1D(0.1)(layers.Conv1D(6, 3, padding="causal", activation="relu")(x))
    x = layers.LSTM(4, return_sequences=True)(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Bidirectional(layers.GRU(3))(x)))


def siamese(keras):
    """A nested model called twice, with inputs and outputs by name."""
    layers = keras.layers
    tower = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(5, activation="elu")]
    )
    inputs = {name: keras.Input((6,), name=name) for name in ("left", "right")}
    left, right = tower(inputs["left"]), tower(inputs["right"])
    joined = layers.Concatenate()(
        [layers.Subtract()([left, right]), layers.Average()([left, right])]
    )
    return keras.Model(inputs, {"same": layers.Dense(1)(joined), "left": layers.Dense(2)(left)})


def operators(keras):
    layers = keras.layers
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(6, 1)(x * 2.0 + 1.0)
    x = layers.Add()([x, layers.Conv2D(6, 1)(inputs), layers.Conv2D(6, 3, padding="same")(x)])
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.ReLU()(x))))


def volumes(keras):
    layers = keras.layers
    inputs = keras.Input((4, 4, 4, 2))
    x = layers.Conv3D(6, 2, activation="relu")(inputs)
    x = layers.UpSampling3D(2)(layers.BatchNormalization()(x))
    x = layers.Conv3D(4, 3, groups=2, activation="tanh")(x)
    x = layers.Conv3DTranspose(5, 2, strides=2)(layers.MaxPooling3D(2)(x))
    return keras.Model(inputs, layers.Conv3D(3, 1)(x))


def shared(keras):
    """Layers without weights, each on tensors of several widths."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    relu, pool, drop = layers.ReLU(), layers.MaxPooling2D(), layers.Dropout(0.5)
    flatten, join, add = layers.Flatten(), layers.Concatenate(), layers.Add()
    x = pool(drop(relu(layers.Conv2D(8, 3, padding="same")(inputs))))
    y = pool(drop(relu(layers.Conv2D(6, 3, padding="same")(x))))
    first, second = (layers.Dense(5)(flatten(each)) for each in (x, y))
    joined = join([join([first, second]), first])
    total = add([add([first, second]), first, layers.Dense(5)(joined)])
    return keras.Model(inputs, layers.Dense(3)(total))


def named(keras):
    """A nested model that is called with a dictionary, in another order than its inputs."""
    layers = keras.layers
    names = ("query", "context")
    query, context = (keras.Input((6,), name=name) for name in names)
    difference = layers.Subtract()([layers.Dense(8)(query), layers.Dense(8)(context)])
    inner = keras.Model([query, context], difference)
    outer = {name: keras.Input((6,), name=name) for name in names}
    return keras.Model(list(outer.values()), layers.Dense(3)(inner(outer)))


@pytest.mark.parametrize("build", [sequences, siamese, operators, volumes, shared, named])
def test_other_layers(keras, build):
    for seed in (0, 2):
        generator = np.random.default_rng(seed)
        keras.utils.set_random_seed(seed)
        model = build(keras)
        masks = random_networks.prune_parts(model, generator, 0.3 + 0.3 * seed)
        shrunk = export.shrink(model, masks=masks)  # compares outputs
        assert (
            shrunk.max_error <= 1e-4 and shrunk.report.parameters[1] < shrunk.report.parameters[0]
        )
        again = export.shrink(shrunk.model, masks=shrunk.masks)
        assert again.report.channels[1] <= shrunk.report.channels[1]
        export.fold_batch_norm(model, masks=masks)  # compares outputs too


def test_a_mask_that_kills_every_path(keras):
    """A constant model: each layer that is left has a channel."""
    model = zoo(keras, "resnet8")
    masks = {n: np.zeros(v.shape, bool) for n, v in tf_prac.prunable_weights(model).items()}
    randomized(model, tf_prac.Masks(masks))
    shrunk = export.shrink(model, masks=masks)
    same_outputs(model, shrunk.model)
    assert all(each.after >= 1 for each in shrunk.report.layers if each.after)


def test_dead_outputs_stay(keras):
    inputs = keras.Input((4,))
    outputs = {n: keras.layers.Dense(3, name=n)(inputs) for n in ("first", "second")}
    model = keras.Model(inputs, outputs)
    randomized(model, None)
    model.get_layer("second").kernel.assign(np.zeros((4, 3)))
    shrunk = export.shrink(model, masks={"second/kernel": np.zeros((4, 3), bool)})
    x = inputs_of(model)
    for name, value in model(x).items():
        np.testing.assert_allclose(shrunk.model(x)[name], value, atol=1e-5)
    assert "3: an output of the model" in shrunk.report.text()


def test_unknown_layers_keep_their_inputs(keras):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x[..., ::-1]

    model = chain(
        keras, keras.layers.Dense(4, name="one"), Mine(name="mine"), keras.layers.Dense(2)
    )
    mask = np.zeros((3, 4), bool)
    model.get_layer("one").kernel.assign(np.zeros((3, 4)))
    shrunk = export.shrink(model, masks={"one/kernel": mask})
    assert shrunk.report.not_followed == ("mine (Mine)",)
    assert shrunk.model.get_layer("one").units == 4
    assert "mine (Mine) needs all channels" in shrunk.report.text()
    same_outputs(model, shrunk.model)


def test_a_subclass_is_refused(keras):
    class Subclass(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Subclass()
    model(np.zeros((1, 3), np.float32))
    with pytest.raises(ArgumentError, match=r"Subclass, a subclass whose graph.*functional"):
        export.shrink(model)


def test_dynamic_sizes(keras):
    layers = keras.layers
    model = chain(
        keras,
        layers.Conv2D(4, 3, padding="same", name="one"),
        layers.GlobalMaxPooling2D(),
        layers.Dense(2, name="end"),
        shape=(None, None, 3),
    )
    mask = np.ones((4, 2), bool)
    mask[:3] = False
    tf_prac.rewind(model, tf_prac.snapshot(model), tf_prac.Masks({"end/kernel": mask}))
    shrunk = export.shrink(model, masks={"end/kernel": mask})
    assert shrunk.model.get_layer("one").filters == 1
    same_outputs(model, shrunk.model, GENERATOR.normal(size=(2, 9, 7, 3)).astype(np.float32))


def test_the_result_trains_on_with_masks(keras):
    model = chain(
        keras, keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2), shape=(4,)
    )
    pruned = tf_prac.prune(model, sparsity=0.7)
    mask = {name: mask & (np.arange(8) < 5) for name, mask in pruned.masks.items()}
    pruned.set_masks(tf_prac.Masks(mask))
    before = pruned.get_weights()
    shrunk = export.shrink(pruned)
    assert all(np.array_equal(a, b) for a, b in zip(before, pruned.get_weights(), strict=True))
    again = tf_prac.prune(shrunk.model, masks=shrunk.masks)
    again.compile("sgd", "mse")
    again.fit(inputs_of(again, 8), np.ones((8, 2)), epochs=1, verbose=0)
    for name, variable in again.prunable.items():
        assert not np.asarray(variable)[~shrunk.masks[name]].any()


def test_a_wrong_result_is_refused(keras, monkeypatch):
    from tf_prac.export.shrinking import check

    model = chain(keras, keras.layers.Dense(3), shape=(4,))
    monkeypatch.setattr(check, "TOLERANCE", -1.0)
    monkeypatch.setattr(check, "rounding_of", lambda model: -1.0)
    with pytest.raises(MismatchError, match=r"shrink: outputs of .* would differ"):
        export.shrink(model)
    assert export.shrink(model, check=False).max_error is None


def test_batch_norm_that_cannot_be_folded_is_named(keras):
    layers = keras.layers
    x = inputs = keras.Input((5, 4, 3))
    x = layers.Conv2D(3, 1, activation="relu", name="conv")(x)
    x = layers.BatchNormalization(name="after")(x)
    x = layers.Conv2D(3, 1, activation=layers.LeakyReLU(), name="leaky")(x)
    x = layers.BatchNormalization(name="after_layer")(x)
    x = layers.BatchNormalization(axis=1, name="rows")(layers.Conv2D(3, 1)(x))
    x = layers.Conv2D(3, 1, use_bias=False)(x)
    x = layers.BatchNormalization(name="gone")(x)
    x = layers.BatchNormalization(name="batches")(layers.Conv2D(3, 1)(x), training=True)
    model = keras.Model(inputs, x)
    folded = export.fold_batch_norm(model)
    assert folded.folded == ("gone",)
    assert folded.kept == {
        "after": "it follows an activation, that of conv",
        "after_layer": "it follows an activation, that of leaky",
        "rows": "it normalizes another axis",
        "batches": "it normalizes batches (training=True)",
    }
    same_outputs(model, folded.model)
