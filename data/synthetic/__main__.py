"""Write images of rendered people and their exact landmarks.

    python -m data.synthetic OUTPUT_FOLDER --people 2 --count 200
"""
import sys

from data.media.image_io import PictureError, save_picture
from data.media.provenance import DigitalSource
from data.support.cli import Parser, number
from data.synthetic.folder import contact_sheet, write_people



def main(arguments=None):
    parser = Parser(prog="python -m data.synthetic", description="Write pictures of rendered people and their exact landmarks.")
    parser.add_argument("output", metavar="OUTPUT_FOLDER", nargs="?", help="gets person_000, person_001, ... and landmarks.csv")
    parser.add_argument("--people", type=number(int, 1, 1000), default=2, metavar="N")
    parser.add_argument("--count", type=number(int, 1, 100000), default=200, metavar="N", help="pictures a person")
    parser.add_argument("--size", type=number(int, 16, 1024), default=256, metavar="PIXELS")
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N", help="the first person's number; the next ones follow")
    parser.add_argument("--sheet", metavar="FILE", help="write a contact sheet of 8 people in 12 poses")
    options = parser.parse_args(arguments)
    if options.output is None and options.sheet is None:
        parser.error("give an OUTPUT_FOLDER, or --sheet FILE")
    try:
        if options.sheet:
            save_picture(options.sheet, contact_sheet(options.seed), source=DigitalSource.ALGORITHMIC)
            print(f"{options.sheet}: 8 people in 12 poses")
        if options.output:
            written = write_people(options.output, options.people, options.count, options.size, options.seed)
            print(f"{options.output}: {written} pictures of {options.people} people, landmarks.csv")
    except (OSError, PictureError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
