"""Whatever happens to the files of a run: a refusal that names one, or the same result.

A few examples are part of every test run; `pytest -m slow tests/test_damaged_runs.py`
tries as many as TF_PRAC_DAMAGES says, by default 1000, and prints what came of them.
"""

from __future__ import annotations

import collections
import hashlib
import os
import pathlib
import re
import shutil
import sys
import tracemalloc
import types

import numpy as np
import pytest
import tensorflow as tf
from damage import damages, files_of, replaced
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tf_prac.cli import open_run
from tf_prac.cli.export import _saved_network
from tf_prac.cli.main import main
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.errors import FileError, TfPracError
from tf_prac.keras_api import Flavor
from tf_prac.models import build_model
from tf_prac.pruning.masks import Masks
from tf_prac.search.ticket import Ticket
from tf_prac.storage.files import read_npz
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.trainer import Trainer

FLAVORS = ("keras", "tf_keras")
OPTIONS = ["--epochs=2", "--rounds=2", "--limit_train=300", "--batch_size=64", "--rewind=3it"]
MEMORY = 32 * 2**20  # a run of the tests has 1.3 MB; 64 MiB of zeros are the largest damage
MANY = int(os.environ.get("TF_PRAC_DAMAGES", "1000"))


class Runs:
    """Intact runs of one flavor, one that is damaged again and again, and what that one gives.

    `twin` has the configuration of `intact` but other initial weights: a run that threads or
    another machine made different.
    """

    def __init__(self, directory: pathlib.Path, keras: str):
        self.intact, self.twin = directory / "intact", directory / "twin"
        self.seed, self.damaged = directory / "seed", directory / "damaged"
        self.touched, self.keras = directory / "touched", keras
        self.command = [*OPTIONS, f"--keras={keras}"]
        run = ["search", *self.command]
        assert main([*run, f"--output_dir={self.intact}"]) == 0
        assert main([*run, f"--output_dir={self.seed}", "--seed=1"]) == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(open_run, "build_model", _other_initial_weights)
            assert main([*run, f"--output_dir={self.twin}"]) == 0
        assert (self.twin / "config.json").read_bytes() == (
            self.intact / "config.json"
        ).read_bytes()
        self.restore()
        self.rewind = RunDirectory(self.intact).finished_round(0)["rewind_sha256"]
        self.api = {name: read() for name, read in self.readers().items()}

    def restore(self) -> None:
        """Makes the damaged run intact again."""
        shutil.rmtree(self.damaged, ignore_errors=True)
        shutil.copytree(self.intact, self.damaged, copy_function=os.link)

    def readers(self):
        """Every way to read something of the damaged run by itself, in this process."""
        run, path = RunDirectory(self.damaged), self.damaged
        readers = {
            "config": run.config,
            "summary": run.summary,
            "round 0": lambda: run.finished_round(0),
            "round 1": lambda: run.finished_round(1),
            "retrained": lambda: run.finished_ticket(2),
            "predictions": lambda: _digest({"": run.load_predictions(0)}),
            "rewind": lambda: _digest(run.load_rewind(self.rewind)),
            "trained": lambda: _digest(read_npz(path / "tickets/round_02/trained.npz", "weights")),
        }
        for number in (0, 1):
            readers |= {
                f"masks {number}": lambda p=run.path / f"round_0{number}": _digest(
                    Masks.load(p / "masks.npz")
                ),
                f"set {number}": lambda p=run.path / f"round_0{number}": PracSet.load(
                    p / "prac_set.npz"
                ),
                f"forgetting {number}": lambda p=run.path / f"round_0{number}": _digest(
                    {"": ForgettingStats.load(p / "forgetting.npz").table}
                ),
            }
        for number in range(3):
            readers[f"ticket {number}"] = lambda p=path / f"tickets/round_0{number}": _ticket(p)
        return readers


def _other_initial_weights(*arguments, **options):
    model = build_model(*arguments, **options)
    model.set_weights([w + np.float32(0.01) for w in model.get_weights()])
    return model


