"""Mutations of every kind of file, and what every door that reads it makes of them.

    python tests/mutations.py --count=2000

makes a small run, comparison, sweep, tuning, checkpoint, export and saved model, mutates one file
at a time, calls the doors that read it, and prints a table. A mutation is *raw* (bytes, or another
kind of file in its place), *sealed* (fields or arrays changed, its checksum computed again) or
*chained* (the digests in all files that refer to it computed again too).

An outcome is one of: same (the result of the intact files), refused (one error of tf_prac that
names the place), again (the search would train again what is damaged), valid (sealed, and another
file that fits its schema, read as written), WRONG, TRACEBACK, IMPORT.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from tf_prac.cli.main import main
from tf_prac.errors import DamagedFileError, TfPracError
from tf_prac.storage.documents import check_arrays, check_document
from tf_prac.storage.files import _json_checksum, read_json, sha256, write_npz
from tf_prac.storage.run_directory import RunDirectory

QUICK = ["--epochs=2", "--rounds=2", "--limit_train=200", "--batch_size=64", "--rewind=2it"]
TRAINING = "a training was requested"
BAD = ("WRONG", "TRACEBACK", "IMPORT")
OUTCOMES = ("same", "refused", "again", "valid", *BAD)
ALLOWED_IMPORTS = {"tf_prac", "keras", "tf_keras", "tensorflow", "numpy", "keras_tuner", "sklearn"}
REMOVE, RENAME, NAN = object(), object(), "\0NaN\0"
VALUES = [
    REMOVE,
    RENAME,
    None,
    True,
    -1,
    1.5,
    "x",
    "3",
    [],
    {},
    [None],
    NAN,
    10**400,
    "\ud800",
    2**62,
]
ROTATED = ("evaluate", "retrain", "search", "export", "figures", "stability")


class Corpus:
    """Intact files, a copy that is mutated, and what the doors make of the intact ones.

    Args:
        directory: where to make them.
        flavor: the flavor of Keras.
    """

    def __init__(self, directory: pathlib.Path, flavor: str = "keras"):
        self.intact, self.work, self.out = (directory / n for n in ("intact", "work", "out"))
        self.flags = [*QUICK, f"--keras={flavor}"]
        self._make(flavor)
        self.restore()
        self._results: dict[tuple[str, str], Any] = {}
        with _no_training():
            for file in self.files():
                for name, door in self.doors(file, every=True).items():
                    key = self._key(file, name)
                    if key not in self._results:
                        self._results[key] = door()

    def _make(self, flavor: str) -> None:
        import tf_prac

        run = self.intact / "run"
        commands = [
            ["search", *self.flags, "--keep_epoch_masks", "--retrain=all", f"--output_dir={run}"],
            ["stability", str(run), "--copies=2", f"--output_dir={self.out}"],
            ["compare", *self.flags, "--arms=prac", "--seeds=0"]
            + [f"--output_dir={self.intact / 'comparison'}"],
            ["sweep", *self.flags, "--rewinds=0it", "--seeds=0", "--controls="]
            + [f"--output_dir={self.intact / 'sweep'}"],
            ["export", str(run), "--nocheck", f"--output={self.intact / 'export'}"],
            ["export", str(run), "--nocheck", "--format=npz", f"--output={self.intact / 'npz'}"],
            [*self._tune(), f"--output_dir={self.intact / 'tune'}"],
        ]
        for command in commands:
            with contextlib.redirect_stdout(io.StringIO()):
                assert main(command) == 0, command
        saved = pathlib.Path(__file__).parent / "saved_by_0_1"
        with zipfile.ZipFile(saved / "interrupted.zip") as archive:
            names = [n for n in archive.namelist() if "step_000000004" in n]
            archive.extractall(self.intact / "checkpoint", names)
        (self.intact / "model").mkdir()
        shutil.copy(saved / f"pruned_{flavor}.keras", self.intact / "model" / "pruned.keras")
        assert tf_prac.load_model(self.intact / "model" / "pruned.keras").masks

    def _tune(self) -> list[str]:
        space = ["--space=prune_rate=0.5", "--sparsity=0.5", "--max_trials=1", "--oracle=random"]
        return ["tune", *space, "--epochs=1", "--limit_train=200"]

    def restore(self) -> None:
        """Makes the copy as it was."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.intact, self.work, copy_function=os.link)

    def files(self) -> list[str]:
        """The files that doors read, relative to the corpus."""
        found = []
        for path in sorted(p for p in self.intact.rglob("*") if p.is_file()):
            name = str(path.relative_to(self.intact))
            top, _, rest = name.partition("/")
            read = {
                "run": not rest.startswith(("report", "size", "stability")),
                "comparison": rest == "comparison.json",
                "sweep": rest == "sweep.json",
                "tune": rest in TUNER_FILES,
                "export": True,
                "npz": True,
            }
            if not path.name.startswith(".") and read.get(top, True):
                found.append(name)
        return found

    def result(self, file: str, door: str) -> Any:
        """What a door makes of the intact files."""
        return self._results[self._key(file, door)]

    def _key(self, file: str, door: str) -> tuple[str, str]:
        """A command reads all files; the function of a kind reads one."""
        return (file if door == kind_of(file) else "", door)

    def doors(self, file: str, every: bool = False, turn: int = 0) -> dict[str, Callable[[], Any]]:
        """The doors that read a file; of the commands that take long, the one whose turn it is."""
        top, kind = file.split("/")[0], kind_of(file)
        if top != "run":
            return {f"read {top}": getattr(self, f"_read_{top}")}
        doors = {"info": self._cli("info", "RUN"), kind: lambda: self._read_of_run(file)}
        doors["report"] = self._cli("report", "RUN", "--noimages", f"--output={self.out}/r.html")
        slow = {
            "evaluate": self._cli("evaluate", "RUN"),
            "retrain": self._cli("retrain", "RUN", "--round=1"),
            "search": self._cli(
                "search", *self.flags, "--keep_epoch_masks", "--retrain=all", "--output_dir=RUN"
            ),
            "export": self._export,
            "figures": self._cli("figures", "RUN", f"--output_dir={self.out}/f"),
            "stability": self._cli("stability", "RUN", "--copies=2", f"--output_dir={self.out}"),
        }
        chosen = ROTATED if every else [ROTATED[turn % len(ROTATED)]] if turn >= 0 else []
        return doors | {name: slow[name] for name in chosen}

    def _export(self) -> Any:
        """Exports a ticket; the size depends on names that Keras counts up, the arrays do not."""
        options = ["--format=npz", "--nocheck", "--overwrite", f"--output={self.out}/e"]
        text = command(["export", str(self.work / "run"), *options])
        arrays = {}
        for name in ("weights", "masks"):
            with np.load(self.out / "e" / f"{name}.npz") as archive:
                arrays |= {f"{name} {key}": archive[key] for key in archive.files}
        return re.sub(r"[\d,]+ bytes", "", text), digest_of(arrays)

    def _cli(self, *arguments: str) -> Callable[[], Any]:
        words = [a.replace("RUN", str(self.work / "run")) for a in arguments]
        return lambda: command(words)

    def _read_of_run(self, file: str) -> Any:
        """Reads one file of a run with the function of its kind."""
        from tf_prac import ForgettingStats, Masks, PracSet, Ticket
        from tf_prac.storage.files import read_npz

        run, path, kind = RunDirectory(self.work / "run"), self.work / file, kind_of(file)
        number = int((re.search(r"round_(\d+)", file) or [0, 0])[1])
        return {
            "config": run.config,
            "summary": run.summary,
            "round": lambda: [run.finished_round(n) for n in range(2)],
            "retrained": lambda: run.finished_ticket(number),
            "ticket": lambda: digest_of(Ticket.load(path.parent)),
            "masks": lambda: digest_of(Masks.load(path)),
            "prac_set": lambda: digest_of(PracSet.load(path)._parts()),
            "forgetting": lambda: digest_of({"": ForgettingStats.load(path).table}),
            "predictions": lambda: digest_of({"": run.load_predictions(0)}),
            "tentative": lambda: digest_of({"": run.load_tentative(number)}),
            "rewind": lambda: digest_of(run.load_rewind(run.finished_round(0)["rewind_sha256"])),
            "weights": lambda: (run.finished_ticket(number), digest_of(read_npz(path, "weights"))),
            "copy": lambda: digest_of(read_npz(path, "copy")),
        }.get(kind, lambda: [run.finished_round(0), run.finished_ticket(number)])()

    def _read_comparison(self) -> Any:
        options = ["--arms=prac", "--seeds=0", f"--output_dir={self.work / 'comparison'}"]
        return command(["compare", *self.flags, *options])

    def _read_sweep(self) -> Any:
        options = ["--rewinds=0it", "--seeds=0", "--controls="]
        return command(["sweep", *self.flags, *options, f"--output_dir={self.work / 'sweep'}"])

    def _read_tune(self) -> Any:
        return command([*self._tune(), f"--output_dir={self.work / 'tune'}"])

    def _read_checkpoint(self) -> Any:
        from tf_prac.pruning.masks import Masks
        from tf_prac.training.checkpoint import Checkpoints
        from tf_prac.training.state import TrainingState

        folder = "round_01/checkpoints"
        identity = read_json(
            self.intact / "checkpoint" / folder / "step_000000004/checkpoint.json", "checkpoint"
        )["identity"]
        lines: list[str] = []
        saved = Checkpoints(self.work / "checkpoint" / folder, log=lines.append)
        state = saved.load_latest(identity)
        if state is None:
            raise DamagedFileError(lines[0] if lines else f"{self.work}: no checkpoint")
        variables = [_Variable(shape) for shape in CHECKPOINT_VARIABLES]
        if not variables:
            count = sum(name.startswith("variable/") for name in state.tensors)
            CHECKPOINT_VARIABLES.extend(state.tensors[f"variable/{n}"].shape for n in range(count))
            variables = [_Variable(shape) for shape in CHECKPOINT_VARIABLES]
            CHECKPOINT_WEIGHTS.update(
                {n[5:]: np.zeros(v.shape) for n, v in state.tensors.items() if n[:5] == "best/"}
            )
        masks = Masks({"dense/kernel": np.ones(CHECKPOINT_WEIGHTS["dense/kernel"].shape, bool)})
        restored = TrainingState()
        restored.restore(state, variables, CHECKPOINT_WEIGHTS, masks)
        values = {str(n): variable.value for n, variable in enumerate(variables)}
        best = restored.best
        return digest_of(values), restored.step, restored.rows, best.value, digest_of(best.weights)

    def _read_export(self) -> Any:
        import tf_prac
        from tf_prac.pruning.weights import snapshot

        model = tf_prac.load_sparse(self.work / "export")
        return digest_of(snapshot(model)), digest_of(model.masks)

    def _read_npz(self) -> Any:
        from tf_prac import Masks
        from tf_prac.export.load import read_metadata
        from tf_prac.storage.files import read_npz

        path = self.work / "npz"
        weights = read_npz(path / "weights.npz", "weights")
        return read_metadata(path), digest_of(weights), digest_of(Masks.load(path / "masks.npz"))

    def _read_model(self) -> Any:
        import tf_prac
        from tf_prac.pruning.weights import snapshot

        model = tf_prac.load_model(self.work / "model" / "pruned.keras")
        return digest_of(snapshot(model)), digest_of(model.masks)


