"""Write what a multi-person run has learned to one file, to start pairs from.

    python -m gan.run.export_pretrained RUN FILE
"""
import argparse
import sys

import numpy as np

import nn
from data.support.cli import Parser
from gan.networks.pretrained import ACTIVATION
from gan.run.checkpoint import RunError, load_base


def main(arguments=None):
    """Command line. Returns the exit code."""
    parser = Parser(prog="python -m gan.run.export_pretrained", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="the run folder of train.py --people")
    parser.add_argument("file", metavar="FILE", help="to be written: float16, .npz")
    options = parser.parse_args(arguments)
    try:
        nn.save(options.file, {name: array if name == ACTIVATION else array.astype(np.float16)
                               for name, array in load_base(options.run).items()})
    except (RunError, OSError) as error:
        print(f"base: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
