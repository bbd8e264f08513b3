"""Animated pictures in and out: GIF, WebP and APNG, by Pillow.

An animation is read frame by frame, as upright RGB, and may be read again from the start. A GIF is written with one palette
for all frames and with ordered dithering: what stays the same from frame to frame keeps its colours, where error diffusion
would flicker.

Legend: H, W height and width. Frames are (H, W, 3) uint8 RGB, alpha is (H, W) uint8, 255 opaque. Durations are milliseconds.
"""

import io
import itertools
import pathlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from data.media.image_io import BOMBS, FAULTS, PIXEL_LIMIT, PictureError, write_whole
from data.media.provenance import gif_with_packet, label_packet

ANIMATION_SUFFIXES = (".gif", ".webp", ".png", ".apng")
FRAME_LIMIT = 10_000
FRAME_PIXEL_LIMIT = 16_000_000  # 30 bytes a pixel while a frame is laid over those before
TOTAL_PIXEL_LIMIT = 100_000_000  # of all frames together: they are held at once where they are written, 8 bytes a pixel

_FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
_CLEAR = 255  # the palette's entry of a GIF for transparent pixels
_PALETTE_SAMPLE = 1 << 19  # pixels that the palette is made from
# The 8x8 matrix of ordered dithering (Bayer 1973), -0.5..0.5.
_BAYER_2 = np.array([[0, 2], [3, 1]])
_BAYER_4 = np.kron(np.ones((2, 2), int), _BAYER_2) * 4 + np.kron(_BAYER_2, np.ones((2, 2), int))
_BAYER = (np.kron(np.ones((2, 2), int), _BAYER_4) * 4 + np.kron(_BAYER_2, np.ones((4, 4), int)) + 0.5) / 64 - 0.5
_DITHER = 8.0  # levels from the least to the most that is added: about half the step between 255 fitted colours


@dataclass(frozen=True)
class Animation:
    """An animated picture on the disk: iterating gives its frames, decoded one by one.

    durations: one for each frame. loop: how often it plays, 0 for ever. notes: what was ignored or damaged, a phrase each.
    """

    path: pathlib.Path
    width: int
    height: int
    durations: tuple
    loop: int
    has_alpha: bool
    notes: tuple = ()

    def __len__(self):
        return len(self.durations)

    def __iter__(self):
        for frame in self._frames():
            yield np.array(frame.convert("RGB"))

    @property
    def alpha(self):
        """The transparency of each frame, decoded one by one; None where every pixel is opaque."""
        return (np.array(frame.getchannel("A")) for frame in self._frames()) if self.has_alpha else None

    def _frames(self):
        with _opened(self.path) as image:
            yield from itertools.islice((frame for frame, _ in _decoded(image)), len(self))


def is_animation(path):
    """Whether a file is a GIF, WebP or PNG of more than one frame. False for whatever cannot be read."""
    try:
        with _opened(path) as image:
            return image.n_frames - _first(image) > 1
    except (PictureError, *FAULTS):
        return False


def read_animation(path):
    """Look through an animated GIF, WebP or PNG: an Animation.

    A file that is damaged or cut short gives the frames before the damage, with a note. Raises PictureError for what cannot
    be read at all, and for more than FRAME_LIMIT frames, FRAME_PIXEL_LIMIT pixels in one or TOTAL_PIXEL_LIMIT in all.
    """
    path = pathlib.Path(path)
    durations, clear, notes = [], False, []
    with _opened(path) as image:
        if image.width * image.height > FRAME_PIXEL_LIMIT:
            raise _too_long(path)
        loop = _plays(image)
        if image.info.get("icc_profile"):
            notes.append("colour profile ignored")
        try:
            for frame, duration in _decoded(image):
                width, height = frame.size
                durations.append(duration)
                clear = clear or frame.getchannel("A").getextrema()[0] < 255
                if len(durations) > FRAME_LIMIT or len(durations) * width * height > TOTAL_PIXEL_LIMIT:
                    raise _too_long(path)
        except PictureError:
            raise
        except FAULTS as error:
            reason = _one_line(error)
            if not durations:
                raise PictureError(f"{path} is damaged or cut short ({reason}); remove it or fetch it again") from error
            notes.append(f"damaged: {len(durations)} frames could be read ({reason})")
    if not durations:
        raise PictureError(f"{path} holds no frames; give an animated GIF, WebP or PNG")
    return Animation(path, width, height, tuple(durations), loop, clear, tuple(notes))


def _too_large(path):
    return PictureError(f"{path} has more than {PIXEL_LIMIT // 1_000_000} million pixels a frame; make it smaller first")


def _too_long(path):
    limits = f"{FRAME_LIMIT} frames, {FRAME_PIXEL_LIMIT // 1_000_000} million pixels in one or {TOTAL_PIXEL_LIMIT // 1_000_000} million"
    return PictureError(f"{path} has more than {limits} in all; make it a video (MP4), smaller or shorter")


