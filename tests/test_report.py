"""`tf-prac report`: a self-contained page with all text escaped and correct numbers."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
import shutil
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_prac.analysis.report import pictures
from tf_prac.analysis.report.charts import Axis, Series, bar_chart, line_chart, ticks
from tf_prac.analysis.report.html import tag
from tf_prac.analysis.report.numbers import count, duration, percent, points, short
from tf_prac.analysis.report.page import page
from tf_prac.analysis.report.run_data import read_run_data
from tf_prac.checks import printable
from tf_prac.cli.main import main
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError, FileError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning.masks import Masks
from tf_prac.storage.run_directory import RunDirectory

QUICK = "--epochs=4 --rounds=2 --limit_train=400 --batch_size=64 --rewind=1it --retrain=all"


class Page(html.parser.HTMLParser):
    """Elements, attributes and text of a page; refuses elements that are not properly nested."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        self._open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, data):
        self.text += data + " "

    def named(self, name):
        return [attributes for found, attributes in self.elements if found == name]


def self_contained(text: str) -> Page:
    """Returns the page, which must have no scripts and no external addresses."""
    page = Page(text)
    assert not page.named("script")
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in page.named("meta")[1]["content"]
    return page


@pytest.fixture(scope="module", params=FLAVORS)
def run(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("report") / request.param
    arguments = [*QUICK.split(), f"--keras={request.param}", f"--output_dir={directory}"]
    assert main(["search", *arguments]) == 0
    return directory


def test_the_report_shows_the_numbers_of_the_summary(run, capsys):
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    text = (run / "report.html").read_text()
    page = self_contained(text)
    summary = json.loads((run / "summary.json").read_text())
    ticket, cost = summary["tickets"][-1], summary["cost"]
    for value in (
        percent(ticket["sparsity"]),
        percent(ticket["test_accuracy"]),
        percent(summary["dense"]["test_accuracy"]),
        percent(cost["steps_saved"], 1),
        percent(cost["end_to_end_steps_saved"], 1),
        count(cost["forward_samples"]),
        *(count(r["prac_size"]) for r in summary["rounds"]),
        "lenet300 on digits",
        f"--keras={run.name}",
    ):
        assert value in page.text, value
    for title in (
        "Accuracy against sparsity",
        "Steps of each round",
        "Critical samples",
        "Mask distance",
        "Sparsity of each layer",
        "Forgetting",
        "Class balance of the PrAC set",
        "Most forgotten",
        "Cost",
        "Configuration",
    ):
        assert title in page.text
    assert len(page.named("img")) > 10
    assert str(run.parent) not in text  # nothing of this machine
    assert main(["search", *QUICK.split(), f"--keras={run.name}", f"--output_dir={run}"]) == 0


def test_an_unfinished_run_shows_its_finished_rounds(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "summary.json").unlink()
    shutil.rmtree(copy / "round_01")
    assert main(["report", str(copy), "--noimages"]) == 0
    page = self_contained((copy / "report.html").read_text())
    assert "not finished: 1 of 2 rounds" in page.text and "1 of 2" in page.text
    assert "saved, with retraining" not in page.text
    shutil.rmtree(copy / "round_00")
    assert main(["report", str(copy), "--noimages"]) == 0
    assert "No round of this search is finished yet." in (copy / "report.html").read_text()


def test_a_report_without_the_data_set_says_so(run, tmp_path, capsys, monkeypatch):
    output = tmp_path / "page.html"
    for arguments in (["--noimages"], []):
        if not arguments:  # as on a machine without the data set
            monkeypatch.setattr("tf_prac.cli.open_run.load_data", _raise)
        assert main(["report", str(run), f"--output={output}", *arguments]) == 0
        page = self_contained(output.read_text())
        assert "No images and no classes" in page.text and not page.named("img")
        assert "Class balance of the PrAC set" not in page.text and "Forgetting" in page.text
    assert "not here" in capsys.readouterr().out


def _raise(settings):
    raise FileError("the data set is not here.")


def test_several_runs_are_compared(run, tmp_path, capsys):
    other = tmp_path / "imp"
    arguments = [*QUICK.split(), f"--keras={run.name}", f"--output_dir={other}", "--prac=none"]
    assert main(["search", *arguments]) == 0
    output = tmp_path / "both.html"
    assert main(["report", str(run), str(other), f"--output={output}"]) == 0
    page = self_contained(output.read_text())
    assert "Comparison" in page.text and "Options that differ" in page.text
    assert "prac.use_cet" in page.text and "recipe.epochs" not in page.text
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {f"#{name}" for name in targets} == {each["href"] for each in page.named("a")}
    capsys.readouterr()
    assert main(["report", str(run), str(run)]) == 2
    assert "all different" in capsys.readouterr().err


def test_all_names_are_escaped(run):
    evil = "<script>alert(1)</script>"
    layer = "a\"><img src=x onerror='1'>"
    found = read_run_data(RunDirectory(run), evil, command=evil, without_data=evil)
    config = {
        **found.config,
        "dataset": {**found.config["dataset"], "name": evil},
        "labels": {"model": f"{evil}'\"&", evil: evil},
    }
    masks = {n: Masks({layer: np.ones(3, bool)}) for n in found.masks}
    controls = [{**found.tickets[0], "control": f"{evil}_0"}]
    run_data = dataclasses.replace(found, config=config, masks=masks, controls=controls)
    for runs in ([run_data], [run_data, dataclasses.replace(run_data, name=f"{evil} two")]):
        shown = self_contained(page(runs))
        assert evil in shown.text and layer in shown.text
        assert not shown.named("img")


def test_bad_input_of_reports_is_one_line(run, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (damaged / "round_00/masks.npz").write_bytes(b"no")
    (damaged / "report.html").unlink(missing_ok=True)
    for arguments, named in (
        ([], "RUN"),
        ([str(tmp_path / "missing")], "RUN"),
        ([str(tmp_path)], "not a run"),
        ([str(damaged), "--noimages"], "masks.npz"),
        ([str(run), "--noimages", f"--output={run}/config.json/x.html"], "cannot be written"),
    ):
        assert main(["report", *arguments]) == 2
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1 and named in errors
    assert not (damaged / "report.html").exists()


@given(st.text(), st.text())
def test_text_and_attributes_are_unchanged_after_parsing(text, value):
    found = Page(tag("p", f"x{text}", title=value))
    text, value = printable(text), printable(value)
    written = f"x{text}".replace("\r", "\n")
    assert found.elements[0][1]["title"].replace("\r", "\n") == value.replace("\r", "\n")
    assert found.text.replace("\r", "\n").strip() == written.replace("\x00", "\x00").strip()


numbers = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20), st.booleans())
def test_everything_is_inside_the_chart(pairs, inverted):
    x, y = zip(*pairs, strict=True)
    chart = line_chart(
        [Series("one", x, y), Series("two", x, y[::-1])],
        Axis("x", inverted=inverted),
        Axis("y"),
        about="a test",
        references=[(y[0], "here")],
    )
    for _, attributes in Page(chart).elements:
        for name, most in (("cx", 380), ("x1", 380), ("x2", 380), ("x", 380)):
            assert -1 <= float(attributes.get(name, 0)) <= most + 1
        for name in ("cy", "y1", "y2", "y"):
            assert -1 <= float(attributes.get(name, 0)) <= 251


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_cover_the_range_in_equal_round_steps(low, size, most):
    high = low + size
    if high - low < 1e-9 * abs(low):
        return
    found = ticks(low, high, most)
    assert found[0] <= low + 1e-6 * size and found[-1] >= high - 1e-6 * size
    assert len(found) <= most + 2
    assert np.allclose(np.diff(found), found[1] - found[0], rtol=1e-3)


