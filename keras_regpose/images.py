"""Image files and arrays → (H, W, 3) uint8 RGB pictures, and such pictures → files."""

import contextlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import UInt8

from keras_regpose.files import write_whole

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # that are written
MAX_PIXELS = 2 * 89_478_485  # 13,377 × 13,377: more than any camera's, and all that PIL opens
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "SUN", "GIF", "AVIF")
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}


class ImageError(ValueError):
    """An image cannot be read. The message names it and says why."""


def read_image(
    image: str | os.PathLike | bytes | BinaryIO | np.ndarray | PIL.Image.Image,
) -> UInt8[np.ndarray, "height width 3"]:
    """Reads an image file or its contents, or brings an array or a PIL image into the same form.

    Files are decoded by OpenCV as in the reference: turned as their EXIF orientation says, alpha dropped, grey repeated
    in all channels, 16 bits reduced to the upper 8. A JPEG or PNG file whose end is missing is refused: OpenCV may
    return it half grey.

    Args:
        image: str or path of a file in any format that OpenCV reads, its bytes, or such a file opened in binary mode
            (it is read from where it stands); or an array: (H, W), (H, W, 1), (H, W, 3) RGB or
            (H, W, 4) RGBA, of uint8 or uint16; or a PIL image of any mode, turned as its EXIF orientation says.

    Returns:
        (H, W, 3) uint8 array, RGB. An array that is in this form already is returned as it is, without a copy.

    Raises:
        ImageError: If the file is missing, empty, truncated or not an image, if the array has another form, or if the
            picture has more than `MAX_PIXELS` pixels.

    Example:

    >>> read_image(np.full((2, 5), 65535, np.uint16)).shape
    (2, 5, 3)
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, PIL.Image.Image):
        return _from_pil(image)
    if isinstance(image, (str, os.PathLike)):
        return _from_file(os.fsdecode(image))
    read = getattr(image, "read", None)
    contents = image if read is None else read()
    if isinstance(contents, (bytes, bytearray, memoryview)):
        return decode_image(bytes(contents), "The image")
    received = type(image).__name__ + ("" if contents is image else ", which does not give bytes: open it with 'rb'")
    raise ImageError(f"An image must be bytes, a file, a path, a NumPy array or a PIL image. Received: {received}")


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns the (width, height) that `read_image` would give an image file, from its header alone.

    Raises:
        ImageError: If there is no such file, or its header cannot be read.
    """
    try:
        with PIL.Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5  # by a quarter
            return (image.height, image.width) if turned else image.size
    except Exception as error:  # of all kinds
        raise ImageError(f"The size of the image file {os.fspath(path)} cannot be read: {error}") from error


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes the contents of an image file, as `read_image` does.

    Args:
        data: bytes. The file's contents.
        name: str. What error messages call the image, such as "The image file a.jpg".

    Returns:
        (H, W, 3) uint8 array, RGB.

    Raises:
        ImageError: If the contents are empty, truncated or not an image, or the picture has too many pixels.
    """
    if not data:
        raise ImageError(f"{name} is empty")
    size, complete = _inspect(data, name)
    if size is not None:
        _check_size(name, size)
    if not complete:
        raise ImageError(f"{name} is truncated: the end of the picture is missing, so copy it anew")
    picture = None
    if size is not None:  # else it may be of any size
        with contextlib.suppress(cv2.error):
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ImageError(f"{name} ({len(data)} bytes) is damaged or is not an image in a format OpenCV reads")
    _check_size(name, picture.shape)
    return picture


def save_picture(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes an RGB array as a picture file, complete or not at all."""
    suffix = Path(path).suffix.lower() or ".png"
    if suffix not in PICTURE_SUFFIXES:
        raise ValueError(f"Pictures are written as {', '.join(PICTURE_SUFFIXES)}. Received: {path}")
    quality = [cv2.IMWRITE_WEBP_QUALITY, 95] if suffix == ".webp" else []
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    write_whole(path, data.tobytes())


def _from_pil(image):
    _check_size("The image", image.size[::-1])
    try:
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16-bit files
            return _from_array(np.asarray(image).clip(0, 65535).astype(np.uint16))
        return np.array(image.convert("RGB"))
    except Exception as error:
        raise ImageError(f"The image {getattr(image, 'filename', '')} cannot be decoded: {error}") from error


def _from_array(array):
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise ImageError(f"An image array must be (H, W, 3) RGB, channels last. Received: shape {array.shape}")
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"An image array must be uint8, values 0 to 255. Received: {array.dtype}")
    _check_size("The image array", array.shape)
    if array.dtype == np.uint16:
        if 0 < array.max() < 256:
            raise ImageError("An image array of uint16 has values from 0 to 65535. Received: none above 255, so uint8?")
        array = (array >> 8).astype(np.uint8)
    if channels == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if channels == 4:
        array = array[..., :3]
    return np.ascontiguousarray(array)


def _from_file(path):
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise ImageError(f"There is no image file at {path}") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"The image file {path} cannot be opened: {error}") from error
    return decode_image(data, f"The image file {path}")


def _check_size(what, shape):
    height, width = shape[:2]
    if height * width > MAX_PIXELS:
        raise ImageError(f"{what} has {width} × {height} pixels, more than the {MAX_PIXELS} that are read")


def _inspect(data, name):
    """Returns (height, width), None if the header does not tell, and whether the end of the picture is there."""
    size, file = None, io.BytesIO(data)
    try:
        with PIL.Image.open(file, formats=_FORMATS) as image:
            size = image.size[::-1]
    except PIL.Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels: {error}") from None
    except Exception:  # PIL raises whatever the broken bytes lead to
        size = None
    # It was read up to the picture's data, behind a thumbnail that has an end of its own.
    end = next((end for start, end in _ENDS.items() if data.startswith(start)), b"")
    return size, data.rfind(end, file.tell() if size else 0) >= 0
