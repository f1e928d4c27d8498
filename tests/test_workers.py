"""Several real processes on one search, over loopback: the same in each, and as on one device.

`pytest -m slow tests/test_workers.py` runs three workers, and kills one of two.
"""

import contextlib
import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from fault_harness import untimed
from two_devices import both, samples
from two_workers import EPOCHS, ROUNDS, search

from tf_prac import TicketSearch
from tf_prac.cli.main import WORKER_LOST
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning.masks import Masks
from tf_prac.search import ticket_search
from tf_prac.search.workers import ReadOnlyCheckpoints
from tf_prac.training.checkpoint import SavedState
from tf_prac.training.distribution import Distribution

FILES = ("masks.npz", "forgetting.npz", "prac_set.npz")


def start(count, command, **options):
    """Starts a command in each of several workers."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    workers = []
    for index in range(count):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["CUDA_VISIBLE_DEVICES"] = ""  # NCCL refuses two processes on one GPU
        workers.append(subprocess.Popen(command, env=environment, text=True, **options))
    return workers


def ended(workers, seconds=300):
    """Waits for workers; returns their exit statuses, and leaves none behind."""
    try:
        return [worker.wait(seconds) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def workers(request, tmp_path_factory):
    """The directories of workers that have done everything in `two_workers.py`.

    A search with BatchNorm is left to three workers; `two_devices.py` has others.
    """
    place = tmp_path_factory.mktemp("workers")
    script = pathlib.Path(__file__).with_name("two_workers.py")
    with (place / "log").open("w") as log:
        also = ["norm"] if request.param > 2 else []
        command = [sys.executable, str(script), str(place), *also]
        running = start(request.param, command, stderr=log)
        statuses = ended(running)
    assert not any(statuses), (place / "log").read_text()[-3000:]
    return [place / f"worker_{index}" for index in range(request.param)]


def test_workers_agree_with_each_other(workers):
    paths = [f"{name}/round_{number:02d}" for name in FLAVORS for number in range(ROUNDS)]
    paths += ["norm/round_00"] if len(workers) > 2 else []
    for path in [f"{each}/{file}" for each in paths for file in FILES]:
        assert len({(worker / path).read_bytes() for worker in workers}) == 1, path


@both
def test_workers_agree_with_one_device(workers, flavor, tmp_path):
    search(flavor, tmp_path / "one", Distribution()).run(samples())
    for number in range(ROUNDS):
        places = [p / f"round_{number:02d}" for p in (tmp_path / "one", workers[0] / flavor)]
        one, all_of = (ForgettingStats.load(place / "forgetting.npz") for place in places)
        assert np.array_equal(one.table, all_of.table)
        presented = all_of.presentations[one.presentations > 0]
        assert presented.max() - presented.min() <= number  # later rounds end inside an epoch
        assert number or presented.max() == EPOCHS
        masks = [Masks.load(place / "masks.npz") for place in places]
        assert masks[0] == masks[1]
        assert np.array_equal(*[PracSet.load(place / "prac_set.npz").ids for place in places])
    summary = json.loads((workers[0] / flavor / "summary.json").read_text())
    assert summary["distribution"]["workers"] == len(workers)


def test_a_worker_that_differs_is_refused_at_the_start_and_names_the_difference(workers):
    names = {"configuration": "seed: 1", "data set": "order_hash: ", "version": "tensorflow: "}
    for index, worker in enumerate(workers):
        said = json.loads((worker / "found.json").read_text())["refused"]
        assert set(said) == set(names)
        for what, text in said.items():
            if index == 1:
                assert text.startswith(f"worker 1: {names[what]}"), text
            else:
                assert (
                    "That worker names the difference. Start every worker with the same command."
                    in text
                )
        assert not (worker / "refused").exists()


def test_own_fit_records_every_sample_in_all_workers_or_is_refused(workers):
    """Keras 3 treats the workers' shards of a batch as one tensor."""
    for worker in workers:
        found = json.loads((worker / "found.json").read_text())
        assert found["tf_keras"] == [EPOCHS, EPOCHS]
        assert "MultiWorkerMirroredStrategy" in found["keras"] and "tf_keras" in found["keras"]


def test_values_of_replicas_are_the_same_in_all_workers(workers):
    values = np.float32([[0.1, index] for index in range(len(workers))]).tolist()
    for worker, own in zip(workers, values, strict=True):
        found = json.loads((worker / "found.json").read_text())
        assert found["replicas"] == {"all": values, "own": own}


@pytest.mark.slow
@both
def test_a_restarted_worker_finds_the_ticket_of_an_uninterrupted_search(flavor, tmp_path):
    def workers(directory):
        options = "--rounds=1 --epochs=60 --batch_size=64 --retrain=none --checkpoint_seconds=0"
        command = [
            sys.executable,
            "-m",
            "tf_prac",
            "search",
            *options.split(),
            f"--keras={flavor}",
        ]
        command += ["--deterministic", "--strategy=multi_worker", f"--output_dir={directory}"]
        return start(2, command)

    assert ended(workers(tmp_path / "undisturbed")) == [0, 0]
    running = workers(tmp_path / "killed")
    while not list(tmp_path.glob("killed/round_00/checkpoints/step_*")):
        assert running[0].poll() is None
        time.sleep(0.1)
    running[1].kill()
    assert ended(running) == [WORKER_LOST, -signal.SIGKILL]
    assert not (tmp_path / "killed" / "round_00" / "round.json").exists()
    assert ended(workers(tmp_path / "killed")) == [0, 0]
    for file in FILES:
        contents = [
            (tmp_path / name / "round_00" / file).read_bytes() for name in ("undisturbed", "killed")
        ]
        assert contents[0] == contents[1], file
    histories = [
        untimed(list(csv.DictReader((tmp_path / name / "round_00" / "history.csv").open())))
        for name in ("undisturbed", "killed")
    ]
    assert histories[0] == histories[1]


@pytest.mark.parametrize("option", [{"accept_versions": True}, {"dense_tickets": ("runs/a",)}])
def test_options_that_depend_on_files_of_one_worker_are_refused(option, tmp_path, monkeypatch):
    two = types.SimpleNamespace(workers=2, is_chief=True)
    monkeypatch.setattr(ticket_search, "make_distribution", lambda strategy: two)
    with pytest.raises(ArgumentError, match=f"{next(iter(option))}.*with several workers"):
        TicketSearch(lambda: None, directory=tmp_path, **option)


def test_checkpoints_of_other_workers_are_never_written(tmp_path):
    checkpoints = ReadOnlyCheckpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(SavedState(step, {}, {}))
    assert list(tmp_path.iterdir()) == []
