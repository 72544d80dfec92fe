"""Whether an update may happen: decided before it, and alike on all ranks."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from fna_lightning.distributed import gather_objects, maximum_over_ranks, num_ranks
from fna_lightning.errors import ConfigError, TrainingError, listed

log = logging.getLogger(__name__)

OnNonfinite = Literal["raise", "skip"]


class StepGuard:
    """Stops a step whose loss or gradient is not finite on any rank before it changes a weight.

    All ranks take part in one small message a step, by which they also agree that they are on the same path, and
    on whether somebody has asked the run to stop. The host reads its outcome, and so waits for the device, once
    an update.

    Args:
        on_nonfinite: `raise`, or `skip` to leave the update out and go on.
        most: updates left out in a row before the run stops all the same.

    Attributes:
        skipped: updates left out so far.
        asked_to_stop: gives the exit code by which this process was asked to leave; 0 if it was not.
        stopping: that of any rank, agreed at the last step.
        loss: the last step's loss on this rank, already on the host.
    """

    def __init__(self, on_nonfinite: OnNonfinite = "raise", most: int = 10) -> None:
        if on_nonfinite not in ("raise", "skip"):
            raise ConfigError(f"trainer.on_nonfinite={on_nonfinite}: give raise or skip")
        if most < 1:
            raise ConfigError(f"trainer.max_nonfinite={most}: give at least 1")
        self.on_nonfinite = on_nonfinite
        self.skipped = 0
        self.asked_to_stop: Callable[[], int] = lambda: 0
        self.stopping = 0
        self.loss = float("nan")
        self._most = most
        self._in_a_row = 0
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def remember(self, network: nn.Module) -> None:
        """Keep the batch-norm statistics, which a forward pass with broken numbers would spoil for good.

        Only where steps may be skipped; call it before the forward pass.
        """
        if self.on_nonfinite == "raise":
            return
        buffers = list(network.buffers())
        if len(buffers) != len(self._statistics):
            self._statistics = [(buffer, buffer.clone()) for buffer in buffers]
        else:
            self._statistics = [
                (buffer, kept.copy_(buffer)) for buffer, (_, kept) in zip(buffers, self._statistics, strict=True)
            ]

    def allows(
        self,
        loss: Tensor,
        parameters: Iterable[nn.Parameter],
        describe: Callable[[], str],
        path: Sequence[int] = (),
    ) -> bool:
        """Decide on one update; a collective call.

        Args:
            loss: scalar, of this rank.
            parameters: what would be updated; those without gradient take no part.
            describe: names the batch; called only where it is needed.
            path: of the supernet, which all ranks must share.

        Returns:
            Whether the update may happen. If not, the statistics are those given to `remember` again.

        Raises:
            TrainingError: naming the batches with which it may not, or that the ranks are on different paths.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        finite = loss.detach().isfinite().all()
        if gradients:
            finite = finite & get_total_norm(gradients).isfinite()
        mark = _mark(path, gradients) if num_ranks() > 1 else 0
        # Float64 holds all of them exactly, and the loss with them in one transfer.
        header = torch.tensor([self.asked_to_stop(), mark, -mark], dtype=torch.float64)
        header = torch.cat([(~finite).double().view(1), header.to(loss.device, non_blocking=True)])
        agreed = maximum_over_ranks(header)
        bad, stop, largest, smallest, self.loss, own = torch.stack(
            [*agreed, loss.detach().double(), (~finite).double()]
        ).tolist()
        self.stopping = int(stop)
        if largest != -smallest:
            raise TrainingError("the ranks are on different paths: start all processes with the same settings")
        if not bad:
            self._in_a_row = 0
            return True
        self._leave_out(" and ".join(filter(None, gather_objects(describe() if own else ""))))
        return False

    def _leave_out(self, batches: str) -> None:
        self._in_a_row += 1
        if self.on_nonfinite == "raise":
            raise TrainingError(
                f"loss or gradient is not finite, and no weight was changed: {batches}; lower the learning rate "
                "or set clip, look at the pictures, or leave such steps out by trainer.on_nonfinite=skip"
            )
        if self._in_a_row > self._most:
            raise TrainingError(
                f"loss or gradient was not finite {self._in_a_row} times in a row, the last: {batches}; lower the "
                "learning rate, or allow more by trainer.max_nonfinite"
            )
        self.skipped += 1
        for buffer, kept in self._statistics:
            buffer.copy_(kept)
        log.warning("left out an update whose loss or gradient is not finite: %s", batches)

    def state_dict(self) -> dict[str, int]:
        """The counts, for checkpoints."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on counting."""
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]


def name_batch(epoch: int, iteration: int, files: Sequence[str]) -> str:
    """A batch in words, for a message."""
    return f"epoch {epoch}, iteration {iteration}" + (f", pictures {listed(files)}" if files else "")


def _mark(path: Sequence[int], gradients: Sequence[Tensor]) -> int:
    """A number for what is going to be reduced: ranks that differ in it would wait for each other for ever."""
    return zlib.crc32(repr((list(path), [gradient.numel() for gradient in gradients])).encode())
