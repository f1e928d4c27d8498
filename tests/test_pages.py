"""The documentation as its readers use it: code, commands, links, errors and notebooks."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex

import numpy as np
import pytest
from source_tree import ROOT, modules, package_modules

import tf_prac
from tf_prac import errors
from tf_prac.cli.main import COMMANDS, command_module, main
from tf_prac.keras_api import FLAVORS

DOCS = ROOT / "docs"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in DOCS.rglob("*.md")}
PAGES |= {"README.md": ROOT / "README.md", "CHANGELOG.md": ROOT / "CHANGELOG.md"}
RUN_ELSEWHERE = {
    "README.md": "test_readme",
    "docs/usage.md": "test_readme",
    "docs/extending.md": "test_docs",
    "docs/callbacks.md": "test_callbacks",
    "docs/stability.md": "test_replicates",
    "docs/tuning.md": "test_tuner",
}
NEED_A_RUN = ("docs/runs.md", "docs/safety.md")
SMALLER = {
    "docs/tutorial.md": {"epochs=20": "epochs=1", "rounds=5": "rounds=1"},
    "docs/fast.md": {"epochs=20": "epochs=1", "rounds=5": "rounds=1"},
}
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.M | re.S)


HERE = [
    page
    for page in PAGES
    if blocks(page, "python") and page not in (*RUN_ELSEWHERE, "docs/tasks.md")
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What the pages are about: arrays, a model, and finished runs."""
    directory = tmp_path_factory.mktemp("world")
    generator = np.random.default_rng(0)
    y_train = generator.integers(0, 10, 200)
    x_train = generator.uniform(0, 0.5, (200, 64)).astype(np.float32)
    x_train[np.arange(200), y_train] += 1
    arguments = ["search", "--epochs=1", "--rounds=1", "--limit_train=200", "--quiet"]
    assert main([*arguments, f"--output_dir={directory}/runs/digits"]) == 0
    tickets = directory / "runs" / "digits" / "tickets"
    (tickets / "round_01").rename(tickets / "round_05")  # the ticket that the pages load
    (directory / "downloaded").symlink_to(directory / "runs" / "digits")
    return directory, {"x_train": x_train, "y_train": y_train, "x_test": x_train, "y_test": y_train}


def names_of(world, flavor):
    """The names that pages use without defining them."""
    keras = importlib.import_module(flavor)
    layers = keras.layers

    def make_model():
        return keras.Sequential(
            [keras.Input((64,)), layers.Dense(16, activation="relu"), layers.Dense(10)]
        )

    class MyLayer(layers.Dense):
        pass

    model = tf_prac.strip(tf_prac.prune(make_model(), sparsity=0.5))
    pruned = tf_prac.prune(make_model(), sparsity=0.5)
    return {
        **world[1],
        "x": world[1]["x_train"],
        "y": world[1]["y_train"],
        "make_model": make_model,
        "model": model,
        "network": make_model(),
        "wrapped": pruned,
        "same_network_in_keras_3": make_model(),
        "ticket": tf_prac.Ticket.from_model(pruned),
        "MyLayer": MyLayer,
        "tf_prac": tf_prac,
    }


@pytest.mark.filterwarnings("ignore")  # of TFMOT and the converter, on pages that show them
@pytest.mark.parametrize("page", HERE)
def test_the_python_of_a_page_runs(page, world, tmp_path, monkeypatch):
    """With Keras 3; the tests of the parts run them with both."""
    monkeypatch.chdir(tmp_path)
    if page in NEED_A_RUN:
        for name in ("runs", "downloaded"):
            (tmp_path / name).symlink_to(world[0] / name)
    monkeypatch.setattr(
        "tf_prac.export.destination.compare", lambda *_, **__: 0.0
    )  # tests of exports run it
    names = names_of(world, "keras")
    for code in blocks(page, "python"):
        if "tensorflow_model_optimization" in code:
            names |= {"network": names_of(world, "tf_keras")["make_model"]()}
        elif page.endswith("from_tfmot.md"):
            names["network"] = names["make_model"]()
        if page.endswith("safety.md") and "custom_objects" in code:
            names["model"].save("model.keras")
            tf_prac.export.saved_model(names["model"], "served/1", check=False)
        for old, new in SMALLER.get(page, {}).items():
            assert old in text_of(page), f"{page}: no {old}"
            code = code.replace(old, new)
        exec(compile(code, page, "exec"), names)


