"""Real decoding of real files: the right pixels, or the right reason."""

import numpy as np
import pytest
from PIL import Image

from gradcam_adv import photos


def test_colours_and_range(tmp_path):
    Image.new("RGB", (10, 10), (255, 0, 51)).save(tmp_path / "a.png")
    decoded = photos.decode(tmp_path / "a.png", 4)
    assert decoded.dtype == np.float32
    assert decoded.shape == (4, 4, 3)
    np.testing.assert_allclose(decoded[0, 0], [1, 0, 0.2], atol=1e-7)


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.new("L", (92, 112), 51).save(tmp_path / "a.pgm")
    np.testing.assert_allclose(photos.decode(tmp_path / "a.pgm", 8), 0.2, atol=1e-7)


@pytest.mark.parametrize("suffix", ["png", "pgm", "tif"])
def test_16_bits_keep_their_range(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    decoded = photos.decode(tmp_path / f"a.{suffix}", 64)
    np.testing.assert_allclose(decoded[..., 0], ramp / 65535, atol=0.003)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="floating-point pixels"):
        photos.decode(tmp_path / "a.tif", 8)


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half is white as stored
    exif = Image.Exif()
    exif[0x0112] = 3  # turned upside down
    image.save(tmp_path / "a.png", exif=exif)
    decoded = photos.decode(tmp_path / "a.png", 8)
    assert decoded[:4].max() == 0
    assert decoded[4:].min() == 1


def test_shrinking_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    assert np.abs(photos.decode(tmp_path / "a.png", 8) - 0.5).max() < 0.06


def test_reasons(tmp_path, monkeypatch):
    good = tmp_path / "good.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)).save(good)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image at all")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:1500])
    for name, reason in (
        ("empty.jpg", "empty file"),
        ("text.jpg", "not an image"),
        ("cut.jpg", "unreadable: .*truncated"),
        ("none.jpg", "unreadable: .*No such file"),
    ):
        with pytest.raises(ValueError, match=reason):
            photos.decode(tmp_path / name, 8)
    monkeypatch.setattr(photos, "MAXIMUM_PIXELS", 6399)
    with pytest.raises(ValueError, match="more than 6,399 pixels: 80 x 80"):
        photos.decode(good, 8)


def test_a_bad_photo_of_a_batch_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no image at all")
    with pytest.raises(ValueError, match=r"readable photo. Received: .*text.jpg: not an image"):
        photos.decode_all([tmp_path / "text.jpg"], 8)


def test_png_rounds_to_8_bits_and_jpeg_loses_more():
    images = np.random.default_rng(0).random((2, 16, 16, 3), dtype=np.float32)
    assert photos.as_stored(images, "float32") is images
    png, jpeg = photos.as_stored(images, "png"), photos.as_stored(images, "jpeg")
    np.testing.assert_allclose(png * 255, np.rint(images * 255), atol=1e-4)
    assert np.abs(png - images).max() <= 0.5 / 255 + 1e-6
    assert np.abs(jpeg - images).max() > np.abs(png - images).max()
    assert jpeg.shape == images.shape
    assert jpeg.dtype == png.dtype == np.float32
