"""Convolution, its adjoint, and its weight gradient: three ops that are each other's derivatives.

    x (N, H, W, C)    w (kh, kw, C, F)    y (N, OH, OW, F)    OH = (H + 2*padding - kh) // stride + 1

    conv2d            y[n, i, j, f]  = sum over p, q, c of  x[n, i*s + p - padding, j*s + q - padding, c] * w[p, q, c, f]
    conv_transpose2d  x[n, a, b, c]  = sum of the same products y * w, over all (i, j, p, q) that meet at pixel (a, b)
    conv2d_weight     w[p, q, c, f]  = sum of the same products x * y, over all pictures and pixels

All three sum one trilinear form x * w * y over the index left out. So the derivative of one, by either input, is one of
the other two, and derivatives of any order need no further code. The sums themselves are in nn/kernels/.
"""
from nn import kernels
from nn.functional.reduction import sum as sum_over
from nn.tensor import Function, operand


class Conv2d(Function):
    """y = conv(x, w) + b, then leaky_relu with `slope` if that is not None."""

    def forward(self, x, w, b, stride, padding, slope):
        y = kernels.select(x).conv2d(x, w, b, stride, padding, slope)
        self.geometry, self.slope = {"stride": stride, "padding": padding}, slope
        self.sizes = x.shape[1:3], w.shape[:2]
        self.keep(x, w, *(() if slope is None else (y,)))
        return y

    def backward(self, gy):
        x, w, *y = self.kept
        if y:
            gy = leaky_relu_backward(gy, y[0], self.slope)
        gx = ConvTranspose2d.apply(gy, w, None, **self.geometry, size=self.sizes[0]) if self.needs[0] else None
        gw = Conv2dWeight.apply(x, gy, **self.geometry, size=self.sizes[1]) if self.needs[1] else None
        gb = sum_over(gy, (0, 1, 2)) if self.needs[2] else None
        return gx, gw, gb


class ConvTranspose2d(Function):
    """x = the adjoint of conv2d by x, applied to y, + b; `size` is the (H, W) of x."""

    def forward(self, y, w, b, stride, padding, size):
        self.geometry, self.kernel_size = {"stride": stride, "padding": padding}, w.shape[:2]
        self.keep(y, w)
        return kernels.select(y).conv2d_transpose(y, w, b, stride, padding, size)

    def backward(self, gx):
        y, w = self.kept
        gy = Conv2d.apply(gx, w, None, **self.geometry, slope=None) if self.needs[0] else None
        gw = Conv2dWeight.apply(gx, y, **self.geometry, size=self.kernel_size) if self.needs[1] else None
        gb = sum_over(gx, (0, 1, 2)) if self.needs[2] else None
        return gy, gw, gb


class Conv2dWeight(Function):
    """w = the adjoint of conv2d by w, applied to x and y; `size` is the (kh, kw) of w."""

    def forward(self, x, y, stride, padding, size):
        self.geometry, self.size = {"stride": stride, "padding": padding}, x.shape[1:3]
        self.keep(x, y)
        return kernels.select(x).conv2d_weight(x, y, stride, padding, size)

    def backward(self, gw):
        x, y = self.kept
        gx = ConvTranspose2d.apply(y, gw, None, **self.geometry, size=self.size) if self.needs[0] else None
        gy = Conv2d.apply(x, gw, None, **self.geometry, slope=None) if self.needs[1] else None
        return gx, gy


class LeakyReLUBackward(Function):
    """gx = gy where the activation's output y > 0, slope * gy elsewhere; y counts as constant (its second derivative is
    zero wherever there is one)."""

    def forward(self, gy, y, slope):
        self.slope = slope
        self.keep(y)
        return kernels.select(gy).leaky_relu_backward(gy, y, slope)

    def backward(self, ggx):
        (y,) = self.kept
        return leaky_relu_backward(ggx, y, self.slope), None


def leaky_relu_backward(gy, y, slope):
    """gy where y > 0, slope * gy elsewhere."""
    return LeakyReLUBackward.apply(gy, y, slope=slope)


def _pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _check(op, x, w, b, channels, stride, padding):
    """Channels are the axes of w that meet x and that b adds to."""
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"{op}: expected a picture (N, H, W, C) and a weight of 4 axes, got {x.shape} and {w.shape}")
    if x.shape[3] != w.shape[channels[0]]:
        raise ValueError(f"{op}: expected {w.shape[channels[0]]} channels for a weight {w.shape}, got {x.shape}")
    if b is not None and b.shape != (w.shape[channels[1]],):
        raise ValueError(f"{op}: expected a bias of shape ({w.shape[channels[1]]},), got {b.shape}")
    if min(stride) < 1 or min(padding) < 0:
        raise ValueError(f"{op}: expected a stride of at least 1 and a padding of at least 0, got {stride} and {padding}")


def conv2d(x, w, b=None, stride=1, padding=0, slope=None):
    """Cross-correlate x (N, H, W, C) with w (kh, kw, C, F), add b (F,): y (N, OH, OW, F).

    stride, padding: a number, or (vertical, horizontal); the padding is zeros on both sides.
    slope: if given, leaky_relu with this negative slope (>= 0; 0 is relu) is part of the op, while y is in the cache.
    """
    x, w, b = operand(x), operand(w), None if b is None else operand(b)
    stride, padding = _pair(stride), _pair(padding)
    _check("conv2d", x, w, b, (2, 3), stride, padding)
    if slope is not None and slope < 0:
        raise ValueError(f"conv2d: expected a slope of at least 0, got {slope}")
    if x.shape[1] + 2 * padding[0] < w.shape[0] or x.shape[2] + 2 * padding[1] < w.shape[1]:
        raise ValueError(f"conv2d: a kernel {w.shape[:2]} does not fit in {x.shape} with padding {padding}")
    return Conv2d.apply(x, w, b, stride=stride, padding=padding, slope=slope)


def conv_transpose2d(y, w, b=None, stride=1, padding=0, output_padding=0):
    """The adjoint of conv2d: y (N, H, W, F) and w (kh, kw, C, F) make (N, OH, OW, C), OH = (H-1)*s - 2*padding + kh +
    output_padding; b (C,) is added. `w` is the weight of the conv2d whose adjoint this is: (kh, kw, out, in)."""
    y, w, b = operand(y), operand(w), None if b is None else operand(b)
    stride, padding, extra = _pair(stride), _pair(padding), _pair(output_padding)
    _check("conv_transpose2d", y, w, b, (3, 2), stride, padding)
    if any(not 0 <= e < s for e, s in zip(extra, stride)):
        raise ValueError(f"conv_transpose2d: output_padding should be from 0 to below the stride {stride}, got {extra}")
    size = tuple((n - 1) * s - 2 * p + k + e
                 for n, s, p, k, e in zip(y.shape[1:3], stride, padding, w.shape[:2], extra))
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d: padding {padding} leaves nothing of {y.shape} with a kernel {w.shape[:2]}")
    return ConvTranspose2d.apply(y, w, b, stride=stride, padding=padding, size=size)
