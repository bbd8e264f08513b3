"""Convolution, transposed convolution and weight gradient: each other's derivatives.

    x (N, H, W, C)   w (kh, kw, C, F)   y (N, OH, OW, F)   OH = (H + 2*padding - kh) // stride + 1

    conv2d            y[n, i, j, f] = sum over p, q, c of x[n, a, b, c] * w[p, q, c, f]
    conv_transpose2d  x[n, a, b, c] = sum over i, j, p, q, f of y[n, i, j, f] * w[p, q, c, f]
    conv2d_weight     w[p, q, c, f] = sum over n, i, j of x[n, a, b, c] * y[n, i, j, f]

    where a = i*stride + p - padding and b = j*stride + q - padding

All three come from one trilinear form, the sum of all x * w * y: each op is the derivative of that
sum with respect to one factor. So the derivative of an op with respect to either input is one of
the other two ops, and derivatives of any order need no further code. The sums are computed in
nn/kernels/.
"""
import numbers

from nn import kernels
from nn.function import Function
from nn.functional.activation import leaky_relu_backward
from nn.functional.reduction import sum as sum_over
from nn.tensor import as_operand


class Conv2d(Function):
    """y = conv(x, w) + b, then leaky_relu if negative_slope is not None."""

    def forward(self, x, w, b, stride, padding, negative_slope):
        y = kernels.select(x).conv2d(x, w, b, stride, padding, negative_slope)
        self.geometry, self.negative_slope = {"stride": stride, "padding": padding}, negative_slope
        self.sizes = x.shape[1:3], w.shape[:2]
        self.save_for_backward(x, w, *(() if negative_slope is None else (y,)))
        return y

    def backward(self, gy):
        x, w, *y = self.saved
        if y:
            gy = leaky_relu_backward(gy, y[0], self.negative_slope)
        x_size, w_size = self.sizes
        gx = ConvTranspose2d.apply(gy, w, None, **self.geometry, size=x_size) if self.needs_input_grad[0] else None
        gw = Conv2dWeight.apply(x, gy, **self.geometry, size=w_size) if self.needs_input_grad[1] else None
        gb = sum_over(gy, (0, 1, 2)) if self.needs_input_grad[2] else None
        return gx, gw, gb


class ConvTranspose2d(Function):
    """x = the adjoint of conv2d in x, applied to y, + b; `size` is the (H, W) of x."""

    def forward(self, y, w, b, stride, padding, size):
        self.geometry, self.kernel_size = {"stride": stride, "padding": padding}, w.shape[:2]
        self.save_for_backward(y, w)
        return kernels.select(y).conv2d_transpose(y, w, b, stride, padding, size)

    def backward(self, gx):
        y, w = self.saved
        gy = Conv2d.apply(gx, w, None, **self.geometry, negative_slope=None) if self.needs_input_grad[0] else None
        gw = Conv2dWeight.apply(gx, y, **self.geometry, size=self.kernel_size) if self.needs_input_grad[1] else None
        gb = sum_over(gx, (0, 1, 2)) if self.needs_input_grad[2] else None
        return gy, gw, gb


class Conv2dWeight(Function):
    """w = the adjoint of conv2d in w, applied to x and y; `size` is the (kh, kw) of w."""

    def forward(self, x, y, stride, padding, size):
        self.geometry, self.size = {"stride": stride, "padding": padding}, x.shape[1:3]
        self.save_for_backward(x, y)
        return kernels.select(x).conv2d_weight(x, y, stride, padding, size)

    def backward(self, gw):
        x, y = self.saved
        gx = ConvTranspose2d.apply(y, gw, None, **self.geometry, size=self.size) if self.needs_input_grad[0] else None
        gy = Conv2d.apply(x, gw, None, **self.geometry, negative_slope=None) if self.needs_input_grad[1] else None
        return gx, gy


def _pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _check(op, x, w, b, channels, stride, padding):
    """Check shapes and options.

    channels: (axis of w for x's channels, axis of w for b's)
    stride, padding: (vertical, horizontal)
    """
    if not all(isinstance(n, numbers.Integral) for n in (*stride, *padding)):
        raise ValueError(f"{op}: stride and padding should be whole numbers or pairs of them, got {stride} and "
                         f"{padding}")
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"{op}: expected an image (N, H, W, C) and a weight of 4 axes, got {x.shape} and {w.shape}")
    if x.shape[3] != w.shape[channels[0]]:
        raise ValueError(f"{op}: expected {w.shape[channels[0]]} channels for a weight {w.shape}, got {x.shape}")
    if b is not None and b.shape != (w.shape[channels[1]],):
        raise ValueError(f"{op}: expected a bias of shape ({w.shape[channels[1]]},), got {b.shape}")
    if min(stride) < 1 or min(padding) < 0:
        raise ValueError(f"{op}: expected a stride of at least 1 and a padding of at least 0, "
                         f"got {stride} and {padding}")


def conv2d(x, w, b=None, stride=1, padding=0, negative_slope=None):
    """Return the convolution (cross-correlation) of x and w, plus b: y (N, OH, OW, F).

    x: (N, H, W, C)
    w, b: weight (kh, kw, C, F), bias (F,)
    stride, padding: a number, or (vertical, horizontal); zeros are added on both sides
    negative_slope: if given, apply leaky_relu with this slope (>= 0; 0 is relu) in the same kernel,
        while y is in the cache
    """
    x, w, b = as_operand(x), as_operand(w), None if b is None else as_operand(b)
    stride, padding = _pair(stride), _pair(padding)
    _check("conv2d", x, w, b, (2, 3), stride, padding)
    if negative_slope is not None and negative_slope < 0:
        raise ValueError(f"conv2d: expected a negative_slope of at least 0, got {negative_slope}")
    if x.shape[1] + 2 * padding[0] < w.shape[0] or x.shape[2] + 2 * padding[1] < w.shape[1]:
        raise ValueError(f"conv2d: a kernel {w.shape[:2]} does not fit in {x.shape} with padding {padding}")
    return Conv2d.apply(x, w, b, stride=stride, padding=padding, negative_slope=negative_slope)


def conv_transpose2d(y, w, b=None, stride=1, padding=0, output_padding=0):
    """Return the transposed convolution, the adjoint of conv2d, of y and w, plus b: (N, OH, OW, C).

    OH = (H - 1) * stride - 2*padding + kh + output_padding

    y: (N, H, W, F)
    w, b: the weight (kh, kw, C, F) of that conv2d, here (kh, kw, out, in); bias (C,)
    stride, padding, output_padding: a number, or (vertical, horizontal)
    """
    y, w, b = as_operand(y), as_operand(w), None if b is None else as_operand(b)
    stride, padding, extra = _pair(stride), _pair(padding), _pair(output_padding)
    _check("conv_transpose2d", y, w, b, (3, 2), stride, padding)
    if any(not 0 <= e < s for e, s in zip(extra, stride)):
        raise ValueError(f"conv_transpose2d: output_padding should be from 0 to below the stride {stride}, got {extra}")
    size = tuple((n - 1) * s - 2 * p + k + e
                 for n, s, p, k, e in zip(y.shape[1:3], stride, padding, w.shape[:2], extra))
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d: padding {padding} leaves nothing of {y.shape} with a kernel {w.shape[:2]}")
    return ConvTranspose2d.apply(y, w, b, stride=stride, padding=padding, size=size)
