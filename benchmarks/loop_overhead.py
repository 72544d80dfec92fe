"""What our training costs over a bare PyTorch loop: same network, same batches, same optimiser.

    OMP_NUM_THREADS=1 python benchmarks/loop_overhead.py --size 128 128 --batch 2 --steps 40 --rounds 5

Ours is `ParameterAdaptation` under Lightning with everything a run has: the guard against numbers that are not
finite, log rows, learning rates, progress bar, a checkpoint at the end. The bare loop computes the loss, clips,
steps and does nothing else. Both are measured in turn; a figure is the median round. The file to write figures to
is benchmarks/loop_overhead.md.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from many_processes import noise
from step_time import STAGES, detector
from torch import nn
from torch.utils.data import DataLoader

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.callbacks import LastCheckpoint, ProgressBar, RunLog, Timekeeper
from fna_lightning.modules import ParameterAdaptation
from fna_lightning.schedules import multistep
from fna_lightning.tasks import DetectionTask

_WARM_UP = 5
_CLIP = 35.0


class _Stopwatch(Callback):
    """Seconds from the first measured step to the last, with all that happens between steps."""

    def __init__(self, device: str) -> None:
        self.seconds = 0.0
        self._device = device
        self._since = 0.0

    def on_train_batch_start(self, *arguments: Any) -> None:
        """Start after the warm-up."""
        if arguments[-1] == _WARM_UP:
            _wait(self._device)
            self._since = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop."""
        _wait(self._device)
        self.seconds = time.perf_counter() - self._since


class _Data(L.LightningDataModule):
    """The same batch of noise at every step."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self._batches = [noise(options)] * (options.steps + _WARM_UP)

    def train_dataloader(self) -> Any:
        """All of them, once."""
        return DataLoader(self._batches, batch_size=None)  # pyright: ignore[reportArgumentType]


def main() -> None:
    """Measure and print a table in Markdown."""
    options = _options()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(options.rounds):
        seconds["bare"].append(bare(options))
        seconds["ours"].append(ours(options))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    height, width = options.size
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"\n{device}, {torch.get_num_threads()} threads; torch {torch.__version__}; RetinaNet on MobileNetV2,")
    print(f"{options.channels} channels, batch {options.batch} of {height}x{width}\n")
    print("| loop | seconds per step | of bare |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {value:.4f} | {value / medians['bare']:.3f} |")


def bare(options: argparse.Namespace) -> float:
    """Mean seconds of a step of a plain loop."""
    network, batch, task = _network(options), noise(options), DetectionTask()
    optimizer = _optimizer(network.parameters())
    for step in range(options.steps + _WARM_UP):
        if step == _WARM_UP:
            _wait(options.device)
            start = time.perf_counter()
        losses = task.losses(network, batch)  # pyright: ignore[reportArgumentType]
        loss = sum(losses.values(), start=torch.zeros((), device=options.device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimizer.step()
    _wait(options.device)
    return (time.perf_counter() - start) / options.steps


def ours(options: argparse.Namespace) -> float:
    """Mean seconds of a step of a run."""
    module = ParameterAdaptation(_network(options), DetectionTask(), "", _optimizer, _schedule)
    watch = _Stopwatch(options.device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trainer = L.Trainer(
            devices=1,
            max_epochs=1,
            gradient_clip_val=_CLIP,
            callbacks=[
                watch,
                Timekeeper(),
                RunLog(folder, every=10),
                LastCheckpoint(folder / "last.ckpt"),
                ProgressBar(),
            ],
            logger=CSVLogger(folder, name="", version=""),
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, _Data(options))
    return watch.seconds / options.steps


def _network(options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    return detector(build_backbone(load_architecture("mobilenet_v2"), STAGES), options).train()


def _optimizer(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 1e-4, momentum=0.9, weight_decay=1e-4)


def _schedule(optimizer: torch.optim.Optimizer, **counts: int) -> Any:
    return multistep(optimizer, milestones=[8], warmup_steps=0, **counts)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[128, 128], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--channels", type=int, default=64, help="of the pyramid and the head")
    parser.add_argument("--steps", type=int, default=40, help="that are measured in a round")
    parser.add_argument("--rounds", type=int, default=5)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return parser.parse_args(namespace=argparse.Namespace(device=device))


if __name__ == "__main__":
    main()
