"""Blocks and m:n sparsity against TFMOT's own masks, and sparsity schedules against its own."""

import dataclasses
import importlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

from tf_prac import (
    ConstantSparsity,
    Masks,
    PolynomialDecay,
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    prune,
)
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS, flavor_of
from tf_prac.pruning import transposed_kernels
from tf_prac.pruning.criteria import PruneRule
from tf_prac.pruning.patterns import (
    PATTERNS,
    Block,
    Channels,
    MByN,
    Pattern,
    Refill,
    Unstructured,
    refill,
)
from tf_prac.pruning.sparsity_schedules import as_schedule, schedule_config

THEIRS = tfmot.sparsity.keras
both = pytest.mark.parametrize("flavor", FLAVORS)


def weights_of(shape, seed):
    """Different magnitudes, so that no tie is broken in two ways."""
    generator = np.random.default_rng(seed)
    size = int(np.prod(shape))
    values = (1 + generator.permutation(size)) * generator.choice([-1, 1], size)
    return values.reshape(shape).astype(np.float32)


def tfmots_mask(weights, sparsity=0.0, **pattern):
    options = {"block_size": (1, 1), "block_pooling_type": "AVG", **pattern}
    schedule = THEIRS.ConstantSparsity(sparsity, 0)
    pruning = pruning_impl.Pruning(lambda: 1, [], schedule, **options)
    return pruning._maybe_update_block_mask(tf.constant(weights))[1].numpy() != 0


def pattern_of(**options):
    return PruningConfig(**options).make_pattern()


