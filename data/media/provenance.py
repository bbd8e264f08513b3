"""The provenance label: metadata that declares an image or video to be synthetic media.

It is the XMP property Iptc4xmpExt:DigitalSourceType with a term of the IPTC vocabulary
(http://cv.iptc.org/newscodes/digitalsourcetype/). All images and videos are written with it.
`python -m data.media.labels FILE...` shows it.
"""
import enum
import pathlib
import re


class DigitalSource(enum.Enum):
    """The origin of an image: the terms of the IPTC vocabulary that this project writes."""

    COMPOSITE = "compositeWithTrainedAlgorithmicMedia"  # a swap: generated pixels inside a photo
    TRAINED = "trainedAlgorithmicMedia"  # the output of a network: reconstructions, previews
    ALGORITHMIC = "algorithmicMedia"  # a rendered person: computed without machine learning

    @property
    def uri(self):
        return "http://cv.iptc.org/newscodes/digitalsourcetype/" + self.value


def label_packet(source):
    """Return the XMP packet that declares a DigitalSource, as UTF-8 bytes."""
    if not isinstance(source, DigitalSource):
        raise TypeError(f"expected a DigitalSource, got {source!r}")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{source.uri}</Iptc4xmpExt:DigitalSourceType>"
        "<xmp:CreatorTool>deep-fake system in NumPy</xmp:CreatorTool>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def sidecar_path(path):
    """Return the path NAME.EXT.xmp of the label of an image whose format cannot hold one."""
    path = pathlib.Path(path)
    return path.with_name(path.name + ".xmp")


GIF_EXTENSION = b"\x21\xff\x0bXMP DataXMP"


def gif_with_packet(content, packet):
    """Return a GIF (bytes) with an XMP packet as an application extension after the palette.

    See the XMP specification, part 3, GIF. The packet is not split into sub-blocks. A decoder that
    takes its bytes for block lengths ends up in the 256 bytes after it, which lead to the end of
    the extension.
    """
    palette = 3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0
    offset = 13 + palette
    trailer = bytes([1, *range(255, -1, -1), 0])
    return content[:offset] + GIF_EXTENSION + packet + trailer + content[offset:]


def find_source(packet):
    """Return the DigitalSource that an XMP packet (bytes) declares, or None."""
    # An element, an attribute or rdf:resource: all three are legal XMP.
    found = re.search(rb"""DigitalSourceType(?:[\s>="']|rdf:resource)+"""
                      rb"""http://cv\.iptc\.org/newscodes/digitalsourcetype/(\w+)""", packet)
    terms = {source.value.encode(): source for source in DigitalSource}
    return terms.get(found.group(1)) if found else None
