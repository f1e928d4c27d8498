"""`tf-prac export RUN`."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from tf_prac.checks import check_choice
from tf_prac.cli.arguments import check_round, run_argument, ticket_flags
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.errors import ArgumentError, FileError
from tf_prac.export.directory import check_free
from tf_prac.export.encoding import STORAGES
from tf_prac.storage.files import inside
from tf_prac.storage.run_directory import MODEL, TICKET, RunDirectory

FORMATS = ("sparse_saved_model", "saved_model", "keras", "tflite", "npz")
CONTENTS = ("trained", "ticket")
SAMPLES = 64  # test samples that an export is compared on


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = ticket_flags(
        "export RUN --output=DIR [--flags]",
        "Writes a retrained ticket of a finished run for deployment, and compares it with the "
        "Keras model on test samples, in a new process without tf_prac. With --report it measures "
        "instead, or as well, what each format takes.",
    )
    flags.group("Export")
    flags.string("output", None, "The directory to write; needed unless --report.")
    flags.string("format", "sparse_saved_model", f"One of {', '.join(FORMATS)}.")
    flags.string(
        "content",
        "trained",
        "trained: the retrained sparse network, for serving; ticket: mask and rewind weights.",
    )
    flags.string("storage", "float32", f"Of pruned weights, one of {', '.join(STORAGES)}.")
    flags.boolean("softmax", False, "Serve probabilities instead of logits.")
    flags.boolean("preprocess", False, "Serve images as the data set has them, not normalised.")
    flags.boolean("check", True, "Compare the export with the Keras model.")
    flags.boolean("overwrite", False, "Replace an export that is there.")
    flags.boolean(
        "report", False, "Measure sizes, multiplications and latency; into RUN/size/ and printed."
    )
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Exports what the flags name."""
    run, flags.values["round"].value = _run_and_round(positional, flags.round)
    check_choice("format", flags.format, FORMATS)
    check_choice("content", flags.content, CONTENTS)
    check_choice("storage", flags.storage, STORAGES)
    if flags.output is not None:
        check_free(flags.output, flags.overwrite, "output")
    elif not flags.report:
        raise ArgumentError("output", None, "the directory to write", "Or measure with --report.")
    config = run.config()
    number = check_round(flags.round, config["pruning"]["rounds"])
    if flags.content == "trained" and run.finished_ticket(number) is None:
        raise FileError(
            f"{run.ticket_path(number)}: not retrained yet. Run: tf-prac retrain {run.path} "
            f"--round={number}; or export its rewind weights with --content=ticket."
        )
    load_tensorflow(config["keras"])
    subject, options = _subject(run, number, flags)
    if flags.output is not None:
        _show(run, number, flags.content, _write(flags, subject, options))
    if flags.report:
        _report(flags, subject, options, run.path / "size" / f"round_{number:02d}_{flags.content}")
    return 0


def _run_and_round(positional: list[str], number: int | None) -> tuple[RunDirectory, int | None]:
    """Returns the run; also that of the directory of one of its tickets."""
    run = run_argument(positional)
    found = re.fullmatch(r"round_(\d+)", run.path.resolve().name)
    if found and (run.path / TICKET).exists() and number is None:
        return RunDirectory(run.path.resolve().parents[1]), int(found[1])
    return run, number


def _subject(run: RunDirectory, number: int, flags: Flags) -> tuple[Any, dict[str, Any]]:
    """Returns the model or ticket to export, and the options that go with it."""
    from tf_prac.pruning.weights import rewind
    from tf_prac.search.ticket import Ticket
    from tf_prac.storage.files import read_npz
    from tf_prac.storage.run_directory import TRAINED

    ticket = Ticket.load(run.ticket_path(number))
    options: dict[str, Any] = {"metadata": _figures(run, number)}
    if "dataset" in (run.config().get("labels") or {}):
        network, more = _network_and_samples(run, flags)
        options |= more
    else:
        network = _saved_network(run, number, flags)
    if flags.content == "ticket":
        return ticket, {**options, "model": network}
    rewind(network, read_npz(run.ticket_path(number) / TRAINED, "weights"))
    return network, {**options, "masks": ticket.masks}


