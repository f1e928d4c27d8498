"""Schemas of documents and arrays: what each kind must have, and the limits of what is read."""

from __future__ import annotations

import copy
import json
import re

import documents
import numpy as np
import pytest
from source_tree import ROOT

from tf_prac.analysis.report.html import tag
from tf_prac.errors import DamagedFileError, FileError
from tf_prac.plotting import Line, line_figure
from tf_prac.storage import files
from tf_prac.storage.documents import ARRAYS, DOCUMENTS
from tf_prac.storage.files import (
    read_csv,
    read_json,
    read_npz,
    read_shapes,
    write_csv,
    write_json,
    write_npz,
)
from tf_prac.storage.names import check_name
from tf_prac.tables import markdown_table

SHA = "0" * 64
VALID = {
    "config": documents.config(),
    "round": documents.round_metrics(),
    "retrained": documents.ticket_metrics(),
    "summary": documents.summary(2),
    "pretrained": {
        "pretrain_samples": 3,
        "pretrain_steps": 4,
        "pretrain_forward_samples": 0,
    },
    "ticket": {"round": 1, "rewind_step": 3, "lr_rewind": True, "files": {"masks.npz": SHA}},
    "checkpoint": {
        "step": 4,
        "tensors": ["variable/0"],
        "identity": SHA,
        "rows": [{"epoch": 1, "loss": "nan"}],
        "best": {"value": None, "epoch": None},
        "distances": [0.5],
        "stopped": False,
        "seconds": 1.5,
        "epoch_began": 0.5,
    },
    "comparison": {"recipe": {}, "pruning": {}, "prac": {}, "search": {}, "labels": {}},
    "sweep": {"recipe": {}, "pruning": {}, "prac": {}, "search": {}, "labels": {}},
    "export": {
        "format": "sparse_saved_model",
        "content": "model",
        "model": "lenet300",
        "keras": "keras",
        "sparsity": 0.5,
        "storage": "float32",
        "versions": {"keras": "3"},
        "weights": [{"name": "a", "shape": [2], "dtype": "float32", "pruned": True, "kept": 1}],
        "groups": {"a": {"bits": 2, "size": 2}},
        "architecture": None,
    },
    "export_model": {
        "weights": [{"name": "a", "shape": [2], "dtype": "float32", "pruned": True, "kept": 1}],
        "groups": {"a": {"bits": 2, "size": 2}},
        "architecture": None,
    },
}
IDS = np.array([1, 3])
VALID_ARRAYS = {
    "masks": {"a": np.ones(3, bool)},
    "rewind": {"a": np.ones(3, np.float32)},
    "weights": {"a": np.ones(3, np.float16), "b": np.zeros(2, np.int64)},
    "prac_set": {"cet": IDS, "cep": IDS[:0], "filled": IDS, "num_samples": np.array(4)},
    "forgetting": dict.fromkeys(
        ["presentations", "last_correct", "learned", "events"], np.ones(3, np.int32)
    ),
    "predictions": {"classes": IDS},
    "tentative": {"bits": np.array([255, 1], np.uint8), "count": np.array(9)},
    "copy": {
        "origin": np.array("x"),
        "steps": np.array(3),
        "seconds": np.array(0.5),
        "weights/a": np.ones(3, np.float32),
    },
    "trajectory": {"origin": np.array("x"), "weights/3/a": np.ones(3, np.float32)},
}
OPTIONAL = {"labels", "weights", "groups", "architecture", "test_accuracy_last"}  # of those above
WRONG = ["3", True, -1, 1e999, [], {}, None, 10**400, ["x"], 0.5]


def written(tmp_path, kind, document):
    """A file with a valid checksum; NaN and infinity are written as Python does."""
    text = {"kind": kind, "schema": 1, **document}
    path = tmp_path / f"{kind}.json"
    checksum = files._json_checksum(json.loads(json.dumps(text).replace("Infinity", "0")))
    path.write_text(json.dumps({**text, "sha256": checksum}))
    return path


