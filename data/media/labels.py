"""Says of pictures and videos whether they carry the label of synthetic media (data/media/provenance.py).

    python -m data.media.labels FILE...

One line for each file. A label can be taken off by anybody: a file without one may still be synthetic. Ends with code 0 where every
FILE carries the label, 1 where one does not or cannot be read, 2 for wrong arguments.
"""

import argparse
import sys

from data.media.image_io import PictureError, read_label
from data.media.provenance import DigitalSource
from data.media.video import VIDEO_SUFFIXES, VideoError, read_video_label
from data.support.cli import Parser

MEANINGS = {
    DigitalSource.COMPOSITE: "a photograph or film with parts that a network drew",
    DigitalSource.TRAINED: "drawn by a network",
    DigitalSource.ALGORITHMIC: "made by a program that learned nothing",
}


def label_of(path):
    """The DigitalSource that a picture or video declares, None where there is none. Raises PictureError or VideoError."""
    return (read_video_label if path.lower().endswith(VIDEO_SUFFIXES) else read_label)(path)


def main(arguments=None):
    """Command line. Returns the exit code."""
    parser = Parser(prog="python -m data.media.labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a picture or a video")
    labelled = True
    for file in parser.parse_args(arguments).files:
        try:
            label = label_of(file)
        except (PictureError, VideoError) as error:
            print(f"labels: {error}", file=sys.stderr)
            labelled = False
            continue
        print(f"{file}: " + (f"synthetic media, {label.value}: {MEANINGS[label]}" if label else "no label of synthetic media"))
        labelled = labelled and label is not None
    return 0 if labelled else 1


if __name__ == "__main__":
    sys.exit(main())
