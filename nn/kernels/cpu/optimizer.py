"""Adam and the moving average on the CPU: all parameters at once, by blocks, on all threads."""
import numpy

from nn.kernels import plain
from nn.kernels.cpu import parallel, tiling


def _for_each_block(work, *lists):
    """Call work(k, block of the k-th array of each list) for all blocks of all arrays.

    One run for all, since most arrays are small. Arrays that are not contiguous are one block.
    """
    blocks = []
    for k, arrays in enumerate(zip(*lists)):
        if not all(a.flags.c_contiguous for a in arrays):
            blocks.append((k, arrays))
            continue
        flat = [a.reshape(-1) for a in arrays]
        blocks += [(k, [a[start:start + tiling.BLOCK] for a in flat]) for start in range(0, flat[0].size, tiling.BLOCK)]
    threads = parallel.thread_count() if sum(each[0].size for _, each in blocks) > tiling.BLOCK else 1
    parallel.run(lambda first: [work(k, *block) for k, block in blocks[first::threads]], range(threads))


def adam(ps, gs, ms, vs, lrs, beta1, beta2):
    """As plain.adam."""
    def work(k, p, g, m, v):
        lr, eps = lrs[k]
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
        scratch *= lr
        p -= scratch

    _for_each_block(work, ps, gs, ms, vs)


def ema_update(averages, ps, alpha):
    """As plain.ema_update."""
    def work(_, average, p):
        scratch = p - average
        scratch *= alpha
        average += scratch

    _for_each_block(work, averages, ps)


def sum_squares(arrays):
    """As plain.sum_squares."""
    return plain.sum_squares(arrays)
