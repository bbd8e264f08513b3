"""Reading and writing images, with known pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from data.media import image_io
from data.media.image_io import ImageError, list_images, read_image, read_label, save_image
from data.media.provenance import DigitalSource, sidecar_path


@pytest.fixture
def pixels():
    """(40, 50, 3) uint8: a smooth ramp, different in every corner and channel."""
    y, x = np.mgrid[:40, :50]
    return np.stack([x * 5, y * 6, 255 - (x + y) * 2], axis=-1).astype(np.uint8)


@pytest.fixture
def gray():
    return np.mgrid[:40, :50][1].astype(np.uint8) * 5


def png_bytes(width, height, depth, color_type, rows, extra=()):
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def shifted_profile():
    """An sRGB profile with red and green exchanged, so that ignoring it shows."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_plain_rgb_is_read_exactly(tmp_path, pixels, suffix):
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.pixels.dtype == np.uint8 and image.alpha is None and image.notes == []
    np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, pixels, gray, mode):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    expected, alpha = np.repeat(gray[..., None], 3, axis=2), None
    if mode == "L":
        Image.fromarray(gray).save(path)
    elif mode == "1":
        Image.fromarray(gray > 100).save(path)
        expected = np.where(expected > 100, 255, 0)
    elif mode == "P":
        image = Image.fromarray(pixels).quantize(64)
        expected = np.asarray(image.convert("RGB"))
        image.save(path)
    elif mode == "RGBA":
        Image.fromarray(np.dstack([pixels, gray])).save(path)
        expected, alpha = pixels, gray
    elif mode == "LA":
        Image.merge("LA", [Image.fromarray(gray), Image.fromarray(255 - gray)]).save(path)
        alpha = 255 - gray
    else:
        ink = np.dstack([255 - pixels, np.zeros_like(gray)])
        Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(ink[..., i])) for i in range(4)]).save(path)
        expected = pixels
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, expected)
    assert (image.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(image.alpha, alpha)
    assert ("CMYK" in str(image.notes)) == (mode == "CMYK")


def test_adobe_cmyk_jpeg_is_not_inverted(tmp_path, pixels):
    image = Image.fromarray(pixels).convert("CMYK")
    image.save(tmp_path / "a.jpg", quality=95, subsampling=0)  # Pillow writes Adobe's inverted CMYK
    assert np.abs(read_image(tmp_path / "a.jpg").pixels.astype(int) - pixels).mean() < 3


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (4, 3), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((2, 1), 0)
    image.save(tmp_path / "a.png", transparency=0)
    image = read_image(tmp_path / "a.png")
    assert image.alpha[1, 2] == 0 and image.alpha.sum() == 255 * 11
    np.testing.assert_array_equal(image.pixels[0, 0], [200, 100, 50])


def test_16_bit_gray_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels[..., 1], np.rint(values / 257))
    assert "16-bit converted to 8-bit" in image.notes


def test_16_bit_gray_with_a_transparent_value_is_scaled(tmp_path):
    values = np.linspace(0, 65535, 64).astype(">u2").reshape(8, 8)
    (tmp_path / "a.png").write_bytes(png_bytes(8, 8, 16, 0, [row.tobytes() for row in values],
                                               [(b"tRNS", b"\x00\x07")]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels[..., 0], np.rint(values / 257))


def test_16_bit_color_is_noted(tmp_path):
    rows = [np.array([[0, 32768, 65535]], ">u2").tobytes() * 5] * 4
    (tmp_path / "a.png").write_bytes(png_bytes(5, 4, 16, 2, rows))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels[0, 0], [0, 128, 255])
    assert "16-bit converted to 8-bit" in image.notes


