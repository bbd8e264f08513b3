"""The label of synthetic media: where an image came from, as a machine reads it.

It is the XMP property Iptc4xmpExt:DigitalSourceType with a term of the IPTC vocabulary
(http://cv.iptc.org/newscodes/digitalsourcetype/). Images and videos are written with it; `python -m data.media.labels FILE...`
reads it.
"""
import enum
import pathlib
import re


class DigitalSource(enum.Enum):
    """How a picture came about: the terms of the IPTC vocabulary that this project writes."""

    COMPOSITE = "compositeWithTrainedAlgorithmicMedia"  # a swap: learned pixels inside a photograph
    TRAINED = "trainedAlgorithmicMedia"  # a network's output: reconstructions, previews
    ALGORITHMIC = "algorithmicMedia"  # a rendered person: made by a program, nothing learned

    @property
    def uri(self):
        return "http://cv.iptc.org/newscodes/digitalsourcetype/" + self.value


def label_packet(source):
    """The XMP packet that says how a picture came about, as UTF-8 bytes. source: a DigitalSource."""
    if not isinstance(source, DigitalSource):
        raise TypeError(f"expected a DigitalSource, got {source!r}")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{source.uri}</Iptc4xmpExt:DigitalSourceType>"
        "<xmp:CreatorTool>deep-fake system in NumPy</xmp:CreatorTool>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def sidecar(path):
    """Where the label of a picture stands when its format cannot hold it: NAME.EXT.xmp beside it."""
    path = pathlib.Path(path)
    return path.with_name(path.name + ".xmp")


GIF_EXTENSION = b"\x21\xff\x0bXMP DataXMP"


def gif_with_packet(content, packet):
    """A GIF (bytes) with an XMP packet as an application extension behind the global palette (XMP specification, part 3, GIF).

    The packet is not cut into blocks: a reader that takes its bytes for lengths lands in the 256 after it, which lead on.
    """
    palette = 3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0
    place = 13 + palette
    trailer = bytes([1, *range(255, -1, -1), 0])
    return content[:place] + GIF_EXTENSION + packet + trailer + content[place:]


def find_source(packet):
    """Return the DigitalSource that an XMP packet (bytes) declares, or None."""
    # As an element, as an attribute and as rdf:resource: all three are legal XMP.
    found = re.search(rb"""DigitalSourceType(?:[\s>="']|rdf:resource)+http://cv\.iptc\.org/newscodes/digitalsourcetype/(\w+)""", packet)
    terms = {source.value.encode(): source for source in DigitalSource}
    return terms.get(found.group(1)) if found else None
