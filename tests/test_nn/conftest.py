"""What tests of nn/ share."""
import pytest

from nn.kernels.cpu import parallel


@pytest.fixture
def two_threads():
    """Kernels work on two threads, however many the machine has."""
    before = parallel.thread_count()
    parallel.set_threads(2)
    yield
    parallel.set_threads(before)
