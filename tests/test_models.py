"""The networks of the papers: sizes, names, initial values, and the arithmetic of both flavors."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from math import sqrt

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tf_prac.errors import ArgumentError
from tf_prac.models import MODELS, build_model

FLAVORS = ["keras", "tf_keras"]

SMALLEST = {
    "conv2": 2,
    "conv4": 4,
    "conv6": 8,
    "resnet8": 3,
    "resnet20": 3,
    "resnet56": 3,
    "resnet18": 17,
    "resnet50": 17,
    "vgg16": 16,
    "vgg19": 16,
    "inception_v3": 75,
    "squeezenet": 29,
}


def build(name, flavor, size=None, classes=10):
    size = size or (28 if name == "lenet300" else max(8, SMALLEST[name]))
    shape = (28, 28, 1) if name == "lenet300" else (size, size, 3)
    return build_model(name, keras=flavor, input_shape=shape, num_classes=classes)


def by_name(model):
    """The weights of a model as {"layer/weight": array}, in the order of the model."""
    paths = [getattr(w, "path", w.name).removesuffix(":0") for w in model.weights]
    return dict(zip(paths, model.get_weights(), strict=True))


def randomize(model, seed=0):
    """Fills a model with values that no initializer gives: statistics and biases matter too."""
    generator = np.random.default_rng(seed)

    def draw(path, value):
        if path.endswith(("gamma", "moving_variance")):
            return generator.uniform(0.5, 1.5, value.shape)
        if path.endswith("kernel"):
            return generator.normal(0, 1 / sqrt(np.prod(value.shape[:-1])), value.shape)
        return generator.normal(0, 0.1, value.shape)

    model.set_weights([draw(path, value) for path, value in by_name(model).items()])


def images(model, batch=2, seed=1):
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# --- Sizes -----------------------------------------------------------------------------------


def dense_parameters(*widths):
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in zip(widths, widths[1:], strict=False))


def conv_parameters(*widths):
    return sum(
        (9 * fan_in + 1) * fan_out for fan_in, fan_out in zip(widths, widths[1:], strict=False)
    )


def cifar_resnet_parameters(depth):
    """He et al. 2016: 6n + 2 layers of 3 x 3 kernels; gamma and beta for each convolution."""
    n = (depth - 2) // 6
    widths = [3, 16] + [16] * 2 * n + [32] * 2 * n + [64] * 2 * n
    pairs = list(zip(widths, widths[1:], strict=False))
    return sum(9 * a * b + 2 * b for a, b in pairs) + dense_parameters(64, 10)


def vgg_parameters(*depths):
    widths = [3]
    for width, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
        widths += [width] * depth
    return conv_parameters(*widths) + 2 * sum(widths[1:]) + dense_parameters(512, 10)


PARAMETERS = {
    "lenet300": dense_parameters(784, 300, 100, 10),
    "conv2": conv_parameters(3, 64, 64) + dense_parameters(16 * 16 * 64, 256, 256, 10),
    "conv4": conv_parameters(3, 64, 64, 128, 128) + dense_parameters(8 * 8 * 128, 256, 256, 10),
    "conv6": conv_parameters(3, 64, 64, 128, 128, 256, 256)
    + dense_parameters(4 * 4 * 256, 256, 256, 10),
    "resnet8": cifar_resnet_parameters(8),
    "resnet20": cifar_resnet_parameters(20),
    "resnet20_projection": cifar_resnet_parameters(20) + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64,
    "resnet56": cifar_resnet_parameters(56),
    "resnet18": 11_689_512,  # Both as published by torchvision, with 1000 classes.
    "resnet50": 25_557_032,
    "vgg16": vgg_parameters(2, 2, 3, 3, 3),
    "vgg19": vgg_parameters(2, 2, 4, 4, 4),
    "inception_v3": 23_817_352,  # keras.applications: 23,851,784 less the moving statistics
    "squeezenet": 1_248_424,  # torchvision
}

PUBLISHED_MILLIONS = {
    "lenet300": 0.266,
    "conv2": 4.3,
    "conv4": 2.4,
    "resnet20": 0.27,
    "resnet20_projection": 0.272474,  # open_lth's cifar_resnet_20
    "resnet56": 0.85,
    "resnet18": 11.7,
    "resnet50": 25.6,
    "vgg16": 14.7,
    "vgg19": 20.0,
    "squeezenet": 1.25,
}


@pytest.fixture(scope="module", params=MODELS)
def network(request):
    """A name and its model in both flavors, as published; nobody changes it."""
    name = request.param
    imagenet = name in ("resnet18", "resnet50", "inception_v3", "squeezenet")
    size, classes = max(32, SMALLEST.get(name, 0)), 1000 if imagenet else 10
    size = 28 if name == "lenet300" else size
    return name, {flavor: build(name, flavor, size, classes) for flavor in FLAVORS}


def test_number_of_parameters(network):
    name, models = network
    for model in models.values():
        trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
        assert trainable == PARAMETERS[name]
    if name in PUBLISHED_MILLIONS:
        assert trainable / 1e6 == pytest.approx(PUBLISHED_MILLIONS[name], rel=0.02)


# --- One source, two flavors ----------------------------------------------------------------


def test_names_are_the_same_in_both_flavors_and_every_time(network):
    name, (model, other) = network[0], network[1].values()
    again = build(name, "keras", model.input_shape[1], model.output_shape[1])
    three = (model, other, again)
    assert {each.name for each in three} == {name}
    layers = [[layer.name for layer in each.layers] for each in three]
    shapes = [[(path, w.shape) for path, w in by_name(each).items()] for each in three]
    assert layers[0] == layers[1] == layers[2]
    assert shapes[0] == shapes[1] == shapes[2]


def test_networks_are_built_in_layers_that_end_in_logits(network):
    for flavor, model in network[1].items():
        keras = import_module(flavor)
        for layer in model.layers:
            assert type(layer) is getattr(keras.layers, type(layer).__name__)
            assert not isinstance(layer, keras.layers.Lambda)
        assert model.output_shape in ((None, 10), (None, 1000))
        assert layer.name == "logits"
        assert layer.get_config().get("activation", "linear") == "linear"


@pytest.mark.parametrize(
    "name", ["lenet300", "conv4", "resnet20", "resnet18", "resnet50", "vgg16", "squeezenet"]
)
def test_both_flavors_compute_the_same(name):
    model, other = build(name, "keras"), build(name, "tf_keras")
    randomize(model)
    other.set_weights(model.get_weights())
    x = images(model)
    expected = np.asarray(model(x, training=False))
    assert expected.shape == (2, 10)
    assert np.std(expected) > 1e-2
    np.testing.assert_allclose(other(x, training=False), expected, atol=1e-5, rtol=1e-4)


def test_both_flavors_normalize_by_the_batch_and_follow_it_alike():
    model, other = build("resnet20", "keras"), build("resnet20", "tf_keras")
    randomize(model)
    other.set_weights(model.get_weights())
    x, momentum = images(model, batch=8), 0.9
    before = by_name(model)["stem_bn/moving_mean"]
    np.testing.assert_allclose(
        other(x, training=True), np.asarray(model(x, training=True)), atol=1e-4
    )
    stem = by_name(model)["stem_conv/kernel"]
    mean = numpy_conv(x, stem).mean((0, 1, 2))
    for trained in (model, other):
        np.testing.assert_allclose(
            by_name(trained)["stem_bn/moving_mean"],
            momentum * before + (1 - momentum) * mean,
            atol=1e-5,
        )


# --- The arithmetic, against a plain NumPy version of the papers' networks ---------------------


def numpy_conv(x, kernel, stride=1):
    """Convolution with the same padding on all four sides."""
    size = kernel.shape[0]
    pad = size // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)


def numpy_max_pool(x):
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((-2, -1))


def numpy_resnet(weights, x, stages, kernel_strides, imagenet):
    """A residual network, written after the papers; `kernel_strides` is the strided kernel."""

    def conv_bn(x, prefix, index="", stride=1):
        x = numpy_conv(x, weights[f"{prefix}_conv{index}/kernel"], stride)
        bn = {key: weights[f"{prefix}_bn{index}/{key}"] for key in ("gamma", "beta")}
        mean = weights[f"{prefix}_bn{index}/moving_mean"]
        variance = weights[f"{prefix}_bn{index}/moving_variance"]
        return (x - mean) / np.sqrt(variance + 1e-5) * bn["gamma"] + bn["beta"]

    def shortcut(x, prefix, width, stride):
        if f"{prefix}_shortcut_conv/kernel" in weights:
            return conv_bn(x, f"{prefix}_shortcut", stride=stride)
        pad = (width - x.shape[-1]) // 2
        return np.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (pad, pad)))

    x = np.maximum(conv_bn(x, "stem", stride=2 if imagenet else 1), 0)
    x = numpy_max_pool(x) if imagenet else x
    for stage, depth in enumerate(stages, start=1):
        for block in range(1, depth + 1):
            prefix, y = f"stage{stage}_block{block}", x
            stride = 2 if stage > 1 and block == 1 else 1
            kernels = sum(f"{prefix}_conv{i}/kernel" in weights for i in (1, 2, 3))
            for i in range(1, kernels + 1):
                y = conv_bn(y, prefix, i, stride if i == kernel_strides else 1)
                y = np.maximum(y, 0) if i < kernels else y
            x = np.maximum(y + shortcut(x, prefix, y.shape[-1], stride), 0)
    return x.mean((1, 2)) @ weights["logits/kernel"] + weights["logits/bias"]


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    ("name", "size", "stages", "kernel_strides", "imagenet"),
    [
        ("resnet20", 12, (3, 3, 3), 1, False),
        ("resnet20", 9, (3, 3, 3), 1, False),
        ("resnet18", 64, (2, 2, 2, 2), 1, True),
        ("resnet50", 40, (3, 4, 6, 3), 2, True),
    ],
)
def test_residual_networks_are_those_of_the_papers(
    flavor, name, size, stages, kernel_strides, imagenet
):
    model = build(name, flavor, size=size)
    randomize(model)
    x = images(model)
    expected = numpy_resnet(by_name(model), x, stages, kernel_strides, imagenet)
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_option_a_shortcut_takes_every_second_pixel_and_centers_the_channels(flavor):
    keras = import_module(flavor)
    model = build("resnet20", flavor, size=8)
    start = model.get_layer("stage1_block3_relu2").output
    shortcut = keras.Model(start, model.get_layer("stage2_block1_widen").output)
    x = np.random.default_rng(2).normal(size=(2, 8, 8, 16)).astype("float32")
    y = np.asarray(shortcut(x))
    np.testing.assert_array_equal(y[..., 8:24], x[:, ::2, ::2])
    assert y.shape == (2, 4, 4, 32)
    assert not y[..., :8].any() and not y[..., 24:].any()
    assert not shortcut.weights


def parents(layer):
    """The layers before one in a functional model; a concatenation of concatenations is one."""
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    found = []
    for history in (tensor._keras_history for tensor in tensors):
        before = getattr(history, "operation", None) or history[0]
        both = {type(before).__name__, type(layer).__name__} == {"Concatenate"}
        found += parents(before) if both else [before]
    return found


@pytest.mark.parametrize("flavor", FLAVORS)
def test_inception_is_that_of_keras_applications(flavor):
    """Walking both graphs from the logits, every layer meets its like; then they compute alike."""
    keras, model = import_module(flavor), build("inception_v3", flavor)
    theirs = keras.applications.InceptionV3(
        weights=None, input_shape=(75, 75, 3), classes=10, classifier_activation=None
    )
    randomize(model)
    met, pairs = set(), [(model.layers[-1], theirs.layers[-1])]
    while pairs:
        ours, other = pairs.pop()
        if ours in met:
            continue
        met.add(ours)
        assert [w.shape for w in ours.weights] == [w.shape for w in other.weights]
        for key in ("kernel_size", "pool_size", "strides", "padding", "epsilon", "momentum"):
            assert ours.get_config().get(key) == other.get_config().get(key)
        other.set_weights(ours.get_weights())
        if type(ours).__name__ != "InputLayer":
            pairs += zip(parents(ours), parents(other), strict=True)
    assert len(met) == len(model.layers)
    x = images(model)
    expected = np.asarray(theirs(x, training=False))
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-5)


def test_squeezenet_ends_in_13_by_13_pixels():
    model = build("squeezenet", "keras", size=224)
    sizes = [model.get_layer(name).output.shape[1] for name in ("conv1", "fire4_concat", "conv10")]
    assert sizes == [112, 55, 13]
    assert model.get_layer("fire9_concat").output.shape[-1] == 512


def test_vgg_halves_the_image_between_stages_and_keeps_the_biases():
    model = build("vgg16", "keras", size=32)
    sizes = [model.get_layer(f"stage{i}_conv1").output.shape[1] for i in range(1, 6)]
    assert sizes == [32, 16, 8, 4, 2]
    weights = by_name(model)
    assert sum(path.endswith("_conv1/bias") for path in weights) == 5


# --- Initial values --------------------------------------------------------------------------

HE, GLOROT = 2.0, 1.0

INITIAL_STD = [
    ("lenet300", "dense_1", sqrt(GLOROT / ((784 + 300) / 2))),
    ("conv4", "conv_4", sqrt(GLOROT / (9 * 128))),
    ("conv4", "conv_3", sqrt(GLOROT / (9 * (64 + 128) / 2))),
    ("resnet20", "stage3_block1_conv1", sqrt(HE / (9 * 32))),
    ("resnet56", "stage3_block9_conv2", sqrt(HE / (9 * 64))),
    ("resnet18", "stage2_block1_conv1", sqrt(HE / (9 * 128))),
    ("resnet18", "logits", 1 / sqrt(3 * 512)),
    ("resnet50", "stage3_block1_shortcut_conv", sqrt(HE / 1024)),
    ("vgg16", "stage4_conv1", sqrt(HE / (9 * 512))),
    ("vgg19", "logits", 0.01),
]


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(("name", "layer", "std"), INITIAL_STD)
def test_initial_weights_have_the_variance_of_the_papers(flavor, name, layer, std):
    kernel = build(name, flavor, classes=200).get_layer(layer).get_weights()[0]
    tolerance = 5 / sqrt(2 * kernel.size)
    assert kernel.std() == pytest.approx(std, rel=tolerance)
    assert abs(kernel.mean()) < 5 * std / sqrt(kernel.size)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("name", ["resnet20", "vgg16"])
def test_he_normal_is_not_truncated(flavor, name):
    kernel = build(name, flavor).get_layer(
        "stage3_block1_conv2" if "res" in name else "stage3_conv2"
    )
    values = kernel.get_weights()[0]
    assert np.abs(values).max() > 3.5 * values.std()


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("name", ["conv2", "resnet20", "vgg16"])
def test_layers_of_one_shape_start_different_and_biases_at_zero(flavor, name):
    weights = by_name(build(name, flavor, classes=256))
    kernels = [value for path, value in weights.items() if path.endswith("kernel")]
    for index, kernel in enumerate(kernels):
        for other in kernels[:index]:
            assert kernel.shape != other.shape or not np.array_equal(kernel, other)
    assert not any(value.any() for path, value in weights.items() if path.endswith("bias"))


@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_seed_decides_the_initial_weights(flavor):
    def weights(seed):
        import_module(flavor).utils.set_random_seed(seed)
        return build("resnet20", flavor).get_weights()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


# --- Files -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3's own
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("name", ["lenet300", "conv2", "resnet20", "resnet18"])
def test_saved_models_load_in_safe_mode_without_this_library(tmp_path, flavor, name):
    keras, model = import_module(flavor), build(name, flavor)
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    x = images(model)
    np.testing.assert_array_equal(loaded(x, training=False), model(x, training=False))
    assert list(by_name(loaded)) == list(by_name(model))


# --- Bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_image_works_and_a_smaller_one_is_refused(flavor, name):
    smallest = SMALLEST[name]
    model = build(name, flavor, size=smallest)
    assert np.isfinite(model(images(model), training=False)).all()
    for shape in [(smallest - 1, 64, 3), (64, smallest - 1, 3)]:
        with pytest.raises(
            ArgumentError, match=f"at least {smallest} x {smallest} pixels"
        ) as error:
            build_model(name, keras=flavor, input_shape=shape, num_classes=10)
        assert error.value.argument == "model"


def test_lenet_takes_inputs_of_any_shape_and_others_say_so():
    model = build_model("lenet300", keras="keras", input_shape=(64,), num_classes=10)
    assert model.output_shape == (None, 10)
    with pytest.raises(ArgumentError, match=r"\(height, width, channels\).*lenet300"):
        build_model("resnet20", keras="keras", input_shape=(64,), num_classes=10)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("model", {"name": "resnet21"}),
        ("keras", {"keras": "torch"}),
        ("keras", {"keras": None}),
        ("num_classes", {"num_classes": 1}),
        ("num_classes", {"num_classes": 10.0}),
        ("model", {"input_shape": ()}),
        ("input_shape", {"input_shape": (32, 0, 3)}),
        ("input_shape", {"input_shape": (32, None, 3)}),
    ],
)
def test_bad_arguments_are_named(argument, change):
    good = {"name": "resnet20", "keras": "keras", "input_shape": (32, 32, 3), "num_classes": 10}
    with pytest.raises(ArgumentError) as error:
        build_model(**{**good, **change})
    assert error.value.argument == argument


def test_an_unknown_model_is_answered_with_the_known_ones():
    with pytest.raises(ArgumentError, match=", ".join(MODELS)):
        build_model("resnet", keras="keras", input_shape=(32, 32, 3), num_classes=10)


def test_a_flavor_may_be_given_as_its_module():
    keras = import_module("tf_keras")
    model = build_model("lenet300", keras=keras, input_shape=(8, 8, 1), num_classes=10)
    assert isinstance(model, keras.Model)


def test_listing_the_models_imports_no_tensorflow():
    code = "import sys, tf_prac.models; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "tf_prac.models" in modules
    assert not {"tensorflow", "keras", "tf_keras"} & set(modules)
