"""Pixel packing: convolution of few channels, computed for several pixels at once.

For a 5 x 5 kernel on 3 channels, a kernel row is a short run of 15 numbers, and the patches of
neighboring pixels overlap. So `pack` neighboring output pixels are treated as one pixel with `pack`
times as many channels. One wider kernel, padded with zeros, computes all of them from the union of
their patches:

    x  a b c d e f g    y0 depends on a b c d e, y1 on b c d e f, y2 on c d e f g;
                        together they depend on a ... g

Fewer and longer runs are copied. The products with zeros are wasted, but with few channels the
processor has time to spare.
"""
import numpy


def widened_width(kw, pack, stride):
    """Return the width of the union of the patches of `pack` neighboring pixels."""
    return (pack - 1) * stride + kw


def widen_kernel(w, pack, stride):
    """Return w (kh, kw, C, F) for `pack` pixels at once: (kh, widened width, C, pack*F)."""
    if pack == 1:
        return w
    kh, kw, c, f = w.shape
    widened = numpy.zeros((kh, widened_width(kw, pack, stride), c, pack, f), w.dtype)
    for k in range(pack):
        widened[:, k * stride:k * stride + kw, :, k] = w
    return widened.reshape(kh, -1, c, pack * f)


def widen_kernel_adjoint(widened, kw, pack, stride):
    """Return the adjoint of widen_kernel: the gradient of w from that of the widened kernel."""
    if pack == 1:
        return widened
    kh, width, c, f = widened.shape
    widened = widened.reshape(kh, width, c, pack, f // pack)
    return sum(widened[:, k * stride:k * stride + kw, :, k] for k in range(pack))
