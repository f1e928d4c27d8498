"""The schema of every file that tf_prac reads: JSON documents and archives of arrays, by kind.

`read_json` and `read_npz` check these schemas, and name the file and the field that does not fit.
A field that version 0.1.0 did not write is optional. Fields that are not listed are not checked.
Values that several files have to agree on are compared where a run is read (`run_directory.py`),
and values of options where they are used (`SearchConfig`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.errors import DamagedFileError
from tf_prac.storage.schema import (
    Anything,
    Array,
    Arrays,
    Either,
    Flag,
    Integer,
    Invalid,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Record,
    Schema,
    Text,
)

COUNT: Schema = Integer(0)
FRACTION: Schema = Number(0, 1)
TEXT: Schema = Text()
ACCURACY: Schema = Nullable(Number())  # or another metric; see `_accuracies_are_fractions`
METRIC: Schema = Record({"name": TEXT, "higher_is_better": Flag()})
SECONDS: Schema = Number(0)
SHA256: Schema = Text(pattern="[0-9a-f]{64}")
KERAS: Schema = Text(("keras", "tf_keras"))
SHAPE: Schema = ListOf(COUNT)
RETRAIN: Schema = Either(Text(("last", "all", "none")), ListOf(COUNT))
OPTIONS: Schema = MapOf(Anything())

IDENTITY: Schema = Record(
    {"name": TEXT, "version": TEXT, "split": TEXT, "count": Integer(1), "order_hash": TEXT}
)


def _accuracies_are_fractions(metrics: Mapping[str, Any], prefix: str) -> None:
    """Checks accuracies; a document with "metric" has the values of another metric there."""
    name = metrics.get("metric", {}).get("name", "accuracy")
    for key in ("val_accuracy", "test_accuracy", "test_accuracy_last"):
        if name.endswith("accuracy") and metrics.get(key) is not None:
            FRACTION.check(metrics[key], f"{prefix}{key}")


def _round_0_has_more(metrics: Mapping[str, Any], prefix: str) -> None:
    _accuracies_are_fractions(metrics, prefix)
    if metrics["round"] == 0:
        more: dict[str, Schema] = {"rewind_sha256": SHA256, "test_accuracy": ACCURACY}
        Record(more).check(metrics, prefix.rstrip("."))


ROUND_METRICS: Schema = Record(
    {
        "round": COUNT,
        "sparsity": FRACTION,
        "next_sparsity": FRACTION,
        "train_samples": COUNT,
        "epochs": COUNT,
        "steps": COUNT,
        "samples_seen": COUNT,
        "stop": TEXT,
        "mask_distances": ListOf(Number(0)),
        "cet": COUNT,
        "cep": COUNT,
        "overlap": FRACTION,
        "prac_size": COUNT,
        "val_accuracy": ACCURACY,
        "seconds": SECONDS,
        "forward_samples": COUNT,
        "gradient_samples": COUNT,
    },
    {
        "rewind_sha256": SHA256,
        "test_accuracy": ACCURACY,
        "test_accuracy_last": ACCURACY,
        "metric": METRIC,
        "dense_from": Flag(),
        "mask_agreement": FRACTION,
        "order_distances": ListOf(Number(0)),
        "pretrain_samples": COUNT,
        "pretrain_steps": COUNT,
        "pretrain_forward_samples": COUNT,
    },
    _round_0_has_more,
)
MODEL_DETAILS: dict[str, Schema] = {
    "weights": ListOf(
        Record(
            {"name": TEXT, "shape": SHAPE, "dtype": TEXT, "pruned": Flag(), "kept": COUNT},
            {
                "encoding": Text(("dense", "bitmask", "gaps")),
                "storage": TEXT,
                "bytes": COUNT,
                "bound": Number(0),
                "variable": TEXT,
                "group": TEXT,
                "start": COUNT,
                "scale": SHAPE,
            },
        )
    ),
    "groups": MapOf(Record({"bits": Integer(0, 16), "size": COUNT})),
    "streams": ListOf(Record({"name": TEXT, "dtype": TEXT, "size": COUNT})),
    "architecture": Nullable(OPTIONS),
}
"""The parts of an export that programs read: of a SavedModel, in a file of their own."""

TICKET_METRICS: dict[str, Schema] = {
    "round": COUNT,
    "control": TEXT,
    "sparsity": FRACTION,
    "val_accuracy": ACCURACY,
    "test_accuracy": ACCURACY,
    "retrain_steps": COUNT,
    "forward_samples": COUNT,
}
SUMMARIZED_TICKET: Schema = Record(
    TICKET_METRICS,
    {
        "test_accuracy_last": ACCURACY,
        "seconds": SECONDS,
        "metric": METRIC,
        "in_round": Flag(),
        "dense_from": Flag(),
    },
    _accuracies_are_fractions,
)


def _numbered(summary: Mapping[str, Any], prefix: str) -> None:
    """Rounds are numbered from 0; there is one more ticket, the dense network."""
    dense = {**summary["dense"], "metric": summary.get("metric", {})}
    _accuracies_are_fractions(dense, f"{prefix}dense.")
    rounds = [metrics["round"] for metrics in summary["rounds"]]
    if not rounds or rounds != list(range(len(rounds))):
        raise Invalid("rounds", rounds, "at least one round, numbered 0, 1, ...")
    tickets = [metrics["round"] for metrics in summary["tickets"]]
    if tickets != list(range(len(rounds) + 1)):
        raise Invalid("tickets", tickets, f"tickets numbered 0 to {len(rounds)}")


DOCUMENTS: dict[str, Schema] = {
    "config": Record(
        {
            "recipe": OPTIONS,
            "pruning": Record({"rounds": Integer(1), "rewind": TEXT}),
            "prac": Record(
                {"early_stop_eps": Nullable(Number(0)), "early_stop_window": Integer(1)}
            ),
            "search": Record(
                {"seed": Integer(0, 2**32 - 1), "retrain": RETRAIN},
                {
                    "deterministic": Flag(),
                    "also_keep": ListOf(TEXT),
                    "task": OPTIONS,
                    "compiled": OPTIONS,
                    "class_weight": MapOf(Number()),
                },
            ),
            "dataset": IDENTITY,
            "train_samples": Integer(1),
            "validation": Nullable(IDENTITY),
            "test": Nullable(IDENTITY),
            "model": MapOf(SHAPE),
            "keras": KERAS,
            "versions": MapOf(TEXT),
        },
        {"labels": OPTIONS, "other_runs": MapOf(TEXT)},
    ),
    "round": ROUND_METRICS,
    "pretrained": Record(
        {"pretrain_samples": COUNT, "pretrain_steps": COUNT, "pretrain_forward_samples": COUNT}
    ),
    "ticket": Record(
        {
            "round": COUNT,
            "rewind_step": COUNT,
            "lr_rewind": Flag(),
            "files": MapOf(SHA256),
        },
        {
            "sparsity": FRACTION,
            "control": TEXT,
            "retraining": Text(("weight_rewinding", "fine_tuning", "lr_rewinding")),
        },
    ),
    "retrained": Record(
        {**TICKET_METRICS, "test_accuracy_last": ACCURACY, "seconds": SECONDS},
        {"metric": METRIC, "in_round": Flag(), "dense_from": Flag()},
        _accuracies_are_fractions,
    ),
    "summary": Record(
        {
            "dataset": IDENTITY,
            "model": TEXT,
            "keras": KERAS,
            "seed": Integer(0, 2**32 - 1),
            "rewind_step": COUNT,
            "dense": Record(
                {
                    "test_accuracy": ACCURACY,
                    "val_accuracy": ACCURACY,
                    "steps": COUNT,
                    "source": TEXT,
                },
                {"test_accuracy_last": ACCURACY},
            ),
            "rounds": ListOf(ROUND_METRICS),
            "tickets": ListOf(SUMMARIZED_TICKET),
            "controls": ListOf(SUMMARIZED_TICKET),
            "cost": Record(
                {
                    "search_steps": COUNT,
                    "full_imp_steps": COUNT,
                    "forward_samples": COUNT,
                    "retrain_steps": COUNT,
                    "reference_steps": COUNT,
                    "gradient_samples": COUNT,
                    "steps_saved": Number(maximum=1),
                    "end_to_end_steps": COUNT,
                    "end_to_end_steps_saved": Number(maximum=1),
                },
                {"paper_imp_steps": COUNT, "paper_steps_saved": Number(maximum=1)},
            ),
        },
        {
            "other_runs": MapOf(Record({"digest": SHA256, "search_steps": COUNT})),
            "distribution": OPTIONS,
            "metric": METRIC,
            "data_placement": Record({"placement": TEXT, "description": TEXT}),
        },
        _numbered,
    ),
    "checkpoint": Record(
        {
            "step": COUNT,
            "tensors": ListOf(TEXT),
            "identity": TEXT,
            "rows": ListOf(MapOf(Either(Number(), Text(("nan", "inf", "-inf"))))),
            "best": Record({"value": Nullable(Number()), "epoch": Nullable(COUNT)}),
            "distances": ListOf(Number(0)),
            "stopped": Flag(),
            "seconds": SECONDS,
            "epoch_began": SECONDS,
        },
        {"order_distances": ListOf(Number(0))},
    ),
    **{
        kind: Record(
            {"recipe": OPTIONS, "pruning": OPTIONS, "prac": OPTIONS, "search": OPTIONS},
            {"labels": OPTIONS},
        )
        for kind in ("comparison", "sweep")
    },
    "export": Record(
        {
            "format": TEXT,
            "content": TEXT,
            "model": TEXT,
            "keras": KERAS,
            "sparsity": FRACTION,
            "storage": Text(("float32", "float16", "bfloat16", "int8")),
            "versions": MapOf(TEXT),
        },
        {
            "signature": MapOf(MapOf(Record({"shape": Anything(), "dtype": TEXT}))),
            **MODEL_DETAILS,
            "model_sha256": SHA256,
        },
    ),
    "export_model": Record({}, MODEL_DETAILS),
}
"""The schema of the JSON documents of each kind."""

IDS = Array("i", 1, minimum=0)
NUMBERS = Array("biufcV")  # NumPy has no bfloat16: its arrays are of two bytes without a type


def _sample_set(arrays: Mapping[str, np.ndarray]) -> None:
    size = int(arrays["num_samples"])
    for name in ("cet", "cep", "filled"):
        ids = arrays[name]
        if ids.size and (ids[-1] >= size or (np.diff(ids) <= 0).any()):
            raise Invalid(name, f"ids up to {ids.max()}", f"increasing ids below {size}")


def _forgetting(arrays: Mapping[str, np.ndarray]) -> None:
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1 or not min(lengths):
        raise Invalid("counts", sorted(lengths), "as many elements in each array, at least one")
    if {array.dtype for array in arrays.values()} != {np.dtype(np.int32)}:
        raise Invalid("counts", sorted({str(a.dtype) for a in arrays.values()}), "int32 arrays")


def _tentative(arrays: Mapping[str, np.ndarray]) -> None:
    count, size = int(arrays["count"]), len(arrays["bits"])
    if arrays["bits"].dtype != np.uint8 or size != -(-count // 8):
        received = f"{size} elements of {arrays['bits'].dtype}"
        raise Invalid("bits", received, f"uint8, one bit for each of {count} weights")


def _predictions(arrays: Mapping[str, np.ndarray]) -> None:
    """Predictions are classes [n], values [n, ...], or those of several outputs by name."""
    names = [name for name in arrays if name.partition("/")[0] != "classes"]
    if names == list(arrays):
        raise Invalid("classes", None, "an array; it is missing")
    if names or (len(arrays) > 1 and "classes" in arrays):
        raise Invalid("arrays", sorted(arrays), '"classes", or "classes/OUTPUT" for each output')
    for name, array in arrays.items():
        negative = array.ndim == 1 and array.dtype.kind == "i" and array.size and array.min() < 0
        if not array.ndim or negative:
            raise Invalid(name, array, "predictions [n, ...], classes from 0")


ARRAYS: dict[str, Arrays] = {
    "masks": Arrays(others=Array("b")),
    "rewind": Arrays(others=NUMBERS),
    "weights": Arrays(others=NUMBERS),
    "prac_set": Arrays(
        {"cet": IDS, "cep": IDS, "filled": IDS, "num_samples": Array("i", 0, minimum=1)},
        rule=_sample_set,
    ),
    "forgetting": Arrays(
        {
            "presentations": Array("i", 1, minimum=0),
            "last_correct": Array("i", 1, 0, 1),
            "learned": Array("i", 1, 0, 1),
            "events": Array("i", 1, minimum=0),
        },
        rule=_forgetting,
    ),
    "predictions": Arrays(others=Array("if"), rule=_predictions),
    "tentative": Arrays(
        {"bits": Array("u", 1), "count": Array("i", 0, minimum=0)}, rule=_tentative
    ),
    "copy": Arrays(
        {"origin": Array("U", 0), "steps": Array("i", 0, minimum=0), "seconds": Array("f", 0)},
        {"classes": Array("if"), "metric": Array("f", 0), "losses": Array("f", 1)},
        NUMBERS,
    ),
    "trajectory": Arrays({"origin": Array("U", 0)}, {}, NUMBERS),
}
"""The schema of the archives of arrays of each kind."""


def check_document(path: str | os.PathLike, kind: str, document: Any) -> None:
    """Raises `DamagedFileError` and names the field unless a document fits the schema of its kind.

    Args:
        path: the file, for the error.
        kind: its kind; documents of other kinds than those of `DOCUMENTS` are not checked.
        document: its content.
    """
    _check(path, DOCUMENTS.get(kind), document)


def check_arrays(path: str | os.PathLike, kind: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `DamagedFileError` and names the array unless arrays fit the schema of their kind.

    Args:
        path: the file, for the error.
        kind: its kind; archives of other kinds than those of `ARRAYS` are not checked.
        arrays: its content.
    """
    _check(path, ARRAYS.get(kind), arrays)


def _check(path: str | os.PathLike, schema: Any, value: Any) -> None:
    try:
        if schema is not None:
            schema.check(value, "")
    except Invalid as error:
        raise DamagedFileError(f"{path}: damaged, {error}.") from error
