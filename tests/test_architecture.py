"""Who may import whom: the rooms of the package and the one direction between them."""

from __future__ import annotations

import ast
import graphlib
import statistics

import pytest
import source_tree

# From the bottom up. A module imports from layers below its own and from its own room; rooms of
# one layer, such as data and pruning, do not know each other.
LAYERS = (
    {"_lazy", "errors", "version"},
    {"checks", "extras", "registry"},
    {"config", "storage"},
    {"keras_api", "plotting", "presets", "tables"},
    {"data", "loading", "models", "pruning", "tasks"},
    {"training"},
    {"search"},
    {"analysis", "export", "tuning"},
    {"cli"},
    {"callbacks", "tf_prac", "__main__"},
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}

KERASES = {"keras", "tf_keras"}
HEAVY = {
    "matplotlib",
    "tensorflow",
    "tensorflow_datasets",
    "tensorflow_model_optimization",
    *KERASES,
}
WITHOUT_TENSORFLOW = (
    "analysis.report.page",
    "analysis.report.run_data",
    "checks",
    "config",
    "data.datasets",
    "data.forgetting",
    "data.prac_set",
    "data.sample_set",
    "data.selection",
    "errors",
    "export.directory",
    "export.encoding",
    "extras",
    "plotting",
    "presets",
    "pruning.criteria",
    "pruning.mask_distance",
    "pruning.masks",
    "pruning.patterns",
    "search.cost",
    "storage.files",
    "storage.run_directory",
    "tuning.space",
)
MAY_IMPORT_BY_RUN_TIME_NAME = {
    "tf_prac._lazy",
    "tf_prac.cli.main",
    "tf_prac.export.fresh_process",
    "tf_prac.keras_api.flavor",
    "tf_prac.registry",
}


def room(module: str) -> str:
    """The layer's word for a module: its part of the package."""
    return module.split(".")[1] if "." in module else module


def offences(allowed) -> list[str]:
    """Imports of the package for which `allowed(importing module, imported module)` is false."""
    return [
        f"{source_tree.place(name, each.line)}: imports {each.module}"
        for name in source_tree.package_modules()
        for each in source_tree.imports(name)
        if not allowed(name, each.module)
    ]


def none_of(found: list[str], rule: str) -> None:
    assert not found, "\n".join([rule, *found])


@pytest.mark.parametrize("module", source_tree.package_modules())
def test_every_module_belongs_to_a_layer(module):
    assert room(module) in HEIGHT, f"{source_tree.place(module)}: add {room(module)} to LAYERS"


def test_imports_go_down():
    def allowed(importer, imported):
        if imported not in source_tree.modules():
            return True
        here, there = room(importer), room(imported)
        return here == there or HEIGHT.get(there, 0) < HEIGHT.get(here, 0)

    none_of(offences(allowed), "a module imports from the layers below its own, or its own room:")


def test_imports_make_no_circle():
    graph = {
        name: {each.module for each in source_tree.imports(name)} - {name}
        for name in source_tree.package_modules()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"imports in a circle, those in functions count: {' <- '.join(error.args[1])}")


def test_flags_stay_in_the_command_line():
    none_of(
        offences(lambda name, other: other.split(".")[0] != "absl" or room(name) == "cli"),
        "only tf_prac/cli imports absl:",
    )


def test_one_module_imports_keras_tuner():
    none_of(
        offences(
            lambda name, other: other.split(".")[0] != "keras_tuner" or room(name) == "tuning"
        ),
        "only tf_prac/tuning imports KerasTuner:",
    )


def test_one_module_imports_tfmot():
    none_of(
        offences(
            lambda name, other: (
                other.split(".")[0] != "tensorflow_model_optimization"
                or name == "tf_prac.pruning.tfmot"
            )
        ),
        "only tf_prac/pruning/tfmot.py imports TensorFlow Model Optimization:",
    )


def test_keras_is_never_imported_by_name():
    none_of(
        offences(lambda name, other: other.split(".")[0] not in KERASES),
        "a Keras comes from tf_prac.keras_api.Flavor(...).module:",
    )


def test_one_module_chooses_a_keras():
    found = [
        f"{source_tree.place(name, node.lineno)}: {ast.unparse(node)}"
        for name in source_tree.package_modules()
        if name not in MAY_IMPORT_BY_RUN_TIME_NAME
        for node in ast.walk(source_tree.tree(name))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
    ]
    none_of(found, "only keras_api imports a Keras; take Flavor(...).module from there:")


@pytest.mark.parametrize("module", source_tree.modules())
def test_tf_keras_attribute_is_never_used(module):
    found = [
        f"{source_tree.place(module, node.lineno)}: {ast.unparse(node)}"
        for node in ast.walk(source_tree.tree(module))
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node) in ("tf.keras", "tensorflow.keras")
        )
        or (
            isinstance(node, (ast.Import, ast.ImportFrom))
            and any(
                dotted.startswith("tensorflow.keras")
                for alias in node.names
                for dotted in (alias.name, f"{getattr(node, 'module', '')}.{alias.name}")
            )
        )
    ]
    none_of(found, "TensorFlow's own attribute means either Keras; name one of the two:")


@pytest.mark.parametrize("module", WITHOUT_TENSORFLOW)
def test_numpy_modules_load_no_tensorflow(module):
    loaded = source_tree.loaded_by(f"tf_prac.{module}")
    heavy = sorted(name for name in loaded if name.split(".")[0] in HEAVY)
    assert not heavy, f"{source_tree.place(f'tf_prac.{module}')} loads {', '.join(heavy)}"


def test_modules_are_short():
    """A file is one subject. There is no cap; what holds is that most of them are short."""
    lengths = [
        len(source_tree.modules()[module].read_text(encoding="utf-8").splitlines())
        for module in source_tree.package_modules()
    ]
    assert statistics.median(lengths) <= 160


CHANGES_FILES = {"mkdir", "makedirs", "rename", "rmtree", "unlink", "write_bytes", "write_text"}
MAY_CHANGE_FILES = {  # below a directory that `atomic_directory` or `scratch_directory` yields
    "tf_prac.export.directory",
    "tf_prac.export.lite",
    "tf_prac.export.slim",
    "tf_prac.export.writer",
    "tf_prac.search.workers",
    "tf_prac.storage.atomic",
    "tf_prac.storage.lock",
}


def test_files_are_written_by_one_mechanism():
    found = [
        f"{source_tree.place(name, node.lineno)}: {node.attr}"
        for name in source_tree.package_modules()
        for node in ast.walk(source_tree.tree(name))
        if isinstance(node, ast.Attribute) and node.attr in CHANGES_FILES
        if name not in MAY_CHANGE_FILES
    ]
    found += [
        f"{source_tree.place(name, each.line)}: imports {each.module}"
        for name in source_tree.package_modules()
        for each in source_tree.imports(name)
        if each.module in ("shutil", "tempfile") and name != "tf_prac.storage.atomic"
    ]
    none_of(found, "files are written by tf_prac/storage/atomic.py:")
