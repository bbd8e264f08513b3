"""Code shared by the lessons: the import path and the command line.

A lesson is a file with these functions:

    experiment(fast)  runs the experiment and returns a dictionary of results
    images(found)     plots them and returns {name: figure}
    claim(found)      states them in words
    if_NAME(fast)     answers a question of the page, "What would happen if ...". Its docstring is
                      the question. It returns a dictionary of results, with the "answer" in words

    python docs/lessons/NN_name.py             run it, write images/NN_*.webp and print the claim
    python docs/lessons/NN_name.py --fast      the same at a smaller scale, in seconds, for tests
    python docs/lessons/NN_name.py --if NAME   answer one question; --if list: print all
"""
import builtins
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # the project's root, so that a lesson can be started from any folder

from PIL import Image  # noqa: E402  imports need the path above

import looks  # noqa: E402
from data.media.image_io import save_image  # noqa: E402
from data.media.provenance import DigitalSource  # noqa: E402
from data.support.cli import Parser  # noqa: E402
from data.support.process_pool import use_workers  # noqa: E402
from gan.monitor import chart  # noqa: E402


def questions(lesson):
    """Return {name: function} of a lesson's questions. lesson: the lesson's globals()."""
    return {name[3:].replace("_", "-"): value for name, value in lesson.items() if name.startswith("if_")}


def run(lesson, arguments=None):
    """Run the command line of a lesson and return its results. lesson: the lesson's globals()."""
    if hasattr(builtins, "display") and arguments is None:  # a notebook
        return show(lesson)
    file, asked = pathlib.Path(lesson["__file__"]), questions(lesson)
    parser = Parser(prog=f"python docs/lessons/{file.name}", description=lesson["__doc__"].split("\n\n")[0])
    parser.add_argument("--fast", action="store_true", help="run at a smaller scale, in seconds")
    parser.add_argument("--if", dest="question", metavar="NAME", choices=["list", *asked],
                        help=f"answer a question of the page: {', '.join(asked)}; list: print the questions")
    parser.add_argument("--images", metavar="FOLDER", type=pathlib.Path, default=HERE / "images",
                        help="where to write the images (default: docs/lessons/images)")
    options = parser.parse_args(arguments)
    if options.question == "list":
        print("\n".join(f"--if {name:16} {' '.join(function.__doc__.split())}" for name, function in asked.items()))
        return None
    if options.question:
        with use_workers():
            found = asked[options.question](options.fast)
        print(found["answer"])
        return found
    with use_workers():
        found = lesson["experiment"](options.fast)
    options.images.mkdir(exist_ok=True)
    for theme in looks.THEMES:
        with looks.theme(theme):
            for name, figure in lesson["images"](found).items():
                target = options.images / f"{file.stem[:2]}_{name}{theme}.webp"
                save_image(target, chart.pixels(figure), lesson.get("SOURCE", DigitalSource.ALGORITHMIC))
    print(lesson["claim"](found))
    return found


def show(lesson):
    """Run a lesson in a notebook: print its claim and show its images below the cell."""
    found = lesson["experiment"](False)
    print(lesson["claim"](found))
    with looks.theme(""):
        for figure in lesson["images"](found).values():
            builtins.display(Image.fromarray(chart.pixels(figure)))
    return found
