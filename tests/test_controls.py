"""Controls of tickets: random masks, other initial weights, and both, over both flavors."""

from __future__ import annotations

import functools
import json

import digits_search
import numpy as np
import pytest
from digits_search import X, Y
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_prac import Masks, PracConfig, PruningConfig, Ticket, TicketSearch, TrainingRecipe, snapshot
from tf_prac.cli.main import main
from tf_prac.config import CONTROLS
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS, seed_everything
from tf_prac.pruning.criteria import shuffled_mask
from tf_prac.search.ticket import Control
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
PLAIN = PracConfig(use_cet=False, use_cep=False, early_stop_eps=None)


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        hnp.arrays(bool, st.sampled_from([(), (7,), (3, 4), (0, 2), (2, 3, 2)])),
        min_size=1,
    ),
    st.integers(0, 2**40),
)
def test_a_random_mask_keeps_as_many_weights_of_each_layer(arrays, seed):
    masks = Masks(arrays)
    found = shuffled_mask(masks, seed=seed)
    assert found.shapes == masks.shapes
    assert {n: m.sum() for n, m in found.items()} == {n: m.sum() for n, m in masks.items()}
    assert found == shuffled_mask(masks, seed=seed)


def test_the_places_are_uniformly_random():
    """Each of 6 places of 2 kept weights is as likely as any other: binomial, 5 deviations."""
    masks = Masks({"a": np.array([[1, 1, 0], [0, 0, 0]])})
    counts = sum(shuffled_mask(masks, seed=seed)["a"].astype(int) for seed in range(900))
    assert counts.sum() == 1800 and abs(counts - 300).max() < 5 * np.sqrt(900 * 2 / 9)
    with pytest.raises(ArgumentError, match="^seed: received -1"):
        shuffled_mask(masks, seed=-1)


make_model_fn = functools.partial(digits_search.make_model_fn, widths=(24, 16), norm=True)


def make_ticket(flavor):
    seed_everything(0)
    weights = snapshot(make_model_fn(flavor)())
    names = [name for name in weights if name.endswith("kernel")][:2]
    generator = np.random.default_rng(0)
    masks = Masks({name: generator.random(weights[name].shape) < 0.3 for name in names})
    return Ticket(masks, weights, round=3, rewind_step=7)


@both
def test_a_control_differs_from_its_ticket_in_what_its_kind_says(flavor):
    ticket, model_fn = make_ticket(flavor), make_model_fn(flavor)
    made = {kind: ticket.make_control(Control(3, kind, 5), model_fn) for kind in CONTROLS}
    for kind, control in made.items():
        assert control.control == f"{kind}_5" and control.round == 3
        assert (control.masks == ticket.masks) == (kind == "reinit")
        same = [np.array_equal(control.weights[n], ticket.weights[n]) for n in ticket.masks]
        assert all(same) if kind == "random_mask" else not any(same)
        assert control.rewind_step == (7 if kind == "random_mask" else 0)
    assert made["both"].masks == made["random_mask"].masks
    for name, value in made["both"].weights.items():
        np.testing.assert_array_equal(value, made["reinit"].weights[name])


@both
def test_other_initial_weights_depend_on_the_seed_alone_and_are_never_those_of_the_search(flavor):
    ticket, model_fn = make_ticket(flavor), make_model_fn(flavor)
    first = ticket.reinitialized(model_fn, seed=0).weights
    seed_everything(99)
    again = ticket.reinitialized(model_fn, seed=0).weights
    other = ticket.reinitialized(model_fn, seed=1).weights
    for name in ticket.masks:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
        assert not np.array_equal(first[name], ticket.weights[name])  # seed 0 made this one too


@pytest.fixture(scope="module", params=FLAVORS)
def run(request, tmp_path_factory):
    """A finished run, and controls of both of its tickets."""
    directory = tmp_path_factory.mktemp("controls") / "run"

    def make(**options):
        return TicketSearch(
            make_model_fn(request.param),
            TrainingRecipe(epochs=4, batch_size=64),
            PruningConfig(rounds=2, prune_rate=0.7, rewind="5it"),
            PLAIN,
            directory=directory,
            verbose=False,
            **options,
        )

    data = {"train": (X[:900], Y[:900]), "test": (X[900:], Y[900:])}
    plain = make().run(**data)
    wanted = [Control(n, kind) for n in (1, 2) for kind in CONTROLS]
    return make, data, plain, make().run(**data, controls=wanted)