def test_bars_reach_from_zero_to_their_value():
    series = [Series("a", [0, 1], [10.0, 5.0]), Series("b", [0, 1], [0.0, 2.5], 1)]
    found = Page(bar_chart(["p", "q"], series, Axis("x"), Axis("y"), about="bars"))
    bars = [a for a in found.named("rect") if float(a["width"]) != 10]
    heights = [float(bar["height"]) for bar in bars]
    assert heights == pytest.approx([180, 90, 0, 45], abs=0.2)
    assert all(float(b["y"]) + float(b["height"]) == pytest.approx(210, abs=0.2) for b in bars)


def labeled(text):
    """Returns the positions of the labels of the lines of a chart, by name."""
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="label [^>]*>([^<]*)<', text)
    return {name: (float(x), float(y)) for x, y, name in found}


def test_the_label_of_a_line_moves_if_another_line_crosses_it():
    short, long = Series("short", [0, 5], [9.0, 0.2]), Series("long", [0, 4, 10], [5.0, 0.3, 0.1])
    axes = Axis("x"), Axis("y", low=0)
    crossed = labeled(line_chart([short, long], *axes, about="both end low"))
    assert crossed["short"][0] == crossed["long"][0]
    assert abs(crossed["short"][1] - crossed["long"][1]) >= 14
    free = labeled(line_chart([short, Series("long", [0, 10], [9, 9])], *axes, about="apart"))
    assert free["short"][0] < free["long"][0] - 100


