"""Stored weights: what is decoded is what was encoded, and takes hardly more than it has to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_prac.errors import ArgumentError
from tf_prac.export.encoding import (
    STORAGES,
    decode,
    encode,
    information_bound,
    kept_mask,
    kept_positions,
)


@st.composite
def weights(draw):
    """A weight and its mask: any shape, any density, kept zeros too."""
    shape = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.3, 0.5, 0.9, 1.0]))
    keep = generator.random(shape) < density
    weight = np.where(keep, generator.normal(size=shape), 0).astype(np.float32)
    if draw(st.booleans()):
        weight[generator.random(shape) < 0.1] = 0
    return weight, keep


@given(weights())
def test_float32_and_the_mask_come_back_to_the_bit(drawn):
    weight, keep = drawn
    encoded = encode(weight, keep)
    decoded = decode(encoded)
    assert decoded.dtype == np.float32 and decoded.shape == weight.shape
    np.testing.assert_array_equal(decoded, weight)
    expected = decoded != 0 if keep.all() else keep
    np.testing.assert_array_equal(kept_mask(encoded), expected)


@given(weights(), st.sampled_from(STORAGES[1:]))
def test_rounded_values_are_the_nearest(drawn, storage):
    weight, keep = drawn
    encoded = encode(weight, keep, storage)
    decoded = decode(encoded)
    expected = decoded != 0 if keep.all() else keep
    np.testing.assert_array_equal(kept_mask(encoded), expected)
    np.testing.assert_array_equal(decoded[~keep], 0)
    if storage == "int8":
        step = np.abs(weight).max(tuple(range(weight.ndim - 1)), keepdims=True, initial=0) / 127
    else:
        step = np.abs(weight) * 2.0 ** {"float16": -10, "bfloat16": -7}[storage] + 1e-7
    assert np.all(np.abs(decoded - weight) <= 0.5 * step * (1 + 1e-5))


@given(st.sets(st.integers(0, 5000), max_size=300))
def test_positions_against_a_slow_decoder(positions):
    keep = np.zeros(5001, bool)
    keep[list(positions)] = True
    weight = keep.astype(np.float32)
    encoded = encode(weight, keep)
    if encoded.bits == 0:
        return
    text = "".join(f"{octet:08b}"[::-1] for octet in encoded.codes)
    place, found = 0, []
    for start in range(0, len(text), encoded.bits):
        code = int(text[start : start + encoded.bits][::-1], 2)
        place += code
        if code < 2**encoded.bits - 1:
            found.append(place)
            place += 1
    assert found == sorted(positions) == kept_positions(encoded).tolist()


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999])
@pytest.mark.parametrize("storage", STORAGES)
def test_size_is_close_to_the_bound_and_never_above_dense(sparsity, storage):
    generator = np.random.default_rng(0)
    keep = generator.random((3, 3, 200, 200)) >= sparsity
    weight = np.where(keep, generator.normal(size=keep.shape), 0).astype(np.float32)
    encoded = encode(weight, keep, storage)
    each = encoded.values.itemsize
    bound = information_bound(keep.size, int(keep.sum()), each)
    scales = 0 if encoded.scale is None else encoded.scale.nbytes
    most = 1.15 if storage == "float32" else 1.25
    assert bound <= (encoded.nbytes - scales) * 1.001 <= most * bound
    assert encoded.nbytes - scales <= weight.size * each


def test_a_weight_without_zeros_is_dense_and_a_half_empty_one_is_a_bitmask():
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(50, 40)).astype(np.float32)
    assert encode(weight).kind == "dense"
    half = np.where(generator.random(weight.shape) < 0.5, weight, 0)
    assert encode(half, storage="int8").kind == "bitmask"
    assert encode(np.where(generator.random(weight.shape) < 0.05, weight, 0)).kind == "gaps"


def test_the_bound_is_the_entropy():
    assert information_bound(1000, 0, 4) == 0
    assert information_bound(1000, 1000, 4) == 4000
    kept, size = 50, 1000
    exact = math.log2(math.comb(size, kept)) / 8
    assert exact < information_bound(size, kept, 0) < exact + 2


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_stay_exact(dtype):
    weight = np.array([0, 1 / 3, 0, 0, 0, 0, 0, 0, 2 / 3], dtype)
    decoded = decode(encode(weight))
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, weight)


@pytest.mark.parametrize(
    ("storage", "value", "allowed"),
    [
        ("float8", 1.0, "one of float32, float16, bfloat16, int8"),
        ("float16", 1e6, "bfloat16 or float32 for a weight as large as 1e+06"),
        ("int8", np.inf, "float32 for weights with NaN or infinite values"),
        ("bfloat16", np.nan, "float32 for weights with NaN or infinite values"),
    ],
)
def test_what_cannot_be_stored_is_refused(storage, value, allowed):
    with pytest.raises(ArgumentError) as error:
        encode(np.float32([0, value]), storage=storage)
    assert allowed in str(error.value) and error.value.argument == "storage"
