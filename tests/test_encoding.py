"""Stored weights: what is decoded is what was encoded, and takes hardly more than it has to."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_prac.errors import ArgumentError
from tf_prac.export.encoding import (
    STORAGES,
    WIDTHS,
    code_bytes,
    information_bound,
    is_smaller_dense,
    pack,
    store,
    unpack,
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


@given(st.lists(weights(), min_size=1, max_size=3))
def test_float32_and_the_masks_come_back_to_the_bit(drawn):
    row = np.concatenate([weight.reshape(-1) for weight, _ in drawn])
    keep = np.concatenate([keep.reshape(-1) for _, keep in drawn])
    packed = pack(row, keep)
    found, mask = unpack(packed)
    assert found.dtype == np.float32 and packed.nbytes == packed.values.nbytes + packed.codes.size
    np.testing.assert_array_equal(found, row)
    np.testing.assert_array_equal(mask, keep)
    if packed.bits:
        assert packed.codes.size == code_bytes(keep, packed.bits)


@given(weights())
def test_a_dense_row_has_its_zeros_for_a_mask(drawn):
    weight, keep = drawn
    row = weight.reshape(-1)
    found, mask = unpack(pack(row, keep.reshape(-1), dense=True))
    np.testing.assert_array_equal(found, row)
    np.testing.assert_array_equal(mask, row != 0)
    if is_smaller_dense(row, keep.reshape(-1)) and not keep.all():
        np.testing.assert_array_equal(mask, keep.reshape(-1))


@given(weights(), st.sampled_from(STORAGES[1:]))
def test_rounded_values_are_the_nearest(drawn, storage):
    weight, keep = drawn
    rounded = store(weight, storage).restored()
    assert rounded.dtype == np.float32 and rounded.shape == weight.shape
    np.testing.assert_array_equal(rounded[~keep], 0)
    if storage == "int8":
        step = np.abs(weight).max(tuple(range(weight.ndim - 1)), keepdims=True, initial=0) / 127
    else:
        step = np.abs(weight) * 2.0 ** {"float16": -10, "bfloat16": -7}[storage] + 1e-7
    assert np.all(np.abs(rounded - weight) <= 0.5 * step * (1 + 1e-5))


@given(st.sets(st.integers(0, 5000), max_size=300))
def test_positions_against_a_slow_decoder(positions):
    keep = np.zeros(5001, bool)
    keep[list(positions)] = True
    packed = pack(keep.astype(np.float32), keep)
    text = "".join(f"{octet:08b}"[::-1] for octet in packed.codes)
    place, found = 0, []
    for start in range(0, len(text), packed.bits):
        code = int(text[start : start + packed.bits][::-1], 2)
        place += code
        if code < 2**packed.bits - 1:
            found.append(place)
            place += 1
    assert found == sorted(positions) == np.flatnonzero(unpack(packed)[1]).tolist()


def test_codes_of_another_row_are_refused():
    keep = np.arange(40) % 4 == 0
    packed = pack(np.ones(40, np.float32), keep)
    for changes in ({"size": 30}, {"values": packed.values[1:]}, {"codes": packed.codes[:-1]}):
        with pytest.raises(ValueError):
            unpack(dataclasses.replace(packed, **changes))


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999])
@pytest.mark.parametrize("storage", STORAGES)
def test_size_is_close_to_the_bound_and_never_above_dense(sparsity, storage):
    generator = np.random.default_rng(0)
    keep = generator.random(360_000) >= sparsity
    weight = np.where(keep, generator.normal(size=keep.shape), 0).astype(np.float32)
    values = store(weight, storage).values
    packed = pack(values, keep)
    bound = information_bound(keep.size, int(keep.sum()), values.itemsize)
    most = 1.15 if storage == "float32" else 1.25
    assert bound <= packed.nbytes * 1.001 <= most * bound
    assert packed.nbytes <= values.nbytes and packed.bits in WIDTHS
    assert not is_smaller_dense(values, keep)


def test_the_smallest_encoding_is_taken():
    generator = np.random.default_rng(0)
    weight = generator.normal(size=2000).astype(np.float32)
    assert is_smaller_dense(weight, weight != 0)
    half = store(np.where(generator.random(2000) < 0.5, weight, 0), "int8").values
    assert pack(half, half != 0).kind == "bitmask"
    few = np.where(generator.random(2000) < 0.05, weight, 0)
    assert pack(few, few != 0).kind == "gaps"
    assert pack(weight, weight != 0, dense=True).kind == "dense"
    kept_zero = np.where(np.arange(2000) == 7, 0, weight)
    kept_zero[3] = 0  # pruned, and not to be told from the other zero
    assert not is_smaller_dense(kept_zero, np.arange(2000) != 3)


def test_the_bound_is_the_entropy():
    assert information_bound(1000, 0, 4) == 0
    assert information_bound(1000, 1000, 4) == 4000
    kept, size = 50, 1000
    exact = math.log2(math.comb(size, kept)) / 8
    assert exact < information_bound(size, kept, 0) < exact + 2


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_stay_exact(dtype):
    weight = np.array([0, 1 / 3, 0, 0, 0, 0, 0, 0, 2 / 3], dtype)
    decoded = store(weight).restored()
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
        store(np.float32([0, value]), storage)
    assert allowed in str(error.value) and error.value.argument == "storage"