def ours(weights, sparsity=None, masks=None, **pattern):
    rule = PruneRule(sparsity=sparsity, scope="layerwise", pattern=pattern_of(**pattern))
    return rule({"w": weights}, masks or Masks.ones_like({"w": weights}))["w"]


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(["AVG", "MAX"]),
    st.integers(1, 8),
    st.integers(0, 99),
)
def test_blocks_are_those_of_tfmot(shape, block, pooling, eighths, seed):
    weights = weights_of(shape, seed)
    if any(b > s for b, s in zip(block, shape, strict=True)):
        with pytest.raises(ArgumentError, match=r"block_size: received .*w has shape"):
            ours(weights, 0.5, block_size=block)
        return
    blocks = -(-shape[0] // block[0]) * -(-shape[1] // block[1])
    gone = blocks * eighths // 9  # a whole number of blocks: no rounding to differ in
    mask = ours(weights, gone / blocks, block_size=block, block_pooling_type=pooling)
    pooled = Block(block, pooling).pool(np.abs(weights))
    # Averages may tie; TFMOT fails where blocks form a single row or column, and where they do not
    # divide the weights it scores other blocks than it prunes (padding on both sides).
    divides = all(s % b == 0 for b, s in zip(block, shape, strict=True))
    if divides and len(np.unique(np.round(pooled, 3))) == blocks and min(pooled.shape) > 1:
        reference = tfmots_mask(
            weights, gone / blocks, block_size=block, block_pooling_type=pooling
        )
        np.testing.assert_array_equal(mask, reference)
    for i in range(0, shape[0], block[0]):
        for j in range(0, shape[1], block[1]):
            part = mask[i : i + block[0], j : j + block[1]]
            assert part.all() or not part.any()


@given(
    st.sampled_from([(8, 3), (6, 5), (3, 3, 4, 2), (1, 1, 7, 3)]),
    st.sampled_from([(1, 2), (2, 4), (3, 4), (1, 4)]),
    st.integers(0, 99),
)
def test_m_by_n_is_that_of_tfmot(shape, m_by_n, seed):
    weights = weights_of(shape, seed)
    mask = ours(weights, sparsity_m_by_n=m_by_n)
    np.testing.assert_array_equal(mask, tfmots_mask(weights, sparsity_m_by_n=m_by_n))
    m, n = m_by_n
    channels = np.moveaxis(mask, -1, 0).reshape(-1, shape[-2])
    for row in channels:
        for start in range(0, shape[-2] - shape[-2] % n, n):
            assert np.count_nonzero(~row[start : start + n]) == m


@given(st.integers(0, 99), st.sampled_from([{"block_size": (2, 2)}, {"sparsity_m_by_n": (2, 4)}]))
def test_what_is_pruned_stays_pruned(seed, pattern):
    weights = weights_of((8, 6), seed)
    before = Masks({"w": np.random.default_rng(seed).random((8, 6)) < 0.9})
    after = ours(weights, None, before, **pattern)
    assert not (after & ~before["w"]).any()


def test_scores_of_all_weights_are_ranked_together_in_blocks():
    weights = {"a": np.ones((4, 4)), "b": np.full((4, 4), 2.0)}
    rule = PruneRule(0.5, pattern=Block((2, 2)))
    masks = rule(weights, Masks.ones_like(weights))
    assert not masks["a"].any() and masks["b"].all()


def test_patterns_that_fit_no_weight_are_refused():
    for shape, pattern, message in [
        ((3, 3, 4, 4), {"block_size": (2, 2)}, r"blocks for matrices.*\(3, 3, 4, 4\)"),
        ((4, 4), {"block_size": (5, 1)}, "at least as large"),
        ((4,), {"sparsity_m_by_n": (2, 4)}, "without 2 or 4 dimensions.*ignore"),
        ((2, 3, 4), {"sparsity_m_by_n": (2, 4)}, "without 2 or 4 dimensions"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            ours(np.ones(shape), 0.5, **pattern)


@dataclasses.dataclass(frozen=True)
class Rows(Pattern):
    """Whole rows are pruned: an example of a pattern defined outside the package."""

    lowest: int = 0

    def prune(self, scores, masks, prune):
        rows = {n: np.asarray(s).max(axis=-1, keepdims=True) for n, s in scores.items()}
        kept = prune(rows, Masks({n: m.any(axis=-1, keepdims=True) for n, m in masks.items()}))
        return Masks({n: kept[n] & mask for n, mask in masks.items()})


def test_a_pattern_is_one_class_and_one_line(monkeypatch):
    weights = {"w": weights_of((6, 4), 0)}
    for pattern in (Rows(2), "rows"):
        monkeypatch.setitem(PATTERNS, "rows", Rows)
        config = PruningConfig(pattern=pattern)
        rule = PruneRule(0.5, pattern=config.make_pattern())
        mask = rule(weights, Masks.ones_like(weights))["w"]
        assert mask.all(axis=1).sum() == 3 and (~mask).all(axis=1).sum() == 3
        name = config.to_json()["pattern"]
        assert name == ("rows" if pattern == "rows" else "test_patterns.Rows(lowest=2)")
        assert PruningConfig(pattern="rows") == PruningConfig(
            **PruningConfig(pattern="rows").to_json()
        )
    with pytest.raises(ArgumentError, match=r"pattern: .*Rows\(lowest=2\).* pass the object"):
        PruningConfig(pattern="test_patterns.Rows(lowest=2)")


def test_patterns_of_the_options_are_stored_as_these_options():
    for pattern, options in [
        (Unstructured(), {}),
        ("unstructured", {}),
        (Block((2, 3), "MAX"), {"block_size": (2, 3), "block_pooling_type": "MAX"}),
        (MByN(2, 4), {"sparsity_m_by_n": (2, 4)}),
    ]:
        config = PruningConfig(pattern=pattern)
        assert config == PruningConfig(**options) == PruningConfig(pattern=pattern, **options)
        assert "pattern" not in config.to_json()
        assert isinstance(pattern, str) or config.make_pattern() == pattern
        assert dataclasses.replace(config, rounds=1) == PruningConfig(rounds=1, **options)
    assert PruningConfig(pattern="block", block_size=(2, 2)) == PruningConfig(block_size=(2, 2))
    named = PruningConfig(pattern="m_by_n", sparsity_m_by_n=(2, 4))
    assert named == PruningConfig(sparsity_m_by_n=(2, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "rows"}, "pattern: received 'rows'; allowed: one of unstructured, block, m_"),
        ({"pattern": 2}, "pattern: received 2"),
        ({"pattern": Block}, "pattern: received <class"),
        ({"pattern": "m_by_n"}, r"sparsity_m_by_n: received \(\); allowed: two integers"),
        ({"pattern": "unstructured", "block_size": (2, 2)}, r"block_size: received \(2, 2\)"),
        ({"pattern": Rows(), "sparsity_m_by_n": (2, 4)}, "sparsity_m_by_n: .*allowed: .*with patt"),
        ({"pattern": MByN(1, 4), "sparsity_m_by_n": (2, 4)}, r"sparsity_m_by_n: .*\(1, 4\) with"),
    ],
)
def test_patterns_are_checked_when_the_configuration_is_built(options, message):
    with pytest.raises(ArgumentError, match=message):
        PruningConfig(**options)


# Schedules


STEPS = st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(1, 20))


