"""Decode JPEG and PNG images into arrays."""

from __future__ import annotations

import io
import warnings
from typing import Any

import mxnet as mx
import numpy as np
import numpy.typing as npt

from mms_handler.errors import TooLarge

#: Pixels of the largest image that is decoded.  An image's header gives its size.
MAX_PIXELS = 2**26


def decode_image(body: bytes) -> npt.NDArray[Any]:
    """Decode a JPEG or PNG into (1, 3, height, width): RGB, float32, 0 to 255.

    Raises:
        ValueError: the body is not a JPEG or PNG, or MXNet cannot decode it.
        TooLarge: the image has more than MAX_PIXELS.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # MAX_PIXELS is checked below instead.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = Image.open(io.BytesIO(body), formats=("JPEG", "PNG")).size
    except (UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise ValueError("not a JPEG or PNG, or too large") from exc
    if width * height > MAX_PIXELS:
        raise TooLarge(f"the image has {width} x {height} pixels; the limit is {MAX_PIXELS}")
    try:
        image = mx.image.imdecode(body, to_rgb=1).asnumpy()
    except (mx.base.MXNetError, ValueError) as exc:
        raise ValueError("MXNet's OpenCV cannot decode the image") from exc
    pixels: npt.NDArray[Any] = image.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    return pixels
