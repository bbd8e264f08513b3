"""Write images of rendered people and their exact landmarks.

    python -m data.synthetic OUTPUT_FOLDER --people 2 --count 200
"""
import sys

from data.media.image_io import ImageError, save_image
from data.media.provenance import DigitalSource
from data.support.cli import Parser, exit_code, interruptible, number
from data.support.process_pool import use_workers
from data.synthetic.folder import contact_sheet, write_people


def main(arguments=None):
    parser = Parser(prog="python -m data.synthetic",
                    description="Write images of rendered people and their exact landmarks.")
    parser.add_argument("output", metavar="OUTPUT_FOLDER", nargs="?",
                        help="folder for person_000, person_001, ... and landmarks.csv")
    parser.add_argument("--people", type=number(int, 1, 1000), default=2, metavar="N",
                        help="number of people (default: %(default)s)")
    parser.add_argument("--count", type=number(int, 1, 100000), default=200, metavar="N",
                        help="images of each person (default: %(default)s)")
    parser.add_argument("--size", type=number(int, 16, 1024), default=256, metavar="PX",
                        help="side of the images in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N",
                        help="seed of the first person (default: %(default)s); the others have the next seeds")
    parser.add_argument("--sheet", metavar="FILE", help="write a contact sheet of 8 people in 12 poses")
    options = parser.parse_args(arguments)
    if options.output is None and options.sheet is None:
        parser.error("nothing to write: give an OUTPUT_FOLDER, or --sheet FILE")
    try:
        with interruptible(), use_workers():
            if options.sheet:
                save_image(options.sheet, contact_sheet(options.seed), source=DigitalSource.ALGORITHMIC)
                print(f"{options.sheet}: 8 people in 12 poses")
            if options.output:
                written = write_people(options.output, options.people, options.count, options.size, options.seed)
                print(f"{options.output}: {written} images of {options.people} people, landmarks.csv")
    except (OSError, ImageError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        print(f"{parser.prog}: interrupted; run the same command again", file=sys.stderr)
        return exit_code(interruption)
    return 0


if __name__ == "__main__":
    sys.exit(main())