TUNER_FILES = ("trials/oracle.json", "trials/tuner0.json", "trials/trial_0/trial.json")
CHECKPOINT_VARIABLES: list[tuple[int, ...]] = []
CHECKPOINT_WEIGHTS: dict[str, np.ndarray] = {}


class _Variable:
    def __init__(self, shape: tuple[int, ...]):
        self.shape, self.value = shape, np.zeros(shape)

    def assign(self, value: np.ndarray) -> None:
        self.value = np.array(value)


def kind_of(file: str) -> str:
    """The kind of a file of the corpus."""
    top, base = file.split("/")[0], file.rpartition("/")[2]
    if top in ("tune", "export", "checkpoint", "model") and not base.endswith(".json"):
        return {"export": "SavedModel", "checkpoint": "tensors", "model": "model.keras"}.get(
            top, top
        )
    if top == "tune":
        return base
    if "/tentative/" in file or "/copies/" in file:
        return "tentative" if "/tentative/" in file else "copy"
    names = {"tf_prac.json": "export", "trained.npz": "weights", "masks.npz": "masks"}
    return names.get(base, base.removesuffix(".json").removesuffix(".npz"))


def command(arguments: list[str]) -> Any:
    """Runs a command; returns what it printed, or raises its error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    if status == 2:
        line = err.getvalue().rpartition("error: ")[2].strip()
        assert "Traceback" not in err.getvalue(), err.getvalue()
        raise (Again if TRAINING in line else TfPracError)(line)
    assert status == 0, f"exit status {status}"
    text = re.sub(r"\d+\.\d s$", "", out.getvalue(), flags=re.M)
    lines = [line for line in text.splitlines() if not line.endswith(" again.")]
    text = "\n".join(line for line in lines if not line.startswith("Reloading Tuner"))
    if arguments[0] == "info" and "is not finished" in text:
        raise Again(text)
    if arguments[0] == "tune" and ": damaged (" in text:
        raise TfPracError(text)  # named, and repaired
    return text


class Again(TfPracError):
    """What is damaged is made again."""


@contextlib.contextmanager
def _no_training() -> Iterator[None]:
    """Trains nothing, draws nothing."""
    from tf_prac.training.trainer import Trainer

    def refuse(*_: Any, **__: Any) -> None:
        raise TfPracError(TRAINING)

    with (
        mock.patch.object(Trainer, "train", refuse),
        mock.patch("tf_prac.plotting.can_draw", lambda: False),
    ):
        yield


def digest_of(value: Any) -> str:
    """A digest of arrays by name, or of a ticket."""
    if hasattr(value, "weights"):
        return f"{digest_of(value.masks)} {digest_of(value.weights)} {value.round}"
    sha = hashlib.sha256()
    for name, array in (value or {}).items():
        sha.update(f"{name!r} {array.dtype} {array.shape} ".encode() + np.asarray(array).tobytes())
    return sha.hexdigest()


# Mutations: each changes one file of the copy; returns whether the file is valid, in other ways.


def raw(corpus: Corpus, file: str, rng: random.Random) -> tuple[str, bool]:
    """Bytes that are cut, flipped, zeroed or added; something else in place of the file."""
    path = corpus.work / file
    content = path.read_bytes()
    path.unlink()
    place = rng.randrange(max(len(content), 1))
    flipped = bytearray(content or b"\0")
    flipped[place] ^= 1 << rng.randrange(8)
    whats = ["cut", "cut", "flip", "flip", "zero", "grow", "empty"]
    whats += ["directory", "pipe", "dangling", "loop", "link out", "missing"]
    tuner = file.startswith("tune/")  # without a checksum, so that a flip can be another number
    allowed = [w for w in whats if not (tuner and w == "flip")]
    what = rng.choice(allowed)
    other = corpus.out / "other"
    other.write_bytes(b"{}")
    new = {
        "cut": content[:place],
        "flip": bytes(flipped),
        "zero": content[:place] + bytes(len(content) - place),
        "grow": content + b"x",
        "empty": b"",
    }
    if what in new:
        path.write_bytes(new[what])
    elif what != "missing":
        {
            "directory": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
            "dangling": lambda: path.symlink_to("nowhere"),
            "loop": lambda: path.symlink_to(path.name),
            "link out": lambda: path.symlink_to(other),
        }[what]()
    return what, False


def sealed_json(corpus: Corpus, file: str, rng: random.Random) -> tuple[str, bool]:
    """A field removed, renamed or of another type or range."""
    path = corpus.work / file
    document = json.loads(path.read_bytes())
    kind, _ = document.get("kind"), document.pop("sha256", None)
    inner, key = rng.choice([p for p in places(document) if p[1] not in ("kind", "schema")])
    container = document
    for step in inner:
        container = container[step]
    value, old = rng.choice(VALUES), container[key]
    if value is REMOVE or (value is RENAME and isinstance(container, list)):
        del container[key]
    elif value is RENAME:
        container[f"{key}_"] = container.pop(key)
    else:
        container[key] = value
    if kind is not None:
        document["sha256"] = _json_checksum(document)
    path.unlink()
    path.write_text(json.dumps(document).replace(json.dumps(NAN), "NaN"))
    names = {id(REMOVE): "removed", id(RENAME): "renamed"}
    shown = names.get(id(value), ascii(value)[:12])
    return f"{'.'.join(map(str, (*inner, key)))[-40:]} {shown} (was {str(old)[:12]})", fits(path)


def sealed_npz(corpus: Corpus, file: str, rng: random.Random) -> tuple[str, bool]:
    """An array removed, renamed, exchanged, or of another type, shape or range."""
    path = corpus.work / file
    with np.load(path) as archive:
        arrays = dict(archive)
    kind = arrays.pop("__kind__").item()
    arrays = {name: array for name, array in arrays.items() if name[:2] != "__"}
    name, other = rng.choice(list(arrays)), rng.choice(list(arrays))
    array = arrays.pop(name)
    changes: dict[str, Callable[[], dict[str, Any]]] = {
        "removed": dict,
        "renamed": lambda: {f"{name}_": array},
        "double": lambda: {name: _numeric(array).astype(np.float64)},
        "complex": lambda: {name: _numeric(array).astype(np.complex64)},
        "text": lambda: {name: array.astype(str)},
        "more dimensions": lambda: {name: array[None, ..., None]},
        "flat": lambda: {name: array.reshape(-1)},
        "empty": lambda: {name: array.reshape(-1)[:0]},
        "longer": lambda: {name: np.concatenate([np.atleast_1d(array)] * 2)},
        "negative": lambda: {name: _numeric(array).astype(np.int64) - 2**40},
        "huge": lambda: {name: _numeric(array).astype(np.int64) + 2**40},
        "reversed": lambda: {name: array.reshape(-1)[::-1].reshape(array.shape)},
        "bytes": lambda: {name: array.astype(str).astype("S")},
        "boolean": lambda: {name: _numeric(array).astype(bool)},
        "uint64": lambda: {name: np.full(array.shape, 2**64 - 1, np.uint64)},
        "added": lambda: {name: array, "more": array},
        "exchanged": lambda: {name: arrays.get(other, array), other: array},
    }
    what = rng.choice(list(changes))
    path.unlink()
    write_npz(path, kind, {**arrays, **changes[what]()})
    return f"{name} {what}", fits(path)


def _numeric(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind in "biuf" else np.zeros(array.shape)


def fits(path: pathlib.Path) -> bool:
    """Whether a file fits the schema of its kind."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as archive:
                arrays = dict(archive)
            kind = arrays.pop("__kind__").item()
            check_arrays(path, kind, {n: a for n, a in arrays.items() if n[:2] != "__"})
        else:
            document = json.loads(path.read_bytes())
            json.dumps(document, allow_nan=False)
            check_document(path, document.get("kind", ""), document)
    except (DamagedFileError, ValueError):
        return False
    return True


