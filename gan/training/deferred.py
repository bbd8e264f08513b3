"""What a step measures, and whether it may move the weights: read at once on the CPU, later from a GPU.

A GPU works behind the program's back. To read a number from it is to wait until it has done all that it was given, and then it
stands idle until it is given more. So on a GPU a step reads nothing. Its figures stay there, one row for each step, and leave by
one copy for all the rows since the last time. Whether all was finite stays there too, in a flag that the optimizers look at
themselves: from the first loss or slope that is not finite no weight moves any more, and whoever reads the rows learns which
step that was.

    watch = AtOnce()                          or Later(xp), on a GPU
    watch.check_loss(loss)                    NotFiniteError now, or when it is read
    watch.check_gradients(model)              the same
    optimizer.step(watch.unless)
    losses = watch.measured(build, a, b)      build(a's number, b's number): that, or a Reading of what it will be
"""
import dataclasses
import math
from collections.abc import Callable

import nn


class NotFiniteError(ArithmeticError):
    """A loss or gradient became infinite or NaN; the weights are still those of the step before."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """Something that follows from numbers in a step's row once that is read: build(*row[where])."""

    build: Callable
    where: slice

    def of(self, row):
        return self.build(*row[self.where])


class Watch:
    """What both kinds share. unless: what optimizers are given; values: arrays or Tensors of one float32 number each."""

    unless = None

    def check_loss(self, *losses):
        """Raise NotFiniteError, now or when it is read, if one of the losses is not finite."""
        self._check(_fault_of_loss, *losses)

    def check_gradients(self, model):
        """Raise NotFiniteError, now or when it is read, if a gradient is not finite: a finite loss may have a slope that is not,
        and Adam would carry it into every weight. Returns the square of the whole gradient's norm, an array of one number."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        squares = nn.kernels.select(gradients[0]).sum_squares(gradients)
        self._check(_fault_of_gradient, squares)
        return squares


class AtOnce(Watch):
    """For the CPU, and whoever can wait: everything is read as soon as it is there."""

    def _check(self, fault, *values):
        words = fault(*_numbers(values))
        if words:
            raise NotFiniteError(words)

    def measured(self, build, *values):
        """build of the values' numbers."""
        return build(*_numbers(values))

    def end_step(self):
        """What is left to be read of a step: nothing."""
        return None


class Later(Watch):
    """For a GPU: nothing is read before `read`. xp: CuPy."""

    def __init__(self, xp):
        self._xp = xp
        self.unless = xp.zeros((), "float32")  # 0, and not a number from the first fault on
        self._values, self._checks = [], []

    def _check(self, fault, *values):
        self._checks.append(self.measured(fault, *values))
        for value in self._values[-len(values):]:
            self.unless += 0 * value  # 0 * infinity is not a number either

    def measured(self, build, *values):
        """A Reading of build of the values' numbers."""
        self._values += [_array(value) for value in values]
        return Reading(build, slice(len(self._values) - len(values), len(self._values)))

    def end_step(self):
        """What is left to be read of the step that ends here, for `read`: its row on the device, and its checks."""
        row, checks = self._xp.stack(self._values), self._checks
        self._values, self._checks = [], []
        return row, checks


def watch_on(device):
    """The Watch for 'cpu' or 'cuda'."""
    return AtOnce() if device == "cpu" else Later(nn.backend.load_cupy())


def read(left):
    """The rows of what several steps left to be read, by one copy from the device: for each a list of numbers, or the words of
    what was not finite in it. From there on nothing is worth reading: so that is the last one."""
    rows = [row for row, _ in left]
    numbers = nn.backend.array_module(*rows).concatenate(rows).get().tolist()
    found = []
    for row, checks in left:
        mine, numbers = numbers[:len(row)], numbers[len(row):]
        faults = [words for words in (check.of(mine) for check in checks) if words]
        found.append(faults[0] if faults else mine)
        if faults:
            break
    return found


def filled(step, row):
    """A dataclass with what its Readings tell of a row in their place."""
    values = {field.name: getattr(step, field.name) for field in dataclasses.fields(step)}
    return dataclasses.replace(step, **{name: value.of(row) for name, value in values.items() if isinstance(value, Reading)})


def _fault_of_loss(*losses):
    return None if math.isfinite(sum(losses)) else f"the loss is {sum(losses)}"


def _fault_of_gradient(squares):
    return None if math.isfinite(squares) else "a gradient is not finite"


def _array(value):
    return value.data if isinstance(value, nn.Tensor) else value


def _numbers(values):
    return nn.backend.numbers(*map(_array, values))
