"""Held-out figures of a run: how well faces that were not trained on are drawn, and how near a swap is to the truth.

    PSNR   10 * log10(1 / mean squared error), in dB, pixels weighted by the mask; higher is better
    SSIM   mean structural similarity (Wang 2004) where the mask is, up to 1; higher is better

Both are taken of each face at the network's size, before any colour transfer, and averaged over the faces.

    reconstruction   a held-out face through its own decoder, against itself
    swap             rendered people only: A's render through decoder B against B rendered in the same pose, expression and
                     light, within the mask of B's crop; "left as it is" is the same figure of A's render itself

    python -m gan.evaluate RUN [--json]
"""
import json
import sys

import numpy as np

from data.cli import Parser
from data.faceset import FaceSetError
from data.finder import FinderError
from gan import subjects as people
from gan.checkpoint import RunError, RunFolder, load_drawing_model
from nn.functional.loss import ssim_map

TRUTH_FACES = 64
_SSIM_WINDOW = 11


def psnr(x, y, mask):
    """PSNR of each picture in dB: x, y (n, S, S, 3) 0..1, mask (n, S, S, 1) -> (n,)."""
    axes = (1, 2, 3)
    error = ((x - y) ** 2 * mask).sum(axes) / (3 * mask.sum(axes))
    return -10 * np.log10(np.maximum(error, 1e-10))


def masked_ssim(x, y, mask):
    """SSIM of each picture, averaged where the mask is: x, y (n, S, S, 3) 0..1, mask (n, S, S, 1) -> (n,)."""
    rim = _SSIM_WINDOW // 2
    inner = mask[:, rim:-rim, rim:-rim]
    return (ssim_map(x, y, _SSIM_WINDOW) * inner).sum((1, 2, 3)) / (3 * inner.sum((1, 2, 3)))


def figures(model, subjects, truth):
    """All figures as a dictionary {name: {"psnr": dB, "ssim": ...}}; those of swaps only where there is a truth."""
    found = {}
    for side, faces in (("a", subjects.a), ("b", subjects.b)):
        target, mask = faces.crops(faces.held_out)
        found[f"reconstruction_{side}"] = _compare(model.draw(target, side, side)[0], target, mask)
    if truth is not None:
        found["swap_ab"] = _compare(model.draw(truth.a, "a", "b")[0], truth.b, truth.mask_b)
        found["left_ab"] = _compare(truth.a, truth.b, truth.mask_b)
        found["swap_ba"] = _compare(model.draw(truth.b, "b", "a")[0], truth.a, truth.mask_a)
        found["left_ba"] = _compare(truth.b, truth.a, truth.mask_a)
    return found


def _compare(drawn, target, mask):
    return {"psnr": round(float(psnr(drawn, target, mask).mean()), 2),
            "ssim": round(float(masked_ssim(drawn, target, mask).mean()), 4)}


def table(found):
    """The figures as lines of text."""
    names = {"reconstruction_a": "A drawn as A", "reconstruction_b": "B drawn as B",
             "swap_ab": "A swapped to B, against the truth", "left_ab": "    A left as it is",
             "swap_ba": "B swapped to A, against the truth", "left_ba": "    B left as it is"}
    lines = [f"{'held-out faces':36}  PSNR dB    SSIM"]
    return lines + [f"{names[key]:36}  {value['psnr']:7.2f}  {value['ssim']:6.3f}" for key, value in found.items()]


def subjects_of(config, folder, say=None):
    """The subjects that a run's configuration names. folder: the RunFolder. say: takes lines for the user; None: faces that
    the run cut out of pictures or clips are taken as they are. Raises FaceSetError where pictures are gone."""
    if config["people"] is not None:
        return people.rendered(config["people"], config["faces"], config["size"], config["seed"])
    return people.photographed(config["a"], config["b"], config["landmarks"], config["size"], config["seed"], folder.faces,
                               say)


def main(arguments=None):
    """Command line. Returns the exit code."""
    parser = Parser(prog="python -m gan.evaluate", description="Held-out figures of a run.")
    parser.add_argument("run", metavar="RUN", help="the run folder that train.py wrote")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    try:
        model, config = load_drawing_model(options.run)
        subjects = subjects_of(config, RunFolder(options.run))
    except (RunError, FaceSetError, FinderError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    found = figures(model, subjects, subjects.truth(TRUTH_FACES))
    print(json.dumps(found) if options.json else "\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
