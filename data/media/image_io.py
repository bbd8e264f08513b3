"""Read and write images.

All images are read with `read_image`, which returns upright 8-bit sRGB whatever the format. All are
written with `save_image`, which writes atomically and adds the provenance label to synthetic images
(data/media/provenance.py).

Legend: H, W height and width. Pixels are (H, W, 3) uint8 RGB, alpha is (H, W) uint8, 255 opaque.
"""

import io
import os
import pathlib
import struct
import warnings
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from data.media.provenance import GIF_EXTENSION, DigitalSource, find_source, gif_with_packet, label_packet, sidecar_path
from data.support.errors import UserError
from nn.serialize import written_whole

IMAGE_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif",
                  ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif")
# Limits on the pixels, checked in the header: a small file may decode to many gigabytes.
PIXEL_LIMIT = 65_000_000  # reading takes 13 bytes per pixel
HEAVY_FORMAT_LIMIT = 40_000_000  # for formats whose decoders take 20 bytes per pixel and more

_HEAVY_FORMATS = ("WEBP", "JPEG2000", "AVIF")
# Only these formats are read: Pillow would pass PostScript to an external interpreter.
_READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_EXIF_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")  # formats from and to which EXIF tags are carried over
_MAX_EXIF = 65_000  # bytes: a JPEG cannot hold more
_ICC_SPACE = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}

# Suffixes -> (Pillow's format, its options, supports alpha, name of the option for the XMP packet;
# "": it needs a sidecar file).
_WRITTEN_FORMATS = {
    (".png", ".apng"): ("PNG", {"compress_level": 4}, True, "pnginfo"),  # a third of the default's time, 3 % larger
    (".jpg", ".jpeg", ".jpe", ".jfif"): ("JPEG", {"quality": 95, "subsampling": 0}, False, "xmp"),
    (".webp",): ("WEBP", {"quality": 95, "exact": True}, True, "xmp"),
    (".avif",): ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, True, "xmp"),
    (".tif", ".tiff"): ("TIFF", {"compression": "tiff_deflate"}, True, "tiffinfo"),
    (".jp2",): ("JPEG2000", {}, True, ""),
    (".bmp",): ("BMP", {}, False, ""),
    (".gif",): ("GIF", {}, False, "extension"),
    (".ppm", ".pnm"): ("PPM", {}, False, ""),
}
WRITABLE_IMAGES = {suffix: written for suffixes, written in _WRITTEN_FORMATS.items() for suffix in suffixes}

# Above this limit Pillow warns, and above twice the limit it raises; here both are errors.
Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT
warnings.simplefilter("error", Image.DecompressionBombWarning)

BOMB_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What Pillow raises for broken files, found by fuzzing (tests/soak.py).
DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, MemoryError, IndexError, KeyError, TypeError,
                 OverflowError, struct.error, *BOMB_ERRORS)


class ImageError(UserError, ValueError):
    """An image that cannot be read or written. The message is one line: what, where, what to do."""


@dataclass
class DecodedImage:
    """An upright sRGB image. notes: conversions on reading, one phrase each."""

    path: pathlib.Path
    label: DigitalSource | None  # the provenance label of the file or its sidecar file
    pixels: np.ndarray  # (H, W, 3) uint8
    alpha: np.ndarray | None = None  # (H, W) uint8
    exif: bytes | None = None  # tags such as the date, without the orientation and the preview image
    notes: list = field(default_factory=list)


