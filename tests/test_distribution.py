"""Training on several devices: results as on one, and minimal communication."""

import collections
import contextlib
import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import precision
import pytest
import tensorflow as tf
from two_devices import COUNT, TRAINED, both, network, samples
from two_workers import search

from tf_prac import Masks, PracModel, random_mask, with_sample_ids
from tf_prac.cli.main import main
from tf_prac.data.batch_shard import BatchShard
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.pipeline import evaluation_batches, training_batches
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.training.distribution import Distribution
from tf_prac.training.strategies import check_cluster, make_distribution


def test_on_two_devices():
    """The devices of a process cannot change once TensorFlow has been used in it."""
    options = ["-q", "-n", "0", "-p", "no:cacheprovider"]
    script = pathlib.Path(__file__).with_name("two_devices.py")
    command = [sys.executable, "-m", "pytest", *options, str(script)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]


@both
def test_the_step_compiles_with_xla_and_has_static_shapes(flavor):
    data, ids, shard = samples(), np.arange(TRAINED), BatchShard(0, 16, 16)
    batches = training_batches(data, ids, batch_size=16, seed=(0,), steps=7, shard=shard)
    for spec in tf.nest.flatten(batches.element_spec):
        assert spec.shape.is_fully_defined() and spec.dtype != tf.string
    models = [PracModel(network(flavor), num_samples=COUNT) for _ in range(2)]
    keras = importlib.import_module(flavor)
    losses = []
    for model, jit in zip(models, (True, False), strict=True):
        model.set_masks(random_mask(model.masks, 0.5, seed=1))
        model.padded_batches = True
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, jit_compile=False)
        model.optimizer.build(model.network.trainable_variables)
        step = tf.function(model.train_step, jit_compile=jit)
        losses.append([float(step(batch)["loss"]) for batch in batches])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    tables = [model.forgetting.stats.table for model in models]
    assert np.array_equal(*tables) and (tables[0][:TRAINED, 0] == 1).all()
    assert models[0].finite_steps == 7
    for mask, weight in zip(models[0].masks.values(), models[0].prunable.values(), strict=True):
        assert not np.array(weight)[~mask].any()


class OneDevice(tf.distribute.OneDeviceStrategy):
    """Replaces `TPUStrategy`, which requires a TPU."""

    def __init__(self, resolver):
        assert resolver == "resolver of my-tpu"
        super().__init__(f"{precision.kind()}:0")


@both
def test_the_way_of_a_tpu_is_that_of_one_device(flavor, monkeypatch, tmp_path):
    """All except the TPU itself: how it is found, static shapes, padded batches."""
    search(flavor, tmp_path / "one", Distribution(), rounds=1).run(samples())
    steps, resolvers = [], tf.distribute.cluster_resolver
    monkeypatch.setenv("TPU_NAME", "my-tpu")
    monkeypatch.setattr(resolvers, "TPUClusterResolver", lambda tpu: f"resolver of {tpu}")
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", steps.append)
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", steps.append)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", OneDevice)
    distribution = make_distribution("tpu")
    assert distribution.pads_batches and steps == 2 * ["resolver of my-tpu"]
    search(flavor, tmp_path / "tpu", distribution, rounds=1).run(samples())
    places = [tmp_path / name / "round_00" for name in ("one", "tpu")]
    assert Masks.load(places[0] / "masks.npz") == Masks.load(places[1] / "masks.npz")
    tables = [ForgettingStats.load(place / "forgetting.npz").table for place in places]
    assert np.array_equal(*tables) and tables[0].any()


