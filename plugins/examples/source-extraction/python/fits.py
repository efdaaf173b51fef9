"""Reads the first image of a FITS file."""

import math
import sys
from array import array
from collections.abc import Iterator
from math import prod

BLOCK = 2880
CARD = 80
# BITPIX -> the letter that `array` has for it.
TYPES = {8: "B", 16: "h", 32: "i", 64: "q", -32: "f", -64: "d"}

# Row by row, as in the file. Blank pixels are NaN.
Rows = list[array]


class Malformed(ValueError):
    """The bytes are not a FITS file that can be read."""


class NoImage(ValueError):
    """No unit of the file holds an uncompressed image of two axes."""


def read(file: bytes) -> Rows:
    if not file.startswith(b"SIMPLE  ="):
        raise Malformed("the file does not begin with SIMPLE")
    for header, data in units(file):
        axes = sizes(header)
        is_image = header.get("XTENSION", "IMAGE") == "IMAGE"
        if is_image and len(axes) >= 2 and prod(axes) == axes[0] * axes[1] > 0:
            return rows(header, data)
    raise NoImage("no unit of the file holds an uncompressed 2-d image")


def units(file: bytes) -> Iterator[tuple[dict, memoryview]]:
    """Each header with the data that belong to it."""
    offset = 0
    while offset < len(file):
        header, offset = read_header(file, offset)
        length = prod(sizes(header)) if header.get("NAXIS") else 0
        length = (length + header.get("PCOUNT", 0)) * header.get("GCOUNT", 1)
        length *= abs(header.get("BITPIX", 0)) // 8
        if not 0 <= length <= max(len(file) - offset, 0):
            raise Malformed("the file ends before its data")
        yield header, memoryview(file)[offset : offset + length]
        offset += math.ceil(length / BLOCK) * BLOCK


def read_header(file: bytes, offset: int) -> tuple[dict, int]:
    """The keywords of the header at `offset`, and where the data behind it begin."""
    header = {}
    for at in range(offset, len(file) - CARD + 1, CARD):
        card = file[at : at + CARD].decode("ascii", "replace")
        if card.startswith("END "):
            return header, (at // BLOCK + 1) * BLOCK
        if card[8:10] == "= ":
            header[card[:8].rstrip()] = value(card[10:])
    raise Malformed("a header has no END")


def value(text: str) -> str | int | float | None:
    """What stands in a card before its comment."""
    text = text.lstrip()
    if text.startswith("'"):
        return text[1:].split("'")[0].rstrip()
    text = text.split("/")[0].strip()
    try:
        return int(text) if text.lstrip("+-").isdecimal() else float(text.replace("D", "E"))
    except ValueError:
        return None  # T, F, a complex number, nothing: no keyword that is needed here


def sizes(header: dict) -> list[int]:
    return [header.get(f"NAXIS{i + 1}", 0) for i in range(header.get("NAXIS", 0))]


def rows(header: dict, data: memoryview) -> Rows:
    """The pixels as numbers: zero + scale * what is in the file."""
    kind = TYPES.get(header["BITPIX"])
    if kind is None:
        raise Malformed(f"BITPIX is {header['BITPIX']}")
    raw = array(kind)
    raw.frombytes(data)
    if sys.byteorder == "little":
        raw.byteswap()
    zero, scale = header.get("BZERO", 0.0), header.get("BSCALE", 1.0)
    blank = header.get("BLANK") if header["BITPIX"] > 0 else None
    width, height = sizes(header)[:2]
    return [
        array("d", [math.nan if v == blank else zero + scale * v for v in raw[at : at + width]])
        for at in range(0, width * height, width)
    ]