def _network_and_samples(run: RunDirectory, flags: Flags) -> tuple[Any, dict[str, Any]]:
    """Builds the network of a run made by the command, and reads samples to compare on."""
    import tensorflow as tf

    from tf_prac.cli.open_run import reopen
    from tf_prac.data.pipeline import normalised

    search, data = reopen(run, flags.data_dir)
    samples = data.test if data.test is not None else data.train
    raw = tf.constant(samples.inputs(range(min(SAMPLES, len(samples)))))
    if not flags.preprocess:
        return search.model_fn(), {"samples": normalised(samples, raw).numpy()}
    return search.model_fn(), {
        "samples": raw.numpy(),
        "preprocess": lambda images: normalised(samples, images),
        "inputs": tf.TensorSpec([None, *raw.shape[1:]], raw.dtype, name="images"),
    }


def _saved_network(run: RunDirectory, number: int, flags: Flags) -> Any:
    """Loads the network of a run made from Python, which Keras has saved; no code in it runs."""
    from tf_prac.training.pruned import load_model

    if flags.preprocess:
        raise ArgumentError("preprocess", True, "a run made by tf-prac search")
    path = inside(run.path, "tickets", run.ticket_path(number).name, MODEL)
    # A directory there would be a SavedModel, whose layers may hold code that loading runs.
    if run.finished_ticket(number) is None or not path.is_file():
        raise FileError(
            f"{path}: missing. This run was made from Python, and only its retrained tickets of "
            "classes that Keras can save hold a model; use tf_prac.export.saved_model."
        )
    try:
        return load_model(path, compile=False)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FileError(
            f"{path}: Keras does not load it ({reason}). Use tf_prac.export.saved_model."
        ) from error


def _figures(run: RunDirectory, number: int) -> dict[str, Any]:
    """What the metadata says about the run."""
    summary = run.summary()
    figures = summary["tickets"][number]
    names = ("round", "sparsity", "test_accuracy", "val_accuracy", "retrain_steps")
    return {
        "dataset": summary["dataset"],
        "ticket": {name: figures.get(name) for name in names},
        "dense": summary["dense"],
    }


def _write(flags: Flags, subject: Any, options: dict[str, Any]) -> Any:
    from tf_prac import export

    common: dict[str, Any] = {n: options[n] for n in ("model", "masks", "metadata") if n in options}
    common |= {"check": flags.check, "overwrite": flags.overwrite}
    if flags.format == "npz":
        return export.npz(subject, flags.output, **common)
    common["samples"] = options.get("samples")
    if flags.format == "keras":
        return export.keras_file(subject, flags.output, **common)
    served: dict[str, Any] = {n: options[n] for n in ("preprocess", "inputs") if n in options}
    served |= {"softmax": flags.softmax, "storage": flags.storage}
    if flags.format == "tflite":
        return export.tflite(subject, flags.output, **common, **served)
    sparse = flags.format == "sparse_saved_model"
    return export.saved_model(subject, flags.output, sparse=sparse, **common, **served)


def _report(flags: Flags, subject: Any, options: dict[str, Any], place: pathlib.Path) -> None:
    from tf_prac import export

    what = {name: options[name] for name in ("model", "masks") if name in options}
    storage: dict[str, Any] = {"storage": flags.storage}
    report = export.size_report(subject, **what, **storage)
    print(f"\n{report.text()}\n")
    for path in report.save(place):
        print(f"written  {path}")


def _show(run: RunDirectory, number: int, content: str, result: Any) -> None:
    what = "rewind weights of ticket" if content == "ticket" else "retrained ticket"
    print(f"content  {what} {run.ticket_path(number)}, sparsity {result.metadata['sparsity']:.2%}")
    if not result.metadata["sparsity"]:
        print("note     nothing is pruned: exported dense")
    if result.max_error is None:
        print("checked  no")
    else:
        print(f"checked  in a new process; outputs differ by at most {result.max_error:.2g}")
    print(f"export   {pathlib.Path(result.directory)}, {result.bytes:,} bytes")
