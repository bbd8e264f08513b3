"""The way of each convolution on the CPU: one table, shape -> way -> reason, with its constants.

`choose(op, shape)` returns the first row of the op's table that applies. All limits are measured.
`python -m nn.kernels` prints which call of a network takes which way, and its time.
"""
import math
from collections.abc import Callable
from typing import NamedTuple

from nn.kernels.cpu.blocked_matmul import SMALL_PRODUCT
from nn.kernels.cpu.pixel_packing import widened_width

# Winograd is faster if all three hold:
WINOGRAD_MULTIPLICATIONS = 1 << 21  # each of the 16 products has more multiplications than this
WINOGRAD_TILE_CHANNELS = 1 << 14  # tiles times channels of the thinner side are at least this many
WINOGRAD_CHANNEL_RATIO = 16  # neither side has more than this many times the channels of the other
WEIGHT_BOUND_RATIO = 16  # transformed numbers per kernel weight up to which threads split the products
STRIP_CHANNELS = 32  # channels of the thinner side up to which strips for short rows are faster than Winograd
POLYPHASE_PIXELS = 16  # pixels of y for each channel of x from which polyphase is faster
COPIED_RATIO = 4  # how many times fewer channels one side must have for copies to be made of it
# Pixel packing:
FEW_CHANNELS = 4  # channels of x up to which pixels are packed
GATHER_CHANNELS = 32  # maximum channels of a packed pixel of y, if patches are gathered (im2col)
SCATTER_CHANNELS = 256  # maximum channels of a packed pixel of y, if patches are scattered (col2im)
SCATTER_PIXELS = 4  # maximum pixels packed as one, if patches are scattered