def list_images(folder):
    """Return the paths of the images directly in `folder`, sorted by name, without hidden files.

    Raises ImageError if `folder` is not a folder.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder; give the folder that contains the images")
    return sorted(p for p in folder.iterdir()
                  if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file())


def read_image(path):
    """Read an image file as upright 8-bit sRGB.

    The EXIF orientation is applied and an ICC profile is converted to sRGB. Gray, palette, 1-bit,
    16-bit, float and CMYK images become RGB. Only the first of several frames is read. Raises
    ImageError if the file cannot be read, or has more than PIXEL_LIMIT pixels.
    """
    with open_image(path) as image:
        return decode_image(path, image)


def decode_image(path, image):
    """Return the DecodedImage of a file that open_image has opened. Raises ImageError."""
    notes = _depth_notes(image)
    try:
        notes = _frame_notes(image) + notes
        profile, label = image.info.get("icc_profile"), label_of(path, image)
        image.load()
        exif, turned = _turn_upright(image)
        image, alpha = _split_alpha(image)
        image, converted = _to_srgb(_to_8_bit(image), profile)
    except MemoryError as error:
        size = f"{image.width} x {image.height}"
        raise ImageError(f"{path} needs more memory than is free ({size} pixels); scale it down first") from error
    except DECODE_ERRORS as error:
        reason = one_line(error)
        raise ImageError(f"{path} is damaged or cut short ({reason}); remove it or fetch it again") from error
    return DecodedImage(pathlib.Path(path), label, np.array(image), alpha, exif, notes + turned + converted)


def open_image(path):
    """Open an image lazily with Pillow, after checks that need only the header. Raises ImageError."""
    check_source(pathlib.Path(path))
    try:
        image = Image.open(path, formats=_READ_FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image that can be read; use PNG, JPEG, WebP, TIFF, BMP or GIF") from error
    except BOMB_ERRORS as error:
        raise _too_large(path) from error
    except DECODE_ERRORS as error:
        raise ImageError(f"{path} cannot be read ({one_line(error)}); check the file and its permissions") from error
    limit = HEAVY_FORMAT_LIMIT if image.format in _HEAVY_FORMATS else PIXEL_LIMIT
    if image.width * image.height > limit:
        image.close()
        raise _too_large(path, limit)
    return image


def check_source(path, error=ImageError):
    """Raise `error` if a path is not that of a file with content."""
    if not path.is_file():
        raise error(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    if path.stat().st_size == 0:
        raise error(f"{path} is empty (0 bytes); remove it or fetch it again")


def _too_large(path, limit=PIXEL_LIMIT):
    return ImageError(f"{path} has more than {limit // 1_000_000} million pixels; scale it down first")


def _frame_notes(image):
    """Return a note if only the first of several frames is used."""
    try:
        frames = getattr(image, "n_frames", 1)
    except DECODE_ERRORS:
        image.seek(0)
        return ["damaged after its first frame, which is used"]
    return [f"{frames} frames: only the first is used"] if frames > 1 else []


def _depth_notes(image):
    """Return notes on the pixel format. It must be checked before decoding."""
    notes = []
    if ";16" in image.mode or ";16" in str(image.tile) or image.mode == "I":
        notes.append("16-bit converted to 8-bit")
    if image.mode == "F":
        notes.append("floating point converted to 8-bit")
    return notes


def _turn_upright(image):
    """Turn an image upright, in place. Return (its EXIF tags as bytes or None, notes)."""
    try:
        tags = image.getexif()
        is_turned = tags.get(0x0112, 1) in range(2, 9)
        ImageOps.exif_transpose(image, in_place=True)
        tags.pop(0x0112, None)
        exif = tags.tobytes() if tags and image.format in _EXIF_FORMATS else None
    except Exception as error:  # broken EXIF raises many types; the pixels are good anyway
        return None, [f"broken EXIF ignored ({one_line(error)})"]
    return exif, ["rotated upright (EXIF orientation)"] if is_turned else []


def _split_alpha(image):
    """Return (image without transparency, alpha (H, W) uint8 or None)."""
    if image.has_transparency_data and not image.mode.startswith("I"):  # Pillow would clip 16-bit gray
        image = image.convert("RGBA")
    if image.mode != "RGBA":
        return image, None
    return image.convert("RGB"), np.array(image.getchannel("A"))


def _to_8_bit(image):
    """Convert any mode to one that a color profile can apply to: L, RGB or CMYK."""
    if image.mode in _ICC_SPACE:
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return _scaled(values, 65535.0 if values.max(initial=0) <= 65535 else 2.0**31 - 1)
    if image.mode == "F":
        values = np.asarray(image)
        # Floating-point files use the range 0..1, 0..255 or 0..65535: guess it from the maximum.
        largest = float(values.max(initial=0, where=np.isfinite(values)))
        return _scaled(values, 1.0 if largest <= 1 else 255.0 if largest <= 255 else max(65535.0, largest))
    return image.convert("L" if image.mode == "1" else "RGB")


def _scaled(values, full):
    """Convert gray values (H, W), 0..full, to an 8-bit image, in chunks to limit the memory."""
    gray = np.empty(values.shape, np.uint8)
    source, target, chunk = values.reshape(-1), gray.reshape(-1), 1 << 20
    for k in range(0, len(source), chunk):
        target[k : k + chunk] = np.rint(np.clip(np.nan_to_num(source[k : k + chunk] / full), 0, 1) * 255)
    return Image.fromarray(gray)


def _to_srgb(image, profile):
    """Return (RGB image, notes). A broken or unsuitable profile is ignored with a note."""
    mode, notes = image.mode, []
    if mode == "CMYK":
        notes.append("CMYK converted to RGB")
    if profile:
        try:
            converted = _apply_profile(image, profile)
        except Exception as error:  # littlecms and Pillow raise many types for a bad profile
            notes.append(f"color profile ignored ({one_line(error)})")
        else:
            if converted is not None:
                return converted, notes + ["color profile converted to sRGB"]
    return image.convert("RGB"), notes


def _apply_profile(image, profile):
    """Convert to sRGB with littlecms. Return None if the profile is sRGB already: a conversion
    would only round."""
    from PIL import ImageCms  # some builds of Pillow lack littlecms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != _ICC_SPACE[image.mode]:
        raise ValueError(f"it is for {source.profile.xcolor_space.strip()}, the image is {image.mode}")
    if image.mode == "RGB" and "sRGB" in (source.profile.profile_description or ""):
        return None
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")


def save_image(path, pixels, source, alpha=None, text=None, exif=None):
    """Write an image with its provenance label, atomically. Only this function writes images.

    path: the suffix chooses the format; an existing file is replaced once the new one is complete
    pixels: (H, W, 3) uint8
    source: a DigitalSource; None: the image is (part of) a photo, not synthetic, and gets no label
    alpha: (H, W) uint8 or None
    text: {keyword: text} for the text chunks of a PNG; an error for other formats
    exif: tags as bytes (DecodedImage.exif)
    If the format cannot store the label, it is written to a sidecar file, NAME.EXT.xmp.
    Returns notes, one phrase for each loss in this format. Raises ImageError.
    """
    path = pathlib.Path(path)
    content, notes = encode_image(path, pixels, source, alpha, text, exif)
    if source is None or _format_of(path)[3]:
        write_atomically(path, content)
        return notes
    write_atomically(sidecar_path(path), label_packet(source))  # first, so that the image is never without a label
    try:
        write_atomically(path, content)
    except ImageError:
        if not path.exists():
            sidecar_path(path).unlink()
        raise
    return notes


def encode_image(path, pixels, source, alpha=None, text=None, exif=None):
    """Return (bytes, notes) of the file that save_image would write, without a label that needs a
    sidecar file."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"save_image: expected pixels (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    kind, options, supports_alpha, label_option = _format_of(path)
    notes = []
    if text and kind != "PNG":
        raise ImageError(f"cannot write {path}: only PNG can store its text chunks; use a name that ends in .png")
    if alpha is not None and not supports_alpha:
        notes.append(f"transparency dropped: {kind} files are written without it")
        alpha = None
    if kind == "GIF":
        notes.append("colors reduced to the 256 of a GIF")
    if source is not None and not label_option:
        notes.append(f"{kind} cannot store the label: it is in {sidecar_path(path).name}")
    if exif and (kind not in _EXIF_FORMATS or len(exif) > _MAX_EXIF):
        notes.append(f"EXIF tags not carried over: {kind} files cannot hold them, keep the original")
    elif exif:
        options = options | {"exif": exif}
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if alpha is not None:
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    encoded = io.BytesIO()
    try:
        image.save(encoded, kind, **options, **_label_options(label_option, source, text or {}))
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"cannot write {path}: the {kind} encoder failed ({one_line(error)}); "
                         "choose another format or size") from error
    content = encoded.getvalue()
    return gif_with_packet(content, label_packet(source)) if kind == "GIF" and source else content, notes


