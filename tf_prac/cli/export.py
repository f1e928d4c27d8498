"""`tf-prac export RUN`."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from tf_prac.checks import check_choice
from tf_prac.cli.arguments import run_argument, ticket_argument, ticket_flags
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.runs import check_retrained
from tf_prac.errors import ArgumentError, FileError
from tf_prac.export.directory import check_target
from tf_prac.export.encoding import STORAGES
from tf_prac.storage.files import inside
from tf_prac.storage.layout import MODEL, TICKET
from tf_prac.storage.run_directory import RunDirectory

FORMATS = ("sparse_saved_model", "saved_model", "keras", "tflite", "onnx", "npz")
_SERVED = ("softmax", "preprocess")
_OPTIONS = {
    "sparse_saved_model": ("storage", *_SERVED),
    "saved_model": _SERVED,
    "tflite": ("storage", *_SERVED),
    "onnx": _SERVED,
}
"""The options that only some formats have."""
CONTENTS = ("trained", "ticket")
SAMPLES = 64  # number of test samples for the comparison with the Keras model


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = ticket_flags(
        "export RUN --output=DIR [--flags]",
        "Exports a retrained ticket of a finished run, and compares the export with the Keras "
        "model on test samples, in a new process without tf_prac. RUN may also be the directory of "
        "a ticket, RUN/tickets/round_NN. --report measures the size of every format, with or "
        "without --output.",
    )
    flags.group("Export")
    flags.path("output", None, "Output directory; required without --report.")
    flags.string("format", "sparse_saved_model", f"Format, one of {', '.join(FORMATS)}.")
    flags.string(
        "content",
        "trained",
        "trained: the retrained sparse network, for serving; ticket: mask and rewind weights.",
    )
    flags.string(
        "storage", "float32", f"Storage type of pruned weights, one of {', '.join(STORAGES)}."
    )
    flags.boolean("softmax", False, "Serve probabilities instead of logits.")
    flags.boolean(
        "shrink",
        False,
        "Remove channels that are dead or constant first; outputs stay the same.",
    )
    flags.boolean("fold_batch_norm", False, "Fold batch normalization into the layers before it.")
    flags.boolean("preprocess", False, "Serve raw images and normalize them in the export.")
    flags.boolean("check", True, "Compare the export with the Keras model.")
    flags.boolean("overwrite", False, "Replace an existing export.")
    flags.boolean(
        "report",
        False,
        "Measure sizes, multiplications and latency; print them, and write them to RUN/size/.",
    )
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Exports a ticket, measures its size, or both."""
    positional = _run_of_ticket(flags, positional)
    check_choice("format", flags.format, FORMATS)
    check_choice("content", flags.content, CONTENTS)
    check_choice("storage", flags.storage, STORAGES)
    if flags.output is not None:
        check_target(flags.output, flags.overwrite, "output")
    elif not flags.report:
        raise ArgumentError("output", None, "the directory to write", "Or use --report.")
    for name in ("shrink", "fold_batch_norm"):
        if getattr(flags, name) and flags.content == "ticket":
            remedy = "A ticket has the architecture of its run; export the trained network."
            raise ArgumentError(name, True, "content=trained", remedy)
    _check_options(flags)
    run, config, number = ticket_argument(flags, positional)
    if flags.content == "trained":
        remedy = "; or export its rewind weights with --content=ticket."
        check_retrained(run, config, number, remedy)
    load_tensorflow(config["keras"], quiet=flags.quiet)
    model_or_ticket, options = _model_or_ticket(run, number, flags)
    model_or_ticket, options = _smaller(flags, model_or_ticket, options)
    if flags.output is not None:
        _print_export(run, number, flags, _write(flags, model_or_ticket, options))
    if flags.report:
        directory = run.path / "size" / f"round_{number:02d}_{flags.content}"
        _report(flags, model_or_ticket, options, directory)
    return 0


def _check_options(flags: Flags) -> None:
    """Refuses options that the format, or a report without an export, would ignore."""
    used = _OPTIONS.get(flags.format, ()) if flags.output is not None else ()
    used += ("storage",) if flags.report else ()
    for name, default in (("storage", "float32"), ("softmax", False), ("preprocess", False)):
        value = getattr(flags, name)
        if value != default and name not in used:
            formats = " or ".join(form for form, options in _OPTIONS.items() if name in options)
            raise ArgumentError(name, value, f"{default} without an export as {formats}")


def _run_of_ticket(flags: Flags, positional: list[str]) -> list[str]:
    """Replaces the directory of a ticket by its run, and sets --round accordingly."""
    path = run_argument(positional).path
    ticket = re.fullmatch(r"round_(\d+)", path.resolve().name)
    if not ticket or not (path / TICKET).exists() or flags.round is not None:
        return positional
    flags.values["round"].value = int(ticket[1])
    return [str(path.resolve().parents[1])]


def _model_or_ticket(run: RunDirectory, number: int, flags: Flags) -> tuple[Any, dict[str, Any]]:
    """Returns the model or ticket to export, and the options of the export."""
    from tf_prac.pruning.weights import rewind
    from tf_prac.search.ticket import Ticket
    from tf_prac.storage.files import read_npz
    from tf_prac.storage.layout import TRAINED

    ticket = Ticket.load(run.ticket_path(number))
    options: dict[str, Any] = {"metadata": _metadata(run, number)}
    if "dataset" in (run.config().get("labels") or {}):
        network, input_options = _network_and_inputs(run, flags)
        options |= input_options
    else:
        network = _saved_network(run, number, flags)
    if flags.content == "ticket":
        return ticket, {**options, "model": network}
    rewind(network, read_npz(run.ticket_path(number) / TRAINED, "weights"))
    return network, {**options, "masks": ticket.masks}


