"""Invalid sample ids and labels end in the same error with and without XLA, wherever they go in."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import tensorflow as tf
from halved import halved

from tf_prac import (
    ForgettingLogger,
    ForgettingRecorder,
    PracModel,
    SampleScores,
    SampleSet,
    TicketSearch,
)
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS

both = pytest.mark.parametrize("flavor", FLAVORS)
COUNT, BATCH = 16, 8
IDS = np.arange(COUNT)
X = np.random.default_rng(0).normal(size=(COUNT, 8)).astype(np.float32)
Y = X[:, :4].argmax(1)


def changed(values, index, value):
    values = values.copy()
    values[index] = value
    return values


# Sample ids, num_samples, and the error; the first ones of which only appear at run time.
VALUES = {
    "too high": (IDS, 10, r"num_samples: received 10; .*sample id of the data, which go up to 15"),
    "64 bits": (
        changed(IDS, 3, 2**32 + 5),
        16,
        r"sample_id: received 4294967301; allowed: 0 to 15",
    ),
    "the highest": (changed(IDS, 3, 2**63 - 1), 16, r"sample_id: received 9223372036854775807"),
    "unsigned": (changed(IDS.astype("u8"), 3, 2**64 - 7), 16, r"sample_id: received -7"),
    "negative": (changed(IDS, 0, -1), 16, r"sample_id: received -1; allowed: 0 to 15"),
    "int32": (changed(IDS.astype("i4"), 9, -5), 16, r"sample_id: received -5"),
    "twice": (
        changed(IDS, 3, 4),
        16,
        r"sample_id: received '1 samples with an id.*batch\(\) be",
    ),
}
TYPES = {
    "fractions": (IDS / 2, 16, r"sample_id: received 'float64 of shape \(8,\)'.*with_sample_ids"),
    "whole floats": (IDS.astype("f4"), 16, r"sample_id: received 'float32 of shape"),
    "flags": (IDS > 3, 16, r"sample_id: received 'bool of shape"),
    "words": (IDS.astype(str), 16, r"sample_id: received 'string of shape"),
    "columns": (IDS[:, None], 16, r"sample_id: received 'int64 of shape \(8, 1\)'"),
}


def network(flavor):
    keras = importlib.import_module(flavor)
    return keras.Sequential(
        [keras.layers.InputLayer((8,)), keras.layers.Dense(6), keras.layers.Dense(4)]
    )


def compiled(model, flavor, **options):
    loss = importlib.import_module(flavor).losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, **{"jit_compile": False, **options})
    return model


def batches(ids, y=Y):
    data = tf.data.Dataset.from_tensor_slices(({"inputs": X, "sample_id": ids}, y))
    return data.batch(BATCH, drop_remainder=True)


def fit(flavor, ids, num_samples, y=Y, callbacks=None, **options):
    model = compiled(PracModel(network(flavor), num_samples=num_samples), flavor, **options)
    try:
        model.fit(batches(ids, y), epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    finally:
        rows = model.forgetting._rows.numpy()[:-1]
    return rows


@halved("flavor, jit_compile, case", FLAVORS, [False, True], tuple({**VALUES, **TYPES}))
def test_a_fit_ends_with_the_error(flavor, jit_compile, case):
    ids, num_samples, message = {**VALUES, **TYPES}[case]
    ends = []
    keras = importlib.import_module(flavor)
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(epoch))
    with pytest.raises(ArgumentError, match=message):
        fit(flavor, ids, num_samples, jit_compile=jit_compile, callbacks=[count])
    assert ends == []  # it ended before other callbacks see the end of an epoch


@both
@pytest.mark.parametrize("case", VALUES)
def test_with_several_steps_per_execution(flavor, case):
    ids, num_samples, message = VALUES[case]
    with pytest.raises(ArgumentError, match=message):
        fit(flavor, ids, num_samples, steps_per_execution=2)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("case", VALUES)
def test_a_custom_loop_gets_the_error_with_the_statistics(jit_compile, case):
    """And no other sample's statistics change; only the two that share an id have those of one."""
    ids, num_samples, message = VALUES[case]
    recorder, correct = ForgettingRecorder(num_samples), tf.constant([True, False] * 4)
    step = tf.function(recorder.record, jit_compile=jit_compile)
    for start in (0, 8):
        step(tf.constant(ids[start : start + 8]), correct)
    for read in (lambda: recorder.stats, recorder.table.numpy, recorder.check):
        with pytest.raises(ArgumentError, match=message):
            read()
    rows, valid = recorder._rows.numpy()[:-1], np.unique(ids[ids < num_samples])
    expected = np.zeros_like(rows)
    valid = valid[valid >= 0].astype(int)
    for i in valid:
        (positions,) = np.nonzero(ids == i)
        expected[i] = [1, *[positions[-1] % 2 == 0] * 2, 0]
    np.testing.assert_array_equal(rows, expected)
    recorder.reset()
    step(tf.constant(IDS[:8].astype(ids.dtype)), correct)
    assert recorder.stats.presentations.sum() == 8


