"""What the settings of every group may be.

A group with a `_target_` is described by the constructor that it names: its arguments are the keys, their
annotations the types. The classes below describe what no constructor takes by that name; a `Built` one adds to
such a group, or says more narrowly what the constructor's annotation leaves open. They are read by
`validation.check_types` and never instantiated; the values themselves are in `conf/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from fna_lightning.remapping import STRATEGIES


class Limit(NamedTuple):
    """What a value of the right type must satisfy besides."""

    holds: Callable[[Any], bool]
    words: str


Count = Annotated[int, Limit(lambda number: number >= 0, "0 or more")]
Positive = Annotated[int, Limit(lambda number: number >= 1, "1 or more")]
Amount = Annotated[float, Limit(lambda number: number >= 0, "0 or more")]
PositiveAmount = Annotated[float, Limit(lambda number: number > 0, "above 0")]
Share = Annotated[float, Limit(lambda number: 0 < number < 1, "between 0 and 1")]
RandomSeed = Annotated[int, Limit(lambda number: 0 <= number < 2**32, "from 0 to 4294967295")]
RemapStrategy = Annotated[str, Limit(lambda name: name in STRATEGIES, f"one of {', '.join(STRATEGIES)}")]


@dataclass
class Group:
    """Settings that belong together."""


@dataclass
class Built(Group):
    """A group whose `_target_` is called with it."""

    given: ClassVar[tuple[str, ...]] = ()
    """Arguments that the run gives, and no setting."""


@dataclass
class Adopted(Built):
    """A group that may also hold a few settings alone, to be put over those of the run that is evaluated."""


@dataclass
class Trainer(Built):
    """`trainer`: Lightning's, and what stops or saves a run."""

    given: ClassVar[tuple[str, ...]] = (
        *("accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm"),  # these are of the group strategy
        *("callbacks", "default_root_dir", "gradient_clip_val", "logger", "plugins", "use_distributed_sampler"),
    )

    max_epochs: Positive
    """Epochs of training, for a search those without architecture steps included."""
    log_every_n_steps: Positive
    """Iterations between two rows of `metrics.csv`."""
    check_val_every_n_epoch: Positive
    """Epochs between two scores on the validation set."""
    checkpoint_every: Positive | None
    """Iterations between two checkpoints within an epoch."""
    on_nonfinite: Literal["raise", "skip"]
    """What becomes of an update whose loss or gradient is not finite."""
    max_nonfinite: Count
    """Updates left out in a row before the run stops."""


@dataclass
class Strategy(Group):
    """`strategy`: the devices, and how they work together."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
    """The kind of device."""
    devices: int | str | list[int]
    """How many on this node, or which; -1 for all."""
    num_nodes: Positive
    """Nodes of the job."""
    strategy: str | Built
    """Lightning's name of the strategy."""
    sync_batchnorm: bool
    """Statistics of batch norms over all processes."""


@dataclass
class Paths(Group):
    """`paths`: where a run writes."""

    output: str
    """The run directory."""


@dataclass
class Detector(Built):
    """`detector`: the network around the backbone."""

    given: ClassVar[tuple[str, ...]] = ("backbone", "num_classes")

    features: list[int | str]
    """Maps of the backbone that it reads: stages, or as 6.expand; negative numbers count from the last 1x1."""
    output_stride: Positive | None = None
    """Largest stride of the backbone, beyond which strides become dilations; null leaves it as it is."""


@dataclass
class Data(Built):
    """`data`: a data module."""

    batch_size: Positive
    """Images per step and process."""
    num_workers: Count
    """Loader processes of each process; 0 loads in the process itself."""
    prefetch: Positive
    """Batches that every loader process keeps ready."""


@dataclass
class AdoptedData(Data, Adopted):
    """`data` of `evaluate.py`."""


@dataclass
class Optimizer(Built):
    """`optimizer`, and the two of a search."""

    given: ClassVar[tuple[str, ...]] = ("params",)

    lr: Amount
    """Learning rate at the start, after the warm-up."""
    weight_decay: Amount
    """Factor of the L2 term, for AdamW of the decay."""


@dataclass
class Schedule(Built):
    """`schedule` of the learning rate."""

    given: ClassVar[tuple[str, ...]] = ("optimizer", "steps_per_epoch", "epochs")

    warmup_steps: Count
    """Iterations of linear growth at the start."""
    warmup_factor: Annotated[float, Limit(lambda factor: 0 < factor <= 1, "above 0, at most 1")]
    """Share of the learning rate with which it starts."""


