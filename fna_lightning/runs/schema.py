"""What the settings of every group may be.

A group with a `_target_` is described by the constructor that it names: its arguments are the keys, their
annotations the types. The classes below describe what no constructor takes by that name; a `Built` one adds to
such a group, or says more narrowly what the constructor's annotation leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from fna_lightning.costs import Quantity
from fna_lightning.remapping import STRATEGIES, Growth
from fna_lightning.settings import Built, Count, Group, Limit, Optimizer, Positive, PositiveAmount, Schedule

RandomSeed = Annotated[int, Limit(lambda number: 0 <= number < 2**32, "from 0 to 4294967295")]
Fraction = Annotated[float, Limit(lambda share: 0 < share <= 1, "above 0, at most 1")]
RemapStrategy = Annotated[str, Limit(lambda name: name in STRATEGIES, f"one of {', '.join(STRATEGIES)}")]
# In place of what Lightning would here count or end in another way without a word.
_EPOCHS = "trainer.max_epochs instead, by which schedules go"
_ACCUMULATE = "1 and a larger data.batch_size: schedules count batches"
_OVERFIT = "0 and trainer.limit_train_batches: data sets have their own order"
_CLIP = "null, and clip=<norm>; of a search search.clip_weights=<norm>"
_DEV_RUN = "false and trainer.max_epochs=1 trainer.limit_train_batches=1 trainer.limit_val_batches=1"


@dataclass
class Adopted(Built):
    """A group that may also hold a few settings alone, to be put over those of the run that is evaluated."""


@dataclass
class Trainer(Built):
    """`trainer`: Lightning's, and what stops or saves a run."""

    given: ClassVar[tuple[str, ...]] = (
        *("accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm"),  # these are of the group strategy
        *("callbacks", "default_root_dir", "logger", "plugins", "use_distributed_sampler"),
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
    limit_train_batches: Positive | Fraction | None
    """Batches of an epoch, or which share of them."""
    limit_val_batches: Count | Fraction | None
    """Batches of a validation, or which share of them; 0 leaves validations out."""

    max_steps: Annotated[Any, Limit(lambda steps: steps == -1, f"{_EPOCHS}, and trainer.limit_train_batches")]
    """An end before that of the schedule; of a search, by the steps of both its optimisers."""
    min_steps: Annotated[Any, Limit(lambda steps: steps is None, _EPOCHS)]
    """A later end, likewise."""
    accumulate_grad_batches: Annotated[Any, Limit(lambda number: number == 1, _ACCUMULATE)]
    """Batches of an update."""
    overfit_batches: Annotated[Any, Limit(lambda number: number == 0, _OVERFIT)]
    """Batches that are trained on and scored alike."""
    fast_dev_run: Annotated[Any, Limit(lambda number: not number, _DEV_RUN)]
    """A run of some batches, without its log."""
    gradient_clip_val: Annotated[Any, Limit(lambda norm: norm is None, _CLIP)]
    """Largest norm of the gradient."""
    barebones: Annotated[Any, Limit(lambda on: not on, "false: a run keeps its checkpoints and its log")]
    """A run without either."""
    enable_checkpointing: Annotated[Any, Limit(lambda on: on in (True, None), "true: a run keeps its checkpoints")]
    """Checkpoints."""


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

    given: ClassVar[tuple[str, ...]] = ("backbone", "num_classes", "head")

    strides: list[int | str] | None = None
    """Maps of the backbone that it reads: strides, or as 16.expand, last (stage) and head (the last 1x1)."""
    features: list[int | str] | None = None
    """The same maps by name, which wins: stages, or as 6.expand; negative numbers count from the last 1x1."""
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
class Space(Built):
    """`space`: what a search chooses among."""

    given: ClassVar[tuple[str, ...]] = ("base",)


@dataclass
class Search(Built):
    """`search`: how an architecture is found; the class that is named describes its settings."""


@dataclass
class CountedCost(Group):
    """`cost` where multiply-adds are only counted."""

    input_size: tuple[Positive, Positive]
    """[height, width] in pixels at which they are counted."""


@dataclass
class Limits(Group):
    """`cost.limits`: hard limits by what is counted, of searches that score candidates."""

    madds: PositiveAmount | None
    """Multiply-adds."""
    params: PositiveAmount | None
    """Parameters."""


@dataclass
class Cost(CountedCost):
    """`cost` of a search: the hard limit, and what the objective of a gradient search adds (FNA, equation 6)."""

    weight: float
    """Lambda: weight of the logarithm of the expected cost."""
    log_base: PositiveAmount
    """Tau: base of that logarithm."""
    target: PositiveAmount | None
    """Cost that the result shall have, of the backbone, or of the network if a head is searched: at most that, and
    at least 95 % of it where some path does. A gradient search pulls to it."""
    quantity: Quantity = "madds"
    """What is counted and limited: multiply-adds or parameters."""
    limit: PositiveAmount | None = None
    """Cost that the result never exceeds; null takes the target."""
    limits: Limits | None = None
    """More of them, all kept at once by a search that scores candidates."""
    limit_size: tuple[Positive, Positive] | None = None
    """[height, width] in pixels at which limits and target count; null takes `input_size`."""


@dataclass
class Seed(Group):
    """`seed`: the trained network that parameters come from."""

    weights: str | None
    """`imagenet`, a weight file, or a run directory."""
    architecture: str | None
    """Name or file of its architecture; null reads it from the weights."""
    ema: bool = False
    """Whether to take the average of the weights over training from a file that holds both."""


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
    batches: Count = 0
    """Batches on which the seed's network runs before training: from them `preserving` refits, and the first two
    show how far the maps are from the seed's; 0 leaves that out."""
    grow: Growth | None = None
    """What channels become that the seed has no more of; null: as the strategy says."""


@dataclass
class Parameters(Group):
    """`parameters`: those that the optimiser treats in their own way."""

    norm_decay: bool
    """Whether the scales and shifts of batch norms decay."""
    head_lr_factor: PositiveAmount
    """Learning rate of what is not the backbone, over the backbone's."""
    bias_lr_factor: PositiveAmount = 1.0
    """Learning rate of biases, over that of the weights beside them."""
    bias_decay: bool = True
    """Whether biases decay."""
    frozen_stages: Count = 0
    """First stages of the backbone that stay as they are, the stem included."""
    frozen_norms: bool = False
    """Whether all batch norms of the backbone stay as they are, statistics included."""


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
    train_with: str | None = None
    """Recipe of `train.py` that goes on with this network on another set, named in the command at the end."""


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
    train_with: str | None = None
    """Recipe of `train.py` for what is found, named in the command that is printed at the end."""
    search_with: str | None = None
    """Recipe of `search.py` for another search over this one's supernet, in its place."""


@dataclass
class EvaluateSettings(Settings):
    """`evaluate.py`, before and after it has taken over the settings of the run that it scores."""

    checkpoint: str
    """Checkpoint or run directory."""
    save_predictions: bool
    """Whether to write a file for every picture, where the task has such."""
    classes: dict[str | int, str | int] | None = None
    """Names in the data set and the network's names for them, where the two differ."""
    data: AdoptedData | None = None
    task: Adopted | None = None
    architecture: dict[str, Any] | None = None
    detector: Detector | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    parameters: Parameters | None = None
    cost: CountedCost | None = None


@dataclass
class PredictSettings(Group):
    """`python -m fna_lightning.predict`."""

    checkpoint: str
    """Checkpoint or run directory."""
    images: str | list[str]
    """Files, folders and patterns of pictures and videos."""
    output: str
    """Folder in which results are written."""
    threshold: Annotated[float, Limit(lambda score: 0 <= score <= 1, "from 0 to 1")] | None
    """Least score of boxes."""
    batch_size: Positive | None
    """Pictures that the network sees at once."""
    device: str
    """Torch's name of it, or `auto`."""
    limit: Positive | None
    """Pictures and frames after which no more are looked at."""
    every: Positive
    """Of the frames of a video, each so many-th is looked at."""


@dataclass
class ExportSettings(Group):
    """`python -m fna_lightning.export`."""

    checkpoint: str
    """Checkpoint or run directory."""
    format: Literal["onnx", "torch_export", "safetensors"]
    """Of the file."""
    part: Literal["network", "raw", "backbone"] | None
    """Boxes or labels, what is predicted before they are decoded, or feature maps."""
    dynamic: Literal["all", "batch", "size", "none"] | None
    """What may vary."""
    batch: Positive
    """Pictures at once, where that does not vary."""
    size: tuple[Positive, Positive] | None
    """Height and width, where they do not vary."""
    images: str | list[str] | None
    """Files, folders and patterns of pictures to check on."""
    limit: Positive
    """Pictures that are checked."""
    output: str | None
    """The file."""


ENTRIES: dict[str, type[Group]] = {
    "train": TrainSettings,
    "search": SearchSettings,
    "evaluate": EvaluateSettings,
    "predict": PredictSettings,
    "export": ExportSettings,
}
"""What the settings of every entry point are, by its name."""
