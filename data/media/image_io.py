"""Read and write images.

Every image of the project comes in through `read_picture`, which returns upright 8-bit sRGB whatever the file held, and leaves
through `save_picture`, which writes whole files only and labels what is synthetic (data/media/provenance.py).

Legend: H, W height and width. Pixels are (H, W, 3) uint8 RGB, alpha is (H, W) uint8, 255 opaque.
"""

import io
import os
import pathlib
import struct
import threading
import warnings
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from data.media.provenance import GIF_EXTENSION, find_source, gif_with_packet, label_packet, sidecar

PICTURE_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif")
PIXEL_LIMIT = 65_000_000  # decided from the header: a small file may claim, and decode to, many gigabytes; 13 bytes a pixel while reading
HUNGRY_LIMIT = 40_000_000  # of formats whose decoders take 20 bytes a pixel and more

# Read only what is listed: Pillow would hand PostScript to an outside interpreter.
_HUNGRY = ("WEBP", "JPEG2000", "AVIF")
_READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ICC_SPACE = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}

# Suffix -> (Pillow's format, its options, can hold alpha, name of the option that takes the XMP packet; "" where it goes beside the file).
_PNG = ("PNG", {"compress_level": 4}, True, "pnginfo")  # a third of the usual level's time, for 3 % more bytes
_JPEG = ("JPEG", {"quality": 95, "subsampling": 0}, False, "xmp")
_TIFF = ("TIFF", {"compression": "tiff_deflate"}, True, "tiffinfo")
_PPM = ("PPM", {}, False, "")
_WRITE_FORMATS = {
    ".png": _PNG,
    ".apng": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".jfif": _JPEG,
    ".webp": ("WEBP", {"quality": 95, "exact": True}, True, "xmp"),
    ".avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, True, "xmp"),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".jp2": ("JPEG2000", {}, True, ""),
    ".bmp": ("BMP", {}, False, ""),
    ".gif": ("GIF", {}, False, "extension"),
    ".ppm": _PPM,
    ".pnm": _PPM,
}

# Past the limit Pillow warns before it refuses; both are one refusal here.
Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT
warnings.simplefilter("error", Image.DecompressionBombWarning)


BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What Pillow raises for broken files, as fuzzing (tests/soak.py) found it.
FAULTS = (OSError, ValueError, SyntaxError, EOFError, MemoryError, IndexError, KeyError, TypeError, OverflowError, struct.error, *BOMBS)


class PictureError(ValueError):
    """A picture that cannot be read or written. The message is one line: what, where, what to do."""


@dataclass
class Picture:
    """An upright sRGB picture. notes: what had to be converted on the way, one phrase each."""

    pixels: np.ndarray  # (H, W, 3) uint8
    alpha: np.ndarray | None = None  # (H, W) uint8
    notes: list = field(default_factory=list)


def list_pictures(folder):
    """Paths of the pictures directly in `folder`, by name; hidden files are left out. PictureError where it is no folder."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise PictureError(f"{folder} is not a folder; give the folder that holds the pictures")
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file())


def read_picture(path):
    """Read a picture file as upright 8-bit sRGB.

    EXIF orientation is applied and an ICC profile converted to sRGB; grey, palette, 1-bit, 16-bit, float and CMYK pictures become RGB.
    Of several frames the first is read. Raises PictureError for whatever cannot be read, and for more than PIXEL_LIMIT pixels.
    """
    notes = _count_frames(path)
    with _opened(path) as image:
        notes += _describe(image)
        profile = image.info.get("icc_profile")
        try:
            image.load()
            image, turned = _turn_upright(image)
            image, alpha = _split_alpha(image)
            image, converted = _to_srgb(_to_8_bit(image), profile)
        except FAULTS as error:
            raise PictureError(f"{path} is damaged or cut short ({_one_line(error)}); remove it or fetch it again") from error
    return Picture(np.array(image), alpha, notes + turned + converted)


def _opened(path):
    """Pillow's lazy image after the checks that need only the header."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise PictureError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    try:
        if path.stat().st_size == 0:
            raise PictureError(f"{path} is empty (0 bytes); remove it or fetch it again")
        image = Image.open(path, formats=_READ_FORMATS)
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not a picture that can be read; use PNG, JPEG, WebP, TIFF, BMP or GIF") from error
    except BOMBS as error:
        raise _too_large(path) from error
    except PictureError:
        raise
    except FAULTS as error:
        raise PictureError(f"{path} cannot be read ({_one_line(error)}); check the file and its permissions") from error
    limit = HUNGRY_LIMIT if image.format in _HUNGRY else PIXEL_LIMIT
    if image.width * image.height > limit:
        image.close()
        raise _too_large(path, limit)
    return image