@pytest.mark.parametrize("full", [1.0, 255.0])
def test_floating_point(tmp_path, full):
    values = np.linspace(0, full, 64, dtype=np.float32).reshape(8, 8)
    values[0, 1] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tiff")
    image = read_image(tmp_path / "a.tiff")
    expected = np.rint(np.nan_to_num(values) / full * 255)
    np.testing.assert_array_equal(image.pixels[..., 0], expected)
    assert "floating point converted to 8-bit" in image.notes


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, suffix):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = 255, 0, 0
    upright[:16, 32:] = 0, 255, 0
    upright[16:, :16] = 0, 0, 255
    # The stored image for each orientation: EXIF 2.3, tag 0x0112.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if suffix == ".jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a{suffix}", exif=exif, **options)
    assert np.abs(read_image(tmp_path / f"a{suffix}").pixels.astype(int) - upright).max() < 10


def test_icc_profile_is_converted(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=shifted_profile())
    image = read_image(tmp_path / "a.png")
    assert "color profile converted to sRGB" in image.notes
    assert np.abs(image.pixels[..., [1, 0, 2]].astype(int) - pixels).max() <= 3


def test_srgb_profile_changes_no_bit(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png",
                                 icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.notes == []


def test_broken_profile_is_ignored_with_a_note(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=b"no profile at all" * 20)
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert any("color profile ignored" in note for note in image.notes)


def test_the_first_of_several_frames(tmp_path, pixels):
    first = Image.fromarray(pixels)
    first.save(tmp_path / "a.tiff", save_all=True, append_images=[Image.fromarray(255 - pixels)])
    image = read_image(tmp_path / "a.tiff")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.notes == ["2 frames: only the first is used"]


def test_damage_after_the_first_frame_is_noted(tmp_path, pixels):
    """The second frame ends inside its header."""
    first = Image.fromarray(pixels).quantize(16)
    first.save(tmp_path / "a.gif")
    whole = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[:-1] + b"\x2c\0\0\0\0\1\0\1\0\0")
    image = read_image(tmp_path / "cut.gif")
    np.testing.assert_array_equal(image.pixels, np.asarray(first.convert("RGB")))
    assert image.notes == ["damaged after its first frame, which is used"]


def test_heavy_formats_have_a_lower_limit(tmp_path, pixels, monkeypatch):
    monkeypatch.setattr(image_io, "HEAVY_FORMAT_LIMIT", pixels.size // 3 - 1)
    for suffix in (".png", ".webp"):
        save_image(tmp_path / f"a{suffix}", pixels, None)
    assert read_image(tmp_path / "a.png").pixels.shape == pixels.shape
    with pytest.raises(ImageError, match="a.webp has more than"):
        read_image(tmp_path / "a.webp")


@pytest.mark.parametrize("case", ["missing", "folder", "empty", "text", "cut", "cut header", "enormous"])
def test_unreadable_files_give_one_line_with_the_name(tmp_path, pixels, case):
    path = tmp_path / "bad.png"
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)).save(whole, "PNG")
    if case == "folder":
        path.mkdir()
    elif case != "missing":
        path.write_bytes({
            "empty": b"", "text": b"not an image\n" * 50, "cut": whole.getvalue()[:3000],
            "cut header": whole.getvalue()[:20],
            "enormous": png_bytes(30000, 30000, 8, 2, [b"\0" * 30]),
        }[case])  # fmt: skip
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert "bad.png" in message and "\n" not in message
    assert {"missing": "does not exist", "folder": "not a file", "empty": "0 bytes",
            "enormous": "million pixels"}.get(case, "") in message


def test_images_between_the_limit_and_pillows_own_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(image_io, "PIXEL_LIMIT", 100)
    Image.new("RGB", (11, 10)).save(tmp_path / "a.png")
    Image.new("RGB", (10, 10)).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match="pixels"):
        read_image(tmp_path / "a.png")
    assert read_image(tmp_path / "b.png").pixels.shape == (10, 10, 3)


