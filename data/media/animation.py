"""Read and write animated images with Pillow: GIF, WebP and APNG.

An animation is read frame by frame, as upright RGB, and can be read again from the start. A GIF is
written with one palette for all frames and with ordered dithering. So parts that do not change keep
their colors from frame to frame; error diffusion would make them flicker.

Legend: H, W height and width. Frames are (H, W, 3) uint8 RGB, alpha is (H, W) uint8, 255 opaque.
Durations are milliseconds.
"""

import io
import itertools
import pathlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from data.media.image_io import DECODE_ERRORS, ImageError, label_of, one_line, open_image, write_atomically
from data.media.provenance import DigitalSource, gif_with_packet, label_packet

ANIMATION_SUFFIXES = (".gif", ".webp", ".png", ".apng")
FRAME_LIMIT = 10_000
FRAME_PIXEL_LIMIT = 16_000_000  # combining a frame with the earlier ones takes 30 bytes per pixel
TOTAL_PIXEL_LIMIT = 100_000_000  # all frames together; writing holds them all in memory, 8 bytes per pixel

_FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
_TRANSPARENT_INDEX = 255  # palette index of a GIF for transparent pixels
_PALETTE_SAMPLE = 1 << 19  # number of pixels that the palette is fitted to
# The 8x8 matrix of ordered dithering (Bayer 1973), -0.5..0.5.
_BAYER_2 = np.array([[0, 2], [3, 1]])
_BAYER_4 = np.kron(np.ones((2, 2), int), _BAYER_2) * 4 + np.kron(_BAYER_2, np.ones((2, 2), int))
_BAYER = (np.kron(np.ones((2, 2), int), _BAYER_4) * 4 + np.kron(_BAYER_2, np.ones((4, 4), int)) + 0.5) / 64 - 0.5
_DITHER = 8.0  # range of the added levels: about half the distance between 255 fitted colors


@dataclass(frozen=True)
class Animation:
    """An animated image file. Iterating over it decodes its frames one by one.

    label: the provenance label of the file, or None
    durations: one for each frame
    loop: how often the animation plays; 0: forever
    notes: what was ignored or damaged, one phrase each
    """

    path: pathlib.Path
    label: DigitalSource | None
    width: int
    height: int
    durations: tuple
    loop: int
    has_alpha: bool
    notes: tuple = ()

    @property
    def frames(self):
        """Number of frames."""
        return len(self.durations)

    def __iter__(self):
        for frame in self._frames():
            yield np.array(frame.convert("RGB"))

    def time(self, index):
        """Return the time of a frame, in seconds from the start."""
        return sum(self.durations[:index]) / 1000

    @property
    def alpha(self):
        """An iterator over the alpha of each frame; None if every pixel is opaque."""
        return (np.array(frame.getchannel("A")) for frame in self._frames()) if self.has_alpha else None

    def _frames(self):
        with open_image(self.path) as image:
            yield from itertools.islice((frame for frame, _ in _decoded(image)), self.frames)


def is_animation(image):
    """Return whether an image opened by open_image is a GIF, WebP or PNG with more than one frame."""
    try:
        return image.format in _FORMATS.values() and image.n_frames - _first_frame(image) > 1
    except DECODE_ERRORS:
        return False


def read_animation(path):
    """Check an animated GIF, WebP or PNG and return it as an Animation."""
    with open_image(path) as image:
        return decode_animation(path, image)


def decode_animation(path, image):
    """Return the Animation of a file that open_image has opened, after decoding it once.

    A file that is damaged or cut short gives the frames before the damage, with a note. Raises
    ImageError if no frame can be read, and for more than FRAME_LIMIT frames, FRAME_PIXEL_LIMIT
    pixels in one frame or TOTAL_PIXEL_LIMIT in all.
    """
    durations, has_alpha, notes = [], False, []
    if image.width * image.height > FRAME_PIXEL_LIMIT:
        raise _too_long(path)
    loop = _loop_count(image)
    if image.info.get("icc_profile"):
        notes.append("color profile ignored")
    try:
        for frame, duration in _decoded(image):
            width, height = frame.size
            durations.append(duration)
            has_alpha = has_alpha or frame.getchannel("A").getextrema()[0] < 255
            if len(durations) > FRAME_LIMIT or len(durations) * width * height > TOTAL_PIXEL_LIMIT:
                raise _too_long(path)
    except ImageError:
        raise
    except DECODE_ERRORS as error:
        reason = one_line(error)
        if not durations:
            raise ImageError(f"{path} is damaged or cut short ({reason}); remove it or fetch it again") from error
        notes.append(f"damaged: {len(durations)} frames could be read ({reason})")
    if not durations:
        raise ImageError(f"{path} contains no frames; give an animated GIF, WebP or PNG")
    label = label_of(path, image)
    return Animation(pathlib.Path(path), label, width, height, tuple(durations), loop, has_alpha, tuple(notes))


def _too_long(path):
    one, total = FRAME_PIXEL_LIMIT // 1_000_000, TOTAL_PIXEL_LIMIT // 1_000_000
    limits = f"{FRAME_LIMIT} frames, {one} million pixels in one frame or {total} million in all"
    return ImageError(f"{path} has more than {limits}; convert it to a video (MP4), scale it down or shorten it")


