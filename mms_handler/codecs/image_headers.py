"""The size of a JPEG or PNG, from its headers, before anything is decoded.

MXNet allocates an image's array before OpenCV reads the header, and does not notice if OpenCV
cannot read it: the image is then what was in the memory before, such as another request's values
(image_io.cc, Imdecode).  So a PNG's header is checked as libpng checks it, and a JPEG is changed so
that MXNet leaves the array to OpenCV.  OpenCV notices what is wrong with the pixels.

What makes the libraries work much longer than the pixels need, or make up what is missing, is
refused.
"""

from __future__ import annotations

import struct
import zlib
from itertools import chain
from typing import Iterator, NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"

#: Bits of a pixel's value that a PNG may have, by its colour type: grey, RGB, palette, and the
#: first two with transparency.
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3

#: Chunks that libpng cannot do without, and those before the pixels whose checksums must be right.
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CHECKED = (b"IHDR", b"PLTE", b"tRNS")

#: The limit of a PNG's width and of its height: libpng's.
_MAX_LENGTH = 1_000_000

#: The limit of a progressive JPEG's scans; encoders write about ten.  libjpeg goes through all
#: pixels for each, and a scan takes only 18 bytes.
MAX_SCANS = 100

#: Markers of frames (SOF0 to SOF15); three of the range are other segments.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

#: Markers without a segment: TEM, and restarts.  A zero is no marker.
_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD8)))

_SCAN = 0xDA


class Image(NamedTuple):
    """An image that can be decoded.

    Attributes:
        body: what to decode; it gives the same pixels as what was received.
        width: in pixels, before it is turned as its EXIF data may say; likewise ``height``.
    """

    body: bytes
    width: int
    height: int


def read_image(body: bytes) -> Image:
    """Read the headers of a JPEG or PNG.

    Raises:
        ValueError: the body is neither, has no pixels, is cut off, or has too many scans.
    """
    if body.startswith(_PNG):
        image = _png(body)
    elif body.startswith(_JPEG):
        # MXNet finds the size only if JFIF's marker follows at once; libjpeg skips a fill byte.
        jfif = body[3:4] == b"\xe0"
        image = Image(b"\xff\xd8\xff" + body[2:] if jfif else body, *_jpeg_size(body))
    else:
        raise ValueError("not a JPEG or PNG")
    if not image.width or not image.height:
        raise ValueError(f"the image has {image.width} x {image.height} pixels")
    return image


def _png(body: bytes) -> Image:
    """Check the parts of a PNG that its pixels depend on, and leave out the others.

    Of texts, times and profiles libpng would write a line for each that is not right.
    """
    chunks = _png_chunks(body)
    first = next(chunks)
    if body[8:16] != b"\0\0\0\rIHDR":
        raise ValueError("the PNG does not begin with its header")
    width, height, bits, colour, *methods = struct.unpack_from(">IIBBBBB", body, 16)
    valid = bits in _PNG_BITS.get(colour, ()) and methods in ([0, 0, 0], [0, 0, 1])
    if not valid or max(width, height) > _MAX_LENGTH:
        raise ValueError("the PNG's header is not valid")
    pieces = [_PNG]
    start = len(_PNG)  # of a piece of chunks that follow each other; it ends where one is left out
    palettes = pixels = 0
    for kind, at, end in chain([first], chunks):
        if kind == b"PLTE":
            palettes += 1
            colours, rest = divmod(end - at - 12, 3)
            if colour == _PALETTE and (rest or not 1 <= colours <= 256):
                raise ValueError("the PNG's palette is not valid")
        elif kind == b"IDAT":
            pixels += 1
            if pixels == 1 and palettes != 1 and colour == _PALETTE:
                raise ValueError("the PNG's palette is not valid")
        elif (kind == b"IHDR" and at > len(_PNG)) or (kind[:1].isupper() and kind not in _CRITICAL):
            raise ValueError(f"the PNG has an unknown or misplaced chunk: {kind!r}")
        checked = kind in _CHECKED
        if checked and zlib.crc32(body[at + 4 : end - 4]) != int.from_bytes(
            body[end - 4 : end], "big"
        ):
            raise ValueError(f"the checksum of the PNG's {kind.decode()} is wrong")
        if (kind not in _CRITICAL and kind != b"tRNS") or (kind == b"PLTE" and colour != _PALETTE):
            pieces.append(body[start:at])
            start = end
    if not pixels:
        raise ValueError("the PNG has no pixels")
    return Image(b"".join([*pieces, body[start:]]), width, height)


def _png_chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each chunk, and where it starts and ends; IEND is the last."""
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        if at + 12 > len(body):
            raise ValueError("the PNG is cut off")
        length, kind = struct.unpack_from(">I4s", body, at)
        end = at + 12 + length
        if end > len(body):
            raise ValueError("the PNG is cut off")
        yield kind, at, end
        at = end


def _jpeg_size(body: bytes) -> tuple[int, int]:
    """Read the frame's header, and look behind the first scan for the end of the image.

    Source: libjpeg's jdmarker.c, next_marker and get_sof.
    """
    at, size = 2, (0, 0)
    while True:
        at = body.find(b"\xff", at)
        while body[at : at + 1] == b"\xff":  # also none at the end, and at -1
            at += 1
        if at == -1 or at + 3 > len(body):
            raise ValueError("the JPEG is cut off")
        marker = body[at]
        at += 1
        if marker in _ALONE:
            continue
        if marker == _SCAN:
            break
        if marker in _FRAMES:
            height, width = body[at + 3 : at + 5], body[at + 5 : at + 7]
            size = (int.from_bytes(width, "big"), int.from_bytes(height, "big"))
        at += max(2, int.from_bytes(body[at : at + 2], "big"))
    if body.find(b"\xff\xd9", at) == -1:
        raise ValueError("the JPEG is cut off")
    if body.count(b"\xff\xda", at) >= MAX_SCANS:
        raise ValueError(f"the JPEG has more than {MAX_SCANS} scans")
    return size
