"""How weights are stored: kept values, the gaps between them, and their compression. NumPy only.

Weights of the same type are flattened, concatenated into one vector and packed together. A gap is
the number of pruned elements before a kept one. Gaps are written as codes of `bits` bits. The
largest code stands for that many pruned elements, without a kept element after them; any other code
is a gap that is followed by a kept element. With one bit this is a bitmask. Among the widths whose
size is at most `SLACK` times the smallest, the widest is used, because it decodes fastest. For the
same reason no code crosses a byte boundary.

Arrays are then compressed by zlib, the bytes of all elements with the same position together:
exponents of weights repeat, mantissas do not.
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from tf_prac.checks import check_choice
from tf_prac.errors import ArgumentError
from tf_prac.storage.files import MAX_RATIO

STORAGES = ("float32", "float16", "bfloat16", "int8")
WIDTHS = (1, 2, 4, 8, 16)
SLACK = 1.02  # size allowed for faster decoding, relative to the smallest
MAX_TRAILING = 2**26  # pruned elements after the last code
PLAIN = ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")
"""Types of weights that are not pruned which are packed together; others are plain variables."""
_ROUNDED = ("float16", "bfloat16", "float32", "float64")  # may have a narrower storage type
_STORED_AS = {"bfloat16": "uint16"}
DATA = "data"  # name of the variable of all compressed arrays, a vector of strings
_LEVEL = 9


@dataclasses.dataclass(frozen=True)
class Stored:
    """A weight rounded to its storage type, zeros included.

    Attributes:
        dtype: name of the weight's type, such as "float32".
        storage: storage type: `dtype` itself, or one of `STORAGES`.
        values: the stored values, in the weight's shape; bfloat16 as uint16 with the same bits.
        scale: for int8, the factor of the values; float32, with the rank of the weight.
    """

    dtype: str
    storage: str
    values: np.ndarray
    scale: np.ndarray | None = None

    def check(self) -> None:
        """Raises `ValueError` unless the types agree with those that `store` returns."""
        if self.dtype not in PLAIN or self.storage not in (self.dtype, *STORAGES):
            raise ValueError(f"unknown type {self.dtype!r} or storage {self.storage!r}")
        exact = self.storage == self.dtype
        if not exact and self.dtype not in _ROUNDED:
            raise ValueError(f"{self.dtype} is not stored as {self.storage}")
        expected = self.storage if exact else _STORED_AS.get(self.storage, self.storage)
        scaled = self.storage == "int8" and not exact
        if self.values.dtype.name != expected or (self.scale is not None) != scaled:
            raise ValueError(f"values of type {self.values.dtype} are not stored as {self.storage}")
        if self.scale is not None:
            axes = zip(self.scale.shape, self.values.shape, strict=True)
            if self.scale.dtype != np.float32 or any(a not in (1, b) for a, b in axes):
                raise ValueError(f"a scale of shape {self.scale.shape} and {self.scale.dtype}")

    def restored(self) -> np.ndarray:
        """Returns the weight in its own type, with the rounding of its storage."""
        values = self.values
        if self.storage == "bfloat16" != self.dtype:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(self.dtype, copy=False)
        return values if self.scale is None else values * self.scale


@dataclasses.dataclass(frozen=True)
class Packed:
    """A vector of values without its pruned elements.

    Attributes:
        size: number of elements of the vector.
        values: the kept values, [kept], or all values if `bits` is 0.
        bits: width of a code in bits; 1 is a bitmask, 0 means that the vector is stored dense.
        codes: the codes, uint8, least significant bit first; padded with the largest code.
    """

    size: int
    values: np.ndarray
    bits: int
    codes: np.ndarray

    @property
    def kind(self) -> str:
        """The name of the encoding: "dense", "bitmask" or "gaps"."""
        return {0: "dense", 1: "bitmask"}.get(self.bits, "gaps")

    @property
    def nbytes(self) -> int:
        """The size of values and codes in bytes."""
        return self.values.nbytes + self.codes.nbytes


def store(
    weight: np.ndarray, storage: str = "float32", channel_axis: int = -1, exact: bool = False
) -> Stored:
    """Rounds a weight to its storage type.

    Args:
        weight: floating-point array of any shape.
        storage: "float32" (exact, but for the sign of zeros), "float16", "bfloat16", or "int8" with
            one scale per channel. Weights narrower than float32, and float64 with "float32", are
            stored exactly.
            Default "float32".
        channel_axis: the axis of the channels, for "int8". Default -1.
        exact: whether to store the weight in its own type instead. Default False.

    Raises:
        ArgumentError: If the storage is unknown, or cannot represent the values.
    """
    weight = np.asarray(weight)
    dtype = weight.dtype.name
    if exact:
        return Stored(dtype, dtype, weight)
    check_choice("storage", storage, STORAGES)
    weight = weight + weight.dtype.type(0)  # -0.0, as in kernel * mask, becomes 0.0
    if weight.dtype.itemsize <= 2 or storage == "float32":
        return Stored(dtype, dtype, weight)
    if not np.isfinite(weight).all():
        raise ArgumentError("storage", storage, "float32 for weights with NaN or infinite values")
    if storage == "int8":
        axes = tuple(a for a in range(weight.ndim) if a != channel_axis % max(weight.ndim, 1))
        scale = np.abs(weight).max(axes, keepdims=True, initial=0).astype(np.float32) / np.float32(
            127
        )
        divisor = np.where(scale == 0, np.float32(1), scale)
        values = np.clip(np.rint(weight / divisor), -127, 127).astype(np.int8)
        return Stored(dtype, storage, values, scale)
    if storage == "bfloat16":
        word = weight.astype(np.float32).view(np.uint32)
        rounded = word + 0x7FFF + ((word >> 16) & 1)  # to nearest, ties to even
        return Stored(dtype, storage, (rounded >> 16).astype(np.uint16))
    largest = np.abs(weight).max(initial=0)
    if largest > np.finfo(np.float16).max:
        raise ArgumentError(
            "storage", storage, f"bfloat16 or float32 for a weight as large as {largest:g}"
        )
    return Stored(dtype, storage, weight.astype(np.float16))


def pack(values: np.ndarray, keep: np.ndarray, dense: bool = False) -> Packed:
    """Packs a vector without its pruned elements.

    Example:

        >>> packed = pack(np.float32([0, 0, 5, 0, 7]), np.array([0, 0, 1, 0, 1], bool))
        >>> packed.values.tolist(), packed.bits, packed.codes.tolist()
        ([5.0, 7.0], 4, [18])

    Args:
        values: [size], the values of `Stored` weights, flattened and concatenated.
        keep: bool [size], the mask.
        dense: store all elements. The mask is then not stored; zeros count as pruned.
            Default False.
    """
    if dense:
        return Packed(values.size, values, 0, np.zeros(0, np.uint8))
    kept = values[keep]
    gaps = _gaps(keep)
    nbytes = _bytes_by_width(gaps)
    least = kept.nbytes + min(nbytes.values())
    bits = max(width for width in WIDTHS if kept.nbytes + nbytes[width] <= SLACK * least)
    escape = (1 << bits) - 1
    escapes, rest = np.divmod(gaps, escape)
    trailing = keep.size - 1 - int(np.flatnonzero(keep).max(initial=-1))
    extra = -(-trailing // escape) if trailing > MAX_TRAILING else 0
    size = nbytes[bits] + -(-extra * bits // 8)
    codes = np.full(8 * size // bits, escape, np.uint16)
    codes[np.cumsum(escapes + 1) - 1] = rest
    code_bits = (codes[:, None] >> np.arange(bits, dtype=np.uint16)) & 1
    packed_codes = np.packbits(code_bits.astype(bool), bitorder="little")
    return Packed(values.size, kept, bits, packed_codes)


def unpack(packed: Packed) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vector (pruned elements are 0) and its mask: the inverse of `pack`.

    The mask of a vector that is stored dense is its non-zero elements.

    Raises:
        ValueError: If codes and values do not match, or the size is larger than the codes can
            describe, with at most `MAX_TRAILING` pruned elements after the last one.
    """
    if packed.bits == 0:
        if packed.size != packed.values.size:
            raise ValueError(f"{packed.values.size} values, and {packed.size} declared")
        return packed.values, packed.values != 0
    if packed.bits not in WIDTHS or packed.codes.dtype != np.uint8:
        raise ValueError(f"codes of {packed.bits} bits, in {packed.codes.dtype}")
    reach = packed.codes.size * 8 // packed.bits * ((1 << packed.bits) - 1)
    if packed.size > reach + MAX_TRAILING:
        raise ValueError(f"{packed.size:,} elements declared, its codes describe {reach:,}")
    bits = np.unpackbits(packed.codes, bitorder="little").reshape(-1, packed.bits)
    codes = bits.astype(np.int64) @ (1 << np.arange(packed.bits))
    is_kept = codes != (1 << packed.bits) - 1
    positions = (np.cumsum(codes + is_kept) - 1)[is_kept]
    if positions.size != packed.values.size or positions.max(initial=-1) >= packed.size:
        raise ValueError("codes do not match the values")
    keep = np.zeros(packed.size, bool)
    keep[positions] = True
    vector = np.zeros(packed.size, packed.values.dtype)
    vector[positions] = packed.values
    return vector, keep


