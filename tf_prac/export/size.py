"""`size_report`: measures what sparsity saves, by weight and by format."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import os
import pathlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_int
from tf_prac.errors import ArgumentError, TfPracError
from tf_prac.export.architecture import export_dense
from tf_prac.export.directory import directory_bytes
from tf_prac.export.formats import keras_file, npz
from tf_prac.export.lite import FILE, tflite
from tf_prac.export.multiplications import multiplications
from tf_prac.export.n_m import two_of_four
from tf_prac.export.parts import saved_model_parts
from tf_prac.export.serving import serve
from tf_prac.export.source import Source, source_of
from tf_prac.export.verify import example_inputs
from tf_prac.export.writer import saved_model
from tf_prac.keras_api import named_weights, stable_name, symbolic_inputs
from tf_prac.plotting import COLORS, save_figure
from tf_prac.storage.atomic import atomic_write, exclusive, scratch_directory
from tf_prac.storage.files import write_json
from tf_prac.tables import text_table

SPARSE, DENSE = "sparse SavedModel", "Keras model.export"
_GZIP = 9


@dataclasses.dataclass(frozen=True)
class SizeReport:
    """The result of `size_report`.

    Example:

        >>> report = size_report(network)
        >>> print(report.text())
        >>> report.save("report")

    Attributes:
        model: name of the network.
        weights: a row for each weight: name, shape and sparsity; bytes of the dense array, as
            stored, of the information bound, and of the dense array compressed by gzip;
            multiplications without and with the mask, None if not known.
        totals: the sums of the same columns; of multiplications, None if one is not known.
        formats: a row for each format: name, bytes, bytes compressed by gzip, and a note.
        timing: median milliseconds of loading and of running a batch, for the sparse export and
            for Keras's own, and the median ratio; empty if not measured.
        parts: the bytes of the sparse and of Keras's own SavedModel by what they are for.
        two_of_four: which weights TensorRT and cuSPARSELt can run with 2:4 sparsity.
    """

    model: str
    weights: list[dict[str, Any]]
    totals: dict[str, Any]
    formats: list[dict[str, Any]]
    timing: dict[str, Any]
    parts: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    two_of_four: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def text(self) -> str:
        """Returns the report as tables for a terminal."""
        tables = (self._weights(), self._formats(), self._parts(), self._pattern(), self._timing())
        return "\n\n".join(filter(None, tables))

    def save(self, directory: str | os.PathLike) -> list[pathlib.Path]:
        """Writes size.json, size.txt, and the sizes of the formats as CSV and as a figure."""
        base = pathlib.Path(directory)
        with exclusive(base, f"{base}: another size report is written to it"):
            write_json(base / "size.json", "size", dataclasses.asdict(self))
            with atomic_write(base / "size.txt") as file:
                file.write(f"{self.text()}\n".encode())
            figure = save_figure(base / "size", self.formats, self._draw, size=(6.4, 3.2))
        return [base / "size.json", base / "size.txt", *figure]

    def _weights(self) -> str:
        header = (
            "weight",
            "shape",
            "sparsity",
            "dense",
            "stored",
            "bound",
            "gzip",
            "multiplications",
            "with mask",
        )
        rows = [
            (
                row["name"],
                "x".join(map(str, row["shape"])),
                f"{row['sparsity']:.2%}",
                *(f"{row[key]:,.0f}" for key in ("dense", "stored", "bound", "gzip")),
                *(_number(row[key]) for key in ("multiplications", "multiplications_kept")),
            )
            for row in (*self.weights, self.totals)
        ]
        return text_table([header, *rows], left=(0, 1))

    def _formats(self) -> str:
        rows = [
            (row["format"], f"{row['bytes']:,}", f"{row['gzip']:,}", row["note"])
            for row in self.formats
        ]
        return text_table([("format", "bytes", "gzip", ""), *rows], left=(0, 3))

    def _parts(self) -> str:
        names = list(dict.fromkeys(name for parts in self.parts.values() for name in parts))
        rows = [
            (name, *(f"{parts.get(name, 0):,}" for parts in self.parts.values())) for name in names
        ]
        return text_table([("bytes", *self.parts), *rows], left=(0,)) if rows else ""

    def _pattern(self) -> str:
        usable = [row["name"] for row in self.two_of_four if row["tensorrt"]]
        if not usable:
            return "2:4 sparsity (TensorRT, cuSPARSELt): no weight"
        rows = [
            (row["name"], *("yes" if row[n] else "no" for n in ("tensorrt", "cusparselt")),
             row["reason"])
            for row in self.two_of_four
        ]  # fmt: skip
        return text_table([("2:4 sparsity", "TensorRT", "cuSPARSELt", ""), *rows], left=(0, 3))

    def _timing(self) -> str:
        if not self.timing:
            return ""
        rows = [
            (
                action,
                f"{t['sparse_ms']:.2f}",
                f"{t['dense_ms']:.2f}",
                f"{t['ratio']:.3f}",
                f"{t['processor_ratio']:.3f}",
            )
            for action, t in self.timing.items()
        ]
        head = ("median ms", "sparse", "dense", "ratio", "CPU ratio")
        return text_table([head, *rows], left=(0,))

    def _draw(self, figure: Any) -> None:
        axes = figure.subplots()
        rows = self.formats[::-1]
        positions = range(len(rows))
        for offset, key, color in ((0.2, "bytes", COLORS[0]), (-0.2, "gzip", COLORS[4])):
            values = [row[key] / 1e6 for row in rows]
            heights = [position + offset for position in positions]
            axes.barh(heights, values, 0.38, color=color, label=key.replace("bytes", "file"))
        axes.set_yticks(list(positions), [row["format"] for row in rows])
        axes.set(xlabel="megabytes", title=f"{self.model}, {self.totals['sparsity']:.1%} zeros")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)


def size_report(
    model_or_ticket: Any,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    storage: str = "float32",
    formats: Sequence[str] | None = None,
    batch_size: int = 32,
    repeats: int = 15,
) -> SizeReport:
    """Exports a model in every format, to a temporary directory, and measures size and latency.

    Multiplications by kernel elements are counted for one sample; with the mask, only those by kept
    elements, as in a runtime that skips zeros. TensorFlow does not skip them, as the latency shows.
    If their number depends on the size of the input, or a layer is not Keras's own, it is "?".

    Example:

        >>> report = size_report(network)  # doctest: +SKIP
        >>> print(report.text())
        >>> report.save("report")

    Args:
        model_or_ticket, model, masks: as for `saved_model`.
        storage: storage type of the sparse SavedModel. Default "float32".
        formats: names of `FORMATS`, by default all. If a format cannot represent the model, its
            note says why.
        batch_size: samples in a batch whose latency is measured. Default 32.
        repeats: number of timed batches, sparse and dense in turn; 0: no timing. Default 15.

    Raises:
        ArgumentError: If a format is unknown, or as for `saved_model`.
    """
    check_int("batch_size", batch_size, 1)
    check_int("repeats", repeats, 0)
    if isinstance(formats, str):
        raise ArgumentError("formats", formats, "a list of names")
    names = list(FORMATS) if formats is None else list(formats)
    for name in names:
        if name not in FORMATS:
            raise ArgumentError("formats", name, "names of " + ", ".join(FORMATS))
    source = source_of(model_or_ticket, model=model, masks=masks)
    with source.applied(), scratch_directory() as base, _no_warnings():
        sparse = saved_model(
            source.network, base / "sparse", masks=source.masks, storage=storage, check=False
        )
        weights = weight_rows(source, sparse.metadata["weights"])
        note = f"{sparse.metadata['storage']} values"
        rows = [{"format": SPARSE, **_sizes(sparse.directory), "note": note}]
        rows += [_format_row(name, source, base / str(i)) for i, name in enumerate(names)]
        timing = {}
        if repeats:
            dense = base / "timed"
            export_dense(source.network, dense)
            timing = compare_speed(sparse.directory, dense, source, batch_size, repeats)
        parts = {SPARSE: saved_model_parts(sparse.directory)}
        if DENSE in names:
            parts[DENSE] = saved_model_parts(base / str(names.index(DENSE)))
    return SizeReport(
        stable_name(source.network),
        weights,
        _totals(weights),
        rows,
        timing,
        parts,
        two_of_four(source.network, source.masks),
    )


def weight_rows(source: Source, stored: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows about weights of a report.

    Args:
        source: the exported network and its masks.
        stored: the rows about weights in the metadata of its export.
    """
    kept = {name: int(mask.sum()) for name, mask in source.masks.items()}
    counts = multiplications(source.network, serve(source.network), kept)
    values = {w.name: np.asarray(w.variable) for w in named_weights(source.network)}
    rows = []
    for row in stored:
        name, value = row["name"], values[row["name"]]
        dense, masked = counts[name]
        rows.append(
            {
                "name": name,
                "shape": row["shape"],
                "size": value.size,
                "kept": row["kept"],
                "sparsity": 1 - row["kept"] / max(value.size, 1),
                "encoding": row["encoding"],
                "dense": value.nbytes,
                "stored": row["bytes"],
                "bound": row["bound"],
                "gzip": len(gzip.compress(value.tobytes(), _GZIP)),
                "multiplications": dense,
                "multiplications_kept": masked,
            }
        )
    return rows


