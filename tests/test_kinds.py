"""Every kind of model through every command; the table is in docs/models.md."""

from __future__ import annotations

import re

import pytest
from kinds import COMMANDS, KINDS, NEEDS_DATA, outcome
from source_tree import ROOT

from tf_prac.keras_api import FLAVORS

REFUSALS = {
    ("subclassed", "export"): "inputs: received None; allowed: a tf.TensorSpec",
    ("outputs", "ForgettingLogger"): r"Targets\(output=",
    ("regression", "ForgettingLogger"): r"Regression\(bound=",
    ("regression", "TicketSearch"): r"Regression\(bound=",
    ("regression", "report"): None,  # there is no search to report
}
IN_CI = {("keras", "shared"), ("tf_keras", "text")}
CASES = [
    pytest.param(flavor, kind, marks=[] if (flavor, kind) in IN_CI else [pytest.mark.slow])
    for flavor in FLAVORS
    for kind in KINDS
]


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed, but will be ignored")
@pytest.mark.parametrize(("flavor", "kind"), CASES)
def test_commands_work_or_say_what_to_give(flavor, kind, tmp_path, request):
    if kind in NEEDS_DATA:
        request.getfixturevalue("tfds_dir")
    for command in COMMANDS:
        refusal = REFUSALS.get((kind, command), "")
        if refusal is None:
            continue
        message = outcome(kind, command, flavor, tmp_path)
        assert re.search(refusal, message) if refusal else not message, f"{command}: {message}"


def test_the_page_has_every_kind_and_command():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert f"| model | {' | '.join(COMMANDS)} |" in page
    rows = re.findall(r"^\| (.+?) \|", page, re.M)[1:]
    assert rows == [kind.about for kind in KINDS.values()]
