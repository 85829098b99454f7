"""Files and arrays become RGB pictures; everything else becomes one clear sentence."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from keras_regpose import images
from keras_regpose.images import ImageError, read_image


@pytest.fixture
def picture():
    """(40, 60, 3) uint8 RGB, smooth, no two channels alike."""
    y, x = np.mgrid[:40, :60]
    return np.stack([x * 4, y * 6, 200 - x * 2], axis=-1).astype(np.uint8)


def write(path, picture, *options):
    bgr = picture if picture.ndim == 2 else picture[..., [2, 1, 0, 3][: picture.shape[2]]]
    path.write_bytes(cv2.imencode(path.suffix, np.ascontiguousarray(bgr), *options)[1].tobytes())
    return path


def with_segment(jpeg, marker, payload):
    """Puts a segment right behind the start of a JPEG file."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def exif(orientation):
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


def test_lossless_files_come_back_exactly(tmp_path, picture):
    for suffix in (".png", ".bmp", ".tiff"):
        np.testing.assert_array_equal(read_image(write(tmp_path / f"a{suffix}", picture)), picture)


def test_pixels_are_those_of_opencv(tmp_path, picture):
    path = write(tmp_path / "a.jpg", picture)
    np.testing.assert_array_equal(read_image(str(path)), cv2.imread(str(path))[..., ::-1])


def test_photographs_have_the_pixels_of_opencv(shared_data):
    paths = sorted((shared_data / "mmpose_testdata").glob("*/*.jpg"))
    assert len(paths) == 9
    for path in paths:
        np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, picture, orientation):
    jpeg = write(tmp_path / "a.jpg", picture).read_bytes()
    upright = read_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(with_segment(jpeg, 0xE1, exif(orientation)))
    expected = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[::-1],
    }[orientation]
    np.testing.assert_array_equal(read_image(tmp_path / "b.jpg"), expected)


def test_grey_alpha_and_16_bit_files(tmp_path, picture):
    grey = picture[..., 0]
    np.testing.assert_array_equal(read_image(write(tmp_path / "grey.png", grey)), np.stack([grey] * 3, -1))
    rgba = np.concatenate([picture, np.full((40, 60, 1), 7, np.uint8)], axis=-1)
    np.testing.assert_array_equal(read_image(write(tmp_path / "rgba.png", rgba)), picture)
    deep = picture.astype(np.uint16) * 256 + 130
    np.testing.assert_array_equal(read_image(write(tmp_path / "deep.png", deep)), picture)


