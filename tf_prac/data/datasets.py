"""`load_dataset`: data sets by name. TensorFlow is imported only when a data set is loaded.

Other data needs no entry here: pass `Samples`, arrays or a `tf.data.Dataset` to a search.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING

from tf_prac.checks import check_int
from tf_prac.data.checks import MEMORY_LIMIT_BYTES
from tf_prac.errors import ArgumentError, DataError
from tf_prac.extras import require
from tf_prac.storage.names import check_name

if TYPE_CHECKING:
    from tf_prac.data.source import Samples

WITHOUT_TFDS = ("digits", "tiny_imagenet", "folder")
"""The data sets that are not read with TensorFlow Datasets."""

# Per-channel mean and standard deviation of the training images, scaled to [0, 1].
STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "digits": ((0.305,), (0.376,)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "tiny_imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}

DIGITS = "digits.npz"
"""Pixels uint8 [1797, 8, 8] in 0..16, and labels uint8; see digits.LICENSE.txt."""

VAL_ANNOTATIONS = "val_annotations.txt"


@dataclasses.dataclass(frozen=True)
class LoadedData:
    """The training and test samples of a data set.

    Args:
        train: the training samples; validation samples are held out of these.
        test: the test samples; None if the data set has none.
    """

    train: Samples
    test: Samples | None


def load_dataset(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    limit_train: int | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    image_size: tuple[int, int] | None = None,
) -> LoadedData:
    """Loads a data set by name, from local files only.

    Example:

        >>> data = load_dataset("digits")
        >>> len(data.train), len(data.test), data.train.input_shape
        (1442, 355, (8, 8, 1))

    Args:
        name: "digits" (part of tf_prac, 1,797 images of 8x8 pixels as in scikit-learn; every fifth
            image of each class is in the test set); any TFDS image data set with the features
            `image` and `label`, such as "mnist" or "cifar10"; "tiny_imagenet" in its own layout:
            `data_dir/train/CLASS/images/FILE`, `data_dir/val/images/FILE` and
            `val/val_annotations.txt`, whose validation images are the test set; or "folder":
            `data_dir/train/CLASS/FILE`, and `test` or `val` likewise.
        data_dir: data directory of TFDS (default as in TFDS), or the folder.
        limit_train: keep the first `limit_train` training samples. Default: all.
        memory_limit_bytes: a split with more decoded bytes is not held in memory. Default 4 GiB.
        image_size: (height, width) to resize to; required if images have different sizes.

    Raises:
        ArgumentError: If the name is unknown, no data set is prepared in `data_dir`, or
            `limit_train` exceeds the number of samples.
        MissingPackageError: If it is a data set of TFDS, and TFDS is not installed.
        DataError: If the data is damaged, or images have different sizes and `image_size` is None.
    """
    if limit_train is not None:
        check_int("limit_train", limit_train, 1)
    check_int("memory_limit_bytes", memory_limit_bytes, 0)
    if data_dir is not None:
        check_name(data_dir)
    check_packages(name)
    if name == "digits":
        return _digits(limit_train)
    if name == "tiny_imagenet":
        return _tiny_imagenet(data_dir, limit_train, image_size or (64, 64))
    if name == "folder":
        return _folder(data_dir, limit_train, image_size)
    return _tfds(name, data_dir, limit_train, memory_limit_bytes, image_size)


def check_packages(name: str) -> None:
    """Raises `MissingPackageError` if a data set needs a package that is not installed."""
    if name not in WITHOUT_TFDS:
        require("tensorflow_datasets", f"the data set {name!r}")


def _digits(limit_train: int | None) -> LoadedData:
    import numpy as np

    from tf_prac.data.source import ArraySamples

    with np.load(pathlib.Path(__file__).with_name(DIGITS), allow_pickle=False) as file:
        pixels, labels = file["pixels"], file["labels"].astype(np.int64)
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    is_test = rank % 5 == 4
    mean, std = STATISTICS["digits"]

    def samples(selected: np.ndarray, split: str) -> ArraySamples:
        return ArraySamples(
            images[selected],
            labels[selected],
            name="digits",
            version="1",
            split=split,
            mean=mean,
            std=std,
            num_classes=10,
        )

    train = np.flatnonzero(~is_test)
    _check_limit(limit_train, len(train))
    return LoadedData(samples(train[:limit_train], "train"), samples(is_test, "test"))


def _folder(
    data_dir: str | os.PathLike | None, limit: int | None, image_size: tuple[int, int] | None
) -> LoadedData:
    from tf_prac.data.folder import FolderSamples

    allowed = "a directory with train/CLASS/FILE, and test or val likewise"
    if data_dir is None:
        raise ArgumentError("data_dir", None, allowed)
    root = pathlib.Path(data_dir).expanduser()
    if not (root / "train").is_dir():
        raise ArgumentError("data_dir", str(data_dir), allowed)
    train = FolderSamples(root / "train", image_size=image_size, limit=limit)
    _check_limit(limit, len(train))
    held_out = next((split for split in ("test", "val") if (root / split).is_dir()), None)
    if held_out is None:
        return LoadedData(train, None)
    height, width, _ = train.input_shape
    test = FolderSamples(
        root / held_out, image_size=(height, width), classes=train.classes, split=held_out
    )
    return LoadedData(train, test)


def _tiny_imagenet(
    data_dir: str | os.PathLike | None, limit: int | None, image_size: tuple[int, int]
) -> LoadedData:
    from tf_prac.data.folder import FolderSamples

    root = pathlib.Path("" if data_dir is None else data_dir).expanduser()
    if data_dir is None or not (root / "val" / VAL_ANNOTATIONS).is_file():
        allowed = f"a directory with train/CLASS/images, val/images and val/{VAL_ANNOTATIONS}"
        raise ArgumentError("data_dir", None if data_dir is None else str(data_dir), allowed)
    mean, std = STATISTICS["tiny_imagenet"]
    train = FolderSamples(
        root / "train",
        image_size=image_size,
        limit=limit,
        name="tiny_imagenet",
        mean=mean,
        std=std,
    )
    _check_limit(limit, len(train))
    test = FolderSamples(
        root / "val",
        annotations=VAL_ANNOTATIONS,
        image_size=image_size,
        classes=train.classes,
        name="tiny_imagenet",
        split="val",
        mean=mean,
        std=std,
    )
    return LoadedData(train, test)


def _tfds(
    name: str,
    data_dir: str | os.PathLike | None,
    limit_train: int | None,
    memory_limit_bytes: int,
    image_size: tuple[int, int] | None,
) -> LoadedData:
    from tf_prac.data.tfds_source import open_builder, read_split

    builder = open_builder(name, data_dir)
    splits = builder.info.splits
    if "train" not in splits:
        raise DataError(f"{name}: splits {', '.join(splits)}; allowed: a data set with train.")
    _check_limit(limit_train, splits["train"].num_examples)
    mean, std = STATISTICS.get(builder.info.name, (None, None))

    def read(split: str, limit: int | None) -> Samples:
        return read_split(
            builder,
            split,
            limit=limit,
            memory_limit_bytes=memory_limit_bytes,
            image_size=image_size,
            mean=mean,
            std=std,
        )

    held_out = next((split for split in ("test", "validation") if split in splits), None)
    return LoadedData(read("train", limit_train), read(held_out, None) if held_out else None)


def _check_limit(limit_train: int | None, size: int) -> None:
    if limit_train is not None and limit_train > size:
        raise ArgumentError("limit_train", limit_train, f"an integer from 1 to {size}")
