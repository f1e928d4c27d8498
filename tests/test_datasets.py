"""Data sets by name, on the bundled digits, small folders and data in TFDS format."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_prac.data import datasets
from tf_prac.data.datasets import DIGITS, STATISTICS, load_dataset
from tf_prac.data.folder import resized
from tf_prac.data.pipeline import training_batches
from tf_prac.data.source import ArraySamples, Samples
from tf_prac.data.stream import StreamSamples
from tf_prac.errors import ArgumentError, DataError


def images_of(samples: Samples, ids) -> np.ndarray:
    return next(samples.batches(ids, len(ids)).as_numpy_iterator())[0]["inputs"]


def test_the_module_imports_nothing_slow():
    program = (
        "import sys; import tf_prac.data.datasets; "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'sklearn') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


class TestDigits:
    def test_the_file_has_the_images_of_scikit_learn_in_their_order(self):
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        with np.load(pathlib.Path(datasets.__file__).with_name(DIGITS)) as file:
            np.testing.assert_array_equal(file["pixels"].reshape(-1, 64), pixels)
            np.testing.assert_array_equal(file["labels"], labels)

    def test_split_is_stratified_and_complete(self):
        from sklearn.datasets import load_digits

        data = load_dataset("digits")
        pixels, labels = load_digits(return_X_y=True)
        assert len(data.train) + len(data.test) == len(labels)
        share = np.bincount(data.test.labels) / np.bincount(labels)
        assert data.train.num_classes == data.test.num_classes == 10
        assert (abs(share - 0.2) < 0.01).all()
        images = np.concatenate(
            [images_of(part, range(len(part))).reshape(-1, 64) for part in (data.train, data.test)]
        )
        restored = np.round(images / 255 * 16)
        np.testing.assert_array_equal(np.sort(restored, axis=0), np.sort(pixels, axis=0))

    def test_statistics_normalize(self):
        train = load_dataset("digits").train
        batches = training_batches(train, range(len(train)), batch_size=2000, seed=(0,), steps=1)
        inputs = next(batches.as_numpy_iterator())[0]["inputs"]
        assert abs(inputs.mean()) < 0.01 and abs(inputs.std() - 1) < 0.01

    def test_limit_takes_the_first_samples(self):
        whole, part = load_dataset("digits").train, load_dataset("digits", limit_train=50).train
        assert part.labels.tolist() == whole.labels[:50].tolist() and part.num_classes == 10
        np.testing.assert_array_equal(images_of(part, range(50)), images_of(whole, range(50)))
        assert part.identity.order_hash != whole.identity.order_hash

    @pytest.mark.parametrize("limit", [0, -1, 1443, 1.5])
    def test_bad_limit(self, limit):
        with pytest.raises(ArgumentError, match="limit_train"):
            load_dataset("digits", limit_train=limit)


class TestFolder:
    @pytest.fixture
    def root(self, tmp_path: pathlib.Path) -> pathlib.Path:
        for split, count in (("train", 3), ("val", 2)):
            for value, name in enumerate(["cat", "dog"]):
                (tmp_path / split / name).mkdir(parents=True)
                for i in range(count):
                    image = tf.fill([4, 6, 3], tf.cast(100 * value + i, tf.uint8))
                    file = tmp_path / split / name / f"{i}.png"
                    file.write_bytes(tf.io.encode_png(image).numpy())
        return tmp_path

    def test_train_and_validation_folders(self, root):
        data = load_dataset("folder", data_dir=root)
        assert (len(data.train), len(data.test)) == (6, 4)
        assert data.train.input_shape == data.test.input_shape == (4, 6, 3)
        assert images_of(data.train, [0, 1, 4])[:, 0, 0, 0].tolist() == [0, 100, 2]
        small = load_dataset("folder", data_dir=root, image_size=(2, 2), limit_train=3)
        assert small.train.input_shape == small.test.input_shape == (2, 2, 3)
        assert len(small.train) == 3

    def test_images_of_floats_are_resized_without_rounding(self):
        image = tf.constant([[[0.0], [0.4]], [[0.4], [1.0]]])
        assert resized(image, (1, 1)).numpy().ravel() == pytest.approx([0.45])
        assert resized(tf.cast(image * 255, tf.uint8), (1, 1)).numpy().ravel().tolist() == [115]

    def test_without_a_test_folder(self, root):
        shutil.rmtree(root / "val")
        assert load_dataset("folder", data_dir=root).test is None

    def test_bad_folders(self, root):
        for data_dir in (None, root / "train", root / "missing"):
            with pytest.raises(ArgumentError, match="data_dir"):
                load_dataset("folder", data_dir=data_dir)
        with pytest.raises(ArgumentError, match="limit_train"):
            load_dataset("folder", data_dir=root, limit_train=7)
        (root / "val" / "cow").mkdir()
        with pytest.raises(DataError, match="cow"):
            load_dataset("folder", data_dir=root)


class TestTfds:
    def test_mnist(self, tfds_dir):
        data = load_dataset("mnist", data_dir=tfds_dir)
        assert isinstance(data.train, ArraySamples)
        assert (len(data.train), len(data.test)) == (60000, 10000)
        assert data.train.input_shape == (28, 28, 1) and data.train.num_classes == 10
        identity = data.train.identity
        assert (identity.name, identity.split) == ("mnist", "train") and identity.version
        pixels = images_of(data.train, range(60000)) / 255
        np.testing.assert_allclose(pixels.mean(), data.train.mean[0], atol=1e-4)
        np.testing.assert_allclose(pixels.std(), data.train.std[0], atol=1e-4)

    def test_order_is_that_of_the_files(self, tfds_dir):
        import tensorflow_datasets as tfds

        (version,) = (tfds_dir / "cifar10").iterdir()
        builder = tfds.builder_from_directory(version)
        first = builder.as_dataset(split="train", shuffle_files=False).take(20)
        train = load_dataset("cifar10", data_dir=version, limit_train=20).train
        assert train.labels.tolist() == [int(element["label"]) for element in first]
        expected = np.stack([element["image"] for element in first.as_numpy_iterator()])
        np.testing.assert_array_equal(images_of(train, range(20)), expected)

    def test_a_stream_has_the_same_samples(self, tfds_dir):
        options = {"data_dir": tfds_dir, "limit_train": 300}
        loaded = load_dataset("cifar10", **options).train
        for limit in (0, 600_000):
            stream = load_dataset("cifar10", memory_limit_bytes=limit, **options).train
            assert stream.classes == loaded.classes and loaded.classes[3] == "cat"
            assert isinstance(stream, StreamSamples)
            np.testing.assert_array_equal(stream.labels, loaded.labels)
            ids = range(5, 295, 10)
            np.testing.assert_array_equal(images_of(stream, ids), images_of(loaded, ids))
            assert stream.mean == loaded.mean and stream.identity.count == 300

    def test_resizing(self, tfds_dir):
        train = load_dataset("cifar10", data_dir=tfds_dir, limit_train=5, image_size=(8, 9)).train
        assert images_of(train, range(5)).shape == (5, 8, 9, 3)

    def test_limit_past_the_end(self, tfds_dir):
        with pytest.raises(ArgumentError, match="limit_train: received 60001; .* 1 to 60000"):
            load_dataset("mnist", data_dir=tfds_dir, limit_train=60001)

    def test_version_by_name(self, tfds_dir):
        (version,) = (path.name for path in (tfds_dir / "mnist").iterdir())
        data = load_dataset(f"mnist:{version}", data_dir=tfds_dir, limit_train=3)
        assert data.train.identity.version == version
        with pytest.raises(ArgumentError, match="data_dir"):
            load_dataset("mnist:0.0.1", data_dir=tfds_dir)

    def test_name_of_another_data_set_than_that_of_the_directory(self, tfds_dir):
        (version,) = (tfds_dir / "cifar10").iterdir()
        with pytest.raises(ArgumentError, match="dataset: received 'mnist'"):
            load_dataset("mnist", data_dir=version)

    def test_damaged_files(self, tfds_dir, tmp_path):
        (version,) = (tfds_dir / "mnist").iterdir()
        copy = tmp_path / "mnist" / version.name
        shutil.copytree(version, copy)
        copy.chmod(0o755)
        (records,) = copy.glob("*train.tfrecord*")
        records.chmod(0o644)
        with records.open("r+b") as file:
            file.truncate(100_000)
        with pytest.raises(DataError, match="mnist: cannot be read"):
            load_dataset("mnist", data_dir=tmp_path)
        info = copy / "dataset_info.json"
        info.chmod(0o644)
        for content in ("{", json.dumps({"name": "mnist"})):
            info.write_text(content)
            with pytest.raises(DataError, match="no readable TFDS data set"):
                load_dataset("mnist", data_dir=tmp_path)


class TestNames:
    def test_not_prepared(self, tmp_path):
        with pytest.raises(ArgumentError, match="data_dir: .*'mnist' in TFDS format.*prepare it"):
            load_dataset("mnist", data_dir=tmp_path)
        (tmp_path / "mnist").mkdir()
        with pytest.raises(ArgumentError, match="data_dir"):
            load_dataset("mnist", data_dir=tmp_path)

    def test_no_directory(self, tmp_path, monkeypatch):
        with pytest.raises(ArgumentError, match="data_dir: .*No such file"):
            load_dataset("mnist", data_dir=tmp_path / "missing")
        (tmp_path / "file").touch()
        with pytest.raises(ArgumentError, match="data_dir: .*Not a directory"):
            load_dataset("mnist", data_dir=tmp_path / "file")
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "missing"))
        with pytest.raises(ArgumentError, match="data_dir: received None.*missing"):
            load_dataset("mnist")

    @pytest.mark.parametrize("name", ["", "no_such_set", "../mnist", "/etc", "mnist:latest", "a b"])
    def test_unknown(self, name, tmp_path):
        with pytest.raises(ArgumentError, match="dataset: received"):
            load_dataset(name, data_dir=tmp_path)
        with pytest.raises(ArgumentError, match="dataset: received"):
            load_dataset(name)


class TestTinyImageNet:
    @pytest.fixture
    def root(self, tmp_path):
        """Two classes of three training images, and three validation images, one of them gray."""
        generator = np.random.default_rng(0)

        def write(path, channels=3):
            path.parent.mkdir(parents=True, exist_ok=True)
            image = generator.integers(0, 256, (64, 64, channels), np.uint8)
            path.write_bytes(tf.io.encode_jpeg(image).numpy())

        for name in ("n02", "n01"):
            for number in range(3):
                write(tmp_path / "train" / name / "images" / f"{name}_{number}.JPEG")
            (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("n_0.JPEG\t0\t0\t9\t9\n")
        lines = []
        for number, name in enumerate(["n02", "n01", "n02"]):
            write(tmp_path / "val" / "images" / f"val_{number}.JPEG", channels=1 if number else 3)
            lines.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
        (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
        (tmp_path / "test" / "images").mkdir(parents=True)
        return tmp_path

    def test_layout(self, root):
        data = load_dataset("tiny_imagenet", data_dir=root)
        assert data.train.classes == data.test.classes == ("n01", "n02")
        assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
        assert data.test.labels.tolist() == [1, 0, 1]
        assert data.test.paths == tuple(f"images/val_{n}.JPEG" for n in range(3))
        assert data.train.input_shape == data.test.input_shape == (64, 64, 3)
        assert data.train.mean == data.test.mean == STATISTICS["tiny_imagenet"][0]
        assert (data.train.identity.name, data.test.identity.split) == ("tiny_imagenet", "val")
        file = (root / "val" / "images" / "val_0.JPEG").read_bytes()
        np.testing.assert_array_equal(images_of(data.test, [0])[0], tf.io.decode_jpeg(file, 3))
        small = load_dataset("tiny_imagenet", data_dir=root, limit_train=4, image_size=(32, 32))
        assert len(small.train) == 4 and small.test.input_shape == (32, 32, 3)

    def test_missing_files_are_named(self, root):
        for data_dir in (None, root / "train", root / "nowhere"):
            with pytest.raises(ArgumentError, match="data_dir: .*val/val_annotations.txt"):
                load_dataset("tiny_imagenet", data_dir=data_dir)
        annotations = root / "val" / "val_annotations.txt"
        good = annotations.read_text()
        for bad, message in [
            (good.replace("n01", "n03"), "class 'n03' is not among the classes of training"),
            (good + "val_3.JPEG\tn01\n", "val_3.JPEG: no such image"),
            ("val_0.JPEG\n", "lines that start with a file and a class"),
            ("", "lines that start with a file and a class"),
        ]:
            annotations.write_text(bad)
            with pytest.raises(DataError, match=message):
                load_dataset("tiny_imagenet", data_dir=root)


def test_decoded_and_encoded_samples_have_different_hashes():
    """The hash is of the stored samples, so that sets of one are refused for the other."""
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    labels = np.arange(6) % 2
    files = [tf.io.encode_png(image).numpy() for image in images]
    dataset = tf.data.Dataset.from_tensor_slices((files, labels))
    held = ArraySamples(images, labels, name="x", version="1")
    read = StreamSamples(dataset, decode=lambda f: tf.io.decode_png(f, 3), name="x", version="1")
    ours, theirs = held.identity.to_json(), read.identity.to_json()
    assert ours.pop("order_hash") != theirs.pop("order_hash") and ours == theirs
    np.testing.assert_array_equal(images_of(read, range(6)), images)
    again = StreamSamples(dataset, decode=lambda f: tf.io.decode_png(f, 3), name="x", version="1")
    assert again.identity == read.identity
    assert ArraySamples(images, labels, name="x", version="1").identity == held.identity
