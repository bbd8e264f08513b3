"""Batches are prefetched in a thread, so that a step need not wait for them."""
import concurrent.futures

import nn
from data.support.threads import result
from gan.run import schedule

BATCHES_AHEAD = 3


class BatchPrefetcher:
    """The batches of a run: for each step a list with one item for each step of the discriminator.

    Each item is what dataset.batches returns, a list of named tuples of arrays. The autoencoder is
    trained on the first item. The batches of step k depend on the dataset, the config and k alone.

    dataset: gan.people.pair.FacePair or gan.people.many.MultiPersonDataset
    config: gan.run.config.Config
    device: where the arrays should be, 'cpu' or 'cuda'
    """

    def __init__(self, dataset, config, device):
        self._dataset, self._config, self._device = dataset, config, device
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._futures = {}

    def __call__(self, k):
        """Return the batches of step k, on the device, and start on those of the next steps."""
        for step in range(k, k + 1 + BATCHES_AHEAD):
            if step not in self._futures:
                self._futures[step] = self._thread.submit(self._make, step)
        for step in [step for step in self._futures if step < k]:
            self._futures.pop(step).cancel()
        return [[type(batch)(*(nn.backend.to_device(array, self._device) for array in batch)) for batch in batches]
                for batches in result(self._futures.pop(k))]

    def _make(self, k):
        position = schedule.position_at(self._config.plan, k)
        is_adversarial = position is not None and position.stage == "adversarial"
        warp = schedule.warp_strength(self._config, position)
        return [self._dataset.batches(self._config, k, warp, substep, self._device)
                for substep in range(self._config.discriminator_steps if is_adversarial else 1)]

    def discard(self):
        """Discard prefetched batches, because the plan has changed."""
        while self._futures:
            self._futures.popitem()[1].cancel()

    def close(self):
        """End the thread and discard its work."""
        self._thread.shutdown(wait=True, cancel_futures=True)