@pytest.mark.parametrize("case", TYPES)
def test_a_custom_loop_gets_the_error_of_a_type_when_it_is_traced(case):
    ids, num_samples, message = TYPES[case]
    step = tf.function(ForgettingRecorder(num_samples).record)
    with pytest.raises(ArgumentError, match=message):
        step(tf.constant(ids[:8]), tf.constant([True] * 8))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_padding_is_legal_in_padded_batches_and_nothing_else_is(jit_compile):
    for ids, padded, message in (
        ([1, -1, 2, -1], True, None),
        ([-1, -1, -1, -1], True, None),
        ([1, -1, 2, 0], False, "received -1"),
        ([1, -2, 2, -1], True, "received -2"),
        ([1, -1, 3, -1], True, "received 3; "),
        ([1, -1, 1, -1], True, "1 samples with an id"),
    ):
        recorder = ForgettingRecorder(3)
        step = tf.function(recorder.record, jit_compile=jit_compile)
        assert step(tf.constant(ids), tf.constant([True] * 4), padded=padded)
        if message:
            with pytest.raises(ArgumentError, match=message):
                _ = recorder.stats
        else:
            assert recorder.stats.presentations.tolist() == [0, 1 in ids, 2 in ids]


@both
def test_a_fit_after_a_refused_one_is_checked_by_itself(flavor):
    model = compiled(PracModel(network(flavor), num_samples=COUNT), flavor)
    options = {"shuffle": False, "verbose": 0}
    with pytest.raises(ArgumentError, match="received -3"):
        model.fit(batches(changed(IDS, 2, -3)), **options)
    with pytest.raises(ArgumentError, match="received -3"):
        _ = model.forgetting.stats
    model.fit(batches(IDS), **options)
    assert model.forgetting.stats.presentations.tolist() == [2, 2, 1] + [2] * 13


@both
def test_callbacks_of_every_form_are_called(flavor):
    """The check of the ids is one more callback."""
    keras, seen = importlib.import_module(flavor), []
    each = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    model = compiled(PracModel(network(flavor), num_samples=COUNT), flavor)
    for callbacks in (each, [each], (each,), keras.callbacks.CallbackList([each], model=model)):
        model.fit(batches(IDS), None, None, 1, 0, callbacks, shuffle=False)
    assert seen == [0] * 4
    with pytest.raises(ArgumentError, match="received -3"):
        wrong, alone = batches(changed(IDS, 2, -3)), keras.callbacks.CallbackList([each])
        alone.set_model(model)
        model.fit(wrong, shuffle=False, verbose=0, callbacks=alone)


@halved("flavor, jit_compile, label", FLAVORS, [False, True], [4, -1])
def test_a_label_without_an_output_ends_a_fit(flavor, jit_compile, label):
    with pytest.raises(ArgumentError, match=f"labels: received {label}; .*Renumber the classes"):
        fit(flavor, IDS, COUNT, changed(Y, 5, label), jit_compile=jit_compile)


@both
def test_a_label_that_the_loss_ignores_is_legal(flavor):
    keras = importlib.import_module(flavor)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model = PracModel(network(flavor), num_samples=COUNT)
    model.compile("sgd", loss, jit_compile=False)
    model.fit(batches(IDS, changed(Y, 5, -1)), shuffle=False, verbose=0)
    assert model.forgetting.stats.presentations.sum() == COUNT


CALLBACKS = {
    "forgetting": ForgettingLogger,
    "el2n": SampleScores,
    "grand": lambda data: SampleScores(data, "grand"),
}


@halved("flavor, name", FLAVORS, tuple(CALLBACKS))
def test_callbacks_with_their_own_data(flavor, name):
    model = compiled(network(flavor), flavor)

    def use(ids, y=Y):
        callback = CALLBACKS[name](batches(ids, y))
        callback.set_model(model)
        callback.on_train_begin()
        callback.on_epoch_end(0, {})

    use(IDS)
    for ids, message in (
        *((ids, message) for ids, _, message in TYPES.values()),
        (changed(IDS, 3, 2**32 + 5), r"sample_id: received 4294967301; allowed: 0 to 10737418"),
        (changed(IDS, 3, -1), r"sample_id: received -1"),
        (changed(IDS, 3, 4), r"sample_id: received '4 for several samples'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            use(ids)
    for label in (4, -1):
        with pytest.raises(ArgumentError, match="labels: .*no class of the model, for sample 5"):
            use(IDS, changed(Y, 5, label))


@pytest.mark.parametrize("case", TYPES)
def test_filters_and_searches_refuse_other_types(case, tmp_path):
    ids, _, _ = TYPES[case]
    data = batches(ids).unbatch()
    message = "sample_id: received|dataset: received|data: received"
    with pytest.raises(ArgumentError, match=message):
        SampleSet([1, 2], COUNT).filter(data)
    with pytest.raises(ArgumentError, match=message):
        TicketSearch(lambda: network("keras"), directory=tmp_path / "run").run(data)
    assert not (tmp_path / "run").exists()