def _format_of(path):
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in WRITABLE_IMAGES:
        known = " ".join(sorted(WRITABLE_IMAGES))
        raise ImageError(f"cannot write {path}: unknown image format '{suffix}'; use one of {known}")
    return WRITABLE_IMAGES[suffix]


def _label_options(option, source, text):
    packet = None if source is None else label_packet(source)
    if option == "pnginfo":
        info = PngImagePlugin.PngInfo()
        labels = {"XML:com.adobe.xmp": packet.decode()} if packet else {}
        for keyword, value in (text | labels).items():
            info.add_itxt(keyword, value)
        return {"pnginfo": info}
    if packet is None:
        return {}
    if option == "tiffinfo":
        return {"tiffinfo": {700: packet}}  # tag 700 is XMP (Adobe XMP specification, part 3)
    return {option: packet} if option == "xmp" else {}


def jpeg_bytes(pixels, quality):
    """Encode an image (H, W, 3) uint8 as JPEG in memory. Not for files: it has no label."""
    encoded, image = io.BytesIO(), Image.fromarray(np.ascontiguousarray(pixels))
    image.save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


def write_atomically(path, content):
    """Write bytes to a temporary file next to `path`, flush it to disk and rename it: `path` is
    never half written.

    Raises ImageError, one line, if the folder is missing or not writable, or the disk is full.
    """
    try:
        with written_whole(checked_target(path)) as file:
            file.write(content)
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"cannot write {path}: {reason}; free disk space or choose another folder") from error


