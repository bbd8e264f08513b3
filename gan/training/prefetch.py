"""Batches made ahead in a thread of their own, so that the step never waits for them."""
import collections
import concurrent.futures

import nn
from data.support.threads import result

BATCHES_AHEAD = 3


class BatchMaker:
    """The batches of a run, one list for each step: batch k depends on what is learned from, the recipe, k and the warp alone.

    source: whatever has .batches(recipe, k, warp, turn, device), a list of named tuples of arrays (gan.people.pair.Subjects, gan.people.many.Crowd).
    warp: function from k to the warp's strength. device: where the arrays are wanted.
    """

    def __init__(self, source, recipe, warp, device):
        self._source, self._recipe, self._warp, self._device = source, recipe, warp, device
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead = collections.OrderedDict()

    def __call__(self, k):
        """The batches of step k, on the device. Steps are asked for in order; one that is left out is thrown away."""
        self.prepare(k)
        for step in [step for step in self._ahead if step < k]:
            self._ahead.pop(step).cancel()
        return self._on_device(result(self._ahead.pop(k)))

    def prepare(self, k):
        """Begin with the batches of step k and the next ones."""
        for step in range(k, k + 1 + BATCHES_AHEAD):
            if step not in self._ahead:
                self._ahead[step] = self._submit(step, 0)

    def renew(self):
        """Throw away what was made ahead: the warp is another one now."""
        while self._ahead:
            self._ahead.popitem()[1].cancel()

    def extra(self, k, turn):
        """A further list of batches for step k, of other random numbers: `turn` counts them from 1."""
        return self._on_device(result(self._submit(k, turn)))

    def _submit(self, k, turn):
        return self._thread.submit(self._source.batches, self._recipe, k, self._warp(k), turn, self._device)

    def _on_device(self, made):
        return [type(batch)(*(nn.backend.to_device(array, self._device) for array in batch)) for batch in made]

    def close(self):
        """End the thread; what it was making is thrown away."""
        self._thread.shutdown(wait=True, cancel_futures=True)