def places(document: Any, above: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every (path to a container, key in it) of a document; the first three of long lists."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in itertools.islice(items, None if isinstance(document, dict) else 3):
        yield above, key
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def chain(run: pathlib.Path) -> None:
    """Computes again the digests in all documents that refer to other files of a run."""
    manifests = sorted(run.glob("round_*/round.json")) + sorted(run.glob("tickets/*/ticket.json"))
    manifests += [*sorted(run.glob("tickets/*/retrained.json")), run / "summary.json"]
    for path in manifests:
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, TfPracError):
            text = path.read_text()
            document = json.loads(text)
            document.pop("sha256")
            for field, base in (("files", path.parent), ("made_from", run)):
                for name in document.get(field, {}):
                    document[field][name] = sha256(base / name)
            if path.parent.name == "round_00" and path.name == "round.json":
                document["rewind_sha256"] = sha256(run / "rewind.npz")
            document["sha256"] = _json_checksum(document)
            path.unlink()
            path.write_text(json.dumps(document))


def classify(corpus: Corpus, file: str, name: str, door: Callable, valid: bool) -> tuple[str, str]:
    """Calls a door; returns the outcome, and its error."""
    modules = set(sys.modules)
    signal.alarm(120)
    try:
        result = door()
    except Again:
        return "again", ""
    except TfPracError as error:
        text = f"{type(error).__name__}: {error}"
        outcome = "refused" if str(corpus.work) in str(error) else "TRACEBACK"
        return outcome, text if outcome == "refused" else f"names no file: {text}"
    except Exception as error:
        return "TRACEBACK", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        new = {m.partition(".")[0] for m in set(sys.modules) - modules}
    if foreign := new - ALLOWED_IMPORTS - set(sys.stdlib_module_names):
        return "IMPORT", ", ".join(sorted(foreign))
    if result is None or (isinstance(result, list) and None in result):
        return "again", ""
    if result == corpus.result(file, name):
        return "same", ""
    return ("valid" if valid else "WRONG"), f"{result!r:.200}"


