"""Print which way each convolution of a network takes on the CPU, why, and its time.

    python -m nn.kernels --size 64 --width 32 --batch 16

The network has the convolutions of the face-swap autoencoder: halved four times by 5 x 5 kernels,
doubled four times by 3 x 3 kernels. For another network, use nn.profile:

    with nn.profile() as result:
        loss_of_my_network().backward()
    print("\\n".join(result.routes()))
"""
import argparse

import numpy

import nn

STEPS = 5


def network(width):
    """Return the convolutions of an autoencoder of images (N, S, S, 3)."""
    halves = [(3, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 8 * width)]
    layers = [nn.Conv2d(i, o, 5, stride=2, padding=2, activation="leaky_relu") for i, o in halves]
    for k in (8, 4, 2, 1):
        layers += [nn.Conv2d(k * width, 2 * k * width, 3, padding=1, activation="leaky_relu"), nn.PixelShuffle(2)]
    return nn.Sequential(*layers, nn.Conv2d(width // 2, 3, 5, padding=2))


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m nn.kernels", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="side of the images, a multiple of 16")
    parser.add_argument("--width", type=int, default=32, help="channels after the first convolution")
    parser.add_argument("--batch", type=int, default=16, help="images")
    options = parser.parse_args(arguments)
    images = numpy.random.default_rng(0).random((options.batch, options.size, options.size, 3), dtype=numpy.float32)
    model = network(options.width)
    model(images).sum().backward()  # warmup
    with nn.profile() as result:
        for _ in range(STEPS):
            model(images).sum().backward()
    print("\n".join(result.routes(STEPS)))


if __name__ == "__main__":
    main()