def test_batches_may_come_from_the_service_of_tf_data():
    """Ids travel as a part of the input, so that it does not matter where it is read."""
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    config = service.WorkerConfig(dispatcher.target.partition("://")[2])
    worker = service.WorkerServer(config)
    everything = service.distribute(service.ShardingPolicy.OFF, dispatcher.target)
    data = samples()
    rows = tf.data.Dataset.from_tensor_slices((data._images.numpy(), data.labels))
    batches = with_sample_ids(rows).shuffle(COUNT, seed=0).batch(16).apply(everything)
    seen = collections.Counter(i for x, _ in batches for i in x["sample_id"].numpy().tolist())
    assert seen == {n: 1 for n in range(COUNT)}
    model = PracModel(network("tf_keras"), num_samples=COUNT)
    loss = importlib.import_module("tf_keras").losses.SparseCategoricalCrossentropy
    model.compile("sgd", loss(from_logits=True), jit_compile=False)
    model.fit(batches, epochs=2, verbose=0)
    assert (model.forgetting.stats.presentations == 2).all()
    worker._stop()
    dispatcher._stop()


@pytest.mark.parametrize("count", [1, 7, 16, 33, 48])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_shards_have_each_sample_once_and_padding_of_weight_0(count, workers):
    data = samples()
    size = 16 // workers
    seen: collections.Counter = collections.Counter()
    total = 0.0
    for worker in range(workers):
        shard = BatchShard(worker * size, size, 16)
        steps = -(-count // 16)
        for x, y, sample_weight in training_batches(
            data, np.arange(count), batch_size=16, seed=(3,), steps=steps, shard=shard
        ):
            assert set(x) == {"inputs", "sample_id"}
            ids, weight = x["sample_id"].numpy(), sample_weight.numpy()
            assert ids.shape == y.shape == (size,) and ((ids < 0) == (weight == 0)).all()
            assert np.array_equal(data.labels[ids[ids >= 0]], y.numpy()[ids >= 0])
            seen.update(ids[ids >= 0].tolist())
            total += weight.sum()
        for _, _, sample_weight in evaluation_batches(
            data, np.arange(count), batch_size=16, shard=shard
        ):
            total += sample_weight.numpy().sum()
    assert seen == {n: 1 for n in range(count)}
    assert total == pytest.approx(2 * 16 * -(-count // 16), rel=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        json.dumps({"cluster": {"worker": ["a:1"]}}),
        json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}),
        json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}),
        json.dumps({"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "0"}}),
    ],
)
def test_a_wrong_cluster_is_refused_with_an_example(text):
    with pytest.raises(ArgumentError, match='TF_CONFIG.*"cluster".*environment variable'):
        check_cluster(text)


def test_a_cluster_is_read():
    config = {
        "cluster": {"chief": ["a:1"], "worker": ["b:1", "c:2"]},
        "task": {"type": "worker", "index": 1},
    }
    assert check_cluster(json.dumps(config)) == config


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--strategy=parameter_server"], "no state after k steps to rewind to"),
        (["--strategy=all"], "one of one, mirrored, multi_worker, tpu"),
        (["--strategy=multi_worker"], "TF_CONFIG: received 'nothing'"),
        (["--strategy=tpu"], "TensorFlow found none"),
        (["--devices=2"], "--devices: received 2; allowed: None, except with strategy mirrored"),
        (["--strategy=mirrored", "--devices=0"], "--devices: received 0"),
    ],
)
def test_wrong_flags(flags, message, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(SystemExit):
        assert main(["search", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_directory_of_more_than_2_gib_is_sent_to_the_other_workers(monkeypatch):
    """The length takes two int32; here the content is not sent, but has a length alone."""

    class Content(bytes):
        def __len__(self):
            return 5 * 2**31 + 7

        def ljust(self, length, fill=b"\0"):
            return length

    distribution = Distribution()
    distribution.workers = 2
    monkeypatch.setattr(distribution, "_sum_workers", lambda numbers: numbers)
    monkeypatch.setattr(distribution, "_sum_bytes", lambda content: content)
    assert distribution.broadcast_from_chief(Content()) == 5 * 2**31 + 7


def test_workers_that_differ_are_named(monkeypatch):
    """What sums over workers give is put in; real workers are in test_workers.py."""
    distribution = Distribution()
    distribution.workers, distribution.worker = 2, 1
    monkeypatch.setattr(
        distribution, "_sum_workers", lambda numbers: numbers
    )  # the chief has zeros
    with pytest.raises(MismatchError, match="masks: not the same in worker 1"):
        distribution.check_same("masks", b"1")