def test_controls_lie_beside_their_tickets_and_change_nothing_else(run):
    make, data, plain, result = run
    for key in ("rounds", "tickets", "dense"):
        assert result.summary[key] == plain.summary[key]
    assert plain.summary["controls"] == []
    found = [(f["round"], f["control"]) for f in result.summary["controls"]]
    assert found == [(n, f"{kind}_0") for n in (1, 2) for kind in sorted(CONTROLS)]
    for figures in result.summary["controls"]:
        number, label = figures["round"], figures["control"]
        path = result.directory / f"tickets/round_{number:02d}/controls/{label}"
        control = Ticket.load(path)
        assert control.control == label and figures["retrain_steps"] == 52 - control.rewind_step
        assert control.sparsity == figures["sparsity"] == result.tickets[number].sparsity
        assert {"trained.npz", "retrained.json", "history.csv"} <= {p.name for p in path.iterdir()}
        accuracy = make().evaluate(_trained(path), data["test"])
        assert accuracy == pytest.approx(figures["test_accuracy"])


def _trained(path):
    from tf_prac.storage.files import read_npz

    return read_npz(path / "trained.npz", "weights")


def test_controls_are_counted_as_reference_steps(run):
    _, _, plain, result = run
    before, after = plain.summary["cost"], result.summary["cost"]
    controls = result.summary["controls"]
    steps = sum(figures["retrain_steps"] for figures in controls)
    assert after["reference_steps"] == before["reference_steps"] + steps
    seen = sum(figures["forward_samples"] for figures in controls)
    assert after["forward_samples"] == before["forward_samples"] + seen
    for name in ("search_steps", "retrain_steps", "steps_saved", "end_to_end_steps"):
        assert after[name] == before[name]


def test_controls_are_kept_and_not_trained_again(run, monkeypatch):
    make, data, _, result = run
    monkeypatch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
    again = make().run(**data).summary
    assert again["controls"] == result.summary["controls"]
    asked = make().run(**data, controls=[Control(1, "both")]).summary
    assert asked == again


@pytest.mark.parametrize(
    ("control", "message"),
    [
        (Control(1, "shuffle"), "control: received 'shuffle'; allowed: one of random_mask, re"),
        (Control(0, "both"), "round: received 0"),
        (Control(3, "both"), "round: received 3; allowed: a sparse ticket of the run, 1 to 2"),
        (Control(1, "both", -1), "control_seed: received -1"),
        (Control(1, "both", 0.5), "control_seed: received 0.5"),
    ],
)
def test_a_control_that_cannot_be_is_refused_before_anything_is_trained(run, control, message):
    make, data, _, result = run
    before = (result.directory / "summary.json").read_bytes()
    with pytest.raises(ArgumentError, match=message):
        make().run(**data, controls=[control])
    assert (result.directory / "summary.json").read_bytes() == before


def test_the_command_retrains_a_control(tmp_path, capsys):
    directory = tmp_path / "run"
    search = ["search", "--epochs=2", "--rounds=2", "--rewind=3it", f"--output_dir={directory}"]
    assert main(search) == 0
    retrain = ["retrain", str(directory), "--round=1"]
    assert main([*retrain, "--control=random_mask", "--control_seed=4"]) == 0
    printed = capsys.readouterr().out
    assert "ticket 1 random_mask_4" in " ".join(printed.split())
    assert f"ticket   {directory}/tickets/round_01/controls/random_mask_4" in printed
    summary = json.loads((directory / "summary.json").read_text())
    (figures,) = summary["controls"]
    assert figures["control"] == "random_mask_4" and summary["tickets"][1]["retrain_steps"] == 0
    for arguments, named in (
        (["--control=shuffle"], "--control: received 'shuffle'; allowed: one of random_mask"),
        (["--control=both", "--control_seed=-2"], "--control_seed: received -2"),
        (["--control=both", "--round=0"], "--round: received 0"),
    ):
        assert main([*retrain, *arguments]) == 2
        assert named in capsys.readouterr().err
    assert json.loads((directory / "summary.json").read_text()) == summary
    assert Ticket.load(directory / "tickets/round_01").control == ""
