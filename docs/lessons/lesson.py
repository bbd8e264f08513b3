"""Code shared by the lessons: the import path and the command line.

A lesson is a file with three functions. experiment(fast) runs the experiment and returns a
dictionary of results, image(found) plots them as pixels, claim(found) states them in words.

    python docs/lessons/NN_name.py          run it, write images/NN_name.png and print the claim
    python docs/lessons/NN_name.py --fast   the same at a smaller scale, in seconds, for tests
"""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # the project's root, so that a lesson can be started from any folder

from data.media.image_io import save_image  # noqa: E402
from data.media.provenance import DigitalSource  # noqa: E402
from data.support.cli import Parser  # noqa: E402  imports need the path above


def run(lesson, arguments=None):
    """Run the command line of a lesson and return its results. lesson: the lesson's globals()."""
    file = pathlib.Path(lesson["__file__"])
    parser = Parser(prog=f"python docs/lessons/{file.name}", description=lesson["__doc__"].split("\n\n")[0])
    parser.add_argument("--fast", action="store_true", help="run at a smaller scale, in seconds")
    parser.add_argument("--image", metavar="FILE", type=pathlib.Path, default=HERE / "images" / f"{file.stem}.png",
                        help="where to write the image (default: docs/lessons/images)")
    options = parser.parse_args(arguments)
    found = lesson["experiment"](options.fast)
    save_image(options.image, lesson["image"](found), lesson.get("SOURCE", DigitalSource.ALGORITHMIC))
    print(lesson["claim"](found))
    print(f"saved {options.image}")
    return found