def _too_large(path, limit=PIXEL_LIMIT):
    return PictureError(f"{path} has more than {limit // 1_000_000} million pixels; make it smaller first")


def _count_frames(path):
    """A note on the frames that are not used. The file is opened once more, for counting leaves an image at any frame."""
    with _opened(path) as image:
        try:
            frames = getattr(image, "n_frames", 1)
        except FAULTS:
            return ["damaged behind its first frame, which is used"]
    return [f"{frames} frames: the first is used"] if frames > 1 else []


def _describe(image):
    """Notes that must be taken before decoding."""
    notes = []
    if ";16" in image.mode or ";16" in str(image.tile) or image.mode == "I":
        notes.append("16-bit read as 8-bit")
    if image.mode == "F":
        notes.append("floating point read as 8-bit")
    return notes


def _turn_upright(image):
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception as error:  # a parser of other people's bytes: whatever is wrong with them, the pixels are good
        return image, [f"broken EXIF ignored ({_one_line(error)})"]
    if orientation not in _UPRIGHT:
        return image, []
    upright = image.transpose(_UPRIGHT[orientation])
    image.close()  # its pixels are not needed twice
    return upright, ["turned upright (EXIF orientation)"]


def _split_alpha(image):
    """(image without transparency, alpha (H, W) uint8 or None)."""
    if image.has_transparency_data and not image.mode.startswith("I"):  # Pillow would clip 16-bit grey on the way
        image = image.convert("RGBA")
    if image.mode != "RGBA":
        return image, None
    return image.convert("RGB"), np.array(image.getchannel("A"))


def _to_8_bit(image):
    """Any mode to one that a colour profile speaks of: L, RGB or CMYK."""
    if image.mode in _ICC_SPACE:
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return _scaled(values, 65535.0 if values.max(initial=0) <= 65535 else 2.0**31 - 1)
    if image.mode == "F":
        values = np.asarray(image)
        # Floating-point files come in the ranges 0..1, 0..255 and 0..65535; the largest value tells which.
        largest = float(values.max(initial=0, where=np.isfinite(values)))
        return _scaled(values, 1.0 if largest <= 1 else 255.0 if largest <= 255 else max(65535.0, largest))
    return image.convert("L" if image.mode == "1" else "RGB")


def _scaled(values, full):
    """Grey values (H, W) of any type, 0..full, as an 8-bit image: part by part, for all in full precision would take much memory."""
    grey = np.empty(values.shape, np.uint8)
    source, target, part = values.reshape(-1), grey.reshape(-1), 1 << 20
    for k in range(0, len(source), part):
        target[k : k + part] = np.rint(np.clip(np.nan_to_num(source[k : k + part] / full), 0, 1) * 255)
    return Image.fromarray(grey)


def _to_srgb(image, profile):
    """(RGB image, notes). A profile that is broken or speaks of another colour space is ignored with a note."""
    mode, notes = image.mode, []
    if mode == "CMYK":
        notes.append("CMYK converted to RGB")
    if profile:
        try:
            converted = _apply_profile(image, profile)
        except Exception as error:  # littlecms and Pillow raise many types for a bad profile; all mean the same here
            notes.append(f"colour profile ignored ({_one_line(error)})")
        else:
            if converted is not None:
                return converted, notes + ["colour profile converted to sRGB"]
    return image.convert("RGB"), notes


def _apply_profile(image, profile):
    """Convert with littlecms; None where the profile is sRGB already (a conversion would only round)."""
    from PIL import ImageCms  # some builds of Pillow lack littlecms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != _ICC_SPACE[image.mode]:
        raise ValueError(f"it is for {source.profile.xcolor_space.strip()}, the picture is {image.mode}")
    if image.mode == "RGB" and "sRGB" in (source.profile.profile_description or ""):
        return None
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")


