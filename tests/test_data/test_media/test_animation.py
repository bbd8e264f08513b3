"""Reading and writing animated images, with known frames."""
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from data.media import animation
from data.media.animation import Animation, read_animation, write_animation
from data.media.frame_source import open_media
from data.media.image_io import DecodedImage, ImageError, read_label
from data.media.provenance import DigitalSource, label_packet

SUFFIXES = [".gif", ".webp", ".png", ".apng"]
DURATIONS = [40, 30, 100, 70, 20]


def moving(count=5, height=40, width=60):
    """(count, H, W, 3) uint8: a static ramp, and a red square that moves over its upper half."""
    y, x = np.mgrid[:height, :width]
    frames = np.repeat(np.stack([x * 4, y * 6, 200 - x - y], axis=-1).astype(np.uint8)[None], count, axis=0)
    for k, frame in enumerate(frames):
        frame[4:16, 4 + 8 * k : 16 + 8 * k] = [250, 30, 40]
    return frames


def holes(count=5, height=40, width=60):
    """(count, H, W) uint8: a transparent disc that moves over the lower half."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.where((x - 8 - 8 * k) ** 2 + (y - 28) ** 2 < 60, 0, 255)
                     for k in range(count)]).astype(np.uint8)


def psnr(a, b):
    return 10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2)))


def save(path, frames, **options):
    """Write an animation with Pillow."""
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("clear", [False, True])
def test_round_trip(tmp_path, suffix, clear):
    frames, alpha = moving(), holes() if clear else None
    path = tmp_path / f"a{suffix}"
    write_animation(path, iter(frames), DURATIONS, 0, DigitalSource.COMPOSITE, alpha=alpha)
    assert isinstance(open_media(path), Animation)
    got = read_animation(path)
    assert (got.width, got.height, got.frames, got.loop, got.notes) == (60, 40, 5, 0, ())
    assert got.durations == tuple(DURATIONS) and got.has_alpha == clear
    seen = np.stack(list(got))
    shown = holes() > 0 if clear else np.ones((5, 40, 60), bool)
    assert seen.dtype == np.uint8 and psnr(seen[shown], frames[shown]) > (80 if "png" in suffix else 30)
    assert (got.alpha is None) if not clear else (np.stack(list(got.alpha)) == alpha).all()
    assert len(list(got)) == 5  # it can be read again


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_label_is_written(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_animation(path, moving(), DURATIONS, 0, DigitalSource.COMPOSITE)
    assert read_label(path) == DigitalSource.COMPOSITE
    assert label_packet(DigitalSource.COMPOSITE) in path.read_bytes()


def test_the_label_of_a_gif_is_an_application_extension(tmp_path):
    """GIF89a: header, palette, blocks. A chain of sub-blocks always ends after the packet."""
    path = tmp_path / "a.gif"
    write_animation(path, moving(), DURATIONS, 0, DigitalSource.COMPOSITE)
    content = path.read_bytes()
    place = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    assert content[:6] == b"GIF89a" and content[10] & 0x80 and content[place : place + 14] == b"\x21\xff\x0bXMP DataXMP"
    packet = label_packet(DigitalSource.COMPOSITE)
    start = place + 14
    ends = set()
    for entry in range(start, start + len(packet)):
        while content[entry]:
            entry += 1 + content[entry]
        ends.add(entry)
    assert content[start : start + len(packet)] == packet and len(ends) == 1
    assert content[ends.pop() + 1] == 0x21  # the next extension


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("loop", [0, 1, 3])
def test_loop_count(tmp_path, suffix, loop):
    write_animation(tmp_path / f"a{suffix}", moving(2), [50, 50], loop, DigitalSource.COMPOSITE)
    assert read_animation(tmp_path / f"a{suffix}").loop == loop


def test_a_gif_that_repeats_twice_plays_three_times(tmp_path):
    write_animation(tmp_path / "a.gif", moving(2), [50, 50], 3, DigitalSource.COMPOSITE)
    content = (tmp_path / "a.gif").read_bytes()
    place = content.index(b"NETSCAPE2.0") + 11
    assert content[place : place + 5] == b"\x03\x01\x02\x00\x00"


def test_short_durations_do_not_drift(tmp_path):
    """33.3 ms are 3 or 4 hundredths of a second in a GIF; the sum is exact."""
    frames = moving(1).repeat(30, axis=0)
    for k, frame in enumerate(frames):  # no two alike: the writer joins those
        frame[20:30, 2 * k] = 255
    write_animation(tmp_path / "a.gif", frames, [100 / 3] * 30, 0, DigitalSource.COMPOSITE)
    durations = read_animation(tmp_path / "a.gif").durations
    assert set(durations) == {30, 40} and sum(durations) == 1000


def test_static_parts_of_a_gif_do_not_flicker(tmp_path):
    rng = np.random.default_rng(0)
    frames = moving()
    frames[:, 18:] = rng.integers(0, 256, (1, 22, 60, 3))
    frames[:, :18] = rng.integers(0, 256, (5, 18, 60, 3))
    write_animation(tmp_path / "a.gif", frames, DURATIONS, 0, DigitalSource.COMPOSITE)
    seen = np.stack(list(read_animation(tmp_path / "a.gif")))
    assert (seen[:, 18:] == seen[0, 18:]).all() and (seen[1, :18] != seen[0, :18]).any()


def test_dithering_preserves_the_mean_color():
    """256 grays in a palette of 32: colors are off by up to 4, the mean of 8x8 pixels by less."""
    grays = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    palette = Image.fromarray(grays[:, ::8]).quantize(32)
    shown = np.array(animation._dither(Image.fromarray(grays.repeat(8, axis=0).repeat(8, axis=1)),
                                       palette).convert("RGB"))
    error = abs(shown.reshape(8, 256, 8, 3).mean(axis=(0, 2)) - grays[0])
    assert error[8:-8].max() < 1
    assert set(np.unique(animation._BAYER)) == {(k + 0.5) / 64 - 0.5 for k in range(64)}


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_exif_orientation(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    exact = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", moving(), duration=50, exif=exif, **exact)
    got = read_animation(path)
    assert (got.width, got.height) == (40, 60)
    for seen, frame in zip(got, moving()):
        np.testing.assert_array_equal(seen, np.rot90(frame, -1))


def test_the_default_image_of_an_apng_is_skipped(tmp_path):
    frames = moving()
    save(tmp_path / "a.png", [255 - frames[0], *frames], default_image=True, duration=50)
    got = read_animation(tmp_path / "a.png")
    assert got.frames == 5 and (np.stack(list(got)) == frames).all()


def test_an_ignored_color_profile_is_noted(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(tmp_path / "a.png", moving(), duration=50, icc_profile=profile)
    assert read_animation(tmp_path / "a.png").notes == ("color profile ignored",)


@pytest.mark.parametrize("kind", ["missing", "text", "still", "still.png", "empty"])
def test_files_that_are_not_animations(tmp_path, kind):
    path = tmp_path / ("a.png" if kind == "still.png" else "a.gif")
    if kind.startswith("still"):
        Image.fromarray(moving(1)[0]).save(path)
    elif kind != "missing":
        path.write_bytes(b"text" * 100 if kind == "text" else b"")
    if kind.startswith("still"):
        assert isinstance(open_media(path), DecodedImage)
    else:
        for read in (open_media, read_animation):
            with pytest.raises(ImageError) as caught:
                read(path)
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_an_animation_cut_short_gives_the_frames_before(tmp_path, suffix):
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)
    whole = save(tmp_path / f"a{suffix}", frames, duration=50).read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(whole[: len(whole) * 7 // 10])
    got = read_animation(tmp_path / f"cut{suffix}")
    assert 2 <= got.frames <= 4 and got.notes[0].startswith(f"damaged: {got.frames} frames")
    assert len(list(got)) == got.frames


def test_limits(tmp_path, monkeypatch):
    path = save(tmp_path / "a.gif", moving(), duration=50)
    monkeypatch.setattr(animation, "TOTAL_PIXEL_LIMIT", 4 * 40 * 60)
    with pytest.raises(ImageError, match="more than"):
        read_animation(path)
    with pytest.raises(ImageError, match="more than"):
        write_animation(tmp_path / "b.gif", moving(), DURATIONS, 0, DigitalSource.COMPOSITE)
    monkeypatch.setattr(animation, "TOTAL_PIXEL_LIMIT", 10**9)
    monkeypatch.setattr(animation, "FRAME_LIMIT", 4)
    with pytest.raises(ImageError, match="more than 4 frames"):
        read_animation(path)


def test_a_header_that_claims_too_much_is_rejected(tmp_path):
    content = bytearray(save(tmp_path / "a.gif", moving(), duration=50).read_bytes())
    content[6:10] = struct.pack("<HH", 20000, 20000)
    (tmp_path / "a.gif").write_bytes(content)
    with pytest.raises(ImageError):
        read_animation(tmp_path / "a.gif")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_interrupted_write_keeps_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"of before")

    def frames():
        yield moving()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_animation(path, frames(), DURATIONS, 0, DigitalSource.COMPOSITE)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"of before"


def test_wrong_arguments(tmp_path):
    with pytest.raises(ImageError, match="unknown animation format"):
        write_animation(tmp_path / "a.bmp", moving(), DURATIONS, 0, DigitalSource.COMPOSITE)
    with pytest.raises(ImageError, match="no frames"):
        write_animation(tmp_path / "a.gif", [], [], 0, DigitalSource.COMPOSITE)
    with pytest.raises(ValueError, match="as many frames as durations"):
        write_animation(tmp_path / "a.gif", moving(), [50], 0, DigitalSource.COMPOSITE)
    with pytest.raises(ValueError, match="expected frames"):
        write_animation(tmp_path / "a.gif", [moving()[0], moving(1, 50, 50)[0]], [50, 50], 0, DigitalSource.COMPOSITE)
    with pytest.raises(ImageError, match="does not exist"):
        write_animation(tmp_path / "no" / "a.gif", moving(), DURATIONS, 0, DigitalSource.COMPOSITE)
    assert list(tmp_path.iterdir()) == []
