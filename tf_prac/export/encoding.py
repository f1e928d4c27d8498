"""How pruned weights are stored: their kept values, and the gaps between them. NumPy only.

Weights that are stored alike are laid in a row and packed together. A gap is the number of pruned
elements before a kept one, in the order of that row. It is written in codes of `bits` bits. The
largest code stands for as many pruned elements as its value and no kept one; any other code is a
gap, with a kept element after it. With one bit this is a bitmask. The width is the widest (the
quickest to decode) of those that take hardly more than the least space. Codes never lie across
octets, for the same reason.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tf_prac.checks import check_choice
from tf_prac.errors import ArgumentError

STORAGES = ("float32", "float16", "bfloat16", "int8")
WIDTHS = (1, 2, 4, 8, 16)
SLACK = 1.02  # of the least space of values and codes, for quicker decoding


@dataclasses.dataclass(frozen=True)
class Stored:
    """A weight whose values are rounded to what is stored; its zeros are still there.

    Attributes:
        dtype: of the weight, a name such as "float32".
        storage: what the values are stored as: `dtype` itself, or one of `STORAGES`.
        values: of the weight's shape. bfloat16 is stored as the uint16 of its bits.
        scale: for int8, what a value is multiplied by; float32, with the rank of the weight.
    """

    dtype: str
    storage: str
    values: np.ndarray
    scale: np.ndarray | None = None

    def restored(self) -> np.ndarray:
        """Returns the weight, rounded as its storage rounds."""
        values = self.values
        if self.storage == "bfloat16" != self.dtype:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(self.dtype, copy=False)
        return values if self.scale is None else values * self.scale


@dataclasses.dataclass(frozen=True)
class Packed:
    """A row of values without those that are pruned.

    Attributes:
        size: of the row.
        values: the kept values, [kept], or all of them if `bits` is 0.
        bits: width of a code; 1 is a bitmask; 0 means that the row is stored dense.
        codes: the codes, least significant bit first, uint8; filled up with largest codes.
    """

    size: int
    values: np.ndarray
    bits: int
    codes: np.ndarray

    @property
    def kind(self) -> str:
        """Name of the encoding: "dense", "bitmask" or "gaps"."""
        return {0: "dense", 1: "bitmask"}.get(self.bits, "gaps")

    @property
    def nbytes(self) -> int:
        """Bytes of values and codes."""
        return self.values.nbytes + self.codes.nbytes


def store(weight: np.ndarray, storage: str = "float32", channel_axis: int = -1) -> Stored:
    """Rounds a weight to what is stored of it.

    Args:
        weight: any shape; floating point.
        storage: what values are stored as: "float32" (exactly), "float16", "bfloat16", or "int8"
            with one scale for each channel. Weights narrower than float32, and float64 where
            "float32" is asked for, are stored exactly.
        channel_axis: the axis that has scales of its own.

    Raises:
        ArgumentError: an unknown storage, or values that it cannot hold.
    """
    check_choice("storage", storage, STORAGES)
    weight = np.asarray(weight)
    dtype = weight.dtype.name
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
    """Leaves the pruned elements of a row out.

    Example:

        >>> packed = pack(np.float32([0, 0, 5, 0, 7]), np.array([0, 0, 1, 0, 1], bool))
        >>> packed.values.tolist(), packed.bits, packed.codes.tolist()
        ([5.0, 7.0], 4, [18])

    Args:
        values: [size], what `store` gives, in a row.
        keep: boolean, [size].
        dense: stores all elements instead; the mask is then lost, but for zeros.
    """
    if dense:
        return Packed(values.size, values, 0, np.zeros(0, np.uint8))
    kept = values[keep]
    gaps = _gaps(keep)
    octets = _octets(gaps)
    least = kept.nbytes + min(octets.values())
    bits = max(width for width in WIDTHS if kept.nbytes + octets[width] <= SLACK * least)
    escape = (1 << bits) - 1
    escapes, rest = np.divmod(gaps, escape)
    codes = np.full(8 * octets[bits] // bits, escape, np.uint16)
    codes[np.cumsum(escapes + 1) - 1] = rest
    each = (codes[:, None] >> np.arange(bits, dtype=np.uint16)) & 1
    return Packed(values.size, kept, bits, np.packbits(each.astype(bool), bitorder="little"))


def unpack(packed: Packed) -> tuple[np.ndarray, np.ndarray]:
    """Returns the row and the mask that `pack` was given.

    A row that is stored dense has no mask; then it is the elements that are not 0.

    Raises:
        ValueError: codes and values that do not belong together.
    """
    if packed.bits == 0:
        return packed.values, packed.values != 0
    bits = np.unpackbits(packed.codes, bitorder="little").reshape(-1, packed.bits)
    codes = bits.astype(np.int64) @ (1 << np.arange(packed.bits))
    is_kept = codes != (1 << packed.bits) - 1
    positions = (np.cumsum(codes + is_kept) - 1)[is_kept]
    if positions.size != packed.values.size or positions.max(initial=-1) >= packed.size:
        raise ValueError("codes do not fit the values")
    keep = np.zeros(packed.size, bool)
    keep[positions] = True
    row = np.zeros(packed.size, packed.values.dtype)
    row[positions] = packed.values
    return row, keep


def is_better_dense(values: np.ndarray, keep: np.ndarray) -> bool:
    """Whether a weight takes less space with its zeros, and its mask can still be told."""
    kept = values[keep]
    if not keep.all() and not kept.all():
        return False
    return values.nbytes <= kept.nbytes + min(_octets(_gaps(keep)).values())


def information_bound(size: int, kept: int, value_bytes: int) -> float:
    """Returns the bytes that `kept` values and the entropy of their positions take.

    The positions are those of independent draws: size * H(kept / size) bits, with H the binary
    entropy.

    Example:

        >>> information_bound(size=800, kept=400, value_bytes=4)
        1700.0
    """
    density = kept / size if size else 0.0
    entropy = -sum(p * np.log2(p) for p in (density, 1 - density) if p > 0)
    return float(kept * value_bytes + size * entropy / 8)


def code_bytes(keep: np.ndarray, bits: int) -> int:
    """Returns the bytes of the codes of a weight by itself."""
    return _octets(_gaps(keep))[bits]


def _gaps(keep: np.ndarray) -> np.ndarray:
    return np.diff(np.flatnonzero(keep), prepend=-1) - 1


def _octets(gaps: np.ndarray) -> dict[int, int]:
    """The octets that codes of each width take."""
    counts = {bits: len(gaps) + int((gaps // ((1 << bits) - 1)).sum()) for bits in WIDTHS}
    return {bits: -(-count * bits // 8) for bits, count in counts.items()}
