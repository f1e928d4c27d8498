"""Pruning against an independent reference: one sorted list of Python tuples."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.pruning.criteria import (
    CRITERIA,
    Criterion,
    PruneRule,
    criterion_name,
    global_magnitude,
    layerwise_magnitude,
    magnitude,
    prune,
    prune_count,
    random_mask,
    scores_of,
)
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.patterns import Block, MByN

INF = float("inf")
MANY_TIES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, INF, -INF])
ANYTHING = MANY_TIES | st.floats(allow_nan=False, width=32)
SHAPES = st.sampled_from([(), (1,), (3,), (7,), (2, 3), (4, 5), (2, 2, 3), (0,), (3, 0)])
RATES = st.sampled_from([0.01, 0.1, 0.2, 0.25, 0.29, 0.5, 0.7, 0.75, 0.9, 0.99])
SCOPES = pytest.mark.parametrize("scope", ["global", "layerwise"])
BY_SCOPE = {"global": global_magnitude, "layerwise": layerwise_magnitude}


@st.composite
def networks(draw, elements=MANY_TIES):
    """Weights of up to four tensors."""
    names = draw(st.lists(st.sampled_from("dcba"), min_size=1, max_size=4, unique=True))
    return {name: draw(hnp.arrays(np.float32, draw(SHAPES), elements=elements)) for name in names}


@st.composite
def searches(draw, elements=MANY_TIES):
    """Weights of several rounds of one network."""
    first = draw(networks(elements))
    others = draw(st.integers(0, 3))
    return [first] + [
        {n: draw(hnp.arrays(np.float32, w.shape, elements=elements)) for n, w in first.items()}
        for _ in range(others)
    ]


def slow_count(remaining, rate):
    """Rounds as people do, with decimals; one weight always stays."""
    rounded = int((Decimal(str(rate)) * remaining).quantize(Decimal(1), ROUND_HALF_UP))
    return min(rounded, remaining - 1) if remaining else 0


def slow_prune(scores, kept, rate, scope):
    """Prunes lists of lists: sorts (score, tensor, position), drops the first of them."""
    kept = {name: list(flags) for name, flags in kept.items()}
    names = list(scores)
    for group in [names] if scope == "global" else [[name] for name in names]:
        ranked = sorted(
            (score, tensor, position)
            for tensor, name in enumerate(group)
            for position, score in enumerate(scores[name].ravel().tolist())
            if kept[name][position]
        )
        for _, tensor, position in ranked[: slow_count(len(ranked), rate)]:
            kept[group[tensor]][position] = False
    return kept


def as_lists(masks):
    return {name: mask.ravel().tolist() for name, mask in masks.items()}


def sizes(masks, scope):
    """How many weights each ranking keeps."""
    each = [int(mask.sum()) for mask in masks.values()]
    return each if scope == "layerwise" else [sum(each)]


@SCOPES
@given(rounds=searches(ANYTHING), rate=RATES)
def test_magnitude_is_the_reference_round_after_round(scope, rounds, rate):
    masks, kept = None, as_lists(Masks.ones_like(rounds[0]))
    for weights in rounds:
        absolute = {name: np.abs(w) for name, w in weights.items()}
        kept = slow_prune(absolute, kept, rate, scope)
        masks = BY_SCOPE[scope](weights, masks, rate)
        assert as_lists(masks) == kept
        assert masks.shapes == {name: w.shape for name, w in weights.items()}


@SCOPES
@given(scores=networks(ANYTHING), rate=RATES)
def test_signed_scores_are_the_reference_too(scope, scores, rate):
    dense = Masks.ones_like(scores)
    assert as_lists(prune(scores, dense, rate, scope)) == slow_prune(
        scores, as_lists(dense), rate, scope
    )


@SCOPES
@given(scores=networks(ANYTHING), data=st.data())
def test_each_rate_is_that_of_its_own_tensors(scope, scores, data):
    """Globally, the tensors of one rate are a network of their own."""
    rates = {name: data.draw(st.sampled_from([0.0, 0.1, 0.5])) for name in scores}
    dense = Masks.ones_like(scores)
    expected = {}
    for rate in set(rates.values()):
        part = {name: scores[name] for name in scores if rates[name] == rate}
        expected |= slow_prune(part, as_lists(Masks.ones_like(part)), rate, scope)
    assert as_lists(prune(scores, dense, rates, scope)) == expected


def test_each_tensor_needs_a_rate():
    weights = {"a": np.ones(4), "b": np.ones(4)}
    for rates in ({"a": 0.1}, {"a": 0.1, "b": 0.1, "c": 0.1}, {}):
        with pytest.raises(ArgumentError, match=r"prune_rate: .* a rate for each of \['a', 'b'\]"):
            prune(weights, Masks.ones_like(weights), rates)
    with pytest.raises(ArgumentError, match=r"prune_rate: received 1; allowed: a number in \[0, 1"):
        prune(weights, Masks.ones_like(weights), {"a": 0.1, "b": 1})


@SCOPES
@given(shapes=networks(), rate=RATES, seed=st.integers(0, 2**40))
def test_a_random_mask_is_the_reference_of_its_own_numbers(scope, shapes, rate, seed):
    masks = Masks.ones_like(shapes)
    kept = as_lists(masks)
    for step in range(3):
        generator = np.random.default_rng(seed + step)
        scores = {n: generator.random(m.shape, np.float32) for n, m in masks.items()}
        kept = slow_prune(scores, kept, rate, scope)
        masks = random_mask(masks, rate, seed=seed + step, scope=scope)
        assert as_lists(masks) == kept


@SCOPES
@given(rounds=searches(ANYTHING), rate=RATES)
def test_the_promises_hold_round_after_round(scope, rounds, rate):
    masks = Masks.ones_like(rounds[0])
    for weights in rounds:
        pruned = BY_SCOPE[scope](weights, masks, rate)
        assert all(not (pruned[n] & ~masks[n]).any() for n in masks), "pruned stays pruned"
        for before, after in zip(sizes(masks, scope), sizes(pruned, scope), strict=True):
            assert before - after == slow_count(before, rate)
            assert after >= min(before, 1), "never the last"
        lowest_kept = {n: np.abs(w[pruned[n]]).min(initial=INF) for n, w in weights.items()}
        highest = {n: np.abs(w[masks[n] & ~pruned[n]]).max(initial=0) for n, w in weights.items()}
        if scope == "global":
            assert min(lowest_kept.values()) >= max(highest.values())
        else:
            assert all(lowest_kept[n] >= highest[n] for n in weights)
        masks = pruned


@SCOPES
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.03])
def test_density_follows_the_rate_through_the_rounds(scope, rate):
    generator = np.random.default_rng(3)
    weights = {"a": generator.normal(size=(50, 40)), "b": generator.normal(size=(20, 50))}
    masks = None
    for number in range(1, 13):
        masks = BY_SCOPE[scope](weights, masks, rate)
        steps = 1 if scope == "global" else len(weights)  # each rounding is off by at most 1/2
        error = steps * 0.5 / rate / masks.size
        assert masks.density == pytest.approx((1 - rate) ** number, abs=error)


def test_four_rounds_of_lenet_have_the_sparsities_of_the_paper():
    shapes = {"a": (784, 300), "b": (300, 100)}
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=shape) for name, shape in shapes.items()}
    masks, remaining = None, 784 * 300 + 300 * 100
    for sparsity in (0.2, 0.36, 0.488, 0.5904):
        masks = global_magnitude(weights, masks, 0.2)
        remaining -= slow_count(remaining, 0.2)
        assert masks.remaining == remaining
        assert masks.sparsity == pytest.approx(sparsity, abs=1 / masks.size)


def test_the_count_is_exact_where_floats_are_not():
    assert [prune_count(5, rate) for rate in (0.1, 0.3, 0.5, 0.7)] == [1, 2, 3, 4]
    assert prune_count(50, 0.29) == 15  # 14.5, though 50 * 0.29 < 14.5 in floats
    assert [prune_count(n, 0.99) for n in (0, 1, 2, 3)] == [0, 0, 1, 2]
    for rate in (0.2, 0.29, 0.5, 0.57, 0.123):
        for remaining in range(2000):
            assert prune_count(remaining, rate) == slow_count(remaining, rate)


def test_of_equals_the_earlier_tensor_and_position_goes_first():
    ones = {"z": np.ones((2, 2)), "a": -np.ones(4)}
    assert global_magnitude(ones, rate=0.75)["z"].sum() == 0
    assert global_magnitude(ones, rate=0.75)["a"].tolist() == [False, False, True, True]
    swapped = {"a": ones["a"], "z": ones["z"]}
    assert global_magnitude(swapped, rate=0.75)["z"].tolist() == [[False, False], [True, True]]
    both = layerwise_magnitude(ones, rate=0.25)
    assert both["z"].tolist() == [[False, True], [True, True]]
    assert both["a"].tolist() == [False, True, True, True]


def test_the_sign_of_zero_does_not_break_a_tie():
    zeros = {"a": np.array([0.0, -0.0, 0.0, -0.0, 1.0])}
    for weights in (zeros, {"a": -zeros["a"]}):
        assert global_magnitude(weights, rate=0.4)["a"].tolist() == [0, 0, 1, 1, 1]
        assert prune(weights, Masks.ones_like(weights), 0.4)["a"].sum() == 3


def test_the_default_is_a_fifth_of_dense_masks():
    weights = {"a": np.arange(10.0)}
    for criterion in (global_magnitude, layerwise_magnitude):
        assert criterion(weights)["a"].tolist() == [False] * 2 + [True] * 8
        assert criterion(weights) == criterion(weights, Masks.ones_like(weights), 0.2)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_weights_of_any_numeric_type_are_ranked_by_size(dtype):
    weights = {"a": np.array([5, -1, 2, -4, 3], dtype)}
    assert global_magnitude(weights, rate=0.4)["a"].tolist() == [True, False, False, True, True]
    assert magnitude(weights)["a"].dtype == np.float32
    assert CRITERIA["magnitude"].score(weights)["a"].tolist() == [5, 1, 2, 4, 3]
    assert CRITERIA["magnitude"](weights)["a"].tolist() == [5, 1, 2, 4, 3]


def test_a_rule_is_identified_as_in_0_1():
    pattern = "Pattern(block_size={}, block_pooling_type={!r}, sparsity_m_by_n={})"
    for rule, options in (
        (PruneRule(), ((1, 1), "AVG", ())),
        (PruneRule(pattern=Block((2, 1), "MAX")), ((2, 1), "MAX", ())),
        (PruneRule(pattern=MByN(2, 4)), ((1, 1), "AVG", (2, 4))),
    ):
        assert repr(rule) == (
            "PruneRule(rate=0.2, criterion='magnitude', scope='global', sparsity=None, "
            f"pattern={pattern.format(*options)})"
        )


@pytest.mark.parametrize("rate", [0, 1, 0.0, 1.0, -0.2, 1.5, float("nan"), INF, "0.2", None, True])
def test_a_rate_outside_its_bounds_is_refused(rate):
    weights = {"a": np.ones(4)}
    masks = Masks.ones_like(weights)
    for use in (
        lambda: global_magnitude(weights, rate=rate),
        lambda: layerwise_magnitude(weights, rate=rate),
        lambda: random_mask(masks, rate, seed=0),
        lambda: prune(weights, masks, rate),
    ):
        with pytest.raises(ArgumentError, match=r"prune_rate: received .* \(0, 1\)"):
            use()


def test_a_scope_that_is_not_one_is_refused():
    with pytest.raises(ArgumentError, match="scope: received 'local'; allowed: one of global, lay"):
        prune({"a": np.ones(4)}, Masks({"a": np.ones(4)}), 0.2, "local")


@SCOPES
@pytest.mark.parametrize("others", [[], [1.0], [INF, 2.0], [5.0] * 40])
def test_nan_is_refused_however_little_is_pruned(scope, others):
    for values in ([np.nan, *others], [*others, np.nan]):
        weights = {"b": np.ones(3), "a": np.array(values)}
        with pytest.raises(ArgumentError, match="NaN"):
            BY_SCOPE[scope](weights, rate=0.01)


def test_nan_where_a_weight_is_pruned_already_does_not_matter():
    masks = Masks({"a": np.array([0, 1, 1, 1])})
    pruned = global_magnitude({"a": np.array([np.nan, 3, 2, 1])}, masks, 0.3)
    assert pruned["a"].tolist() == [False, True, True, False]


@SCOPES
@pytest.mark.parametrize(
    "weights",
    [
        {"a": np.ones((2, 3))},
        {"a": np.ones((3, 2)), "b": np.ones(3)},
        {"a": np.ones((2, 3)), "b": np.ones(3), "c": np.ones(1)},
        {},
    ],
)
def test_masks_of_another_network_are_refused(scope, weights):
    masks = Masks({"a": np.ones((2, 3)), "b": np.ones(3)})
    with pytest.raises(MismatchError):
        BY_SCOPE[scope](weights, masks)


@SCOPES
def test_masks_of_nothing_are_not_dense_masks(scope):
    assert BY_SCOPE[scope]({}) == Masks({})
    assert BY_SCOPE[scope]({"a": np.ones(0)})["a"].shape == (0,)
    with pytest.raises(MismatchError, match="'a' has no mask"):
        BY_SCOPE[scope]({"a": np.ones(4)}, Masks({}))


@SCOPES
def test_a_random_mask_depends_on_its_seed_alone(scope):
    masks = Masks({"a": np.ones((30, 30)), "b": np.ones(60)})
    one, same = (random_mask(masks, 0.5, seed=7, scope=scope) for _ in range(2))
    others = [random_mask(masks, 0.5, seed=seed, scope=scope) for seed in range(5)]
    assert one == same
    assert len({one, *others}) == 6
    assert all(other.remaining == 480 for other in others)
    overlap = one.iou(others[0])  # of independent halves: about 1/3
    assert 0.25 < overlap < 0.42


def test_a_random_mask_keeps_the_share_of_each_tensor_unless_global():
    masks = Masks({"a": np.ones(900), "b": np.ones(100)})
    assert [m.sum() for m in random_mask(masks, 0.3, seed=1).values()] == [630, 70]
    shares = {random_mask(masks, 0.3, seed=s, scope="global")["b"].sum() for s in range(10)}
    assert len(shares) > 1 and all(50 < share < 90 for share in shares)


def test_weights_and_masks_are_left_as_they_were():
    weights = {"a": np.array([3.0, -1.0, 2.0])}
    masks = Masks({"a": np.array([1, 1, 0])})
    digest = masks.digest()
    global_magnitude(weights, masks, 0.5)
    assert weights["a"].tolist() == [3.0, -1.0, 2.0] and masks.digest() == digest


def smallness(weights):
    return {name: -np.abs(w) for name, w in weights.items()}


def test_a_criterion_is_one_function_and_one_line(monkeypatch):
    weights = {"a": np.float32([1, -2, 3, -4])}
    monkeypatch.setitem(CRITERIA, "smallness", Criterion(smallness))
    masks = Masks.ones_like(weights)
    kept = {
        name: prune(scores_of(weights, name), masks, 0.5)["a"].tolist()
        for name in ("magnitude", "smallness")
    }
    assert kept["magnitude"] == [False, False, True, True]
    assert kept["smallness"] == [True, True, False, False]
    with pytest.raises(ArgumentError, match="criterion: received 'size'; allowed: one of magni"):
        scores_of(weights, "size")


def test_a_function_is_a_criterion_without_a_registration():
    weights = {"a": np.float32([1, -2, 3, -4])}
    for criterion in (smallness, Criterion(smallness)):
        rule = PruneRule(0.5, criterion)
        assert rule(weights, Masks.ones_like(weights))["a"].tolist() == [1, 1, 0, 0]
        assert repr(PruneRule(0.5, smallness)) == repr(rule), "the same in each process"


def test_names_of_criteria_are_stable(monkeypatch):
    for name, criterion in CRITERIA.items():
        assert criterion_name(name) == criterion_name(criterion) == name
    assert criterion_name(magnitude) == "magnitude"
    assert criterion_name(smallness) == "test_criteria.smallness"
    at_w_k = Criterion(smallness, "rewind_point")
    assert criterion_name(at_w_k) == "test_criteria.smallness(at='rewind_point')"
    monkeypatch.setitem(CRITERIA, "smallness", Criterion(smallness))
    assert criterion_name(smallness) == "smallness"
    with pytest.raises(ArgumentError, match="criterion: .*lambda.*; allowed: .*def"):
        criterion_name(lambda weights: weights)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"score": "magnitude"}, "score"),
        ({"at": "end"}, "at"),
        ({"needs_network": 1}, "needs_network"),
        ({"passes": -1}, "passes"),
    ],
)
def test_criteria_are_checked_when_built(options, argument):
    with pytest.raises(ArgumentError, match=f"^{argument}: received"):
        Criterion(**{"score": smallness, **options})


def test_criteria_that_need_more_than_trained_weights_are_for_searches():
    weights = {"a": np.ones(4)}
    for name in ("taylor", "snip", "magnitude_init"):
        with pytest.raises(ArgumentError, match=f"'{name}'; allowed: one of magnitude, or a func"):
            PruneRule(0.5, name)(weights, Masks.ones_like(weights))