class Shape(NamedTuple):
    """The shape of x (N, H, W, C), w (kh, kw, C, F) and y (N, OH, OW, F), two of which are given."""

    n: int
    size: tuple  # (H, W)
    c: int
    kernel: tuple  # (kh, kw)
    f: int
    out: tuple  # (OH, OW)
    stride: tuple
    padding: tuple

    @classmethod
    def of(cls, x, w, y, stride, padding):
        """Return the Shape for the shapes of x, w and y."""
        return cls(x[0], tuple(x[1:3]), w[2], tuple(w[:2]), w[3], tuple(y[1:3]), tuple(stride), tuple(padding))

    def flipped(self):
        """Return the same convolution with stride 1 from y to x: see convolution.py, "Thinner side"."""
        padding = tuple(k - 1 - p for k, p in zip(self.kernel, self.padding))
        return self._replace(size=self.out, c=self.f, f=self.c, out=self.size, padding=padding)

    def polyphase(self):
        """Return the convolution with stride 1 of the four phases of x, stacked as channels."""
        return self._replace(size=self.out, c=4 * self.c, kernel=(3, 3), stride=(1, 1), padding=(1, 1))

    def packed(self, pixels):
        """Return the same convolution with that many neighboring pixels of y as one."""
        (kh, kw), (sh, sw), (oh, ow) = self.kernel, self.stride, self.out
        return self._replace(kernel=(kh, widened_width(kw, pixels, sw)), f=pixels * self.f, out=(oh, ow // pixels),
                             stride=(sh, pixels * sw))

    def multiplications(self):
        """Return the number of multiplications by definition: every weight with every pixel of y."""
        return self.n * math.prod(self.out) * math.prod(self.kernel) * self.c * self.f


class Route(NamedTuple):
    """A row of the table."""

    way: str
    applies: Callable  # Shape -> bool
    reason: str
    pixels: Callable = lambda shape: 1  # Shape -> neighboring pixels computed as one (pixel_packing.py)
    then: Callable = None  # Shape -> (op, Shape) of the convolution that this way leads to


def choose(op, shape):
    """Return the Route of an op ("conv2d", "conv2d_transpose" or "conv2d_weight") for a Shape."""
    return next(route for route in TABLE[op] if route.applies(shape))


def follow(op, shape):
    """Return [(Route, Shape)] of an op: the chosen one, then those of the convolutions it leads to."""
    route = choose(op, shape)
    return [(route, shape), *(follow(*route.then(shape)) if route.then else ())]


def _gathered(s):
    """Return the pixels of a row of y that im2col computes as one: 1, or a divisor of the row."""
    return _packed(s, GATHER_CHANNELS // s.f)


def _scattered(s):
    """Return the pixels of a row of y that col2im scatters as one: 1, or a divisor of the row."""
    return _packed(s, min(SCATTER_PIXELS, SCATTER_CHANNELS // s.f))


def _packed(s, limit):
    return math.gcd(max(1, limit), s.out[1]) if s.c <= FEW_CHANNELS and s.kernel[1] > 1 else 1


def count_tiles(n, oh, ow):
    """Return the number of Winograd's tiles of 2 x 2 pixels in n images."""
    return n * -(-oh // 2) * -(-ow // 2)


def _winograd(s):
    tiles, thinner, wider = count_tiles(s.n, *s.out), min(s.c, s.f), max(s.c, s.f)
    return (s.kernel == (3, 3) and s.stride == (1, 1) and wider <= WINOGRAD_CHANNEL_RATIO * thinner
            and tiles * thinner >= WINOGRAD_TILE_CHANNELS and tiles * s.c * s.f > WINOGRAD_MULTIPLICATIONS)


def _winograd_forward(s):
    return _winograd(s) and not (min(s.c, s.f) <= STRIP_CHANNELS and _has_short_rows(s))


def _is_weight_bound(s):
    return count_tiles(s.n, *s.out) * (s.c + s.f) <= WEIGHT_BOUND_RATIO * s.c * s.f


def _has_short_rows(s):
    return s.out[1] * math.prod(s.kernel) * s.c * s.f <= SMALL_PRODUCT


def _has_one_adjoint(s):
    """Return whether its adjoint is a convolution too: it is if the kernel always overlaps x."""
    return s.stride == (1, 1) and all(k > p for k, p in zip(s.kernel, s.padding))


def _copies_y(s):
    return _has_one_adjoint(s) and COPIED_RATIO * s.f <= s.c and math.prod(s.kernel) > 1


def _polyphase(s):
    fits = (s.kernel, s.stride, s.padding, s.size) == ((5, 5), (2, 2), (2, 2), tuple(2 * side for side in s.out))
    return fits and s.n * math.prod(s.out) >= POLYPHASE_PIXELS * s.c and _winograd(s.polyphase())


def _always(s):
    return True


PRODUCTS, IMAGES = "winograd, products", "winograd, images"
_PRODUCTS = "16 products instead of 36; large filters: each thread reads some of them only"
_IMAGES = "16 products instead of 36; each thread takes some of the images"
_IM2COL = "every patch of x as a row, then one product"
_COPIES_OF_Y = "y has far fewer channels than x, so copies of y are smaller than copies of x"
TABLE = {
    "conv2d": (
        Route(PRODUCTS, lambda s: _winograd_forward(s) and _is_weight_bound(s), _PRODUCTS),
        Route(IMAGES, _winograd_forward, _IMAGES),
        Route("adjoint", _copies_y, _COPIES_OF_Y, lambda s: _scattered(s.flipped())),
        Route("strips", lambda s: s.kernel[0] > 1 and _has_short_rows(s.packed(_gathered(s))),
              "a row of y is a small product, for which overlapping patches can share memory", _gathered),
        Route("im2col", _always, _IM2COL, _gathered),
    ),
    "conv2d_transpose": (
        Route("flipped", lambda s: _has_one_adjoint(s) and s.f < COPIED_RATIO * s.c,
              "with stride 1 it is the convolution with the flipped kernel: nothing to add up",
              then=lambda s: ("conv2d", s.flipped())),
        Route("polyphase", _polyphase, "a 5 x 5 kernel with stride 2 is a 3 x 3 one on images of half the size",
              then=lambda s: ("conv2d_transpose", s.polyphase())),
        Route("col2im", _always, "one product, then its patches are added up in x", _scattered),
    ),
    "conv2d_weight": (
        Route(PRODUCTS, lambda s: _winograd(s) and _is_weight_bound(s), _PRODUCTS),
        Route(IMAGES, _winograd, _IMAGES),
        Route("exchanged", _copies_y, _COPIES_OF_Y, then=lambda s: ("conv2d_weight", s.flipped())),
        Route("im2col", _always, _IM2COL, _gathered),
    ),
}
