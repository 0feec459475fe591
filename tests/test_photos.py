"""Decoding of real files: the right pixels, or the right reason."""

import struct
import zlib

import numpy as np
import pytest
from conftest import read_photo
from PIL import Image, ImageCms

from gradcam_adv.data import image_files, photos

NOISE = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)


def colours(path):
    """Pixels (H, W, 3) as the package reads them, where it has nothing to note."""
    image, note = read_photo(path)
    assert note == ""
    assert image.mode == "RGB"
    return np.asarray(image)


def test_colours_and_range(tmp_path):
    Image.new("RGB", (10, 10), (255, 0, 51)).save(tmp_path / "a.png")
    decoded = photos.decode_all([tmp_path / "a.png"], 4)[0]
    assert decoded.dtype == np.float32
    assert decoded.shape == (4, 4, 3)
    np.testing.assert_allclose(decoded[0, 0], [1, 0, 0.2], atol=1e-7)


def test_read_keeps_the_size(tmp_path):
    Image.fromarray(NOISE[:30]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(colours(tmp_path / "a.png"), NOISE[:30])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "apng", "JPG", ""])
def test_the_content_decides_the_format(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}".rstrip(".")
    Image.fromarray(NOISE).save(path, "WEBP" if suffix == "webp" else "PNG", lossless=True)
    np.testing.assert_array_equal(colours(path), NOISE)


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.new("L", (92, 112), 51).save(tmp_path / "a.pgm")
    np.testing.assert_allclose(photos.decode_all([tmp_path / "a.pgm"], 8)[0], 0.2, atol=1e-7)