@given(STEPS, st.floats(0, 0.5), st.floats(0.5, 0.95), st.sampled_from([1, 2, 3]))
def test_schedules_are_those_of_tfmot(steps, first, last, power):
    begin, length, frequency = steps
    pairs = [
        (
            PolynomialDecay(first, last, begin, begin + length, power, frequency),
            THEIRS.PolynomialDecay(first, last, begin, begin + length, power, frequency),
        ),
        (
            ConstantSparsity(last, begin, -1, frequency),
            THEIRS.ConstantSparsity(last, begin, -1, frequency),
        ),
    ]  # fmt: skip
    for own, theirs in pairs:
        assert as_schedule(theirs) == own == as_schedule(schedule_config(own))
        for step in {1, begin, begin + frequency, begin + length, begin + length + 1}:
            due, sparsity = theirs(tf.constant(step, tf.int64))
            assert own.is_due(step) == bool(due)
            assert own.sparsity(step) == pytest.approx(float(sparsity), abs=1e-6)


def test_a_schedule_gives_the_sparsities_of_a_search():
    schedule = PolynomialDecay(0.2, 0.9, begin_step=0, end_step=4, power=1)
    assert PruningConfig(rounds=4, sparsities=schedule.per_round(4)).sparsities[-1] == 0.9


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: ConstantSparsity(1.0, 0), "target_sparsity"),
        (lambda: ConstantSparsity(0.5, -1), "begin_step"),
        (lambda: ConstantSparsity(0.5, 9, 8), "end_step"),
        (lambda: ConstantSparsity(0.5, 0, frequency=0), "frequency"),
        (lambda: PolynomialDecay(0.9, 0.5, 0, 9), "final_sparsity"),
        (lambda: PolynomialDecay(0.1, 0.5, 9, 9), "end_step"),
        (lambda: as_schedule("polynomial"), "schedule"),
        (lambda: as_schedule({"class_name": "Mine", "config": {}}), "schedule"),
        (lambda: as_schedule({"class_name": "ConstantSparsity"}), "schedule"),
        (lambda: as_schedule({"class_name": "ConstantSparsity", "config": None}), "schedule"),
        (lambda: as_schedule({"class_name": "ConstantSparsity", "config": {"a": 1}}), "schedule"),
    ],
)
def test_schedules_are_checked_when_built(make, argument):
    with pytest.raises(ArgumentError, match=f"^{argument}: received"):
        make()


# Both together, in a `fit`


def network(flavor, name="net"):
    keras = importlib.import_module(flavor)
    layers = keras.layers
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [layers.InputLayer((8,)), layers.Dense(16, activation="relu"), layers.Dense(12)]
        + [layers.Dense(3)]
    )


def fit(model, epochs=1):
    keras = flavor_of(model).module
    if not getattr(model, "optimizer", None):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, jit_compile=False)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 8)).astype(np.float32), generator.integers(0, 3, 40)
    return model.fit(x, y, batch_size=4, epochs=epochs, verbose=0, shuffle=False)


