"""`FolderSamples`: images in class folders, of which only the requested files are read."""

from __future__ import annotations

import hashlib
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_int
from tf_prac.data.order import on_cpu
from tf_prac.data.source import DatasetIdentity, Samples
from tf_prac.errors import ArgumentError, DataError

SUFFIXES = (".jpeg", ".jpg", ".jfif", ".png", ".bmp", ".gif", ".webp")
UNREADABLE = (".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".ppm", ".tga")
WHOLE = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND\xae\x42\x60\x82", b"GIF8": b";"}
"""The first and last bytes of images."""
COLOR_ONLY = r"(?i).*\.(bmp|gif|webp)"  # formats that TensorFlow does not decode to grayscale


class FolderSamples(Samples):
    """Images in `directory/CLASS/**/FILE`: JPEG, PNG, WebP, BMP, or the first frame of a GIF.

    Class numbers follow the sorted folder names. Samples alternate between classes: the first file
    of each class (by sorted path), then the second of each, and so on. So the first n samples, and
    the last ten percent, have all classes in equal numbers.

    Example:

        >>> samples = FolderSamples("tiny-imagenet/train", image_size=(64, 64))  # doctest: +SKIP
        >>> samples.classes[:2]
        ('n01443537', 'n01629819')

    Args:
        directory: contains the class folders.
        image_size: (height, width) that every image is resized to (bilinear, antialiased, the
            aspect ratio is not kept). Default: no resizing; all files are then decoded once to
            check that they have the same size. With a size, only those are whose first or last
            bytes are not those of a whole image.
        channels: 3 for color (default) or 1 for grayscale.
        classes: folder names in the order of the class numbers, such as those of the training
            set; other folders are refused. Default: the sorted folder names.
        annotations: name of a file in `directory`. Each line starts with the name of a file in
            `directory/images` and its class, as in the validation set of Tiny-ImageNet; samples
            are in the order of the lines. Default: class folders.
        limit: keep only the first `limit` samples. Default: all.
        name: name for `identity`. Default "folder".
        version: version for `identity`. Default "".
        split: split for `identity`. Default "train".
        mean: per-channel mean of the images scaled to [0, 1]. Default: no normalization.
        std: per-channel standard deviation of the same images.
        rescale: whether images are scaled to [0, 1] for the model. Default True.

    Attributes:
        classes: tuple of class names.
        paths: path of each sample relative to `directory`, in the order of the ids.

    Raises:
        ArgumentError: If the directory cannot be read, or an option is invalid.
        DataError: If there are no class folders or no images, or a file cannot be decoded, has
            another size or is an image of another format, such as TIFF.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        image_size: tuple[int, int] | None = None,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        annotations: str | None = None,
        limit: int | None = None,
        name: str = "folder",
        version: str = "",
        split: str = "train",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        rescale: bool = True,
    ):
        root = pathlib.Path(directory).expanduser()
        self._size, self._channels = _check_size(image_size), channels
        if channels not in (1, 3):
            raise ArgumentError("channels", channels, "1 or 3")
        if annotations is None:
            class_names = _class_names(root, classes)
            files = _alternating_files(root, class_names)
        else:
            class_names, files = _annotated_files(root, annotations, classes)
        if limit is not None:
            check_int("limit", limit, 1)
            files = files[:limit]
        self.paths = tuple(path for path, _ in files)
        self._files = on_cpu([str(root / path) for path in self.paths])
        labels = np.array([label for _, label in files])
        shape = self._size or self._common_size()
        if self._size is not None:
            self._check_files(root)
        super().__init__(
            identity=DatasetIdentity(name, version, split, len(files), _order_hash(root, files)),
            labels=labels,
            num_classes=len(class_names),
            input_shape=(*shape, channels),
            mean=mean,
            std=std,
            classes=class_names,
            rescale=rescale,
        )
        self._all_labels = on_cpu(self.labels)

    @property
    def input_dtype(self) -> tf.DType:
        """Images are decoded to uint8."""
        return tf.uint8

    def _read(self, order: tf.data.Dataset, ids: np.ndarray) -> tf.data.Dataset:
        output = tf.TensorSpec(self.input_shape, tf.uint8)

        def fetch(i: tf.Tensor) -> Any:
            files = tf.gather(self._files, i)
            images = tf.map_fn(self._decode, files, fn_output_signature=output)
            return {"inputs": images, "sample_id": i}, tf.gather(self._all_labels, i)

        return order.map(fetch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _decode(self, file: tf.Tensor) -> tf.Tensor:
        content = tf.io.read_file(file)

        def decode(channels: int) -> tf.Tensor:
            return tf.io.decode_image(content, channels=channels, expand_animations=False)

        if self._channels == 3:
            image = decode(3)
        else:
            image = tf.cond(
                tf.strings.regex_full_match(file, COLOR_ONLY),
                lambda: tf.image.rgb_to_grayscale(decode(3)),
                lambda: decode(1),
            )
        return resized(image, self._size)

    def _check_files(self, root: pathlib.Path) -> None:
        """Raises `DataError` for a file that is no image, or not a whole one."""
        for path in self.paths:
            if not _looks_whole(root / path):
                try:
                    self._decode(tf.constant(str(root / path)))
                except tf.errors.OpError as error:
                    raise DataError(f"{path}: not a readable image.") from error

    def _common_size(self) -> tuple[int, int]:
        files = tf.data.Dataset.from_tensor_slices(self._files)
        sizes = files.map(
            lambda file: tf.shape(self._decode(file))[:2],
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        checked: list[tuple[int, int]] = []
        try:
            for height, width in sizes.as_numpy_iterator():
                checked.append((int(height), int(width)))
                if checked[-1] != checked[0]:
                    raise DataError(
                        f"{self.paths[len(checked) - 1]}: size {checked[-1]} received, unlike "
                        f"{checked[0]} of {self.paths[0]}. Pass image_size=(height, width)."
                    )
        except tf.errors.OpError as error:
            raise DataError(f"{self.paths[len(checked)]}: not a readable image.") from error
        return checked[0]


def resized(image: tf.Tensor, size: tuple[int, int] | None) -> tf.Tensor:
    """Returns an image of another size and the same dtype: bilinear, antialiased.

    Args:
        image: [height, width, channels]; integers are rounded.
        size: (height, width); None to keep the size.
    """
    if size is None:
        return image
    values = tf.image.resize(image, size, antialias=True)
    return tf.saturate_cast(tf.round(values) if image.dtype.is_integer else values, image.dtype)


def _looks_whole(path: pathlib.Path) -> bool:
    """Whether a file starts and ends as an image does; others may still be readable."""
    try:
        with open(path, "rb") as file:
            start, size = file.read(12), file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            end = file.read()
    except OSError:
        return False
    if start.startswith(b"BM"):
        return int.from_bytes(start[2:6], "little") <= size
    if start.startswith(b"RIFF"):  # WebP
        return int.from_bytes(start[4:8], "little") + 8 <= size
    return any(start.startswith(first) and end.endswith(last) for first, last in WHOLE.items())


def _check_size(image_size: tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
        raise ArgumentError("image_size", image_size, "(height, width)")
    for size in image_size:
        check_int("image_size", size, 1)
    return int(image_size[0]), int(image_size[1])


def _class_names(root: pathlib.Path, expected: Sequence[str] | None) -> tuple[str, ...]:
    try:
        folders = sorted(
            entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArgumentError("directory", str(root), f"a readable directory ({reason})") from error
    if not folders:
        raise DataError(f"{root}: no class folders; allowed: images in {root}/CLASS/.")
    unknown = sorted(set(folders) - set(folders if expected is None else expected))
    if unknown:
        raise DataError(
            f"{root}: class folder {unknown[0]!r} is not among the classes of training."
        )
    return tuple(folders if expected is None else expected)


def _alternating_files(root: pathlib.Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Returns (relative path, label): the first file of each class, then the second, and so on."""
    columns = []
    for label, name in enumerate(classes):
        paths = [path for path in sorted((root / name).rglob("*")) if path.is_file()]
        _refuse_unreadable(paths)
        images = [path for path in paths if path.suffix.lower() in SUFFIXES]
        columns.append(
            [(path, label) for path in sorted(p.relative_to(root).as_posix() for p in images)]
        )
    interleaved = itertools.chain.from_iterable(itertools.zip_longest(*columns))
    files = [file for file in interleaved if file is not None]
    if not files:
        raise DataError(f"{root}: no images in its class folders; allowed: {', '.join(SUFFIXES)}.")
    return files


def _refuse_unreadable(paths: Sequence[pathlib.Path]) -> None:
    """Raises `DataError` if there are images of other formats, which would be left out."""
    unreadable = [path for path in paths if path.suffix.lower() in UNREADABLE]
    if unreadable:
        others = f" and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        raise DataError(
            f"{unreadable[0]}{others}: not a readable image format; "
            f"allowed: {', '.join(SUFFIXES)}. Convert them, for example to PNG."
        )


def _annotated_files(
    root: pathlib.Path, annotations: str, expected: Sequence[str] | None
) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """Returns the class names, and (relative path, label) in the order of the lines."""
    try:
        lines = (root / annotations).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{root / annotations}: cannot be read: {error}.") from error
    pairs = [line.split()[:2] for line in lines if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise DataError(f"{root / annotations}: allowed: lines that start with a file and a class.")
    classes = tuple(sorted({name for _, name in pairs}) if expected is None else expected)
    labels = {name: label for label, name in enumerate(classes)}
    files = []
    for file, name in pairs:
        if name not in labels:
            raise DataError(
                f"{root / annotations}: class {name!r} is not among the classes of training."
            )
        if not (root / "images" / file).is_file():
            raise DataError(f"{root / 'images' / file}: no such image; {annotations} names it.")
        files.append((f"images/{file}", labels[name]))
    return classes, files


def _order_hash(root: pathlib.Path, files: Sequence[tuple[str, int]]) -> str:
    digest = hashlib.sha256()
    for path, label in files:
        digest.update(f"{path}\t{(root / path).stat().st_size}\t{label}\n".encode())
    return digest.hexdigest()
