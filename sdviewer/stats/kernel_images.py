"""The kernels of a convolution as small pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import UsageError
from sdviewer.stats.decode import Block, Elements, Reader
from sdviewer.stats.moments import real
from sdviewer.stats.slices import known_elements

MOST_SIDE = 64
"""Height and width up to which something is taken for a kernel."""

MOST_KERNELS = 1024
"""Kernels of one page."""

LARGEST_PAGE = 1 << 22
"""Elements of one page."""

COLOURS = 3
"""Input channels that are taken for red, green and blue."""


@dataclass(frozen=True, slots=True)
class KernelImages:
    """Kernels of a weight `(out, in, height, width)`: those of the output channels from `first` on.

    `shades` are `(kernels, height, width)` on a scale of colours (0 is -limit, 127 zero, 254 limit, 255 no number) of
    input channel `channel`, or `(kernels, height, width, 3)` of red, green and blue (127 is zero, and NaN as zero).
    `limits` is the largest magnitude of each kernel that its scale goes to, or of all kernels of the page. `dead` are
    kernels that are all zero, `odd` those with NaN or infinity; both over all that the picture shows.
    """

    first: int
    of: int
    channel: int
    channels: int
    size: tuple[int, int]
    rgb: bool
    common: bool
    dead: int
    odd: int
    limits: NDArray[np.float64]
    shades: NDArray[np.uint8]

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__[:9]} | {"size": list(self.size)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {"limits": self.limits, "shades": self.shades}


def kernel_images(
    source: ByteSource,
    layout: TensorLayout,
    *,
    first: int = 0,
    channel: int = 0,
    rgb: bool = False,
    common: bool = False,
    progress: Progress = no_progress,
) -> KernelImages:
    """One page of the kernels of a convolution; fewer than `MOST_KERNELS` where they are large.

    Each is scaled to its own largest magnitude, or all to the largest of the page (`common`). `rgb` shows the three
    input channels of a weight that has three as colours. Complex values are taken by their magnitude.

    Raises:
        UsageError: the tensor has not four dimensions, or has no such channel.
        CorruptCheckpoint: the bytes are not there.
    """
    elements, block = kernel_page(source, layout, first, channel, rgb)
    shape, (number, deep) = elements.shape, block.shape[:2]
    rgb = deep == COLOURS
    reader = Reader(source, layout)
    progress(0, 1)
    values = real(reader.values(block))
    progress(1, 1)
    finite = np.isfinite(values)
    sizes = np.where(finite, np.abs(values), 0.0).max(axis=(1, 2, 3))
    limits = np.full(number, sizes.max()) if common else sizes
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip(values / np.where(limits > 0, limits, 1.0)[:, None, None, None], -1.0, 1.0) * 127 + 127
    blank = 127.0 if rgb else 255.0
    shades = np.where(np.isnan(values), blank, np.rint(scaled)).astype(np.uint8)
    shades = np.moveaxis(shades, 1, 3) if rgb else shades[:, 0]
    odd = int((~finite).any(axis=(1, 2, 3)).sum())
    dead = int((values == 0).all(axis=(1, 2, 3)).sum())
    size = (shape[2], shape[3])
    return KernelImages(
        first, shape[0], channel, shape[1], size, rgb, common, dead, odd, limits, np.ascontiguousarray(shades)
    )


def kernel_page(
    source: ByteSource, layout: TensorLayout, first: int, channel: int, rgb: bool
) -> tuple[Elements, Block]:
    """All of a tensor, and where the kernels of one page lie in it, `(kernels, inputs, height, width)`.

    Raises:
        UsageError: the tensor has not four dimensions, or has no such channel.
    """
    elements = known_elements(source, layout)
    shape = elements.shape
    if len(shape) != 4 or 0 in shape or max(shape[2:]) > MOST_SIDE:
        raise UsageError(f"a tensor of shape {layout.shape} does not hold kernels")
    rgb = rgb and shape[1] == COLOURS
    if not (0 <= channel < shape[1] and 0 <= first < shape[0]):
        raise UsageError(f"a tensor of shape {layout.shape} has no kernel [{first}, {channel}]")
    deep = COLOURS if rgb else 1
    area = deep * shape[2] * shape[3]
    number = min(MOST_KERNELS, max(1, LARGEST_PAGE // area), shape[0] - first)
    offset = elements.offset + first * elements.stride[0] + (0 if rgb else channel) * elements.stride[1]
    return elements, Block(offset, (number, deep, *shape[2:]), elements.stride)