def _digest(arrays) -> str:
    sha = hashlib.sha256()
    for name, array in arrays.items():
        sha.update(f"{name!r} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return sha.hexdigest()


def _ticket(path) -> tuple:
    ticket = Ticket.load(path)
    figures = (ticket.round, ticket.rewind_step, ticket.lr_rewind)
    return (_digest(ticket.masks), _digest(ticket.weights), *figures)


@pytest.fixture(scope="module", params=FLAVORS)
def runs(request, tmp_path_factory):
    return Runs(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def unpickled():
    """Classes and functions that any pickle named since this list was last emptied."""
    names: list[str] = []
    watching = [True]
    sys.addaudithook(  # it cannot be taken away again, only made to do nothing
        lambda event, about: (
            names.append(str(about)) if watching[0] and event == "pickle.find_class" else None
        )
    )
    yield names
    watching[0] = False


TRAINING = "training"


def _refuse_to_train(*_, **__):
    """What is damaged is not used, and made again, which would take long."""
    raise TfPracError(TRAINING)


def check_api(runs, damage) -> tuple[int, int]:
    """Reads each part by itself; counts refusals and equal results."""
    refused = 0
    readers = runs.readers()
    if damage.foreign:  # intact where it came from, so a reader that knows no run may take it
        readers = {"summary": readers["summary"]}
    named = []
    for name, read in readers.items():
        try:
            found = read()
        except TfPracError as error:
            assert str(runs.damaged) in str(error), f"{name}: no file is named: {error}"
            named.append(str(error))
            refused += 1
        else:
            unfinished = found is None  # as if never done; the search does it again
            assert unfinished or found == runs.api[name], f"{name} is wrong"
    names = [file.rpartition("/")[2] for file in damage.files]
    assert not named or any(n in m for n in names for m in named) or damage.foreign
    return refused, len(readers) - refused


def run_command(runs, command, capsys) -> tuple[int, str, str]:
    """Runs one of the commands that read a finished run."""
    arguments = [command, str(runs.damaged)]
    if command == "search":
        arguments = [command, *runs.command, f"--output_dir={runs.damaged}"]
    capsys.readouterr()
    status = main(arguments)
    return (status, *capsys.readouterr())


def check_command(runs, command, capsys) -> str:
    """Runs a command on the damaged run: it may refuse, repair, start again, or give the same."""
    status, out, error = run_command(runs, command, capsys)
    if status == 0 and command == "info" and "is not finished" in out:
        return "would be made again"
    if status == 0:
        assert _without_times(out) == runs.printed[command], f"{command} is wrong"
        return "the same"
    assert status == 2 and len(error.splitlines()) == 1, error
    assert error.startswith(f"tf-prac {command}: error: "), error
    if error.endswith(f"error: {TRAINING}\n"):
        return "would be made again"
    assert str(runs.damaged) in error, f"{command}: no file is named: {error}"
    return "refused"


def _without_times(text: str) -> str:
    lines = [re.sub(r"  [\d.]+ s$", "", line) for line in text.splitlines()]
    lines = [line for line in lines if not line.endswith(" again.")]  # damaged, and repaired
    return "\n".join(lines)


COMMANDS = ("info", "evaluate", "retrain", "search")


def check(runs, damage, command, capsys, unpickled) -> collections.Counter:
    """Damages the run, reads all of it, and makes it intact again."""
    runs.restore()
    damage.do(runs.damaged)
    unpickled.clear()
    tracemalloc.start()
    try:
        refused, same = check_api(runs, damage)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY, f"{peak} bytes taken"
    seen = check_command(runs, command, capsys)
    assert not unpickled and not runs.touched.exists(), "a pickle was read"
    return collections.Counter(
        {f"command: {seen}": 1, "parts refused": refused, "parts the same": same}
    )


@pytest.fixture
def prepared(runs, capsys, monkeypatch):
    """The runs, with what the commands print when nothing is damaged; nothing trains."""
    monkeypatch.setattr(Trainer, "train", _refuse_to_train)
    runs.restore()
    runs.printed = {}
    for command in COMMANDS:
        status, out, error = run_command(runs, command, capsys)
        assert (status, error) == (0, "")
        runs.printed[command] = _without_times(out)
    return runs


QUIET = {
    "deadline": None,
    "phases": [Phase.generate],  # a damage says what it is; smaller ones take long to find
    "suppress_health_check": list(HealthCheck),
}


def attempt(count, runs, capsys, unpickled) -> collections.Counter:
    """Damages a run in `count` ways; says what came of them, and which went wrong."""
    total, wrong = collections.Counter(), []

    @seed(FLAVORS.index(runs.keras))  # other damages for each, the same each time
    @settings(max_examples=count, database=None, **QUIET)
    @given(damages(runs.intact, [runs.seed, runs.twin], runs.touched), st.sampled_from(COMMANDS))
    def damage_one(damage, command):
        try:
            total.update(check(runs, damage, command, capsys, unpickled))
        except Exception as error:
            wrong.append(f"{damage}: {type(error).__name__} {error}")
        total[f"damage: {damage.name.split()[0]}"] += 1
        total["damages"] += 1

    damage_one()
    assert not wrong, "\n\n".join(wrong)
    assert total["damages"] >= count
    return total


def test_damage_is_refused_or_harmless(prepared, capsys, unpickled):
    attempt(12, prepared, capsys, unpickled)


@pytest.mark.slow
def test_much_damage_is_refused_or_harmless(prepared, capsys, unpickled, request):
    total = attempt(-(-MANY // len(FLAVORS)), prepared, capsys, unpickled)
    with capsys.disabled():
        print(f"\n{request.node.name}: {dict(total)}")


def test_the_saved_model_is_never_loaded(prepared, capsys):
    """It may hold code; whatever is there, nothing reads it."""
    run = RunDirectory(prepared.damaged)
    figures = run.finished_ticket(2)
    replaced(run.ticket_path(2) / "model.keras", b"code")
    run.finish_ticket(2, figures)
    for command in COMMANDS:
        status, out, error = run_command(prepared, command, capsys)
        assert (status, error) == (0, "")
        assert _without_times(out) == prepared.printed[command]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras about its older formats
@pytest.mark.parametrize("place", ["file", "directory"])
def test_the_model_of_a_run_made_from_python_cannot_bring_code(place, prepared):
    """`export` loads it, for want of a name to build it from."""
    keras = Flavor(RunDirectory(prepared.damaged).config()["keras"]).module
    touched = prepared.touched

    def touch(x, path=str(touched)):  # Keras 2 saves it with its default, not its globals
        import pathlib

        pathlib.Path(path).touch()
        return x

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Lambda(touch)(inputs))
    run = RunDirectory(prepared.damaged)
    figures = run.finished_ticket(2)
    path = run.ticket_path(2) / "model.keras"
    path.unlink()
    if place == "file":
        model.save(path)
    else:
        tf.saved_model.save(model, path)
    touched.unlink()
    run.finish_ticket(2, figures)
    with pytest.raises(FileError, match="model.keras: (not loaded.*Lambda|missing)"):
        _saved_network(run, 2, types.SimpleNamespace(preprocess=False))
    assert not touched.exists()


@pytest.mark.parametrize(
    "name", ["rewind.npz", "round_01/masks.npz", "tickets/round_02/trained.npz", "summary.json"]
)
def test_what_is_made_again_is_what_it_was(name, runs, capsys):
    make_again(name, runs, capsys)


@pytest.mark.slow
def test_each_file_is_made_again_as_it_was(runs, capsys):
    for name in files_of(runs.intact):
        make_again(name, runs, capsys)


def make_again(name, runs, capsys) -> None:
    """Cuts a file in half and searches again, with real training."""
    runs.restore()
    content = (runs.damaged / name).read_bytes()
    replaced(runs.damaged / name, content[: len(content) // 2])
    status, _, error = run_command(runs, "search", capsys)
    if status == 0:
        assert results(runs.damaged) == results(runs.intact), name
    else:
        assert status == 2 and str(runs.damaged / name) in error


def results(run) -> tuple:
    """Everything that a run found; not how long it took."""
    summary = RunDirectory(run).summary()
    for figures in [*summary["rounds"], *summary["tickets"]]:
        figures.pop("seconds", None)
    tickets = [_ticket(run / f"tickets/round_0{n}") for n in range(3)]
    sets = [_digest({"": PracSet.load(run / f"round_0{n}/prac_set.npz").ids}) for n in (0, 1)]
    trained = _digest(read_npz(run / "tickets/round_02/trained.npz", "weights"))
    return summary, tickets, sets, trained