def fields(document, above=()):
    """Every path to a value of a document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from fields(value, (*above, key))


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_with_its_fields_is_read(kind, tmp_path):
    write_json(tmp_path / "a", kind, {**VALID[kind], "of a later version": [1]})
    document = json.loads(json.dumps(VALID[kind]))
    assert read_json(tmp_path / "a", kind) == {**document, "of a later version": [1]}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_without_a_field_is_refused_and_the_field_named(kind, tmp_path):
    for name in VALID[kind]:
        if name not in OPTIONAL:
            document = {n: v for n, v in VALID[kind].items() if n != name}
            path = written(tmp_path, kind, document)
            with pytest.raises(DamagedFileError) as caught:
                read_json(path, kind)
            text = f"{path}: damaged, {name}: received None; allowed: a value; the field is missing"
            assert str(caught.value).startswith(text)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_wrong_values_are_refused_or_read_as_written(kind, tmp_path):
    valid, refused = json.loads(json.dumps(VALID[kind])), 0
    for path in fields(valid):
        for value in WRONG:
            document = copy.deepcopy(valid)
            inner = document
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
            file = written(tmp_path, kind, document)
            try:
                assert read_json(file, kind) == document
            except DamagedFileError as error:
                assert str(file) in str(error)
                refused += 1
    assert refused >= 5 * len(VALID[kind]) or kind in ("comparison", "sweep")


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        ("summary", "rounds", "3", "rounds: received '3'; allowed: a list"),
        ("config", "pruning", {"rewind": "2%"}, "pruning.rounds: received None; .*is missing"),
        ("round", "steps", -1, "steps: received -1; allowed: an integer >= 0"),
        ("round", "steps", True, "steps: received True; allowed: an integer >= 0"),
        ("round", "sparsity", 1.5, "sparsity: received 1.5; allowed: a finite number in .0, 1."),
        ("round", "rewind_sha256", "0", "rewind_sha256: received '0'; allowed: a text of the form"),
        ("ticket", "lr_rewind", 1, "lr_rewind: received 1; allowed: true or false"),
        ("summary", "rounds", [], "rounds: received .*; allowed: at least one round, numbered"),
        ("config", "model", {"a": [2, -3]}, r"model.a\[1\]: received -3"),
        ("summary", "model", "\ud800", "model: received .*; allowed: a text without lone surr"),
        ("export", "storage", "int4", "storage: received 'int4'; allowed: one of 'float32', "),
        ("round", "stop", "x" * 999, None),
    ],
)
def test_the_error_names_the_field_and_what_is_allowed(kind, field, value, message, tmp_path):
    path = written(tmp_path, kind, {**VALID[kind], field: value})
    if message is None:
        assert read_json(path, kind)[field] == value
        return
    with pytest.raises(DamagedFileError, match=f"{kind}.json: damaged, {message}"):
        read_json(path, kind)


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_read_and_others_refused(kind, tmp_path):
    path, valid = tmp_path / "a.npz", VALID_ARRAYS[kind]
    write_npz(path, kind, valid)
    assert list(read_npz(path, kind)) == list(valid)
    assert read_shapes(path, kind) == {name: array.shape for name, array in valid.items()}
    for name, array in valid.items():
        for other in (array.astype(str), array.astype("S"), np.array(["a"] * 4).reshape(2, 2)):
            if name == "origin" and other.dtype.kind == "U" and not other.ndim:
                continue
            write_npz(path, kind, {**valid, name: other})
            with pytest.raises(DamagedFileError, match=f"a.npz: damaged, .*{name}.* allowed: "):
                read_npz(path, kind)
        if kind not in ("masks", "rewind", "weights") and not name.startswith("weights/"):
            write_npz(path, kind, {n: a for n, a in valid.items() if n != name})
            with pytest.raises(DamagedFileError, match=f"damaged, {name}: .* it is missing"):
                read_npz(path, kind)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("tentative", {"count": np.array(2**62)}),
        ("tentative", {"count": np.array(8)}),
        ("tentative", {"bits": np.array([1, 2], np.uint16)}),
        ("prac_set", {"cet": np.array([3, 1])}),
        ("prac_set", {"cet": np.array([4])}),
        ("prac_set", {"more": IDS}),
        ("forgetting", {"events": np.ones(4, np.int32)}),
        ("forgetting", {"events": np.ones(3, np.int64)}),
        ("forgetting", {"learned": np.full(3, 2, np.int32)}),
        ("predictions", {"classes": np.array([-1])}),
        ("copy", {"steps": np.array(-1)}),
        ("copy", {"losses": np.ones((3, 2), np.float32)}),
        ("weights", {"\ud800": IDS}),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(kind, changed, tmp_path):
    with pytest.raises((DamagedFileError, UnicodeEncodeError)):
        write_npz(tmp_path / "a.npz", kind, {**VALID_ARRAYS[kind], **changed})
        read_npz(tmp_path / "a.npz", kind)


def test_every_kind_that_is_read_has_a_schema():
    reads = re.compile(r'read_(?:json|npz|shapes|manifest)\((?:[^()"]|\([^()]*\))*, "(\w+)"\)')
    kinds = {
        kind
        for path in (ROOT / "tf_prac").rglob("*.py")
        for kind in reads.findall(path.read_text())
    }
    assert len(kinds) > 10 and kinds <= {*DOCUMENTS, *ARRAYS}


# Limits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ' + "[" * 250 + "]" * 250 + "}", "more than 200 levels"),
        ("[" * 10**5, "not a JSON document"),
        ("[" + "0," * (4 * 2**20) + "0]", "more than 4194304 values"),
        ('{"a": 1' + "0" * 5000 + "}", "not a JSON document"),
    ],
)
def test_json_has_limits(text, message, tmp_path):
    (tmp_path / "a").write_text(text)
    with pytest.raises(DamagedFileError, match=f"a: damaged, .*{message}"):
        read_json(tmp_path / "a", "example")


def test_archives_have_limits(tmp_path, monkeypatch):
    write_npz(tmp_path / "a", "example", {"a": np.array("x" * 2**20)})
    with pytest.raises(DamagedFileError, match="a.npy has the type '<U1048576'"):
        read_npz(tmp_path / "a", "example")
    monkeypatch.setattr(files, "MAX_MEMBERS", 10)
    write_npz(tmp_path / "b", "example", {str(n): np.ones(1) for n in range(9)})
    with pytest.raises(DamagedFileError, match="it has more than 10 arrays"):
        read_npz(tmp_path / "b", "example")


@pytest.mark.parametrize("name", ["n" * 300, "a/" * 2100, "a\0b", "\udcff", "\ud800"])
def test_names_that_no_file_can_have_are_refused(name, tmp_path):
    path = f"{tmp_path}/{name}"
    doors = [
        lambda: check_name(path),
        lambda: read_json(path, "example"),
        lambda: read_npz(path, "example"),
        lambda: write_json(path, "example", {}),
        lambda: write_npz(path, "example", {}),
        lambda: write_csv(path, []),
        lambda: read_csv(path),
    ]
    for door in doors:
        with pytest.raises(FileError, match="not the name of a file"):
            door()
    assert not any(tmp_path.iterdir())


CELLS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=x", "''-x", "'x", "x=1", "", "a,b", '"']


def test_no_text_of_a_csv_is_a_formula_and_it_comes_back(tmp_path):
    rows = [{"=name": cell, "number": -1.5, "count": -2} for cell in CELLS]
    write_csv(tmp_path / "a.csv", rows)
    content = (tmp_path / "a.csv").read_bytes().decode()
    assert not re.search(r'(?m)(?:^|,)"?[=+@\t]', content), content
    assert ",-1.5,-2" in content, "numbers stay numbers"
    wanted = [{"=name": cell, "number": "-1.5", "count": "-2"} for cell in CELLS]
    assert read_csv(tmp_path / "a.csv") == wanted
    write_csv(tmp_path / "nul.csv", [{"a\0": "=\0b"}])
    assert read_csv(tmp_path / "nul.csv") == [{"a\\x00": "=\\x00b"}]
    (tmp_path / "b.csv").write_bytes(b"\xff")
    with pytest.raises(DamagedFileError, match="b.csv: damaged, not a CSV file"):
        read_csv(tmp_path / "b.csv")


NAME = "run\x1b[31m\x00\u202e|<b>$\\frac{$\n"


def test_names_control_neither_pages_nor_tables():
    assert tag("p", NAME, title=NAME).count("\\x1b[31m\\x00\\u202e") == 2
    row = markdown_table(("name", "b"), [(NAME, "2")]).splitlines()[2]
    assert row == "| run\\\\x1b[31m\\\\x00\\\\u202e\\|&lt;b>$\\\\frac{$ | 2 |"


def test_names_control_no_figure(tmp_path):
    pytest.importorskip("matplotlib")
    lines = [Line(NAME, [1.0, 2.0], [1.0, 2.0]), Line("b", [1.0], [2.0])]
    *_, svg = line_figure(tmp_path / "a", lines, x_label=NAME, y_label="b")
    text = svg.read_text(encoding="utf-8")
    assert "\x1b" not in text and "run\\x1b[31m" in text