def test_names_below_bars_are_slanted_and_numbers_are_not():
    series = [Series("a", range(3), [1.0, 2.0, 3.0])]
    words = bar_chart(["cat", "an aeroplane", "dog"], series, Axis("class"), Axis("y"), about="b")
    assert words.count("rotate(-30") == 3 and "an aeropla…" in words and ">class<" not in words
    numbers = bar_chart(["0", "1", "2"], series, Axis("class"), Axis("y"), about="b")
    assert "rotate" not in numbers and ">class<" in numbers


def test_images_have_the_names_of_their_classes():
    images, labels = np.zeros((4, 5, 5, 3), np.uint8), np.array([0, 1, 1, 0])
    for names, expected in ((None, "class 1"), (("0", "1"), "class 1"), (("cat", "dog"), "dog")):
        train = Split(ArraySamples(images, labels, classes=names), np.arange(4))
        found = Page(pictures.gallery(train, np.array([2]), ["3×"]))
        assert found.named("img")[0]["title"] == f"sample 2, {expected}, 3×"
        assert found.text == f"{expected} 3× "
    with pytest.raises(ArgumentError, match="classes: received .*allowed: a name for each of 2"):
        ArraySamples(images, labels, classes=["cat"])


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3), (150, 90, 3), (9, 9, 1)])
def test_pngs_hold_the_pixels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    step = -(-max(shape[:2]) // 64)
    small = image[::step, ::step]
    small = small[..., 0] if small.ndim == 3 and small.shape[-1] == 1 else small
    file = pictures.png(small)
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    body = file[file.index(b"IDAT") + 4 : file.index(b"IEND") - 8]
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(small.shape[0], -1)
    assert not rows[:, 0].any()
    np.testing.assert_array_equal(rows[:, 1:].reshape(small.shape), small)
    assert re.fullmatch(r"data:image/png;base64,[\w+/=]+", pictures.data_uri(image))


def test_which_images_are_hard():
    first, second = ForgettingStats(5), ForgettingStats(5)
    for correct in ([1, 0, 0, 1, 0], [0, 0, 0, 1, 1], [1, 0, 0, 1, 0]):
        first.update(np.arange(5), np.array(correct, bool))
    second.update(np.array([1, 4]), np.array([False, True]))
    second.update(np.array([1, 4]), np.array([False, False]))
    assert pictures.hardest([first, second]).tolist() == [1, 2]
    ids, events = pictures.most_forgotten([first, second])
    assert (ids.tolist(), events.tolist()) == ([4, 0], [2, 1])


def test_formatting_of_numbers():
    assert (percent(0.8926), percent(None), percent(1, 0)) == ("89.26%", "–", "100%")
    assert (points(0.0012), points(-0.02), points(-0.00001)) == ("+0.12", "−2.00", "±0.00")
    assert (count(9895), short(12500), short(0.25)) == ("9,895", "12.5k", "0.25")
    assert (duration(12.34), duration(600), duration(3725)) == ("12.3 s", "10 min", "1 h 2 min")