def is_smaller_dense(values: np.ndarray, keep: np.ndarray) -> bool:
    """Whether a weight is smaller when stored dense, and its zeros determine its mask."""
    kept = values[keep]
    if not keep.all() and not kept.all():
        return False
    return values.nbytes <= kept.nbytes + min(_bytes_by_width(_gaps(keep)).values())


def information_bound(size: int, kept: int, value_bytes: int) -> float:
    """Returns the bytes of `kept` values plus the entropy of their positions.

    The entropy assumes that positions are independent: size * H(kept / size) bits, where H is the
    binary entropy.

    Example:

        >>> information_bound(size=800, kept=400, value_bytes=4)
        1700.0
    """
    density = kept / size if size else 0.0
    entropy = -sum(p * np.log2(p) for p in (density, 1 - density) if p > 0)
    return float(kept * value_bytes + size * entropy / 8)


def code_bytes(keep: np.ndarray, bits: int) -> int:
    """Returns the bytes of the codes of one weight, packed separately."""
    return _bytes_by_width(_gaps(keep))[bits]


def _gaps(keep: np.ndarray) -> np.ndarray:
    return np.diff(np.flatnonzero(keep), prepend=-1) - 1


def _bytes_by_width(gaps: np.ndarray) -> dict[int, int]:
    """The bytes of the codes, by width in bits."""
    counts = {bits: len(gaps) + int((gaps // ((1 << bits) - 1)).sum()) for bits in WIDTHS}
    return {bits: -(-count * bits // 8) for bits, count in counts.items()}


def compress(array: np.ndarray) -> bytes:
    """Compresses an array: its bytes by position in an element, by zlib.

    Example:

        >>> decompress(compress(np.float32([1, 2])), "float32", 2).tolist()
        [1.0, 2.0]
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    planes = flat.view(np.uint8).reshape(flat.size, flat.dtype.itemsize).T
    return zlib.compress(planes.tobytes(), _LEVEL)


def decompress(data: bytes, dtype: str, size: int) -> np.ndarray:
    """Returns the array that `compress` was given, flattened.

    Args:
        data: the compressed bytes.
        dtype: the type of the array.
        size: its number of elements.

    Raises:
        ValueError: If the data is damaged, or has another size.
    """
    item = _dtype(dtype)
    nbytes = size * item.itemsize
    if nbytes > MAX_RATIO * len(data):
        raise ValueError(f"{nbytes:,} bytes declared in {len(data):,} compressed ones")
    decoder = zlib.decompressobj()
    try:
        raw = decoder.decompress(data, nbytes + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(raw) != nbytes or not decoder.eof or decoder.unused_data:
        raise ValueError(f"{len(raw):,} bytes, and {nbytes:,} declared")
    planes = np.frombuffer(raw, np.uint8).reshape(item.itemsize, size)
    return np.ascontiguousarray(planes.T).reshape(-1).view(item)


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes  # NumPy has no bfloat16

        return np.dtype(ml_dtypes.bfloat16)
    if name not in (*PLAIN, "uint16"):
        raise ValueError(f"the type {name}")
    return np.dtype(name)