def test_arrays(picture):
    assert read_image(picture) is picture
    grey = picture[..., 0]
    for array in (grey, grey[..., None]):
        np.testing.assert_array_equal(read_image(array), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(read_image(np.dstack([picture, grey])), picture)
    np.testing.assert_array_equal(read_image(picture.astype(np.uint16) * 256 + 255), picture)
    mirrored = read_image(picture[:, ::-1])
    assert mirrored.flags.c_contiguous
    np.testing.assert_array_equal(mirrored, picture[:, ::-1])


@pytest.mark.parametrize("shape", [(3, 40, 60), (0, 5, 3), (5,), (1, 5, 5, 3), (5, 5, 2)])
def test_arrays_of_another_shape(shape):
    with pytest.raises(ImageError, match=r"\(H, W, 3\) RGB.*" + str(shape).replace("(", r"\(").replace(")", r"\)")):
        read_image(np.zeros(shape, np.uint8))


def test_float_arrays_are_refused_because_their_range_is_unknown(picture):
    with pytest.raises(ImageError, match="uint8, values 0 to 255. Received: float32"):
        read_image(picture.astype(np.float32))


def test_other_things(tmp_path):
    with pytest.raises(ImageError, match="path, a NumPy array or a PIL image. Received: list"):
        read_image([[0, 0]])
    with pytest.raises(ImageError, match=r"no image file at .*nowhere\.jpg"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty\.jpg is empty"):
        read_image(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    with pytest.raises(ImageError, match=r"text\.jpg \(16 bytes\) is damaged or is not an image"):
        read_image(tmp_path / "text.jpg")


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_truncated_jpeg(tmp_path, picture, progressive, share):
    path = write(tmp_path / "a.jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"a\.jpg is truncated"):
        read_image(path)


def test_end_of_a_thumbnail_is_not_the_end_of_the_picture(tmp_path, picture):
    thumbnail = write(tmp_path / "thumbnail.jpg", picture[::4, ::4]).read_bytes()
    data = with_segment(write(tmp_path / "a.jpg", picture).read_bytes(), 0xE1, b"Exif\0\0" + thumbnail)
    assert data.count(b"\xff\xd9") == 2
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)
    (tmp_path / "a.jpg").write_bytes(data[:-40])
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "a.jpg")


def test_bytes_after_the_end_do_no_harm(tmp_path, picture):
    path = write(tmp_path / "a.jpg", picture)
    expected = read_image(path)
    path.write_bytes(path.read_bytes() + bytes(range(256)) * 20)
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff"])
def test_other_truncated_files(tmp_path, picture, suffix):
    path = write(tmp_path / f"a{suffix}", picture)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=rf"a\{suffix}.*(truncated|damaged)"):
        read_image(path)


def test_absurd_sizes_are_refused_before_decoding(tmp_path, picture, monkeypatch):
    def decode(*_):
        raise AssertionError("must not be decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    png = bytearray(write(tmp_path / "a.png", picture).read_bytes())
    png[16:24] = struct.pack(">II", 60000, 50000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(ImageError, match=r"a\.png has too many pixels: Image size \(3000000000 pixels\)"):
        read_image(tmp_path / "a.png")
    jpeg = bytearray(write(tmp_path / "a.jpg", picture).read_bytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 50000, 60000)
    (tmp_path / "a.jpg").write_bytes(jpeg)
    with pytest.raises(ImageError, match=r"a\.jpg has too many pixels: Image size \(3000000000 pixels\)"):
        read_image(tmp_path / "a.jpg")


def test_absurd_sizes_of_arrays_and_other_formats(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 40 * 60 - 1)
    path = write(tmp_path / "a.bmp", picture)
    for image in (picture, path):
        with pytest.raises(ImageError, match="60 × 40 pixels"):
            read_image(image)
    monkeypatch.setattr(images, "MAX_PIXELS", 40 * 60)
    assert read_image(picture).shape == read_image(path).shape == (40, 60, 3)


def declared(data, height, width):
    """Returns a TIFF file's contents with another size in its header."""
    size = {256: width, 257: height}
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    data = bytearray(data)
    for entry in range(struct.unpack_from(f"{order}H", data, start)[0]):
        place = start + 2 + 12 * entry
        (tag,) = struct.unpack_from(f"{order}H", data, place)
        if tag in size:
            struct.pack_into(f"{order}HHII", data, place, tag, 4, 1, size[tag])
    return bytes(data)


@pytest.mark.parametrize("kind", ["tiff", "jp2", "jpg with fillers", "webp", "ppm", "bmp"])
def test_the_size_is_read_first_in_every_format(picture, kind, monkeypatch):
    def decode(*_):
        raise AssertionError("must not be decoded")

    data = cv2.imencode(f".{kind.split()[0]}", picture)[1].tobytes()
    if kind == "tiff":
        data = declared(data, 30_000, 30_000)
    if kind == "jp2":
        data = data.replace(struct.pack(">II", 40, 60), struct.pack(">II", 30_000, 30_000), 1)
    if kind.startswith("jpg"):
        place = data.index(b"\xff\xc0")
        data = (
            data[:place]
            + b"\xff" * 4
            + data[place : place + 5]
            + struct.pack(">HH", 30_000, 30_000)
            + data[place + 9 :]
        )
    if kind == "webp":
        data = cv2.imencode(".webp", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
        monkeypatch.setattr(images, "MAX_PIXELS", 0)
    if kind == "ppm":
        data = b"P6 30000 30000 255\n" + bytes(1000)
    if kind == "bmp":
        data = data[:18] + struct.pack("<ii", 30_000, 30_000) + data[26:]
    monkeypatch.setattr(cv2, "imdecode", decode)
    with pytest.raises(ImageError, match="pixels, more than the|too many pixels|is damaged or is not an image"):
        read_image(data)


def test_arrays_of_16_bits_that_hold_8(picture):
    with pytest.raises(ImageError, match="uint16 has values from 0 to 65535. Received: none above 255, so uint8"):
        read_image(picture.astype(np.uint16))
    assert read_image(np.zeros((2, 2), np.uint16)).max() == 0
