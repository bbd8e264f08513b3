"""Adam and the moving average for a whole list of parameters, block by block, on all threads."""
import numpy

from nn.kernels import plain
from nn.kernels.cpu import parallel, tiling


def _by_blocks(work, *lists):
    """work(block of an array of each list) for all blocks of all arrays, in one go: most arrays are small. Those that are not
    contiguous are worked on whole."""
    blocks = []
    for k, arrays in enumerate(zip(*lists)):
        if not all(a.flags.c_contiguous for a in arrays):
            blocks.append((k, arrays))
            continue
        flat = [a.reshape(-1) for a in arrays]
        blocks += [(k, [a[start:start + tiling.BLOCK] for a in flat]) for start in range(0, flat[0].size, tiling.BLOCK)]
    threads = parallel.thread_count() if sum(each[0].size for _, each in blocks) > tiling.BLOCK else 1
    parallel.run(lambda first: [work(k, *block) for k, block in blocks[first::threads]], range(threads))


def adam(ps, gs, ms, vs, rates, beta1, beta2, unless=None):
    """As plain.adam."""
    if unless is not None and unless:
        return

    def work(k, p, g, m, v):
        rate, eps = rates[k]
        scratch = g - m
        scratch *= 1 - beta1
        m += scratch
        numpy.multiply(g, g, out=scratch)
        scratch -= v
        scratch *= 1 - beta2
        v += scratch
        numpy.sqrt(v, out=scratch)
        scratch += eps
        numpy.divide(m, scratch, out=scratch)
        scratch *= rate
        p -= scratch

    _by_blocks(work, ps, gs, ms, vs)


def move_towards(averages, ps, share, unless=None):
    """As plain.move_towards."""
    if unless is not None and unless:
        return

    def work(_, average, p):
        scratch = p - average
        scratch *= share
        average += scratch

    _by_blocks(work, averages, ps)


def sum_squares(arrays):
    """As plain.sum_squares."""
    return plain.sum_squares(arrays)