def mutate(
    corpus: Corpus, count: int, seed: int = 0, slow_every: int = 4
) -> tuple[dict[str, collections.Counter], list[str]]:
    """Mutates files in turn; returns the outcomes by kind and way, and what went wrong.

    Args:
        corpus: the files.
        count: number of mutations.
        seed: of the mutations.
        slow_every: one in how many mutations of a run is also read by a command that takes long.
    """
    rng, files = random.Random(seed), corpus.files()
    kinds: dict[str, list[str]] = {}
    for file in files:
        kinds.setdefault(kind_of(file), []).append(file)
    table: dict[str, collections.Counter] = {}
    wrong: list[str] = []
    signal.signal(signal.SIGALRM, _too_long)
    turns = itertools.cycle(sorted(kinds))
    with _no_training():
        for number in range(count):
            kind = next(turns)
            file = rng.choice(kinds[kind])
            ways = {"raw": raw}
            if file.endswith(".json") and not file.startswith("tune/"):
                ways |= {"sealed": sealed_json, "chained": sealed_json}
            elif file.endswith(".npz"):
                ways |= {"sealed": sealed_npz, "chained": sealed_npz}
            way = rng.choice([*ways, *list(ways)[1:]])
            corpus.restore()
            what, valid = ways[way](corpus, file, rng)
            if way == "chained":
                chain(corpus.work / "run")
            turn = -1 if rng.randrange(slow_every) else rng.randrange(len(ROTATED))
            counts = table.setdefault(kind, collections.Counter())
            counts["mutations"] += 1
            counts[way] += 1
            for name, door in corpus.doors(file, turn=turn).items():
                outcome, error = classify(corpus, file, name, door, valid)
                counts[outcome] += 1
                if outcome in BAD:
                    wrong.append(f"{way} {file}: {what}: {name}: {outcome}: {error}")
                    print(wrong[-1], flush=True)
            if number % 100 == 99:
                print(f"{number + 1} of {count}", file=sys.stderr, flush=True)
    return table, wrong


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError("a door did not end")


def show(table: dict[str, collections.Counter]) -> str:
    """The outcomes as a table."""
    columns = ("mutations", "raw", "sealed", "chained", *OUTCOMES)
    total: collections.Counter = sum(table.values(), collections.Counter())
    lines = [f"{'kind':<14}" + "".join(f"{c:>10}" for c in columns)]
    for kind, counts in [*sorted(table.items()), ("total", total)]:
        lines.append(f"{kind:<14}" + "".join(f"{counts[c]:>10,}" for c in columns))
    return "\n".join(lines)


def _run() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow_every", type=int, default=4)
    parser.add_argument("--keras", default="keras")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        corpus = Corpus(pathlib.Path(directory), options.keras)
        table, wrong = mutate(corpus, options.count, options.seed, options.slow_every)
    print(show(table))
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(_run())
