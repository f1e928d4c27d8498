"""Reads prepared data sets in TFDS format; downloads nothing.

`tensorflow_datasets` takes seconds to import, and is imported when it is first used.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_prac.data.folder import resized
from tf_prac.data.ids import with_sample_ids
from tf_prac.data.scan import load_arrays
from tf_prac.data.source import ArraySamples, Samples
from tf_prac.data.stream import StreamSamples
from tf_prac.errors import ArgumentError, DataError
from tf_prac.extras import require

_NAME = re.compile(r"(?P<set>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_INFO = "dataset_info.json"


def open_builder(name: str, data_dir: str | os.PathLike | None) -> Any:
    """Opens a prepared data set.

    Args:
        name: "mnist", "mnist:3.0.1" or "imagenette/320px-v2", as in TFDS.
        data_dir: the data directory of TFDS, or the directory of the version itself; None for
            the default of TFDS (`TFDS_DATA_DIR` or ~/tensorflow_datasets).

    Returns:
        A read-only `tfds.core.DatasetBuilder`.

    Raises:
        ArgumentError: If the name is unknown, or no data set is prepared under it.
        DataError: If the data set is damaged.
    """
    root = pathlib.Path(data_dir or _default_data_dir()).expanduser()
    match = _NAME.fullmatch(name)
    in_root = {path.name for path in _entries(root)} if data_dir or root.is_dir() else set()
    if _INFO in in_root:
        directory = root
    elif match and match["set"] in in_root:
        directory = _version_directory(root, match)
    elif match and match["set"] in _tfds().list_builders(with_community_datasets=False):
        raise _not_prepared(name, data_dir)
    else:
        allowed = "digits, tiny_imagenet, folder or the name of a TFDS image data set, such as "
        raise ArgumentError("dataset", name, f"{allowed}mnist or cifar10")
    try:
        prepared = json.loads((directory / _INFO).read_text())["name"]
        with _quiet():
            builder = _tfds().builder_from_directory(directory)
    except Exception as error:  # TFDS raises many kinds of errors on a damaged directory
        raise DataError(f"{directory}: no readable TFDS data set ({error}).") from error
    if match is None or prepared != match["set"]:
        raise ArgumentError("dataset", name, f"{prepared!r}, the data set in {directory}")
    return builder


def read_split(
    builder: Any,
    split: str,
    *,
    limit: int | None,
    memory_limit_bytes: int,
    image_size: tuple[int, int] | None,
    **options: Any,
) -> Samples:
    """Reads the `image` and `label` of a split, in the order of its files.

    Args:
        builder: from `open_builder`.
        split: name of the split.
        limit: keep the first `limit` samples; None for all.
        memory_limit_bytes: a split with more decoded bytes is read from its files again instead of
            held in memory.
        image_size: (height, width) that images are resized to; None for no resizing.
        **options: mean and std as in `ArraySamples`.

    Raises:
        ArgumentError: If the data set does not have images and class labels.
        DataError: If files are unreadable, or images have different sizes and `image_size` is None.
    """
    features = dict(builder.info.features.items())
    if "image" not in features or not hasattr(features.get("label"), "num_classes"):
        allowed = "a data set with the features image and label"
        raise ArgumentError("dataset", f"{builder.info.name} with {', '.join(features)}", allowed)
    name = builder.info.name
    options = {
        **options,
        "name": name,
        "version": str(builder.info.version),
        "split": split,
        "num_classes": features["label"].num_classes,
        "classes": features["label"].names,
        "rescale": True,
    }
    encoded = _encoded(builder, split, limit)

    def decode(image: tf.Tensor) -> tf.Tensor:
        return resized(features["image"].decode_example(image), image_size)

    decoded = encoded.map(
        lambda image, label: (decode(image), label), num_parallel_calls=tf.data.AUTOTUNE
    )
    shape = decoded.element_spec[0].shape
    if not shape.is_fully_defined():
        raise DataError(f"{name}: images have shape {shape}. Pass image_size=(height, width).")
    elements = with_sample_ids(decoded)
    arrays = load_arrays(elements, name, memory_limit_bytes, check_order=False)
    if arrays is not None:
        return ArraySamples(*arrays, **options)
    return StreamSamples(
        encoded,
        decode=decode,
        memory_limit_bytes=memory_limit_bytes,
        check_order=False,
        **options,
    )


def _default_data_dir() -> str:
    """Returns the default data directory of TFDS."""
    return os.environ.get("TFDS_DATA_DIR", os.path.join("~", "tensorflow_datasets"))


def _tfds() -> Any:
    require("tensorflow_datasets", "data sets of TensorFlow Datasets")
    with _quiet():
        import tensorflow_datasets
    return tensorflow_datasets


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses deprecation warnings of TFDS about itself."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _encoded(builder: Any, split: str, limit: int | None) -> tf.data.Dataset:
    """Returns (encoded image, label) in the order of the files; parses no other features."""
    tfds = _tfds()
    decoding = {"image": tfds.decode.SkipDecoding()}
    partial = tfds.decode.PartialDecoding({"image": True, "label": True}, decoders=decoding)
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    with _quiet():
        dataset = builder.as_dataset(
            split=split, decoders=partial, shuffle_files=False, read_config=in_order
        )
    dataset = dataset.map(lambda element: (element["image"], element["label"]))
    return dataset if limit is None else dataset.take(limit)


def _version_directory(root: pathlib.Path, match: re.Match[str]) -> pathlib.Path:
    """Returns root/set[/config]/version: the requested version, or the newest."""
    directory = root / match["set"] / (match["config"] or "")
    entries = {path.name: path for path in _entries(directory)} if directory.is_dir() else {}
    versions = [
        v for v, path in entries.items() if _VERSION.fullmatch(v) and (path / _INFO).is_file()
    ]
    matching = [v for v in versions if match["version"] in (None, v)]
    if not matching:
        raise _not_prepared(match[0], root)
    newest = max(matching, key=lambda version: tuple(map(int, version.split("."))))
    return directory / newest


def _entries(directory: pathlib.Path) -> list[pathlib.Path]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArgumentError(
            "data_dir", str(directory), f"a readable directory ({reason})"
        ) from error


def _not_prepared(name: str, data_dir: str | os.PathLike | None) -> ArgumentError:
    where = _default_data_dir() if data_dir is None else str(data_dir)
    return ArgumentError(
        "data_dir",
        data_dir and where,
        f"a directory with {name!r} in TFDS format",
        f"There is no {name!r} in {where}: prepare it with `tfds build`, or with "
        "tfds.builder(...).download_and_prepare(); tf_prac downloads nothing.",
    )
