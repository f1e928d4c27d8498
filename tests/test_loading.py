"""Files that name code, or sizes that they do not have: refused before Keras sees them."""

from __future__ import annotations

import copy
import io
import json
import os
import pathlib
import re
import shutil
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
from fuzz_architectures import fuzz, hostile, models, running
from tensorflow.core.protobuf import saved_model_pb2

import tf_prac
from tf_prac import export, load_sparse
from tf_prac.cli.main import main
from tf_prac.config import PruningConfig, TrainingRecipe
from tf_prac.errors import FileError, UnsafeFileError
from tf_prac.export import encoding
from tf_prac.export.directory import read_metadata, write_metadata
from tf_prac.keras_api import FLAVORS, Flavor, flavor_of
from tf_prac.loading.archive import read_archive
from tf_prac.loading.classes import DENIED, allowed, is_allowed_op
from tf_prac.loading.documents import check_document
from tf_prac.loading.operations import OPERATIONS
from tf_prac.loading.sizes import COPIES, EXTRA, open_checkpoint
from tf_prac.search.ticket_search import TicketSearch
from tf_prac.storage.run_directory import RunDirectory

both = pytest.mark.parametrize("flavor", FLAVORS)


def small(keras, *hidden):
    sizes = [keras.layers.Dense(units) for units in hidden]
    return keras.Sequential([keras.Input((4,)), *sizes, keras.layers.Dense(3, name="d")])


def functional(keras, *hidden):
    x = y = keras.Input((4,), name="x")
    for units in hidden:
        y = keras.layers.Dense(units)(y)
    return keras.Model(x, keras.layers.Dense(3, name="d")(y))


def document(model):
    saving = flavor_of(model).module.saving
    return json.loads(json.dumps(saving.serialize_keras_object(model)))


