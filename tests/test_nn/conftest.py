"""Fixtures shared by the tests of nn/."""
import pytest

from nn.kernels.cpu import parallel


@pytest.fixture
def two_threads():
    """Run kernels on two threads, whatever the number of cores."""
    before = parallel.thread_count()
    parallel.set_threads(2)
    yield
    parallel.set_threads(before)