@pytest.mark.parametrize("suffix", ["png", "pgm", "tif"])
def test_16_bit_grey_keeps_its_range(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    decoded = photos.decode_all([tmp_path / f"a.{suffix}"], 64)[0]
    np.testing.assert_allclose(decoded[..., 0], ramp / 65535, atol=0.003)


def png(width, height, depth, kind, rows, *chunks):
    """A PNG that Pillow does not write; ``kind`` is its colour type, ``rows`` the raw pixels."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + crc(name + content)

    def crc(content):
        return struct.pack(">I", zlib.crc32(content))

    header = struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *(chunk(*parts) for parts in chunks),
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
            chunk(b"IEND", b""),
        ]
    )


def test_16_bit_colours(tmp_path):
    row = struct.pack(">3H", 65535, 32768, 257)
    (tmp_path / "a.png").write_bytes(png(1, 1, 16, 2, [row]))
    np.testing.assert_allclose(colours(tmp_path / "a.png")[0, 0], [255, 128, 1], atol=1)


def test_16_bit_colours_with_a_transparent_one(tmp_path):
    opaque, transparent = struct.pack(">3H", 65535, 32768, 257), struct.pack(">3H", 9, 9, 9)
    content = png(2, 1, 16, 2, [opaque + transparent], (b"tRNS", transparent))
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_allclose(colours(tmp_path / "a.png")[0, 0], [255, 128, 1], atol=1)


def test_black_and_white(tmp_path):
    pixels = NOISE[..., 0] > 127
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(colours(tmp_path / "a.png")[..., 1], 255 * pixels)


@pytest.mark.parametrize("kind", ["RGBA", "LA"])
def test_transparent_pixels_become_white(tmp_path, kind):
    image = Image.new("RGBA", (3, 1), (90, 90, 90, 255))
    image.putpixel((1, 0), (90, 90, 90, 0))
    image.putpixel((2, 0), (90, 90, 90, 128))
    image.convert(kind).save(tmp_path / "a.png")
    np.testing.assert_allclose(
        colours(tmp_path / "a.png")[0], [[90] * 3, [255] * 3, [172] * 3], atol=2
    )


def test_colours_already_multiplied_by_alpha(tmp_path):
    path = tmp_path / "a.tif"
    Image.new("RGBA", (2, 1), (45, 45, 45, 128)).save(path)
    apart, multiplied = struct.pack("<2HIH", 338, 3, 1, 2), struct.pack("<2HIH", 338, 3, 1, 1)
    assert apart in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(apart, multiplied))
    np.testing.assert_allclose(colours(path), 172, atol=2)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette_with_a_transparent_colour(tmp_path, suffix):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 30, 0, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / f"plain.{suffix}")
    image.save(tmp_path / f"clear.{suffix}", transparency=1)
    np.testing.assert_array_equal(colours(tmp_path / f"plain.{suffix}")[0, 1], [0, 0, 0])
    np.testing.assert_array_equal(
        colours(tmp_path / f"clear.{suffix}")[0], [[200, 10, 30], [255, 255, 255]]
    )


def test_palette_with_an_opacity_for_each_colour(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 30, 0, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=bytes([255, 128]))
    np.testing.assert_allclose(colours(tmp_path / "a.png")[0], [[200, 10, 30], [127] * 3], atol=1)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])  # Adobe's JPEG holds ink inverted
def test_cmyk(tmp_path, suffix):
    image = Image.new("CMYK", (32, 16), (0, 0, 0, 0))
    image.paste((0, 255, 255, 0), (16, 0, 32, 16))
    image.save(tmp_path / f"a.{suffix}")
    left, right = colours(tmp_path / f"a.{suffix}")[8, [4, 28]]
    np.testing.assert_allclose(left, [255, 255, 255], atol=4)
    np.testing.assert_allclose(right, [255, 0, 0], atol=4)


def profile(space=b"RGB ", swapped=False):
    """An ICC profile made by hand: linear light, sRGB's primaries, red and blue swapped or not."""

    def xyz(x, y, z):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))

    linear = b"curv\0\0\0\0\0\0\0\0"
    red, blue = xyz(0.4361, 0.2225, 0.0139), xyz(0.1431, 0.0606, 0.7141)
    text = b"mluc\0\0\0\0" + struct.pack(">2I2s2s2I", 1, 12, b"en", b"US", 2, 28) + b"\0a"
    tags = {b"desc": text, b"cprt": text, b"wtpt": xyz(0.9642, 1, 0.8249)}
    if space == b"GRAY":
        tags[b"kTRC"] = linear
    else:
        tags |= {
            b"rXYZ": blue if swapped else red,
            b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
            b"bXYZ": red if swapped else blue,
            **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), linear),
        }
    table, content = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        offset = 128 + 4 + 12 * len(tags) + len(content)
        table += struct.pack(">4s2I", name, offset, len(value))
        content += value + bytes(-len(value) % 4)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", 128 + len(table) + len(content))
    header[8:24] = b"\x04\x20\0\0" + b"mntr" + space + b"XYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    return bytes(header) + table + content


def as_srgb(linear):
    """Linear light, 0 to 255, in sRGB's scale."""
    light = np.asarray(linear) / 255
    return np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def test_an_embedded_profile_is_applied(tmp_path):
    image = Image.new("RGB", (2, 2), (128, 20, 250))
    image.save(tmp_path / "a.png", icc_profile=profile())
    image.save(tmp_path / "b.png", icc_profile=profile(swapped=True))
    expected = as_srgb([128, 20, 250])
    np.testing.assert_allclose(colours(tmp_path / "a.png")[0, 0], expected, atol=2)
    np.testing.assert_allclose(colours(tmp_path / "b.png")[0, 0], expected[::-1], atol=2)


