"""What the lessons share: the way to the project's code, --fast, and the picture at the end.

A lesson is a file of three functions. experiment(fast) makes the thing happen and returns a dictionary of what was found;
picture(found) draws it, as pixels; claim(found) says it in a sentence or two with the numbers in it.

    python docs/lessons/NN_name.py            runs it, writes images/NN_name.png and prints the claim
    python docs/lessons/NN_name.py --fast     the same in seconds, with less of everything: as the tests run it
"""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # the project's root, whatever folder the lesson is started in

from data.media.image_io import save_picture  # noqa: E402
from data.media.provenance import DigitalSource  # noqa: E402
from data.support.cli import Parser  # noqa: E402  the root has to be on the path first


def run(lesson, arguments=None):
    """The command line of a lesson. lesson: its globals(). Returns what was found."""
    file = pathlib.Path(lesson["__file__"])
    parser = Parser(prog=f"python docs/lessons/{file.name}", description=lesson["__doc__"].split("\n\n")[0])
    parser.add_argument("--fast", action="store_true", help="with less of everything, in seconds")
    parser.add_argument("--picture", metavar="FILE", type=pathlib.Path, default=HERE / "images" / f"{file.stem}.png",
                        help="where to write the picture (default: docs/lessons/images)")
    options = parser.parse_args(arguments)
    found = lesson["experiment"](options.fast)
    save_picture(options.picture, lesson["picture"](found), lesson.get("SOURCE", DigitalSource.ALGORITHMIC))
    print(lesson["claim"](found))
    print(f"look at {options.picture}")
    return found