def _opened(path):
    """Pillow's lazy image after the checks that need only the header."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise PictureError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    try:
        image = Image.open(path, formats=("GIF", "WEBP", "PNG"))
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not an animation that can be read; use GIF, WebP or PNG") from error
    except BOMBS as error:
        raise _too_large(path) from error
    except FAULTS as error:
        raise PictureError(f"{path} cannot be read ({_one_line(error)}); check the file and its permissions") from error
    if image.width * image.height > PIXEL_LIMIT:
        image.close()
        raise _too_large(path)
    return image


def _first(image):
    """The number of the first frame: a PNG may begin with a picture for programs that know no animation."""
    return int(bool(getattr(image, "default_image", False)))


def _plays(image):
    """How often the animation plays, 0 for ever. A GIF counts the times after the first, and is silent for none."""
    loop = image.info.get("loop")
    if image.format != "GIF":
        return loop or 0
    return 1 if loop is None else loop + 1 if loop else 0


def _decoded(image):
    """(upright RGBA image, milliseconds) of one frame after the other."""
    for number in itertools.count(_first(image)):
        try:
            image.seek(number)
        except EOFError:
            if number < image.n_frames:
                raise ValueError(f"it ends before frame {number + 1} of {image.n_frames}") from None
            return
        frame = ImageOps.exif_transpose(image).convert("RGBA")
        yield frame, float(image.info.get("duration", 0))


# --- Writing ---


def write_animation(path, frames, durations, loop, source, alpha=None):
    """Write an animated GIF, WebP or PNG with its label: the whole file, or none.

    path: the suffix chooses the format. frames: iterable of (H, W, 3) uint8, one for each of the durations (ms, 0 or more).
    loop: how often it plays, 0 for ever. source: a DigitalSource. alpha: iterable of (H, W) uint8, or None if all is opaque.
    Returns notes, one phrase for each thing that the format cannot hold. Raises PictureError.
    """
    path = pathlib.Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise PictureError(f"cannot write {path}: unknown kind of animation '{path.suffix}'; use {' '.join(_FORMATS)}")
    packet = label_packet(source)
    images = _images(path, frames, alpha)
    if len(images) != len(durations):
        raise ValueError(f"write_animation: expected as many frames as durations, got {len(images)} and {len(durations)}")
    options, notes = {"WEBP": _webp_options, "PNG": _png_options, "GIF": _gif_options}[kind](durations, loop, packet), []
    if kind == "GIF":
        images = _reduced(images)
        options["disposal"] = 1 if alpha is None else 2  # kept where the next frame covers it, else cleared
        notes.append("GIF holds 256 colours: the frames are reduced to them")
        notes += ["GIF holds no half transparency: it is rounded"] if alpha is not None else []
    encoded = io.BytesIO()
    image, *others = images
    try:
        image.save(encoded, kind, save_all=True, append_images=others, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = _one_line(error)
        raise PictureError(f"cannot write {path}: {kind} refused it ({reason}); choose another format or size") from error
    content = encoded.getvalue()
    write_whole(path, gif_with_packet(content, packet) if kind == "GIF" else content)
    return notes


def _images(path, frames, alpha):
    """The frames as Pillow's images, RGB or RGBA."""
    images, pixels = [], 0
    for frame, clear in zip(frames, itertools.repeat(None) if alpha is None else alpha):
        height, width = images[0].size[::-1] if images else frame.shape[:2]
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            expected = f"({height}, {width}, 3) uint8"
            raise ValueError(f"write_animation: expected frames {expected}, got {frame.shape} {frame.dtype}")
        pixels += height * width
        if pixels > TOTAL_PIXEL_LIMIT:
            raise _too_long(path)
        image = Image.fromarray(np.ascontiguousarray(frame))
        if clear is not None:
            image.putalpha(Image.fromarray(np.ascontiguousarray(clear)))
        images.append(image)
    if not images:
        raise PictureError(f"cannot write {path}: there are no frames to write")
    return images


def _webp_options(durations, loop, packet):
    return {"duration": list(durations), "loop": loop, "quality": 90, "method": 4, "xmp": packet}


def _png_options(durations, loop, packet):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    return {"duration": _stepped(durations, 1), "loop": loop, "pnginfo": info}


def _gif_options(durations, loop, packet):
    repeated = {} if loop == 1 else {"loop": max(0, loop - 1)}
    return {"duration": _stepped(durations, 10), **repeated}


def _stepped(durations, step):
    """Durations as multiples of the format's step, ints. Each frame begins at the step nearest to its time: no drift."""
    ends = np.rint(np.cumsum(np.asarray(durations, float)) / step).astype(int) * step
    return np.diff(ends, prepend=0).tolist()


def _reduced(images):
    """RGB or RGBA images to palette images that share one palette; transparent pixels get an entry of their own."""
    palette = _palette(images)
    return [_mapped(image, palette) for image in images]


def _palette(images):
    """A palette image of 255 colours, fitted to pixels from all over the animation."""
    width, height = images[0].size
    step = max(1, int(np.ceil(np.sqrt(width * height * len(images) / _PALETTE_SAMPLE))))
    sample = np.concatenate([np.array(image.convert("RGB"))[::step, ::step].reshape(-1, 3) for image in images])
    return Image.fromarray(sample[None]).quantize(_CLEAR, Image.Quantize.MEDIANCUT, kmeans=1)


def _mapped(image, palette):
    colours = np.array(image.convert("RGB"), np.float32)
    height, width = colours.shape[:2]
    pattern = np.tile(_BAYER * _DITHER, (height // 8 + 1, width // 8 + 1))[:height, :width, None].astype(np.float32)
    dithered = Image.fromarray(np.clip(np.rint(colours + pattern), 0, 255).astype(np.uint8))
    mapped = dithered.quantize(palette=palette, dither=Image.Dither.NONE)
    if image.mode == "RGBA":
        mapped.paste(_CLEAR, mask=image.getchannel("A").point(lambda value: 255 * (value < 128)))
        mapped.info["transparency"] = _CLEAR
    return mapped


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