def _first_frame(image):
    """Return the index of the first frame. A PNG may start with a still image for programs without
    APNG support."""
    return int(bool(getattr(image, "default_image", False)))


def _loop_count(image):
    """Return how often the animation plays, 0 for forever. A GIF stores the repetitions, or nothing
    if it plays once."""
    loop = image.info.get("loop")
    if image.format != "GIF":
        return loop or 0
    return 1 if loop is None else loop + 1 if loop else 0


def _decoded(image):
    """Yield (upright RGBA image, milliseconds) for each frame."""
    for number in itertools.count(_first_frame(image)):
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
    """Write an animated GIF, WebP or PNG with its provenance label, atomically.

    path: the suffix chooses the format
    frames: iterable of (H, W, 3) uint8, one for each duration
    durations: milliseconds, 0 or more
    loop: how often the animation plays; 0: forever
    source: the DigitalSource of the frames
    alpha: iterable of (H, W) uint8; None: all pixels are opaque
    Returns notes, one phrase for each loss in this format. Raises ImageError.
    """
    path = pathlib.Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"cannot write {path}: unknown animation format '{path.suffix}'; use {' '.join(_FORMATS)}")
    packet = label_packet(source)
    images = _images(path, frames, alpha)
    if len(images) != len(durations):
        counts = f"{len(images)} and {len(durations)}"
        raise ValueError(f"write_animation: expected as many frames as durations, got {counts}")
    options, notes = {"loop": loop}, []
    if kind == "WEBP":
        options |= {"duration": list(durations), "quality": 90, "method": 4, "xmp": packet}
    elif kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        options |= {"duration": _round_durations(durations, 1), "pnginfo": info}
    else:
        palette = _palette(images)  # shared by all frames
        images = [_dither(image, palette) for image in images]
        # disposal 1: keep the frame below the next one, 2: clear it
        options = {"duration": _round_durations(durations, 10), "disposal": 1 if alpha is None else 2}
        if loop != 1:
            options["loop"] = max(0, loop - 1)  # repetitions
        notes.append("colors reduced to the 256 of a GIF")
        notes += ["partial transparency rounded: GIF does not support it"] if alpha is not None else []
    encoded = io.BytesIO()
    image, *others = images
    try:
        image.save(encoded, kind, save_all=True, append_images=others, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = one_line(error)
        raise ImageError(f"cannot write {path}: the {kind} encoder failed ({reason}); "
                         "choose another format or size") from error
    content = encoded.getvalue()
    write_atomically(path, gif_with_packet(content, packet) if kind == "GIF" else content)
    return notes


def _images(path, frames, alpha):
    """Return the frames as Pillow images, RGB or RGBA."""
    images, pixels = [], 0
    for frame, frame_alpha in zip(frames, itertools.repeat(None) if alpha is None else alpha):
        height, width = images[0].size[::-1] if images else frame.shape[:2]
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            expected = f"({height}, {width}, 3) uint8"
            raise ValueError(f"write_animation: expected frames {expected}, got {frame.shape} {frame.dtype}")
        pixels += height * width
        if pixels > TOTAL_PIXEL_LIMIT:
            raise _too_long(path)
        image = Image.fromarray(np.ascontiguousarray(frame))
        if frame_alpha is not None:
            image.putalpha(Image.fromarray(np.ascontiguousarray(frame_alpha)))
        images.append(image)
    if not images:
        raise ImageError(f"cannot write {path}: there are no frames to write")
    return images


def _round_durations(durations, step):
    """Round durations to ints, multiples of the format's step. Each frame's start time is rounded,
    so there is no drift."""
    ends = np.rint(np.cumsum(np.asarray(durations, float)) / step).astype(int) * step
    return np.diff(ends, prepend=0).tolist()


def _palette(images):
    """Return a palette image of 255 colors, fitted to pixels from the whole animation. The 256th is for
    transparent pixels."""
    width, height = images[0].size
    step = max(1, int(np.ceil(np.sqrt(width * height * len(images) / _PALETTE_SAMPLE))))
    sample = np.concatenate([np.array(image.convert("RGB"))[::step, ::step].reshape(-1, 3) for image in images])
    return Image.fromarray(sample[None]).quantize(_TRANSPARENT_INDEX, Image.Quantize.MEDIANCUT, kmeans=1)


def _dither(image, palette):
    """Map an image to a palette with ordered dithering."""
    colors = np.array(image.convert("RGB"), np.float32)
    height, width = colors.shape[:2]
    pattern = np.tile(_BAYER * _DITHER, (height // 8 + 1, width // 8 + 1))[:height, :width, None].astype(np.float32)
    dithered = Image.fromarray(np.clip(np.rint(colors + pattern), 0, 255).astype(np.uint8))
    result = dithered.quantize(palette=palette, dither=Image.Dither.NONE)
    if image.mode == "RGBA":
        result.paste(_TRANSPARENT_INDEX, mask=image.getchannel("A").point(lambda value: 255 * (value < 128)))
        result.info["transparency"] = _TRANSPARENT_INDEX
    return result
