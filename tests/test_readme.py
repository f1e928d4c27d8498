"""README.md and docs/usage.md: CI runs the installation, and the Python runs as it stands."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf
from source_tree import ROOT

from tf_prac import prunable_weights

README = (ROOT / "README.md").read_text(encoding="utf-8")
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")


def blocks(title: str, language: str) -> list[str]:
    """The fenced blocks of one language in the section with a title."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, re.M | re.S))
    return re.findall(rf"^```{language}\n(.*?)^```", sections[title], re.M | re.S)


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with one bright row, whose number is the class."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 10, count)
    x = generator.uniform(0, 0.5, (count, 10, 8, 1)).astype(np.float32)
    x[np.arange(count), y] += 0.5
    return x, y


def test_the_installation_is_two_lines():
    commands = blocks("Installation", "bash")
    assert [len(command.splitlines()) for command in commands] == [1, 1]


def test_ci_runs_the_lines_of_the_installation():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in blocks("Installation", "bash"):
        assert command.strip() in script, f".ci/run does not run: {command}"


# Keras 3 says so to everyone who gives `fit` a data set and leaves `shuffle` at its default.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.parametrize("statement", ["import keras", "import tf_keras as keras"])
def test_python_of_the_readme_and_the_parts_runs(statement, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = [
        text.replace("import keras", statement)
        for text in [
            *blocks("Usage", "python"),
            *re.findall(r"^```python\n(.*?)^```", USAGE, re.M | re.S),
        ]
    ]
    assert len(snippets) == 5
    search, load, log, plain, mask = (compile(text, "README.md", "exec") for text in snippets)
    (x_train, y_train), (x_test, y_test) = images(300, 0), images(100, 1)
    names = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}

    exec(search, names)
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    (outputs,) = served(tf.constant(x_test)).values()
    np.testing.assert_allclose(outputs, names["model"].predict(x_test, verbose=0), atol=1e-5)

    exec(load, names)
    ticket = names["ticket"]
    assert ticket.sparsity == pytest.approx(1 - 0.5**3, abs=1e-3)
    for name, variable in prunable_weights(names["model"]).items():
        expected = ticket.weights[name] * ticket.masks[name]
        np.testing.assert_array_equal(variable.numpy(), expected)

    exec(log, names)
    presentations = np.full(len(x_train), 5)
    presentations[names["hard"].ids] += 5
    assert 0 < len(names["hard"]) < len(x_train)
    np.testing.assert_array_equal(names["model"].forgetting.stats.presentations, presentations)

    exec(plain, names)
    assert not hasattr(names["plain"], "forgetting")

    exec(mask, names)
    masks = names["model"].masks
    assert masks.sparsity == pytest.approx(0.9, abs=1e-3)
    saved = names["keras"].models.load_model(tmp_path / "sparse.keras")
    for name, variable in prunable_weights(saved).items():
        np.testing.assert_array_equal(variable.numpy() != 0, masks[name])
