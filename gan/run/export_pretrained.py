"""Export a multi-person run to one file of pretrained weights.

    python -m gan.run.export_pretrained RUN FILE
"""
import argparse
import sys

import numpy as np

import nn
from data.support.cli import Parser, run_command
from gan.networks.pretrained import ACTIVATION
from gan.run.checkpoint import load_pretrained


def main(arguments=None):
    """Run the command line and return the exit code."""
    parser = Parser(prog="python -m gan.run.export_pretrained", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="run folder of train.py --people N or --people FOLDER")
    parser.add_argument("file", metavar="FILE", help="output file (.npz, float16)")
    options = parser.parse_args(arguments)
    return run_command("export_pretrained", lambda: _export(options))


def _export(options):
    nn.save(options.file, {name: array if name == ACTIVATION else array.astype(np.float16)
                           for name, array in load_pretrained(options.run).items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