def save_picture(path, pixels, source, alpha=None, text=None):
    """Write a picture with its label: the project's one way to do so.

    path:   the suffix chooses the format; an existing file is replaced only once the new one is complete.
    pixels: (H, W, 3) uint8. alpha: (H, W) uint8 or None. text: {keyword: text} for the text chunks of a PNG; no other format takes any.
    source: a DigitalSource, or None for a part of a photograph, which is nothing synthetic and gets no label.
    Formats without a place for the label get it in a file beside them, NAME.EXT.xmp.
    Returns notes, one phrase for each thing that the format cannot hold. Raises PictureError; no half file is left.
    """
    path = pathlib.Path(path)
    content, notes = encode_picture(path, pixels, source, alpha, text)
    if source is None or _format_of(path)[3]:
        write_whole(path, content)
        return notes
    write_whole(sidecar(path), label_packet(source))  # first: no moment with an unlabelled picture
    try:
        write_whole(path, content)
    except PictureError:
        if not path.exists():
            sidecar(path).unlink()
        raise
    return notes


def encode_picture(path, pixels, source, alpha=None, text=None):
    """What save_picture would write into the file `path`: (bytes, notes). A label that has its place beside the file is not in it."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"save_picture: expected pixels (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    kind, options, holds_alpha, label_option = _format_of(path)
    notes = []
    if text and kind != "PNG":
        raise PictureError(f"cannot write {path}: only PNG holds the text that belongs to it; end the name in .png")
    if alpha is not None and not holds_alpha:
        notes.append(f"{kind} cannot hold transparency here: it is dropped")
        alpha = None
    if kind == "GIF":
        notes.append("GIF holds 256 colours: the picture is reduced to them")
    if source is not None and not label_option:
        notes.append(f"{kind} has no place for the label: it stands in {sidecar(path).name}")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if alpha is not None:
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    encoded = io.BytesIO()
    try:
        image.save(encoded, kind, **options, **_label_options(label_option, source, text or {}))
    except (OSError, ValueError, KeyError) as error:
        raise PictureError(f"cannot write {path}: {kind} refused the picture ({_one_line(error)}); choose another format or size") from error
    content = encoded.getvalue()
    return gif_with_packet(content, label_packet(source)) if kind == "GIF" and source else content, notes


def _format_of(path):
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in _WRITE_FORMATS:
        raise PictureError(f"cannot write {path}: unknown picture format '{suffix}'; use one of {' '.join(sorted(_WRITE_FORMATS))}")
    return _WRITE_FORMATS[suffix]


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
    """A picture (H, W, 3) uint8 as JPEG in memory, for what never becomes a file."""
    encoded, image = io.BytesIO(), Image.fromarray(np.ascontiguousarray(pixels))
    image.save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


def write_whole(path, content):
    """Write bytes beside `path`, flush them to the disk, then rename over it: at no time is there half a file.

    Raises PictureError in one line where the folder is missing, not writable, or the disk is full.
    """
    target = pathlib.Path(os.path.realpath(path))  # through a link, the file behind it is replaced, not the link
    if not target.parent.is_dir():
        raise PictureError(f"cannot write {path}: the folder {target.parent} does not exist; create it first")
    if target.is_dir() or (target.exists() and not os.access(target, os.W_OK)):
        raise PictureError(f"cannot write {path}: it is {'a folder' if target.is_dir() else 'write-protected'}; choose another name")
    beside = target.with_name(f".{target.name[:200]}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        raise PictureError(f"cannot write {path}: {error.strerror or error}; free space or choose another place") from error
    finally:
        beside.unlink(missing_ok=True)


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


_LONGEST_PACKET = 1 << 20  # bytes of a file in which a label is looked for


def read_label(path):
    """The DigitalSource that a picture or the sidecar beside it declares; None where there is none, or another term."""
    with _opened(path) as image:
        packet = image.info.get("xmp") or (_gif_packet(path) if image.format == "GIF" else b"")
    if not packet and sidecar(path).is_file():
        packet = _beginning(sidecar(path))
    if isinstance(packet, str):
        packet = packet.encode()
    return find_source(packet)


def _gif_packet(path):
    """Where a GIF's packet begins, and what follows; Pillow does not look for it."""
    return _beginning(path).partition(GIF_EXTENSION)[2]


def _beginning(path):
    with open(path, "rb") as file:
        return file.read(_LONGEST_PACKET)