@dataclass
class Space(Built):
    """`space`: what a search chooses among."""

    given: ClassVar[tuple[str, ...]] = ("base",)


@dataclass
class Search(Group):
    """`search`: how the two kinds of steps alternate (FNA, section 3.3)."""

    share: Share
    """Part of the training images that is the architecture's."""
    augment_weight_half: bool
    """Whether the weights' images are augmented."""
    warmup_epochs: Count
    """Epochs without architecture steps."""
    weight_steps: Positive
    """Weight steps per architecture step."""
    temperature: PositiveAmount
    """Of the softmax over the architecture parameters."""
    clip_weights: PositiveAmount | None
    """Largest L2 norm of the weights' gradient."""
    clip_architecture: PositiveAmount | None
    """Largest L2 norm of the architecture parameters' gradient."""
    log_every: Positive
    """Iterations between two records of the architecture parameters."""
    weights: Optimizer
    """Optimiser of the weights."""
    schedule: Schedule
    """Schedule of the weights' learning rate."""
    architecture: Optimizer
    """Optimiser of the architecture parameters."""


@dataclass
class CountedCost(Group):
    """`cost` where multiply-adds are only counted."""

    input_size: tuple[Positive, Positive]
    """[height, width] in pixels at which they are counted."""


@dataclass
class Cost(CountedCost):
    """`cost` of a search: the second term of its objective (FNA, equation 6)."""

    weight: float
    """Lambda: weight of the logarithm of the expected cost."""
    log_base: PositiveAmount
    """Tau: base of that logarithm."""
    target: PositiveAmount | None
    """Multiply-adds of the whole backbone that the result never exceeds."""


@dataclass
class Seed(Group):
    """`seed`: the trained network that parameters come from."""

    weights: str | None
    """`imagenet`, a weight file, or a run directory."""
    architecture: str | None
    """Name or file of its architecture; null reads it from the weights."""


@dataclass
class Remap(Group):
    """`remap`: how parameters are carried over (FNA, section 3.2)."""

    strategy: RemapStrategy
    """The rule by which channels and taps are chosen."""
    source: Literal["seed", "supernet", "mixed"]
    """Where parameters come from."""
    supernet: str | None
    """Run directory of the search, for `supernet` and `mixed`."""
    calibration_batches: Count
    """Batches from which batch-norm statistics are estimated before training."""


@dataclass
class Parameters(Group):
    """`parameters`: those that the optimiser treats in their own way."""

    norm_decay: bool
    """Whether the scales and shifts of batch norms decay."""
    head_lr_factor: PositiveAmount
    """Learning rate of what is not the backbone, over the backbone's."""


@dataclass
class Settings(Group):
    """What every entry point has."""

    random_seed: RandomSeed
    """Decides initialisation, order, augmentation and paths."""
    resume: str | None
    """Run directory or checkpoint to continue from; `auto` for the run's own."""
    channels_last: bool
    """Memory layout of images and weights."""
    compile: bool
    """`torch.compile` of the network."""
    paths: Paths
    trainer: Trainer
    strategy: Strategy
    logger: dict[str, Built]


@dataclass
class TrainSettings(Settings):
    """`train.py`."""

    architecture: dict[str, Any]
    """As data, or the path of a file; what is wrong in it is said where it is read."""
    detector: Detector
    task: Built
    seed: Seed
    remap: Remap
    data: Data
    optimizer: Optimizer
    schedule: Schedule
    parameters: Parameters
    cost: CountedCost
    checkpoint: str | None
    """File or run directory whose parameters training starts from, after remapping."""
    clip: PositiveAmount | None
    """Largest L2 norm of the gradient."""


@dataclass
class SearchSettings(Settings):
    """`search.py`."""

    architecture: dict[str, Any]
    """Widths and strides of the space; as data, or the path of a file."""
    detector: Detector
    task: Built
    seed: Seed
    remap: Remap
    data: Data
    space: Space
    search: Search
    parameters: Parameters
    cost: Cost


@dataclass
class EvaluateSettings(Settings):
    """`evaluate.py`, before and after it has taken over the settings of the run that it scores."""

    checkpoint: str
    """Checkpoint or run directory."""
    save_predictions: bool
    """Whether to write a file for every picture, where the task has such."""
    data: AdoptedData | None = None
    task: Adopted | None = None
    architecture: dict[str, Any] | None = None
    detector: Detector | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    cost: CountedCost | None = None


ENTRIES = (TrainSettings, SearchSettings, EvaluateSettings)
