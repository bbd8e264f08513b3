"""Batches are prefetched in a thread, so that a step need not wait for them."""
import collections
import concurrent.futures

import nn
from data.support.threads import result

BATCHES_AHEAD = 3


class BatchPrefetcher:
    """The batches of a run, one list for each step.

    The batches of step k depend on the dataset, the hyperparameters, k and the warp strength alone.

    dataset: has .batches(hparams, k, warp, substep, device) that returns a list of named
        tuples of arrays (gan.people.pair.FacePair, gan.people.many.MultiPersonDataset)
    hparams: gan.training.steps.Hyperparameters
    warp: function from k to the warp strength
    device: where the arrays should be, 'cpu' or 'cuda'
    """

    def __init__(self, dataset, hparams, warp, device):
        self._dataset, self._hparams, self._warp, self._device = dataset, hparams, warp, device
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._futures = collections.OrderedDict()

    def __call__(self, k):
        """Return the batches of step k, on the device.

        Steps must be requested in order. Batches of skipped steps are discarded.
        """
        self.prefetch(k)
        for step in [step for step in self._futures if step < k]:
            self._futures.pop(step).cancel()
        return self._on_device(result(self._futures.pop(k)))

    def prefetch(self, k):
        """Start on the batches of step k and the next BATCHES_AHEAD steps."""
        for step in range(k, k + 1 + BATCHES_AHEAD):
            if step not in self._futures:
                self._futures[step] = self._submit(step, 0)

    def discard(self):
        """Discard prefetched batches, because the warp strength has changed."""
        while self._futures:
            self._futures.popitem()[1].cancel()

    def extra(self, k, substep):
        """Return further batches for step k with other random numbers. substep: 1, 2, ..."""
        return self._on_device(result(self._submit(k, substep)))

    def _submit(self, k, substep):
        return self._thread.submit(self._dataset.batches, self._hparams, k, self._warp(k), substep, self._device)

    def _on_device(self, batches):
        return [type(batch)(*(nn.backend.to_device(array, self._device) for array in batch)) for batch in batches]

    def close(self):
        """End the thread and discard its work."""
        self._thread.shutdown(wait=True, cancel_futures=True)