def changed_archive(path, change):
    """Writes a `.keras` file again, with the members that `change` returns."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)
    return path


def with_config(change):
    def changed(members):
        config = json.loads(members["config.json"])
        change(config)
        return members | {"config.json": json.dumps(config).encode()}

    return changed


# Code


def exported(flavor, directory):
    model = functional(Flavor(flavor).module)
    kernel = np.array(model.layers[-1].get_weights()[0])
    kernel[0] = 0
    model.layers[-1].set_weights([kernel, model.layers[-1].get_weights()[1]])
    return export.saved_model(model, directory, check=False).directory


@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras about Lambda layers
@both
def test_a_command_in_an_export_is_not_run(flavor, tmp_path):
    proof = tmp_path / "ran"
    place = exported(flavor, tmp_path / "export")
    content = read_metadata(place)
    content["architecture"]["config"]["layers"].append(running(flavor, f"touch {proof}"))
    write_metadata(place, content)
    with pytest.raises(UnsafeFileError, match="export: not loaded.*'Lambda'; it contains Python"):
        load_sparse(tmp_path / "export")
    assert not proof.exists()
    if flavor == "tf_keras":  # Keras 2 by itself runs it
        tf_keras = Flavor(flavor).module
        with pytest.raises(AttributeError):
            tf_keras.saving.deserialize_keras_object(content["architecture"])
        assert proof.exists()


@both
def test_a_command_in_the_model_of_a_run_is_not_run(flavor, tmp_path, capsys):
    keras = Flavor(flavor).module
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    pruning = PruningConfig(rounds=1, rewind="1it")
    recipe = TrainingRecipe(epochs=1, batch_size=5)
    search = TicketSearch(lambda: functional(keras, 9), recipe, pruning, directory=tmp_path / "run")
    search.run((rows, np.arange(20) % 3))
    run, proof = RunDirectory(tmp_path / "run"), tmp_path / "ran"
    metrics = run.finished_ticket(1)
    evil = running(flavor, f"touch {proof}")
    changed_archive(
        run.ticket_path(1) / "model.keras",
        with_config(lambda config: config["config"]["layers"].append(evil)),
    )
    run.finish_ticket(1, metrics)
    capsys.readouterr()
    assert main(["export", str(run.path), f"--output={tmp_path / 'served'}"]) == 2
    error = capsys.readouterr().err
    assert "model.keras: not loaded" in error and "'Lambda'" in error
    assert not proof.exists() and not (tmp_path / "served").exists()


@both
def test_every_hostile_object_is_refused_wherever_it_is(flavor):
    keras = Flavor(flavor).module
    plain = document(functional(keras))
    places = {
        "a layer": lambda d, evil: d["config"]["layers"].append(evil),
        "an initializer": lambda d, evil: _config(d).update(kernel_initializer=evil),
        "an activation": lambda d, evil: _config(d).update(activation=evil),
        "a policy": lambda d, evil: _config(d).update(dtype=evil),
        "an argument": lambda d, evil: _layer(d).update(inbound_nodes=[{"kwargs": {"k": [evil]}}]),
        "a loss": lambda d, evil: d.update(compile_config={"loss": {"d": evil}}),
        "an optimizer": lambda d, evil: d.update(compile_config={"optimizer": evil}),
        "the model": lambda d, evil: d.update(evil),
    }
    for place, put in places.items():
        for evil in hostile(flavor):
            changed = copy.deepcopy(plain)
            put(changed, evil)
            with pytest.raises(UnsafeFileError, match="FILE: not loaded"):
                check_document(Flavor(flavor), changed, None, "FILE")
                pytest.fail(f"{place}: {evil}")


def _layer(config):
    return config["config"]["layers"][-1]


def _config(config):
    return _layer(config)["config"]


@both
def test_what_the_lists_contain(flavor):
    listed = allowed(Flavor(flavor))
    assert {("keras.layers", "Dense"), ("keras", "Sequential")} <= listed.classes
    assert not {name for _, name in listed.classes} & set(DENIED)
    roots = {module.split(".")[0] for module, _ in listed.classes}
    assert roots <= {"keras", "tf_keras", "tensorflow_model_optimization"}
    assert "relu" in listed.functions and "deserialize" not in listed.functions
    for symbol in ("nn.relu", "math.reduce_mean", "__operators__.getitem", "concat"):
        assert is_allowed_op(symbol)
    for symbol in ("io.write_file", "raw_ops.WriteFile", "load_library", "py_function", "math.a.b"):
        assert not is_allowed_op(symbol)
    assert not is_allowed_op(["nn.relu"]) and not is_allowed_op(
        "nn.fixed_unigram_candidate_sampler"
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras 3 about optimizers without steps
@both
def test_models_of_all_kinds_are_loaded(flavor, tmp_path):
    """The seeds of the fuzzer: operations on tensors, text, optimizers, nested, pruned models."""
    keras = Flavor(flavor).module
    for model in models(keras):
        path = tmp_path / "model.keras"
        model.save(path)
        again = tf_prac.load_model(path)
        for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@both
def test_classes_of_the_caller_are_loaded(flavor, tmp_path):
    keras = Flavor(flavor).module

    class Mine(keras.layers.Layer):
        size = 2**40  # a number that is the class's own business

        def __init__(self, activation="mine", size=size, **options):
            super().__init__(**options)
            self.activation, self.size = activation, size

        def call(self, x):
            return 2 * x

        def get_config(self):
            return {**super().get_config(), "activation": self.activation, "size": self.size}

    def doubled(x):
        return 2 * x

    def saved(name):
        layers = [keras.Input((4,)), keras.layers.Dense(3, activation=doubled), Mine()]
        model = keras.Sequential(layers)
        model.save(tmp_path / name)
        return tmp_path / name, model

    path, model = saved("passed.keras")
    remedy = r"pass custom_objects=\{'(Mine|doubled)': ...\}, or decorate it"
    with pytest.raises(UnsafeFileError, match=f"passed.keras: not loaded.*{remedy}"):
        tf_prac.load_model(path)
    with pytest.raises(UnsafeFileError, match="'doubled'"):
        tf_prac.load_model(path, custom_objects={"Mine": Mine})
    custom = {"Mine": Mine, "doubled": doubled}
    x = np.ones((1, 4), np.float32)
    again = tf_prac.load_model(path, custom_objects=custom)
    np.testing.assert_array_equal(again(x), model(x))
    with keras.saving.custom_object_scope(custom):
        np.testing.assert_array_equal(tf_prac.load_model(path)(x), model(x))
    place = export.saved_model(model, tmp_path / "served", masks={}, check=False).directory
    with pytest.raises(UnsafeFileError, match=remedy):
        load_sparse(place)
    np.testing.assert_array_equal(load_sparse(place, custom_objects=custom)(x), model(x))
    for function in (Mine, doubled):
        keras.saving.register_keras_serializable("tests")(function)
    path, model = saved("registered.keras")
    try:
        np.testing.assert_array_equal(tf_prac.load_model(path)(x), model(x))
    finally:
        for name in ("Mine", "doubled"):
            del keras.saving.get_custom_objects()[f"tests>{name}"]
    with pytest.raises(UnsafeFileError):
        tf_prac.load_model(path)
    np.testing.assert_array_equal(tf_prac.load_model(path, custom_objects=custom)(x), model(x))


@pytest.mark.parametrize(
    "node",
    [
        {"module": "this", "class_name": "Mine", "registered_name": None, "config": {}},
        {"module": "this", "class_name": "Mine", "registered_name": "", "config": {}},
        {"module": "this", "class_name": "Other", "registered_name": "Mine>x", "config": {}},
        {"module": "this", "class_name": "function", "config": "s", "registered_name": "Mine"},
        {"module": "builtins", "class_name": "function", "config": "eval"},
    ],
)
@both
def test_the_name_of_a_known_class_does_not_import_another(flavor, node):
    """Keras 2 looks for a registered name of None, and then imports the module."""
    flavor = Flavor(flavor)

    class Mine(flavor.module.layers.Layer):
        pass

    with pytest.raises(UnsafeFileError):
        check_document(flavor, node, {"Mine": Mine}, "FILE")
    check_document(
        flavor, node | {"class_name": "Mine", "registered_name": "Mine"}, {"Mine": Mine}, "FILE"
    )


@both
def test_large_numbers_that_are_no_sizes_are_loaded(flavor, tmp_path):
    keras = Flavor(flavor).module
    layers = keras.layers
    words, x = keras.Input((2,), dtype="int64"), keras.Input((4,))
    large = 10**12
    outputs = [
        layers.IntegerLookup(vocabulary=[large, 5, -large], mask_token=large + 1)(words),
        layers.Discretization(bin_boundaries=[-large, 0, large])(x),
        layers.Rescaling(scale=large)(layers.ReLU(max_value=large, threshold=0)(x)),
    ]
    model = keras.Model([words, x], outputs)
    path = tmp_path / "large.keras"
    model.save(path)
    inputs = [np.array([[large, 7]]), np.float32([[-1, 0, 1, 1e13]])]
    for one, other in zip(tf_prac.load_model(path)(inputs), model(inputs), strict=True):
        np.testing.assert_array_equal(one, other)
    changed_archive(path, with_config(lambda c: _layer(c)["config"].update(max_value=2**64)))
    with pytest.raises(UnsafeFileError, match="max_value: received 18,446,744,073,709,551,616"):
        tf_prac.load_model(path)


@both
def test_calls_that_wait_forever_are_refused(flavor):
    keras = Flavor(flavor).module
    x = keras.Input((4,), name="x")
    y = keras.layers.Dense(4, name="a")(x)
    config = document(keras.Model(x, keras.layers.Dense(4, name="b")(y)))
    check_document(Flavor(flavor), config, None, "FILE")
    text = json.dumps(config["config"]["layers"][1]["inbound_nodes"]).replace('"x"', '"b"')
    config["config"]["layers"][1]["inbound_nodes"] = json.loads(text)
    with pytest.raises(UnsafeFileError, match="layers.a: received a call on an output that no"):
        check_document(Flavor(flavor), config, None, "FILE")


def test_a_code_layer_is_refused_even_if_passed_and_loaded_only_without_safe_mode(tmp_path):
    keras = Flavor("keras").module
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "m.keras")
    for options in ({}, {"custom_objects": {"Lambda": keras.layers.Lambda}}):
        with pytest.raises(UnsafeFileError, match="'Lambda'; it contains Python code"):
            tf_prac.load_model(tmp_path / "m.keras", **options)
    again = tf_prac.load_model(tmp_path / "m.keras", safe_mode=False)
    np.testing.assert_array_equal(again(np.zeros((1, 4))), np.ones((1, 4)))


@pytest.mark.filterwarnings("ignore")
def test_fuzz(tmp_path):
    outcomes, failures = fuzz(240, 7, tmp_path)
    assert not failures, "\n".join(failures[:5])
    assert outcomes["loaded"] > 5 and outcomes["UnsafeFileError"] > 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fuzz_much(tmp_path, capsys):
    outcomes, failures = fuzz(2500, 8, tmp_path)
    with capsys.disabled():
        print(f"\n2500 changes of serialized models: {dict(outcomes)}")
    assert not failures, "\n".join(failures[:5])


# SavedModels


@pytest.fixture
def saved_model(tmp_path):
    keras = Flavor("tf_keras").module
    model = small(keras)
    model.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_model_with_code_in_its_metadata_is_refused(saved_model):
    metadata = Flavor("tf_keras").module.protobuf.saved_metadata_pb2.SavedMetadata()
    path = saved_model / "keras_metadata.pb"
    metadata.ParseFromString(path.read_bytes())
    content = json.loads(metadata.nodes[0].metadata)
    content["config"]["layers"].append(running("tf_keras", "true"))
    metadata.nodes[0].metadata = json.dumps(content)
    path.write_bytes(metadata.SerializeToString())
    with pytest.raises(UnsafeFileError, match="saved: not loaded.*'Lambda'"):
        tf_prac.load_model(saved_model)
    path.unlink()
    with pytest.raises(FileError, match="keras_metadata.pb: no such file"):
        tf_prac.load_model(saved_model)


EFFECTS = (
    *("WriteFile", "ReadFile", "SaveV2", "ImmutableConst", "MatchingFiles", "LoadAndRemapMatrix"),
    *("TextLineDataset", "DatasetFromGraph", "SnapshotDatasetReader", "CacheDataset", "MapDataset"),
    *("PyFunc", "PyFuncStateless", "EagerPyFunc", "RegisterDataset", "RpcCall", "RemoteCall"),
    *("XlaCustomCallV2", "SymbolicGradient", "DecodeProtoV2", "InitializeTableFromTextFileV2"),
    *("Empty", "Abort", "Send", "WriteSummary", "NoSuchOperation"),
)


def test_a_saved_model_whose_graph_has_effects_is_refused(saved_model):
    path = saved_model / "saved_model.pb"
    content = path.read_bytes()
    assert isinstance(tf_prac.load_model(saved_model), Flavor("tf_keras").module.Model)
    for op in EFFECTS:
        for called in (True, False):
            graph = saved_model_pb2.SavedModel.FromString(content)
            library = graph.meta_graphs[0].graph_def.library.function
            restores = [any(n.op == "RestoreV2" for n in f.node_def) for f in library]
            function = library[restores.index(not called)]
            function.node_def.add(name="evil", op=op)
            concrete = graph.meta_graphs[0].object_graph_def.concrete_functions
            concrete[function.signature.name].SetInParent()
            path.write_bytes(graph.SerializeToString())
            with pytest.raises(UnsafeFileError, match=f"{op}|uses files|PartitionedCall"):
                pytest.fail(f"{op}: {tf_prac.load_model(saved_model)}")


def test_a_function_with_the_name_of_an_operation_does_not_allow_it(saved_model):
    path = saved_model / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    library = graph.meta_graphs[0].graph_def.library.function
    library.add().signature.name = "WriteFile"
    library[0].node_def.add(name="evil", op="WriteFile")
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(UnsafeFileError, match=r"the operation WriteFile \(evil\)"):
        tf_prac.load_model(saved_model)


def test_no_operation_of_the_list_has_effects():
    registered = {name for name in dir(tf.raw_ops) if name[0].isupper()}
    effects = re.compile(
        r".*(Dataset|File|Save|Restore|Checkpoint|Proto|Py|Xla|TPU|Tpu|Rpc|Remote|Send|Recv|Summary|"
        r"Iterator|Queue|Reader|Stage|Collective|Nccl|Debug|Dump|Print|Immutable|Serialize|Graph|"
        r"Session|Host|Device|Vocab|Load|Sleep|Abort|Custom|Sampler|Decode(?!r|$|WithOffsets)|Parse)"
        r".*(?<!DisableCopyOnRead)"
    )
    assert not {name for name in OPERATIONS if effects.fullmatch(name)}
    assert len(OPERATIONS & registered) > 550 and not set(EFFECTS) & OPERATIONS


def test_a_graph_in_a_string_is_not_run(tmp_path):
    """An initializer, which runs while a model is loaded, makes a data set of a graph."""
    proof, raw = tmp_path / "proof", tf.raw_ops
    with tf.Graph().as_default() as graph:
        write = raw.WriteFile(filename=str(proof), contents="written")
        with tf.control_dependencies([write]):
            start = tf.identity(tf.constant(0, tf.int64))
        ends = {"stop": tf.constant(3, tf.int64), "step": tf.constant(1, tf.int64)}
        data = raw.RangeDataset(start=start, **ends, output_types=[tf.int64], output_shapes=[[]])
    definition = graph.as_graph_def()
    result = definition.node.add(name="result", op="_Retval", input=[data.op.name])
    result.attr["T"].type = tf.variant.as_datatype_enum
    result.attr["index"].i = 0

    class Resource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return raw.VarHandleOp(dtype=tf.int64, shape=[], shared_name="evil")

        def _initialize(self):
            evil = raw.DatasetFromGraph(graph_def=definition.SerializeToString())
            size = raw.DatasetCardinality(input_dataset=evil)
            raw.AssignVariableOp(resource=self.resource_handle, value=size)

    keras = Flavor("tf_keras").module

    class Evil(keras.layers.Layer):
        def build(self, shape):
            self.resource = Resource()

        def call(self, x):
            handle = self.resource.resource_handle
            return x + tf.cast(raw.ReadVariableOp(resource=handle, dtype=tf.int64), x.dtype)

    keras.Sequential([keras.Input((4,)), Evil()]).save(tmp_path / "evil")
    proof.unlink(missing_ok=True)  # saving runs it too
    with pytest.raises(UnsafeFileError, match="the operation DatasetFromGraph"):
        tf_prac.load_model(tmp_path / "evil")
    assert not proof.exists()


def test_ordinary_layers_have_allowed_operations():
    """Traced, as saving a SavedModel with recurrent layers takes a minute."""
    layers = Flavor("tf_keras").module.layers
    image, text = np.ones((1, 9, 9, 3), np.float32), tf.constant([["a b c"]])
    resizing, flip = layers.Resizing(8, 8, "bicubic"), layers.RandomFlip()
    convolution = layers.SeparableConv2D(4, 3, dilation_rate=2)
    words = layers.TextVectorization(vocabulary=["a", "b"], ngrams=2, output_sequence_length=5)
    recurrent = layers.LSTM(3)
    embedding = layers.Embedding(9, 4, mask_zero=True)
    lookup = layers.StringLookup(vocabulary=["a"], output_mode="tf_idf", idf_weights=[1.0])
    hashing = layers.Hashing(4, output_mode="one_hot")
    normalization, dropout = layers.BatchNormalization(), layers.Dropout(0.1)

    def call():
        x = normalization(convolution(flip(resizing(image), training=True)), training=True)
        y = recurrent(embedding(words(text)))
        return dropout(x, training=True), y, lookup(text), hashing(text)

    call()  # creates variables and tables
    graph = tf.function(call).get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    used = {node.op for node in nodes} - {f.signature.name for f in graph.library.function}
    assert len(used) > 70 and used <= OPERATIONS


# Archives


def _without(name):
    return lambda members: {n: c for n, c in members.items() if n != name}


def _with(name, content):
    return lambda members: members | {name: content}


def _metadata(version):
    return _with("metadata.json", json.dumps({"keras_version": version}))


BAD_ARCHIVES = {
    "no config": (_without("config.json"), "it has no config.json"),
    "no metadata": (_without("metadata.json"), "it has no metadata.json"),
    "no weights": (_without("model.weights.h5"), "it has no model.weights.h5"),
    "config not json": (_with("config.json", "{"), "config.json is not JSON"),
    "config a list": (_with("config.json", "[]"), "config.json is not a JSON object"),
    "config deep": (_with("config.json", "[" * 10**5), "config.json is not JSON"),
    "config empty": (_with("config.json", "{}"), "describes a dict|cannot be built"),
    "config of text": (_with("config.json", '{"class_name": 3, "config": 4}'), "names of classes"),
    "layers a number": (with_config(lambda c: c["config"].update(layers=3)), "cannot be built"),
    "version 4": (_metadata("4.0"), "keras_version: received '4.0'; allowed: 2.x or 3.x"),
    "version null": (_metadata(None), "keras_version: received None"),
    "version a list": (_metadata([3]), r"keras_version: received \[3\]"),
    "metadata a list": (_with("metadata.json", "[]"), "metadata.json is not a JSON object"),
    "weights not hdf5": (_with("model.weights.h5", b"HDF"), "is no HDF5 file"),
    "weights of none": (_with("model.weights.h5", b""), "is no HDF5 file"),
}  # fmt: skip


@both
def test_an_error_names_the_keras_that_saved_a_model(flavor, tmp_path):
    newer = {"keras": "3.99.0", "tf_keras": "2.99.0"}[flavor]
    path, module = tmp_path / "a.keras", Flavor(flavor).module
    small(module).save(path)
    changed_archive(path, with_config(lambda c: c["config"]["layers"][1]["config"].update(new=1)))
    with pytest.raises(FileError, match="cannot be built") as raised:
        tf_prac.load_model(path)
    assert "saved it" not in str(raised.value)
    changed_archive(path, _metadata(newer))
    place = exported(flavor, tmp_path / "b")
    metadata = read_metadata(place)
    metadata["versions"][flavor] = newer
    metadata["architecture"]["config"]["layers"][1]["config"]["new"] = 1
    write_metadata(place, metadata)
    reason = f"{flavor} {newer} saved it; {flavor} {module.__version__} is installed"
    for door in (lambda: tf_prac.load_model(path), lambda: load_sparse(place)):
        with pytest.raises(FileError, match=f"cannot be built: .* {reason}"):
            door()


@both
def test_a_bad_archive_is_refused_by_name(flavor, tmp_path):
    model = small(Flavor(flavor).module)
    model.save(tmp_path / "whole.keras")
    for name, (change, reason) in BAD_ARCHIVES.items():
        path = tmp_path / f"{name}.keras"
        shutil.copy(tmp_path / "whole.keras", path)
        changed_archive(path, change)
        with pytest.raises(FileError, match=f"{name}.keras.*{reason}"):
            pytest.fail(f"{name}: {tf_prac.load_model(path)}")
    content = (tmp_path / "whole.keras").read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "text": b"x" * 99,
        "tail": content[100:],
    }
    for name, text in damaged.items():
        path = tmp_path / f"{name}.keras"
        path.write_bytes(text)
        with pytest.raises(FileError, match=f"{name}.keras: damaged, or neither"):
            tf_prac.load_model(path)
    renamed = shutil.copy(tmp_path / "whole.keras", tmp_path / "model.zip")
    with pytest.raises(FileError, match=r"model.zip: its model cannot be built"):
        tf_prac.load_model(renamed)
    other = _metadata({"keras": "2.15.0", "tf_keras": "3.0.0"}[flavor])
    changed_archive(tmp_path / "whole.keras", other)
    if flavor == "keras":
        with pytest.raises(FileError, match="whole.keras: not loaded.*DTypePolicy"):
            tf_prac.load_model(tmp_path / "whole.keras")
    else:  # Keras 3 reads files of Keras 2
        again = tf_prac.load_model(tmp_path / "whole.keras")
        for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@both
def test_every_flipped_byte_is_refused_or_harmless(flavor, tmp_path):
    model = small(Flavor(flavor).module)
    model.save(tmp_path / "whole.keras")
    content = (tmp_path / "whole.keras").read_bytes()
    generator = np.random.default_rng(0)
    for position in generator.integers(0, len(content), 40):
        changed = bytearray(content)
        changed[position] ^= 1 << generator.integers(8)
        (tmp_path / "flipped.keras").write_bytes(changed)
        try:
            again = tf_prac.load_model(tmp_path / "flipped.keras")
        except FileError as error:
            assert "flipped.keras" in str(error)
        else:
            for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)


# Sizes


def peak_memory(do):
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def weights_file(change):
    """A change of the HDF5 file in an archive."""

    def changed(members):
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            change(file)
        return members | {"model.weights.h5": content.getvalue()}

    return changed


HUGE = (2**36,)
BAD_WEIGHTS = {
    "no bytes": lambda f: f.create_dataset("x", HUGE, "float32"),
    "chunks without bytes": lambda f: f.create_dataset("x", HUGE, "float32", chunks=(2**20,)),
    "another file": lambda f: f.create_dataset("x", (9,), "u1", external=[("/etc/passwd", 0, 9)]),
    "a link": lambda f: f.update({"x": h5py.ExternalLink("/etc/passwd", "/")}),
    "a soft link": lambda f: f.update({"x": h5py.SoftLink("/")}),
    "itself": lambda f: f.update({"x": f["/"]}),
    "text": lambda f: f.create_dataset("x", data=["a"], dtype=h5py.string_dtype()),
    "references": lambda f: f.create_dataset("x", data=[f.ref], dtype=h5py.ref_dtype),
}


@both
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_are_not_in_the_file_are_refused(flavor, case, tmp_path):
    small(Flavor(flavor).module).save(tmp_path / "m.keras")
    changed_archive(tmp_path / "m.keras", weights_file(BAD_WEIGHTS[case]))

    def load():
        with pytest.raises(FileError, match=r"m.keras: model.weights.h5: .*/x\b"):
            tf_prac.load_model(tmp_path / "m.keras")

    assert peak_memory(load) < 2**22


def test_an_archive_that_declares_more_than_deflate_can_hold_is_refused(tmp_path):
    path = tmp_path / "bomb.keras"
    small(Flavor("keras").module).save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(1000))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.rindex(signature) + offset, 2**31)
    path.write_bytes(content)
    with pytest.raises(FileError, match="bomb.keras: damaged, it declares"):
        read_archive(path)


def _wide(config, units):
    layers = config["config"]["layers"]
    layers[-1]["config"]["units"] = units


@pytest.mark.parametrize(
    "shape", [[2**16, 2**20], [2**33], [2**70, 1], [-1, 4], ["4", 8], 32, [[]]]
)
def test_masks_larger_than_their_weights_are_refused(shape, tmp_path):
    model = tf_prac.prune(small(Flavor("keras").module, 8), sparsity=0.5)
    model.save(tmp_path / "m.keras")

    def change(config):
        config["config"]["masks"]["dense/kernel"] = shape

    def load():
        with pytest.raises(FileError, match="m.keras: "):
            tf_prac.load_model(tmp_path / "m.keras")

    changed_archive(tmp_path / "m.keras", with_config(change))
    assert peak_memory(load) < 2**24


@both
@pytest.mark.parametrize("units", [2**20, 2**31 - 1, 6_000_000_000, 2**70])
def test_an_architecture_larger_than_its_weights_is_refused(flavor, units, tmp_path):
    small(Flavor(flavor).module).save(tmp_path / "m.keras")
    changed_archive(tmp_path / "m.keras", with_config(lambda config: _wide(config, units)))
    place = exported(flavor, tmp_path / "export")
    content = read_metadata(place)
    _wide(content["architecture"], units)
    write_metadata(place, content)
    limit = r"declares more variables than its weights|allowed: integers up to 2,147,483,647"

    def load():
        with pytest.raises(UnsafeFileError, match=f"m.keras: not loaded.*({limit})"):
            tf_prac.load_model(tmp_path / "m.keras")
        with pytest.raises(UnsafeFileError, match=f"export: not loaded.*({limit})"):
            load_sparse(tmp_path / "export")

    assert peak_memory(load) < 2**24


def _resize(content, size):
    row = next(row for row in content["weights"] if row["pruned"])
    row["shape"] = [size // 3, 3]
    content["groups"][row["group"]]["size"] = size


def _row(**changes):
    def change(content):
        next(row for row in content["weights"] if row["pruned"]).update(changes)

    return change


DATA_KEY = "decoder/data/.ATTRIBUTES/VARIABLE_VALUE"
BAD_EXPORTS = {
    "2^36 elements": lambda c: _resize(c, 2**36),
    "2^62 elements": lambda c: _resize(c, 2**62),
    "text for a size": lambda c: _resize_group(c, "12"),
    "a fraction of elements": lambda c: _resize_group(c, 12.5),
    "fewer elements": lambda c: _resize_group(c, 3),
    "dtype object": _row(dtype="object"),
    "dtype complex": _row(dtype="complex128"),
    "dtype float64": _row(dtype="U9"),
    "unknown storage": _row(storage="float8"),
    "another storage": _row(storage="int8"),
    "storage of bits": _row(storage="bfloat16"),
    "a scale without": _row(scale=[1, 3]),
    "negative shape": _row(shape=[-4, -3]),
    "unknown shape": _row(shape=[-1, 3]),
    "text for a shape": _row(shape=["4", 3]),
    "too large a shape": _row(shape=[4, 2**40]),
    "another start": _row(start=1),
    "negative start": _row(start=-12),
    "no start": lambda c: next(r for r in c["weights"] if r["pruned"]).pop("start"),
    "a weight twice": lambda c: c["weights"].append({**c["weights"][0], "name": "other"}),
    "another dtype": lambda c: c["weights"][1].update(dtype="int8"),
    "a variable": lambda c: c["weights"][1].update(variable="_CHECKPOINTABLE_OBJECT_GRAPH"),
    "a packed variable": lambda c: c["weights"][1].update(variable=DATA_KEY),
    "no groups": lambda c: c.pop("groups"),
    "no streams": lambda c: c.pop("streams"),
    "fewer streams": lambda c: c["streams"].pop(),
    "a stream of 2^40 elements": lambda c: c["streams"][0].update(size=2**40),
    "a shorter stream": lambda c: c["streams"][0].update(size=c["streams"][0]["size"] - 1),
    "a stream of objects": lambda c: c["streams"][0].update(dtype="object"),
    "a stream of another type": lambda c: c["streams"][0].update(dtype="float64"),
    "groups a list": lambda c: c.update(groups=[]),
    "weights a number": lambda c: c.update(weights=3),
    "weights of text": lambda c: c.update(weights=["d/kernel"]),
    "unknown Keras": lambda c: c.update(keras="os"),
    "Keras a list": lambda c: c.update(keras=["keras"]),
    "architecture a list": lambda c: c.update(architecture=[]),
    "architecture a text": lambda c: c.update(architecture="Dense"),
}


def _resize_group(content, size):
    row = next(row for row in content["weights"] if row["pruned"])
    content["groups"][row["group"]]["size"] = size


@both
def test_an_export_that_declares_what_it_has_not_is_refused(flavor, tmp_path):
    place = exported(flavor, tmp_path / "export")
    original = read_metadata(place)
    assert any(row["pruned"] for row in original["weights"])

    def load():
        with pytest.raises(FileError, match="export"):
            load_sparse(tmp_path / "export")

    for name, change in BAD_EXPORTS.items():
        content = copy.deepcopy(original)
        change(content)
        write_metadata(place, content)
        assert peak_memory(load) < 2**23, name
    write_metadata(place, original)
    assert load_sparse(tmp_path / "export").masks.sparsity == pytest.approx(0.25)


def test_a_checkpoint_that_declares_more_than_its_data_is_refused(tmp_path):
    prefix = tmp_path / "variables"
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=["a"], shape_and_slices=[""], tensors=[tf.zeros([1000])]
    )
    assert open_checkpoint(prefix).get_tensor("a").shape == (1000,)
    data = next(tmp_path.glob("variables.data*"))
    os.truncate(data, 3000)
    with pytest.raises(FileError, match="its tensors declare 4,000 bytes and its data has 3,000"):
        open_checkpoint(prefix)


def test_long_runs_of_pruned_weights_are_written_so_that_they_are_read(monkeypatch):
    values = np.zeros(1000, np.float32)
    values[3] = 1
    keep = values != 0
    short = encoding.pack(values, keep)
    monkeypatch.setattr(encoding, "MAX_TRAILING", 100)
    with pytest.raises(ValueError, match="1,000 elements declared"):
        encoding.unpack(short)
    packed = encoding.pack(values, keep)
    assert packed.codes.size <= 8
    for read, expected in zip(encoding.unpack(packed), (values, keep), strict=True):
        np.testing.assert_array_equal(read, expected)
    nothing = encoding.pack(values, np.zeros(1000, bool))
    assert not encoding.unpack(nothing)[1].any()


def test_variables_within_the_limit_are_created(tmp_path):
    """Masks and the state of an optimizer are not in the file of a plain model."""
    assert COPIES >= 4 and EXTRA >= 2**16
    keras = Flavor("tf_keras").module
    model = tf_prac.prune(small(keras, 500_000), sparsity=0.5)
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    assert tf_prac.load_model(tmp_path / "m.keras").masks == model.masks


def test_a_link_to_a_device_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.keras")
    (tmp_path / "zero.keras").symlink_to("/dev/zero")
    for path in map(pathlib.Path, tmp_path.iterdir()):
        with pytest.raises(FileError, match="not a regular file"):
            tf_prac.load_model(path)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_loss_is_not_checked_in_a_file_that_is_not_compiled(flavor, tmp_path):
    keras = Flavor(flavor).module
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    def unknown(y_true, y_pred):
        return keras.losses.mean_squared_error(y_true, y_pred)

    model.compile("sgd", unknown)
    model.save(tmp_path / "m.keras")
    with pytest.raises(UnsafeFileError, match="compile_config.loss: received the function 'unkno"):
        tf_prac.load_model(tmp_path / "m.keras")
    loaded = tf_prac.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    options = {"custom_objects": {"unknown": unknown}}
    assert tf_prac.load_model(tmp_path / "m.keras", **options).loss is unknown