@both
def test_sparsity_grows_during_fit_as_scheduled_and_goes_on_after_loading(flavor, tmp_path):
    from tf_prac import load_model

    schedule = PolynomialDecay(0.25, 0.75, begin_step=2, end_step=14, power=1, frequency=4)
    config = PruningConfig(block_size=(2, 2), scope="layerwise")
    model = prune(network(flavor), schedule=schedule, pruning=config)
    assert model.masks.sparsity == 0
    fit(model)  # 10 steps: updates at 2, 6 and 10
    assert model.masks.sparsity == pytest.approx(schedule.sparsity(10), abs=0.02)
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    fit(again)  # to step 20: one more, at 14
    assert again.masks.sparsity == pytest.approx(0.75, abs=0.02)
    for name, mask in again.masks.items():
        assert not (mask & ~model.masks[name]).any()
        np.testing.assert_array_equal(again.prunable[name].numpy() != 0, mask)
        blocks = Block((2, 2)).split(mask, 0)
        assert (blocks.all((1, 3)) | ~blocks.any((1, 3))).all()


def test_gradual_pruning_agrees_with_tfmot():
    """TFMOT lets pruned weights come back between updates; the masks are otherwise the same."""
    keras = importlib.import_module("tf_keras")
    schedule = THEIRS.PolynomialDecay(0.3, 0.8, 0, 20, frequency=5)
    plain = network("tf_keras")
    start = plain.get_weights()
    model = prune(plain, schedule=schedule, pruning=PruningConfig(scope="layerwise"))
    fit(model, epochs=2)
    other = network("tf_keras")
    other.set_weights(start)
    bare = THEIRS.prune_low_magnitude(other, schedule)
    bare.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 8)).astype(np.float32), generator.integers(0, 3, 40)
    callbacks = [THEIRS.UpdatePruningStep()]
    bare.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
    theirs = Masks(
        {
            name: layer.pruning_vars[0][1].numpy()
            for name, layer in zip(model.masks, bare.layers, strict=False)
        }
    )
    assert theirs.sparsity == pytest.approx(model.masks.sparsity, abs=0.005)
    assert theirs.iou(model.masks) > 0.8


@both
def test_a_schedule_below_the_current_sparsity_is_refused(flavor):
    model = prune(network(flavor), sparsity=0.5)
    with pytest.raises(ArgumentError, match="schedule: received 0.2; allowed: .* at 0.5 or more"):
        prune(model, schedule=PolynomialDecay(0.2, 0.9, 0, 10))
    assert model.masks.sparsity == 0.5


@both
def test_two_of_four_without_a_sparsity(flavor):
    config = PruningConfig(sparsity_m_by_n=(2, 4))
    model = prune(network(flavor), pruning=config)
    assert model.masks.sparsity == 0.5
    fit(model)
    for name, mask in model.masks.items():
        weights = model.prunable[name].numpy()
        np.testing.assert_array_equal(weights != 0, mask)
        assert tfmot_says_2_by_4(weights)


def tfmot_says_2_by_4(weights):
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_utils

    return pruning_utils.is_pruned_m_by_n(tf.constant(weights), (2, 4))


SHAPES = {"conv/kernel": (3, 3, 4, 8), "dense/kernel": (8, 5), "dw/depthwise_kernel": (3, 3, 8, 1)}


@pytest.mark.parametrize("pattern", ["channels", "refill"])
@given(seed=st.integers(0, 99), sparsity=st.sampled_from([0.2, 0.5, 0.9, 0.99]))
def test_channels_are_pruned_as_a_whole(pattern, seed, sparsity):
    weights = {name: weights_of(shape, seed) for name, shape in SHAPES.items()}
    rule = PruneRule(sparsity=sparsity, pattern=pattern_of(pattern=pattern))
    masks = rule(weights, Masks.ones_like(weights))
    for name, mask in masks.items():
        axes = tuple(
            a for a in range(mask.ndim) if a != (2 if "depthwise" in name else mask.ndim - 1)
        )
        assert np.array_equal(mask.any(axes), mask.all(axes)) and mask.any()
    again = PruneRule(rate=0.5, pattern=pattern_of(pattern=pattern))(weights, masks)
    assert all(not np.any(again[name] & ~masks[name]) for name in masks)