def test_list_images(tmp_path, pixels):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "c.png.xmp"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub.png").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    with pytest.raises(ImageError, match="not a folder"):
        list_images(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", sorted(image_io.WRITABLE_IMAGES))
@pytest.mark.parametrize("source", list(DigitalSource))
def test_every_format_carries_the_label(tmp_path, pixels, suffix, source):
    path = tmp_path / f"a{suffix}"
    try:
        notes = save_image(path, pixels, source)
    except ImageError:
        assert suffix == ".avif"  # some builds of Pillow lack its encoder
        return
    assert read_label(path) == source
    error = np.abs(read_image(path).pixels.astype(int) - pixels)
    assert error.max() <= {".jpg": 4, ".jpeg": 4, ".jpe": 4, ".jfif": 4, ".webp": 12, ".avif": 12,
                           ".gif": 40}.get(suffix, 0)
    embedded = source.uri.encode() in path.read_bytes()
    assert embedded == (suffix not in (".bmp", ".ppm", ".pnm", ".jp2"))
    assert sidecar_path(path).exists() != embedded
    assert ("xmp" in str(notes)) != embedded


def test_the_labels_are_the_iptc_terms():
    terms = {source.name: source.uri.removeprefix("http://cv.iptc.org/newscodes/digitalsourcetype/")
             for source in DigitalSource}
    assert terms == {"COMPOSITE": "compositeWithTrainedAlgorithmicMedia", "TRAINED": "trainedAlgorithmicMedia",
                     "ALGORITHMIC": "algorithmicMedia"}


@pytest.mark.parametrize("form", ['Iptc4xmpExt:DigitalSourceType="{}"',
                                  '<Iptc4xmpExt:DigitalSourceType rdf:resource="{}"/>'])
def test_labels_of_other_programs_are_understood(tmp_path, pixels, form):
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, xmp=form.format(DigitalSource.TRAINED.uri).encode())
    assert read_label(path) == DigitalSource.TRAINED


def test_no_label(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png") is None


def test_alpha_is_kept_or_its_loss_is_noted(tmp_path, pixels, gray):
    assert save_image(tmp_path / "a.png", pixels, DigitalSource.COMPOSITE, alpha=gray) == []
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.alpha, gray)
    np.testing.assert_array_equal(image.pixels, pixels)
    notes = save_image(tmp_path / "a.jpg", pixels, DigitalSource.COMPOSITE, alpha=gray)
    assert len(notes) == 1 and "transparency" in notes[0]


@pytest.mark.parametrize("name", ["a.xyz", "a", "nowhere/a.png", "folder.png"])
def test_targets_that_cannot_be_written(tmp_path, pixels, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError) as caught:
        save_image(tmp_path / name, pixels, DigitalSource.COMPOSITE)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_full_disk_keeps_the_old_file(tmp_path, pixels, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    save_image(path, pixels, DigitalSource.COMPOSITE)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_io.os, "fsync", full)
    for target in (path, tmp_path / f"new{suffix}"):
        with pytest.raises(ImageError, match="No space left"):
            save_image(target, 255 - pixels, DigitalSource.COMPOSITE)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_no_sidecar_without_its_image(tmp_path, pixels, monkeypatch):
    replace = image_io.os.replace

    def refuse_images(source, target):
        if str(target).endswith(".bmp"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(image_io.os, "replace", refuse_images)
    with pytest.raises(ImageError):
        save_image(tmp_path / "a.bmp", pixels, DigitalSource.COMPOSITE)
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path, pixels):
    save_image(tmp_path / "real.png", pixels, DigitalSource.COMPOSITE)
    try:
        (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    except OSError:
        pytest.skip("no links on this system")
    save_image(tmp_path / "link.png", 255 - pixels, DigitalSource.COMPOSITE)
    assert (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(read_image(tmp_path / "real.png").pixels, 255 - pixels)


def test_save_takes_only_8_bit_rgb(tmp_path, pixels):
    with pytest.raises(ValueError, match="uint8"):
        save_image(tmp_path / "a.png", pixels.astype(np.float32), DigitalSource.COMPOSITE)
