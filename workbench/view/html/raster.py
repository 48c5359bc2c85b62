"""Small pictures made of cells, as PNG data URLs: an image is what an untrusted notebook keeps of a drawing.

Palette entries carry alpha, so one picture stands on a light and on a dark ground.
"""

from __future__ import annotations

import base64
import struct
import zlib
from functools import lru_cache

import numpy as np

from workbench.view.palette import LEVELS, NEGATIVE, POSITIVE, STRONGEST
from workbench.view.payload.heat import ABSENT, BEYOND, DROPPED, UNKNOWN, UNTRAINED, ZERO

DOTS = 2  # dots of the picture a CSS pixel, for sharp screens
CLEAR, LINE, HATCHED, FAINT = 0, 2 * LEVELS + 1, 2 * LEVELS + 2, 2 * LEVELS + 3
THIN = 6  # dots: a line through a cell this low fills much of it, and is drawn fainter


def png(dots: np.ndarray, colours: list[tuple[int, int, int, int]]) -> bytes:
    """Encode a picture of palette colours as PNG.

    Args:
        dots: uint8 [height, width], a place in `colours`.
        colours: red, green, blue, alpha, each 0 to 255; at most 256.

    Example:
        >>> png(np.zeros((1, 1), np.uint8), [(0, 0, 0, 0)])[:8]
        b'\\x89PNG\\r\\n\\x1a\\n'
    """
    height, width = dots.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), dots], axis=1).tobytes()
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(channel for colour in colours for channel in colour[:3])),
        (b"tRNS", bytes(colour[3] for colour in colours)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def data_url(dots: np.ndarray) -> str:
    """Return a picture in the colours of credit as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png(dots, _colours())).decode()


@lru_cache(maxsize=1)
def _colours() -> list[tuple[int, int, int, int]]:
    def wash(rgb: str, step: int) -> tuple[int, int, int, int]:
        red, green, blue = map(int, rgb.split(","))
        return red, green, blue, round(255 * STRONGEST * step / LEVELS)

    steps = range(1, LEVELS + 1)
    washes = [wash(NEGATIVE, step) for step in steps] + [wash(POSITIVE, step) for step in steps]
    grey = [(128, 128, 128, round(255 * alpha)) for alpha in (0.8, 0.45, 0.16)]
    return [(0, 0, 0, 0), *washes, *grey]


def tile(code: int, width: int, height: int) -> np.ndarray:
    """Draw one cell -> uint8 [height, width] in dots.

    Zero is a line along the foot, unknown is hatched, dropped is a dashed line through the middle, not trained is faint
    grey, and what lies beyond the scale lacks a corner. A dot of air separates cells that are wide enough.
    """
    out = np.zeros((height, width), np.uint8)
    across, down = (slice(0, width - 2) if width >= 8 else slice(None)), slice(0, height - 1 if height >= 6 else height)
    inner = out[down, across]
    y, x = np.indices(inner.shape)
    line = LINE if height > THIN else HATCHED
    if code == UNKNOWN:
        inner[(x + y) % 6 < 2] = HATCHED
    elif code == ZERO:
        inner[-min(2, len(inner)) :, :] = line
    elif code == DROPPED:
        middle = (len(inner) - 1) // 2
        inner[middle : middle + 2, :][(x[middle : middle + 2] // 2) % 2 == 0] = line
    elif code == UNTRAINED:
        inner[:] = FAINT
    elif code != ABSENT:
        step = min(abs(code), LEVELS)
        inner[:] = step if code < 0 else LEVELS + step
        if abs(code) == BEYOND:
            corner = min(8, *inner.shape)
            inner[y + (inner.shape[1] - 1 - x) < corner] = CLEAR
    return out


def raster(codes: np.ndarray, width: int, height: int, breaks: list[int] | None = None) -> np.ndarray:
    """Draw cells side by side -> uint8 [lines * height, columns * width] in dots.

    Args:
        codes: int8 [lines, columns].
        width, height: of a cell, in dots.
        breaks: lines above which a rule is drawn.
    """
    known, at = np.unique(codes, return_inverse=True)
    tiles = np.stack([tile(int(code), width, height) for code in known]) if len(known) else np.zeros((1, height, width))
    lines, columns = codes.shape
    dots = tiles[at.reshape(codes.shape)].transpose(0, 2, 1, 3).reshape(lines * height, columns * width)
    dots = dots.astype(np.uint8)
    for line in breaks or []:
        dots[line * height - 1, :] = LINE
    return dots


def bars(values: list[float | None], width: int, height: int, breaks: list[int] | None = None) -> np.ndarray:
    """Draw a bar a line from the left, its length the value's place between 0 (or the least) and the largest.

    A value that is not known is hatched. Equal heights as `raster`, so that both stand side by side.
    """
    known = [v for v in values if v is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    dots = np.zeros((len(values) * height, width), np.uint8)
    dots[:, 0] = FAINT
    for i, value in enumerate(values):
        if value is None:
            dots[i * height : (i + 1) * height] = tile(UNKNOWN, width, height)
            continue
        long = round((width - 4) * (value - low) / (high - low)) if high > low else 0
        dots[i * height : (i + 1) * height - (1 if height >= 6 else 0), 0 : max(2, long)] = HATCHED
    for line in breaks or []:
        dots[line * height - 1, :] = LINE
    return dots