def compare_speed(
    sparse: pathlib.Path, dense: pathlib.Path, source: Source, batch_size: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Times loading and inference of two SavedModels of the same model, in turn.

    Args:
        sparse: the sparse SavedModel.
        dense: the dense SavedModel.
        source: the exported network.
        batch_size: samples in a batch.
        repeats: number of batches.

    Returns:
        "load" and "batch of n", each with median milliseconds and the median ratio of sparse to
        dense, in wall-clock time and in processor time, which depends less on other processes.
    """
    specs = serve(source.network).inputs
    inputs = example_inputs(specs, None, batch_size)
    values = [tf.constant(value) for value in inputs.values()]
    own = (tensor.name for tensor in symbolic_inputs(source.network))  # in Keras's own export
    tensors = {**dict(zip(own, values, strict=False)), **dict(zip(inputs, values, strict=True))}
    both = {"sparse": sparse, "dense": dense}
    loads: dict[str, list[_Time]] = {name: [] for name in both}
    runs: dict[str, list[_Time]] = {name: [] for name in both}
    loaded = {name: tf.saved_model.load(str(path)) for name, path in both.items()}
    for _ in range(max(3, repeats // 2)):
        for name, path in both.items():
            loads[name].append(_time(functools.partial(tf.saved_model.load, str(path))))
    calls = {name: _caller(model, tensors) for name, model in loaded.items()}
    for call in calls.values():
        call()
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            runs[name].append(_time(call))
    return {"load": _medians(loads), f"batch of {batch_size}": _medians(runs)}


def _keras_export(source: Source, directory: pathlib.Path) -> pathlib.Path:
    export_dense(source.network, directory)
    return directory


def _keras_file(source: Source, directory: pathlib.Path) -> pathlib.Path:
    return keras_file(source.network, directory, masks=source.masks, check=False).directory


def _npz(source: Source, directory: pathlib.Path) -> pathlib.Path:
    return npz(source.network, directory, masks=source.masks, check=False).directory


def _lite(sparse: bool) -> Callable[[Source, pathlib.Path], pathlib.Path]:
    def write(source: Source, directory: pathlib.Path) -> pathlib.Path:
        options: dict[str, Any] = {"masks": source.masks, "check": False, "sparse": sparse}
        return tflite(source.network, directory, **options).directory / FILE

    return write


FORMATS: dict[str, Callable[[Source, pathlib.Path], pathlib.Path]] = {
    DENSE: _keras_export,
    "Keras .keras file": _keras_file,
    "npz": _npz,
    "TFLite": _lite(False),
    "TFLite, sparse": _lite(True),
}


def _format_row(name: str, source: Source, directory: pathlib.Path) -> dict[str, Any]:
    try:
        return {"format": name, **_sizes(FORMATS[name](source, directory)), "note": ""}
    except TfPracError as error:
        return {"format": name, "bytes": 0, "gzip": 0, "note": f"not written: {error}"}


def _sizes(path: pathlib.Path) -> dict[str, int]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    packed = sum(len(gzip.compress(p.read_bytes(), _GZIP)) for p in files)
    return {"bytes": directory_bytes(path), "gzip": packed}


def _totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    numbers = ("size", "kept", "dense", "stored", "bound", "gzip")
    products = ("multiplications", "multiplications_kept")
    totals = {key: sum(row[key] for row in rows) for key in numbers}
    for key in products:
        values = [row[key] for row in rows]
        totals[key] = None if None in values else sum(values)
    sparsity = 1 - totals["kept"] / max(totals["size"], 1)
    return {"name": "total", "shape": [], "sparsity": sparsity, **totals}


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _caller(model: Any, tensors: Mapping[str, tf.Tensor]) -> Callable[[], Any]:
    serve_default = model.signatures["serving_default"]
    names = list(serve_default.structured_input_signature[1])
    if len(names) == 1:  # whatever its name
        named = dict(zip(names, tensors.values(), strict=False))
    else:
        named = {name: tensors[name] for name in names}
    return lambda: [value.numpy() for value in serve_default(**named).values()]


class _Time(NamedTuple):
    """Seconds of wall-clock and of processor time."""

    clock: float
    processor: float


def _time(action: Callable[[], Any]) -> _Time:
    clock, processor = time.perf_counter(), time.process_time()
    action()
    return _Time(time.perf_counter() - clock, time.process_time() - processor)


def _medians(times: Mapping[str, Sequence[_Time]]) -> dict[str, float]:
    pairs = list(zip(times["sparse"], times["dense"], strict=True))
    return {
        "sparse_ms": 1e3 * statistics.median(s.clock for s, _ in pairs),
        "dense_ms": 1e3 * statistics.median(d.clock for _, d in pairs),
        "ratio": statistics.median(s.clock / d.clock for s, d in pairs),
        "processor_ratio": statistics.median(s.processor / d.processor for s, d in pairs),
    }


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