def checked_target(path, error=ImageError):
    """Return the file that writing to `path` replaces: the target of a link, not the link.

    Raises `error` if its folder is missing or it is write-protected.
    """
    target = pathlib.Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise error(f"cannot write {path}: the folder {target.parent} does not exist; create it first")
    if target.is_dir() or (target.exists() and not os.access(target, os.W_OK)):
        reason = "a folder" if target.is_dir() else "write-protected"
        raise error(f"cannot write {path}: it is {reason}; choose another name")
    return target


def one_line(error):
    """Return the text of an error as one line."""
    return " ".join(str(error).split()) or type(error).__name__


_MAX_LABEL_BYTES = 1 << 20  # how much of a file is searched for a label


def read_label(path):
    """Return the DigitalSource that an image or its sidecar file declares, or None."""
    with open_image(path) as image:
        return label_of(path, image)


def label_of(path, image):
    """Return the DigitalSource of an image that open_image has opened, or None."""
    packet = image.info.get("xmp") or (_gif_packet(path) if image.format == "GIF" else b"")
    if not packet and os.path.isfile(sidecar_path(path)):  # False for a name that is too long
        packet = _read_start(sidecar_path(path))
    if isinstance(packet, str):
        packet = packet.encode()
    return find_source(packet)


def _gif_packet(path):
    """Return the content of a GIF from its XMP packet on; Pillow does not read it."""
    return _read_start(path).partition(GIF_EXTENSION)[2]


def _read_start(path):
    with open(path, "rb") as file:
        return file.read(_MAX_LABEL_BYTES)
