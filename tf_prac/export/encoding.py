"""How a pruned weight is stored: its kept values, and the gaps between them. NumPy only.

A gap is the number of pruned elements before a kept one, in the order of a flattened array. It is
written in codes of `bits` bits. The largest code stands for as many pruned elements as its value
and no kept one; any other code is a gap, with a kept element after it. With one bit this is a
bitmask. The width is chosen for each weight by itself: the widest (the quickest to decode) of those
that take hardly more than the least space. Codes never lie across octets, for the same reason.
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
class Encoded:
    """A weight as it is stored.

    Attributes:
        shape: of the weight.
        dtype: of the weight, a name such as "float32".
        storage: what the values are stored as: `dtype` itself, or one of `STORAGES`.
        values: the kept values, [kept], or all of them if `bits` is 0. bfloat16 is stored as
            the uint16 of its bits.
        bits: width of a code; 1 is a bitmask; 0 means that the weight is stored dense.
        codes: the codes, least significant bit first, uint8; filled up with largest codes.
        scale: for int8, what a value is multiplied by; float32, with the rank of the weight.
    """

    shape: tuple[int, ...]
    dtype: str
    storage: str
    values: np.ndarray
    bits: int
    codes: np.ndarray
    scale: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """Name of the encoding: "dense", "bitmask" or "gaps"."""
        return {0: "dense", 1: "bitmask"}.get(self.bits, "gaps")

    @property
    def nbytes(self) -> int:
        """Bytes of values, codes and scales."""
        return (
            self.values.nbytes
            + self.codes.nbytes
            + (0 if self.scale is None else self.scale.nbytes)
        )


def encode(
    weight: np.ndarray,
    keep: np.ndarray | None = None,
    storage: str = "float32",
    channel_axis: int = -1,
) -> Encoded:
    """Encodes a weight in the smallest way.

    Example:

        >>> encoded = encode(np.float32([0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0]))
        >>> encoded.kind, encoded.values.tolist(), encoded.bits, encoded.codes.tolist()
        ('gaps', [5.0, 7.0], 4, [146])

    Args:
        weight: any shape; floating point.
        keep: the mask, of the same shape. Default: the elements that are not 0.
        storage: what values are stored as: "float32" (exactly), "float16", "bfloat16", or "int8"
            with one scale for each channel. Weights narrower than float32 are stored exactly.
        channel_axis: the axis that has scales of its own.

    Raises:
        ArgumentError: an unknown storage, or values that it cannot hold.
    """
    check_choice("storage", storage, STORAGES)
    weight = np.asarray(weight)
    keep = weight != 0 if keep is None else np.asarray(keep, bool)
    if weight.dtype.itemsize <= 2 or (storage == "float32" and weight.dtype == np.float32):
        storage = weight.dtype.name
    elif storage == "float32":
        storage = weight.dtype.name  # float64 stays exact
    values, scale = _stored(weight, storage, channel_axis)
    kept = values.reshape(-1)[keep.reshape(-1)]
    bits, codes = _encode_positions(np.flatnonzero(keep), kept.nbytes)
    recoverable = keep.all() or (values[keep] != 0).all()
    if recoverable and values.nbytes <= kept.nbytes + codes.nbytes:
        kept, bits, codes = values.reshape(-1), 0, codes[:0]
    return Encoded(weight.shape, weight.dtype.name, storage, kept, bits, codes, scale)


def decode(encoded: Encoded) -> np.ndarray:
    """Returns the weight that `encode` was given, rounded as its storage rounds."""
    values = _restored(encoded)
    if encoded.bits == 0:
        dense = values.reshape(encoded.shape)
    else:
        flat = np.zeros(int(np.prod(encoded.shape)), values.dtype)
        flat[kept_positions(encoded)] = values
        dense = flat.reshape(encoded.shape)
    return dense if encoded.scale is None else dense * encoded.scale


def kept_mask(encoded: Encoded) -> np.ndarray:
    """Returns the mask that `encode` was given, boolean, of the weight's shape.

    A mask that prunes nothing is not stored; then it is the elements that are not 0.
    """
    if encoded.bits == 0:
        return encoded.values.reshape(encoded.shape) != 0
    mask = np.zeros(int(np.prod(encoded.shape)), bool)
    mask[kept_positions(encoded)] = True
    return mask.reshape(encoded.shape)


def kept_positions(encoded: Encoded) -> np.ndarray:
    """Returns the positions of the kept elements in the flattened weight, int64 [kept]."""
    bits = np.unpackbits(encoded.codes, bitorder="little")
    places = 1 << np.arange(encoded.bits)
    codes = bits.reshape(-1, encoded.bits).astype(np.int64) @ places
    is_kept = codes != (1 << encoded.bits) - 1
    return (np.cumsum(codes + is_kept) - 1)[is_kept]


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


def _encode_positions(positions: np.ndarray, value_bytes: int) -> tuple[int, np.ndarray]:
    """Returns the width of the codes, and the codes as octets."""
    gaps = np.diff(positions, prepend=-1) - 1
    counts = {bits: len(gaps) + int((gaps // ((1 << bits) - 1)).sum()) for bits in WIDTHS}
    octets = {bits: -(-count * bits // 8) for bits, count in counts.items()}
    least = value_bytes + min(octets.values())
    bits = max(width for width in WIDTHS if value_bytes + octets[width] <= SLACK * least)
    escape = (1 << bits) - 1
    escapes, rest = np.divmod(gaps, escape)
    codes = np.full(8 * octets[bits] // bits, escape, np.uint16)
    codes[np.cumsum(escapes + 1) - 1] = rest
    each = (codes[:, None] >> np.arange(bits, dtype=np.uint16)) & 1
    return bits, np.packbits(each.astype(bool).reshape(-1), bitorder="little")


def _stored(
    weight: np.ndarray, storage: str, channel_axis: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns all values as they are stored, and the scales of int8."""
    if storage == weight.dtype.name:
        return weight, None
    if not np.isfinite(weight).all():
        raise ArgumentError("storage", storage, "float32 for weights with NaN or infinite values")
    if storage == "int8":
        axes = tuple(a for a in range(weight.ndim) if a != channel_axis % max(weight.ndim, 1))
        scale = np.abs(weight).max(axes, keepdims=True, initial=0).astype(np.float32) / np.float32(
            127
        )
        divisor = np.where(scale == 0, np.float32(1), scale)
        return np.clip(np.rint(weight / divisor), -127, 127).astype(np.int8), scale
    if storage == "bfloat16":
        word = weight.astype(np.float32).view(np.uint32)
        rounded = word + 0x7FFF + ((word >> 16) & 1)  # to nearest, ties to even
        return (rounded >> 16).astype(np.uint16), None
    largest = np.abs(weight).max(initial=0)
    if largest > np.finfo(np.float16).max:
        raise ArgumentError(
            "storage", storage, f"bfloat16 or float32 for a weight as large as {largest:g}"
        )
    return weight.astype(np.float16), None


def _restored(encoded: Encoded) -> np.ndarray:
    if encoded.storage == encoded.dtype:
        return encoded.values
    if encoded.storage == "bfloat16":
        return (encoded.values.astype(np.uint32) << 16).view(np.float32).astype(encoded.dtype)
    return encoded.values.astype(encoded.dtype)