TRANSPOSED = {1: (6, 4), 2: (6, 6, 4), 3: (4, 4, 4, 2)}


@both
@pytest.mark.parametrize("rank", TRANSPOSED)
@pytest.mark.parametrize("pattern", ["channels", "refill"])
def test_channels_of_transposed_convolutions_are_their_outputs(flavor, rank, pattern):
    """Their kernels are [..., out, in]; a channel whose weights are all pruned outputs its bias."""
    keras = importlib.import_module(flavor)
    convolution = getattr(keras.layers, f"Conv{rank}DTranspose")
    x = np.random.default_rng(0).normal(size=(2, *TRANSPOSED[rank])).astype(np.float32)
    inputs = keras.Input(TRANSPOSED[rank])
    names = {"name": "up", "bias_initializer": "ones"}
    model = keras.Model(inputs, convolution(6, 3, **names)(inputs))
    pruned = prune(model, sparsity=0.5, pruning=PruningConfig(pattern=pattern))
    (mask,) = pruned.masks.values()
    kept = mask.any((*range(rank), -1))
    assert mask.shape[-2:] == (6, TRANSPOSED[rank][-1]) and kept.sum() == 3
    np.testing.assert_array_equal(mask, np.broadcast_to(kept[:, None], mask.shape))
    assert (np.asarray(pruned(x))[..., ~kept] == 1).all()
    assert transposed_kernels(pruned) == {"up/kernel"}


def test_a_search_prunes_the_channels_of_transposed_convolutions(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 4, 4, 2)).astype(np.float32)

    def make_model():
        layers = importlib.import_module("keras").layers
        network = [layers.Input((4, 4, 2)), layers.Conv2DTranspose(6, 3, name="up")]
        network += [layers.GlobalAveragePooling2D(), layers.Dense(2)]
        return importlib.import_module("keras").Sequential(network)

    config = PruningConfig(rounds=1, prune_rate=0.5, pattern="channels")
    recipe, options = TrainingRecipe(epochs=1, batch_size=10), {"retrain": "none"}
    search = TicketSearch(make_model, recipe, config, directory=tmp_path / "run", **options)
    mask = search.run((x, np.arange(20) % 2)).tickets[-1].masks["up/kernel"]
    assert mask.any((0, 1, 3)).sum() == mask.all((0, 1, 3)).sum() == 3


def test_channels_with_the_smallest_weights_are_pruned():
    weights = {"w": np.array([[5.0, 1, 2], [-5, 1, -2]]), "one": np.array([[0.1]])}
    masks = PruneRule(sparsity=0.5, pattern=Channels())(weights, Masks.ones_like(weights))
    assert masks["w"].tolist() == [[True, False, True]] * 2
    assert masks["one"].all()  # a kernel keeps a channel


def test_refill_keeps_the_fullest_channels_at_the_sparsity_of_each_kernel():
    mask = np.zeros((10, 6), bool)
    mask[:7, 1] = mask[:8, 4] = mask[:5, 2] = True
    assert np.flatnonzero(refill(Masks({"w": mask}))["w"].all(0)).tolist() == [1, 4]
    within = np.ones((10, 6), bool)
    within[9] = False
    kept = refill(Masks({"w": mask & within}), within=Masks({"w": within}))["w"]
    assert not kept[9].any() and kept[:9].all(0)[[1, 4]].all()
    scores = {"w": np.arange(60.0).reshape(10, 6)}
    equal = refill(Masks({"w": np.eye(10, 6, dtype=bool)}), scores)["w"]
    assert np.flatnonzero(equal.all(0)).tolist() == [5]  # of as many weights, the highest scores
    empty = refill(Masks({"w": np.zeros((10, 6), bool)}))["w"]
    assert empty.sum() == 10
    assert Refill() == pattern_of(pattern="refill")