def test_every_page_with_python_is_run():
    for page, module in RUN_ELSEWHERE.items():
        source = (ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8")
        assert page.removeprefix("docs/") in source, f"tests/{module}.py does not run {page}"


def commands() -> list[tuple[str, list[str]]]:
    """Every `tf-prac` command in a block, with its page."""
    found = []
    for page in PAGES:
        for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
            if "tf-prac" not in line:
                continue
            words = [
                word.rstrip(";") for word in shlex.split(line.replace("$seed", "0"), comments=True)
            ]
            starts = [i for i, word in enumerate(words) if word.endswith("tf-prac")]
            for start in starts:
                ends = ("&&", "|", ">", "done")
                end = next((i for i in range(start, len(words)) if words[i] in ends), len(words))
                found.append((page, words[start + 1 : end]))
    return found


def test_the_commands_of_the_pages_have_flags_that_exist():
    found = commands()
    assert len(found) > 40
    for page, (command, *arguments) in found:
        assert command in COMMANDS or command.startswith("--"), f"{page}: {command}"
        if command in COMMANDS:
            command_module(command).define_flags().parse(arguments)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_links_within_the_pages_lead_somewhere():
    wrong = []
    for page, path in PAGES.items():
        text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            headings = []
            if file.suffix == ".md" and file.is_file():
                headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            if not file.exists() or (anchor and anchor not in map(slug, headings)):
                wrong.append(f"{page}: {target}")
    assert not wrong, "\n".join(wrong)


def test_the_index_of_errors_has_every_class_and_no_other():
    classes = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.TfPracError)
    ]
    sections = re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", text_of("docs/errors.md"), re.M | re.S)
    documented = dict(sections)
    documented.pop("Common", None)
    assert list(documented) == classes
    for name, text in documented.items():
        others = {base.__name__ for base in getattr(errors, name).__mro__[1:]}
        for base in re.findall(r"`(\w+Error)`", text.split("\n")[0]):
            assert base in others, f"{name} is no {base}"


def test_the_messages_of_the_index_are_those_of_the_code():
    source = "\n".join(modules()[name].read_text(encoding="utf-8") for name in package_modules())
    source = re.sub(r'"\s+f?"', "", source)
    page = text_of("docs/errors.md").split("## Common errors of others")[0]
    messages = re.findall(r"^\| `([^`]+)`", page, re.M)
    assert len(messages) >= 12
    for message in messages:
        parts = re.split(r"\d+|'[^']*'|runs/\w+|\.\.\.|float\w*|\breceived\b|^\w+:", message)
        parts = [part.strip(" :;,.") for part in parts if len(part.split()) > 1]
        missing = [part for part in parts if part not in source]
        assert not missing, f"{message}: not in the code: {missing}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_its_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] for cell in cells)
    outputs = json.dumps([cell["outputs"] for cell in cells])
    assert "Traceback" not in outputs and '"stderr"' not in outputs


def run_notebook(path, names=None) -> dict:
    """Runs the cells with few epochs; returns their names."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names = {} if names is None else names
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            code = re.sub(r"epochs=\d+", "epochs=3", "".join(cell["source"]))
            exec(compile(code, path.name, "exec"), names)
    return names


def test_the_quickstart_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = run_notebook(DOCS / "notebooks" / "quickstart.ipynb")
    assert (names["kernel"] == 0).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["engineer", "researcher"])
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = run_notebook(DOCS / "notebooks" / f"{name}.ipynb")
    assert names["result"].tickets[-1].sparsity == pytest.approx(1 - 0.6**6, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_tutorial_runs_as_it_stands(flavor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "".join(blocks("docs/tutorial.md", "python"))
    code = code.replace("import keras\n", f"import {flavor} as keras\n")
    names: dict = {}
    exec(compile(code, "docs/tutorial.md", "exec"), names)
    assert names["ticket"]["test_accuracy"] > names["accuracy"]
    assert names["probabilities"].shape == (3, 10)