def test_the_profile_of_srgb_changes_nothing(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(NOISE).save(tmp_path / "a.png", icc_profile=srgb)
    np.testing.assert_array_equal(colours(tmp_path / "a.png"), NOISE)


@pytest.mark.parametrize("space", [b"GRAY", b"RGB "])
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_with_a_profile(tmp_path, space, mode):
    grey = Image.new("L", (2, 2), 128).convert(mode)
    grey.save(tmp_path / "a.png", icc_profile=profile(space))
    np.testing.assert_allclose(colours(tmp_path / "a.png"), as_srgb(128), atol=2)


def test_a_profile_and_alpha(tmp_path):
    image = Image.new("RGBA", (2, 1), (128, 20, 250, 255))
    image.putpixel((1, 0), (128, 20, 250, 0))
    image.save(tmp_path / "a.png", icc_profile=profile())
    np.testing.assert_allclose(
        colours(tmp_path / "a.png")[0], [as_srgb([128, 20, 250]), [255] * 3], atol=2
    )


@pytest.mark.parametrize("content", [b"no profile", profile()[:150], profile(b"GRAY")])
def test_an_unusable_profile_is_noted(tmp_path, content):
    Image.fromarray(NOISE).save(tmp_path / "a.png", icc_profile=content)
    image, note = read_photo(tmp_path / "a.png")
    assert note == "unusable colour profile ignored"
    np.testing.assert_array_equal(np.asarray(image), NOISE)


def test_damaged_exif_is_noted(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.webp", lossless=True, exif=b"Exif\0\0no exif at all")
    image, note = read_photo(tmp_path / "a.webp")
    assert note == "damaged EXIF ignored"
    np.testing.assert_array_equal(np.asarray(image), NOISE)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="^floating-point pixels"):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("value", [-1, 65536])
def test_pixels_beyond_16_bits_are_refused(tmp_path, value):
    Image.fromarray(np.full((8, 8), value, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="^pixels beyond 16 bits"):
        read_photo(tmp_path / "a.tif")


# How an upright photo is stored for each EXIF orientation.
AS_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", AS_STORED)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_exif_orientation_is_applied(tmp_path, suffix, orientation):
    corners = np.array([[255, 170], [85, 0]], np.uint8).repeat(16, 0).repeat(24, 1)
    image = Image.fromarray(corners).convert("RGB")
    if AS_STORED[orientation] is not None:
        image = image.transpose(AS_STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    np.testing.assert_allclose(colours(tmp_path / f"a.{suffix}")[..., 0], corners, atol=12)


def test_the_sixth_orientation_by_hand(tmp_path):
    # The first row that is stored is the right side of the photo (EXIF 2.3, orientation 6).
    image = Image.new("L", (4, 4))
    image.paste(255, (0, 0, 4, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(colours(tmp_path / "a.png")[..., 0], [[0, 0, 0, 255]] * 4)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_of_several_frames_counts(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    image, note = read_photo(path)
    assert note == "first of 3 frames"
    np.testing.assert_allclose(np.asarray(image)[0, 0], [255, 0, 0], atol=3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damage_after_the_first_frame_is_noted(tmp_path):
    frames = [Image.fromarray(np.roll(NOISE, turn, axis=0)) for turn in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    image, note = read_photo(tmp_path / "a.tif")
    assert note == "first of several frames, of which some are damaged"
    np.testing.assert_array_equal(np.asarray(image), NOISE)


def test_the_second_picture_of_a_phone_is_not_noted(tmp_path):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    np.testing.assert_allclose(colours(tmp_path / "a.jpg")[0, 0], [255, 0, 0], atol=3)


def test_shrinking_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    assert np.abs(photos.decode_all([tmp_path / "a.png"], 8)[0] - 0.5).max() < 0.06


def test_too_many_pixels_are_refused(tmp_path, monkeypatch):
    Image.fromarray(NOISE).save(tmp_path / "a.jpg")
    monkeypatch.setattr(image_files, "MAXIMUM_PIXELS", 6400)
    read_photo(tmp_path / "a.jpg")
    monkeypatch.setattr(image_files, "MAXIMUM_PIXELS", 6399)
    with pytest.raises(ValueError, match="^more than 6,399 pixels: 80 x 80$"):
        read_photo(tmp_path / "a.jpg")


def test_too_little_memory_is_a_reason_to_leave_a_photo_out(tmp_path, monkeypatch):
    def no_memory(image):
        raise MemoryError

    Image.fromarray(NOISE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", no_memory)
    with pytest.raises(ValueError, match="^not enough memory to decode it$"):
        read_photo(tmp_path / "a.png")


def test_an_interrupt_is_raised_and_is_no_reason(tmp_path, monkeypatch):
    def interrupted(image):
        raise KeyboardInterrupt

    Image.fromarray(NOISE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "getexif", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_photo(tmp_path / "a.png")


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(ValueError, match="^unreadable: No such file or directory$"):
        read_photo(tmp_path / "none.jpg")


def test_a_batch_keeps_its_order(tmp_path):
    for value in range(40):
        Image.new("L", (64 - value, 8), value).save(tmp_path / f"{value}.png")
    batch = photos.decode_all([tmp_path / f"{value}.png" for value in range(40)], 4)
    assert batch.shape == (40, 4, 4, 3)
    np.testing.assert_allclose(batch[:, 0, 0, 0] * 255, np.arange(40), atol=1e-4)


def test_the_first_bad_photo_of_a_batch_is_named(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "good.png")
    for name in ("text.jpg", "later.jpg"):
        (tmp_path / name).write_text("no image at all")
    paths = [tmp_path / name for name in ("good.png", "text.jpg", "later.jpg")]
    with pytest.raises(ValueError, match=r"readable photo. Received: .*text.jpg: not an image$"):
        photos.decode_all(paths, 8)


def smooth(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((128, 128), Image.Resampling.BICUBIC)


def test_the_perceptual_hash_tells_copies_from_other_photos(tmp_path):
    photo = smooth(0)
    photo.save(tmp_path / "a.jpg", quality=50)
    with Image.open(tmp_path / "a.jpg") as compressed:
        copies = [compressed, photo.resize((64, 64)), photo.point(lambda value: 0.9 * value)]
        hashes = np.array([photos.perceptual_hash(image) for image in [photo, *copies]])
    assert hashes.shape == (4, 64)
    assert hashes.dtype == bool
    assert (hashes[1:] != hashes[0]).sum(axis=1).max() <= 4
    others = np.array([photos.perceptual_hash(smooth(seed)) for seed in range(1, 9)])
    assert (others != hashes[0]).sum(axis=1).min() > 12


@pytest.mark.parametrize("size", [(1, 1), (1, 3000)])
def test_the_perceptual_hash_of_extreme_sizes(size):
    assert photos.perceptual_hash(Image.new("RGB", size)).shape == (64,)


def test_a_png_rounds_to_8_bits_and_a_jpeg_changes_more():
    images = np.random.default_rng(0).random((2, 16, 16, 3), dtype=np.float32)
    assert photos.as_stored(images, "float32") is images
    png, jpeg = photos.as_stored(images, "png"), photos.as_stored(images, "jpeg")
    np.testing.assert_allclose(png * 255, np.rint(images * 255), atol=1e-4)
    assert np.abs(png - images).max() <= 0.5 / 255 + 1e-6
    assert np.abs(jpeg - images).max() > np.abs(png - images).max()
    assert jpeg.shape == images.shape
    assert jpeg.dtype == png.dtype == np.float32


def test_the_content_decides_except_for_raw_formats(tmp_path):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.heic")
    assert photos.decode_all([tmp_path / "a.heic"], 4)[0][0, 0].tolist() == [1, 0, 0]
    Image.new("RGB", (8, 8)).save(tmp_path / "b.tif")
    (tmp_path / "b.tif").rename(tmp_path / "b.dng")
    (tmp_path / "c.psd").write_bytes(b"8BPS and more")
    for name, kind in (("b.dng", "raw"), ("c.psd", "PSD")):
        with pytest.raises(ValueError, match=f"{kind} is not read: convert it to JPEG or PNG"):
            photos.decode_all([tmp_path / name], 4)
