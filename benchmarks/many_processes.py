"""Time of a search's weight step in two processes: how gradients are shared, side by side.

    OMP_NUM_THREADS=1 python benchmarks/many_processes.py --size 128 128 --batch 2 --steps 30 --rounds 3

Three ways: `active` sends the gradients of the active path (strategy=ddp), `find_unused` lets torch's DDP send
those of the whole supernet (strategy=ddp_find_unused), `none` sends nothing: wrong, and the least there could be.
Every round starts two processes for each way in turn; a figure is the median step of rank 0 over all rounds, the
first steps of each left out. Both processes talk by gloo on a CPU and by NCCL on GPUs, one each. The file to write
figures to is benchmarks/many_processes.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from step_time import STAGES, detector, make_batch
from torch import nn
from torch.utils.data import DataLoader

from fna_lightning.architectures import load_architecture
from fna_lightning.choices import LayerChoice
from fna_lightning.data.batches import DetectionBatch
from fna_lightning.modules import ActivePathStrategy, SupernetAdaptation, WeightTraining
from fna_lightning.schedules import multistep
from fna_lightning.supernets import MobileSpace, build_supernet
from fna_lightning.tasks import DetectionTask

WAYS = ("none", "active", "find_unused")
_WARM_UP = 5


class Stopwatch(Callback):
    """Seconds of every training step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Start when everybody is here, so that nobody's loader counts."""
        trainer.strategy.barrier()
        _wait()
        self._since = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop."""
        _wait()
        self.seconds.append(time.perf_counter() - self._since)


class _Data(L.LightningDataModule):
    """Batches of noise, made beforehand."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self._batches = [noise(options)] * (options.steps + _WARM_UP)

    def train_dataloader(self) -> Any:
        """All of them, once."""
        return DataLoader(self._batches, batch_size=None)  # pyright: ignore[reportArgumentType]


def main() -> None:
    """Measure and print a table in Markdown."""
    options = _options()
    if options.way:
        print(json.dumps(steps(options)))
        return
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            found = _in_two_processes(way)
            seconds[way] += found["seconds"]
            sizes = found["parameters"]
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    height, width = options.size
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"\n2 processes on {device}; torch {torch.__version__}; RetinaNet, {options.channels} channels,")
    print(f"batch {options.batch} of {height}x{width} each; {sizes['all'] / 1e6:.1f} M parameters,")
    print(f"{sizes['active'] / 1e6:.1f} M of them on a path\n")
    print("| gradients shared | seconds | of none |\n|---|---|---|")
    for way in WAYS:
        print(f"| {way} | {medians[way]:.3f} | {medians[way] / medians['none']:.2f} |")


def noise(options: argparse.Namespace) -> DetectionBatch:
    """Pictures of noise with eight boxes each."""
    images, boxes, labels = make_batch(options)
    sizes = torch.tensor([options.size] * options.batch)
    return DetectionBatch(images, boxes, labels, sizes, sizes, torch.arange(options.batch))


def steps(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each weight step on this rank, and how many parameters there are."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    space = MobileSpace(load_architecture("mobilenet_v2"), {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1})
    network = detector(build_supernet(space, STAGES), options)
    weights = WeightTraining(
        lambda weights: torch.optim.SGD(weights, 1e-4, momentum=0.9, weight_decay=1e-4),
        lambda optimizer, **_: multistep(optimizer, milestones=[8], steps_per_epoch=1, epochs=1, warmup_steps=0),
    )
    module = SupernetAdaptation(network, DetectionTask(), "", weights, 0)
    if options.way == "none":
        module.paths._before_update = lambda _: True
    clock = Stopwatch()
    trainer = L.Trainer(
        accelerator="auto",
        devices=2,
        strategy="ddp_find_unused_parameters_true" if options.way == "find_unused" else ActivePathStrategy(),
        callbacks=[clock],
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, _Data(options))
    return {"seconds": clock.seconds[_WARM_UP:], "parameters": _parameters(network, module)}


def _parameters(network: nn.Module, module: SupernetAdaptation) -> dict[str, int]:
    """Of the supernet with its detector, and of one path through it."""
    resting = sum(
        parameter.numel()
        for choice in module.choices
        if isinstance(choice, LayerChoice)
        for name, candidate in choice.candidates.named_children()
        if name != choice.names[choice.active or 0]
        for parameter in candidate.parameters()
    )
    total = sum(parameter.numel() for parameter in network.parameters())
    return {"all": total, "active": total - resting}


def _in_two_processes(way: str) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--way", way],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        )
        for rank in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    return json.loads(outputs[0].splitlines()[-1])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[128, 128], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=2, help="images per process")
    parser.add_argument("--channels", type=int, default=64, help="of the pyramid and the head")
    parser.add_argument("--steps", type=int, default=30, help="that are measured in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args(namespace=argparse.Namespace(device="cpu"))


if __name__ == "__main__":
    main()