def _network_and_inputs(run: RunDirectory, flags: Flags) -> tuple[Any, dict[str, Any]]:
    """Builds the network of a run of the command line; returns it with samples and inputs."""
    import tensorflow as tf

    from tf_prac.cli.open_run import reopen
    from tf_prac.data.pipeline import normalized

    search, data = reopen(run, flags.data_dir)
    samples = data.test if data.test is not None else data.train
    raw = tf.constant(samples.inputs(range(min(SAMPLES, len(samples)))))
    if not flags.preprocess:
        return search.model_fn(), {"samples": normalized(samples, raw).numpy()}
    return search.model_fn(), {
        "samples": raw.numpy(),
        "preprocess": lambda images: normalized(samples, images),
        "inputs": tf.TensorSpec([None, *raw.shape[1:]], raw.dtype, name="images"),
    }


def _saved_network(run: RunDirectory, number: int, flags: Flags) -> Any:
    """Loads the saved network of a run made from Python; code in it is refused."""
    from tf_prac.training.pruned import load_model

    if flags.preprocess:
        raise ArgumentError("preprocess", True, "a run made by tf-prac search")
    path = inside(run.path, "tickets", run.ticket_path(number).name, MODEL)
    # A directory would be a SavedModel, and loading one may execute the code of its layers.
    if run.finished_ticket(number) is None or not path.is_file():
        raise FileError(
            f"{path}: missing. This run was made from Python, so only retrained tickets whose "
            "model Keras could save can be exported. Use tf_prac.export.saved_model."
        )
    return load_model(path, compile=False)


def _smaller(flags: Flags, model: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Shrinks the model and folds its batch normalization, if requested, and prints the results."""
    from tf_prac import export

    metadata = dict(options["metadata"])
    if flags.shrink:
        shrunk = export.shrink(model, masks=options["masks"])
        print(f"{shrunk.report.text()}\n\nshrink   {shrunk.report}")
        metadata["shrink"] = shrunk.report.to_json()
        model, options = shrunk.model, {**options, "masks": shrunk.masks}
    if flags.fold_batch_norm:
        folded = export.fold_batch_norm(model, masks=options["masks"])
        print(f"fold     {folded}")
        metadata["folded"] = list(folded.folded)
        model, options = folded.model, {**options, "masks": folded.masks}
    return model, {**options, "metadata": metadata}


def _metadata(run: RunDirectory, number: int) -> dict[str, Any]:
    """The metadata of the export about the run."""
    summary = run.summary()
    ticket = summary["tickets"][number]
    names = ("round", "sparsity", "test_accuracy", "val_accuracy", "retrain_steps")
    return {
        "dataset": summary["dataset"],
        "ticket": {name: ticket.get(name) for name in names},
        "dense": summary["dense"],
    }


def _write(flags: Flags, model_or_ticket: Any, options: dict[str, Any]) -> Any:
    from tf_prac import export

    common: dict[str, Any] = {n: options[n] for n in ("model", "masks", "metadata") if n in options}
    common |= {"check": flags.check, "overwrite": flags.overwrite}
    if flags.format == "npz":
        return export.npz(model_or_ticket, flags.output, **common)
    common["samples"] = options.get("samples")
    if flags.format == "keras":
        return export.keras_file(model_or_ticket, flags.output, **common)
    served: dict[str, Any] = {n: options[n] for n in ("preprocess", "inputs") if n in options}
    served["softmax"] = flags.softmax
    if flags.format == "onnx":
        return export.onnx(model_or_ticket, flags.output, **common, **served)
    if flags.format == "saved_model":
        return export.saved_model(model_or_ticket, flags.output, sparse=False, **common, **served)
    served["storage"] = flags.storage
    write = export.tflite if flags.format == "tflite" else export.saved_model
    return write(model_or_ticket, flags.output, **common, **served)


def _report(
    flags: Flags, model_or_ticket: Any, options: dict[str, Any], directory: pathlib.Path
) -> None:
    from tf_prac import export

    arguments: dict[str, Any] = {n: options[n] for n in ("model", "masks") if n in options}
    report = export.size_report(model_or_ticket, storage=flags.storage, **arguments)
    print(f"\n{report.text()}\n")
    for path in report.save(directory):
        print(f"written  {path}")


def _print_export(run: RunDirectory, number: int, flags: Flags, result: Any) -> None:
    kind = "rewind weights of ticket" if flags.content == "ticket" else "retrained ticket"
    sparsity = result.metadata["sparsity"]
    print(f"content  {kind} {run.ticket_path(number)}, sparsity {sparsity:.2%}")
    if not sparsity:
        print("note     no weight is pruned: exported dense")
    if not flags.check:
        print("checked  no")
    elif result.max_error is None:
        print("checked  the arrays were read again, and are the same; nothing is computed")
    else:
        print(f"checked  in a new process; outputs differ by at most {result.max_error:.2g}")
    print(f"export   {pathlib.Path(result.directory)}, {result.bytes:,} bytes")
