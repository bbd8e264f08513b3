"""Metrics of a training step: read immediately on the CPU, deferred on a GPU.

A GPU works asynchronously. Reading a number from it waits until it has finished all queued work,
and then it is idle until it gets more. So on a GPU a step reads nothing. Its metrics stay on the
device, one row for each step, and one copy reads back all rows since the last time. Whether
everything was finite stays on the device as well, in a flag that the optimizers check themselves.
From the first non-finite loss or gradient on, updates are skipped, and reading the rows back tells
which step it was.

    reader = ImmediateReader()                on the CPU; DeferredReader(cupy) on a GPU
    reader.check_loss(loss)                   raises NotFiniteError, now or when read back
    reader.check_gradients(model)             the same
    optimizer.step(reader.skip)
    losses = reader.record(build, x, y)       build(x, y) of plain numbers, or a DeferredMetric
"""
import dataclasses
import math
from collections.abc import Callable

import nn


class NotFiniteError(ArithmeticError):
    """A loss or gradient is infinite or NaN; the weights are still those before the step."""


@dataclasses.dataclass(frozen=True)
class DeferredMetric:
    """A metric that can be computed as soon as the row of its step has been read back."""

    build: Callable
    columns: slice  # the part of the row that holds build's arguments

    def evaluate(self, row):
        """Return the metric. row: list of the step's numbers."""
        return self.build(*row[self.columns])


class MetricReader:
    """Base class of both readers.

    skip: for optimizers, an array that is non-zero from the first non-finite value on; or None
    All values are arrays or Tensors of one float32 number each.
    """

    skip = None

    def check_loss(self, *losses):
        """Raise NotFiniteError, now or when read back, if one of the losses is not finite."""
        self._check(_loss_error, *losses)

    def check_gradients(self, model):
        """Raise NotFiniteError, now or when read back, if a gradient is not finite.

        A finite loss may have a non-finite gradient, and Adam would carry it into every weight.
        Returns the squared norm of the whole gradient, an array of one number.
        """
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        squares = nn.kernels.select(gradients[0]).sum_squares(gradients)
        self._check(_gradient_error, squares)
        return squares


class ImmediateReader(MetricReader):
    """Reads every value at once; for the CPU."""

    def _check(self, find_error, *values):
        error = find_error(*_numbers(values))
        if error:
            raise NotFiniteError(error)

    def record(self, build, *values):
        """Return build of the values as plain numbers."""
        return build(*_numbers(values))

    def end_step(self):
        """Return None: nothing is left to be read back."""
        return None


class DeferredReader(MetricReader):
    """Reads nothing until `read_back`; for a GPU. xp: CuPy."""

    def __init__(self, xp):
        self._xp = xp
        self.skip = xp.zeros((), "float32")  # 0, and NaN from the first non-finite value on
        self._values, self._checks = [], []

    def _check(self, find_error, *values):
        self._checks.append(self.record(find_error, *values))
        for value in self._values[-len(values):]:
            self.skip += 0 * value  # 0 * infinity is NaN as well

    def record(self, build, *values):
        """Return a DeferredMetric: build of the values as plain numbers."""
        self._values += [_array(value) for value in values]
        return DeferredMetric(build, slice(len(self._values) - len(values), len(self._values)))

    def end_step(self):
        """End a step: return its row on the device and its checks, for `read_back`."""
        row, checks = self._xp.stack(self._values), self._checks
        self._values, self._checks = [], []
        return row, checks


def reader_for(device):
    """Return the MetricReader for 'cpu' or 'cuda'."""
    return ImmediateReader() if device == "cpu" else DeferredReader(nn.backend.load_cupy())


def read_back(pending):
    """Read the rows of several steps by one copy from the device.

    pending: what end_step returned for each step
    Returns for each step a list of numbers, or the message of its error if something was not
    finite. An error is the last item, because the steps after it are meaningless.
    """
    rows = [row for row, _ in pending]
    numbers = nn.backend.array_module(*rows).concatenate(rows).get().tolist()
    found = []
    for row, checks in pending:
        values, numbers = numbers[:len(row)], numbers[len(row):]
        errors = [error for error in (check.evaluate(values) for check in checks) if error]
        found.append(errors[0] if errors else values)
        if errors:
            break
    return found


def fill_metrics(step, row):
    """Return a copy of a dataclass with its DeferredMetrics evaluated on a row of numbers."""
    values = {field.name: getattr(step, field.name) for field in dataclasses.fields(step)}
    return dataclasses.replace(step, **{name: value.evaluate(row) for name, value in values.items()
                                        if isinstance(value, DeferredMetric)})


def _loss_error(*losses):
    return None if math.isfinite(sum(losses)) else f"the loss is {sum(losses)}"


def _gradient_error(squares):
    return None if math.isfinite(squares) else "a gradient is not finite"


def _array(value):
    return value.data if isinstance(value, nn.Tensor) else value


def _numbers(values):
    return nn.backend.read_back(*map(_array, values))
