"""What all data modules share: two sets, read and checked once, and the loaders over them."""

from __future__ import annotations

import copy
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fna_lightning.data.augmentation.transforms import Pipeline
from fna_lightning.data.checking.checks import CHECK_IMAGES, ON_ERROR, check_choice
from fna_lightning.data.checking.folders import beside, note_unused
from fna_lightning.data.checking.leaks import note_copies, same_contents
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError, printable, tell, warn
from fna_lightning.data.classes import class_difference, class_order
from fna_lightning.data.datasets import EpochDataset, EpochSubset
from fna_lightning.data.label_maps import LabelFiles
from fna_lightning.data.loading import EpochLoader, again_and_again, start_worker
from fna_lightning.data.sampling import EpochSampler, split_by_name, split_indices, within_common_folder
from fna_lightning.errors import ConfigError, DataError

DatasetT = TypeVar("DatasetT", bound=EpochDataset[Any, Any])
SelfModule = TypeVar("SelfModule", bound="DataModule[Any]")
_OTHER_PASSES = 2**32
"""Where a second loader over the same images counts its passes from."""


class DataModule(lightning.LightningDataModule, ABC, Generic[DatasetT]):
    """Builds the training and the validation set once, and loaders over them.

    Every process reads its own share of the samples: rank and world size come from the trainer, if
    one is attached. Call `prepare_data` and `setup` before anything else; the trainer does.

    Args:
        batch_size: Samples per batch and process.
        num_workers: Loader processes; 0 loads in the main one. The batches are the same for any number.
        random_seed: Decides order and augmentation.
        prefetch: Batches that every loader process keeps ready.
        on_error: `raise` stops at a broken picture or annotation; `skip` leaves it out with a warning. What is
            left out follows from the files alone, and is the same in every process.
        check_images: What to look at before training: `headers` finds missing, truncated and wrongly
            sized files; `all` decodes every image; `none` is for sets known to be good.
        repeat: Passes over the training set, or over each part of it in a search, that make an epoch; each has
            its own order and augmentation. Epochs of n passes hold the same samples as n epochs of one.
        val_share: Share of the pictures that is set aside for validation where the set has no part for it.
        val_seed: Decides which; `random_seed` does not, so that all runs on a set are scored on pictures that none
            of them has trained on.
    """

    picture_ending = ""
    """How the names of all pictures end, where they end alike."""
    unused_mend = ""
    """How pictures among those of the two sets come to be used as well, if not by a list."""
    other_mend = ""
    """How those in a folder of another split do."""
    kind: ClassVar[str]
    """What can be learnt from it: `detection`, `classification` or `segmentation`."""

    def __init__(
        self,
        batch_size: int = 4,
        num_workers: int = 2,
        random_seed: int = 0,
        prefetch: int = 2,
        on_error: str = "raise",
        check_images: str = "headers",
        repeat: int = 1,
        val_share: float = 0.2,
        val_seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < val_share <= 1:
            raise ConfigError(f"data.val_share={val_share} must be above 0 and at most 1")
        if min(batch_size, repeat) < 1 or num_workers < 0:
            raise ConfigError(
                f"data.batch_size={batch_size} and data.repeat={repeat} must be at least 1 and "
                f"data.num_workers={num_workers} at least 0"
            )
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.random_seed = random_seed
        self.prefetch = prefetch
        self.on_error = check_choice("on_error", on_error, ON_ERROR)
        self.check_images = check_choice("check_images", check_images, CHECK_IMAGES)
        self.repeat = repeat
        self.val_share = val_share
        self.val_seed = val_seed
        self.left_out: dict[str, int] = {}
        """What training does without, counted: split and kind in words -> items; known after `setup`."""
        self.split_names: dict[str, list[str]] = {}
        """Where a share is set aside: split -> names of its pictures in the folder of all; known after `setup`."""
        self._found: list[Problem] = []
        self._fingerprints: dict[str, int] = {}
        self.train_dataset: DatasetT | None = None
        self.val_dataset: DatasetT | None = None
        self._train_loader: EpochLoader | None = None

    def has_validation(self) -> bool:
        """Whether the set has a part to score; of one that has none, a share is set aside."""
        return True

    @abstractmethod
    def build_train(self, problems: Problems) -> DatasetT:
        """Read and check the training set, noting what is wrong in `problems`; it is augmented.

        Of a set without a part for validation this is all of it.
        """

    @abstractmethod
    def build_val(self, problems: Problems) -> DatasetT:
        """Read and check the validation set, likewise; nothing in it is random."""

    def picture_folders(self) -> list[Path]:
        """Where the pictures of both sets lie, in these or below; others in there are told of as not used."""
        return []

    def other_folders(self) -> list[Path]:
        """Folders beside these that may hold another split, of which it is told likewise."""
        return beside(self.picture_folders())

    @property
    def picture_settings(self) -> dict[str, Any]:
        """The settings that decide in which size a network sees pictures in validation, by their keys."""
        return {}

    @abstractmethod
    def eval_transform(self) -> Pipeline:
        """The validation set's transform."""

    def seen(self, image: np.ndarray) -> Tensor:
        """A picture (H, W, 3) uint8, RGB, of no set as validation sees one: (3, H', W') uint8.

        Threads may call it side by side: pipelines are not made for that, so that each call has its own.
        """
        return torch.from_numpy(self.eval_transform().alone(image)).permute(2, 0, 1)

    def setup(self, stage: str | None = None) -> None:
        """Read what `stage` needs: both sets for `fit` or None, else the validation set; once.

        Raises:
            ConfigError: All pictures are set aside, and some are to be trained on.
            DataError: A set is missing or broken, or the two differ in their classes.
        """
        if not self.has_validation():
            self._setup_of_one_part(stage in (None, "fit"))
            return
        both = self.train_dataset is not None and self.val_dataset is not None
        if stage in (None, "fit") and self.train_dataset is None:
            self.train_dataset = self._checked("training", self.build_train)
        if self.val_dataset is None:
            self.val_dataset = self._checked("validation", self.build_val)
        if self.train_dataset is not None and not both:
            self.check_same_classes(self.train_dataset, self.val_dataset)
            if self.check_images != "none":
                self._warn_of_both(self.train_dataset, self.val_dataset)

    def set_aside(self, whole: DatasetT) -> tuple[DatasetT, DatasetT]:
        """A set without a part for validation, divided by its pictures' names alone: training, validation."""
        names = within_common_folder([whole.name(index) for index in range(len(whole))])
        scored, rest = split_by_name(names, self.val_share, self.val_seed)
        self.split_names = {"training": [names[i] for i in rest], "validation": [names[i] for i in scored]}
        return whole.part(rest), self.for_validation(whole.part(scored))

    def check_same_classes(self, train: DatasetT, val: DatasetT) -> None:
        """Require that labels mean the same in both sets.

        Raises:
            DataError: They do not.
        """
        if train.class_names != val.class_names:
            what = class_difference(train.class_names, val.class_names)
            raise SetError(Problem(Kind.CLASSES, val.source, what))

    def note_unused(self, train: DatasetT, val: DatasetT, found: Iterable[Problem], problems: Problems) -> None:
        """Note the folders with pictures that nobody speaks of: not the two sets, nor what is wrong with them.

        Args:
            train: The training set.
            val: The validation set.
            found: What is wrong with either.
            problems: Takes the folders in.
        """
        files = (*train.listed(), *val.listed(), *(problem.path for problem in found))
        known = set(map(os.path.abspath, files))
        note_unused(self.picture_folders(), known, problems, mend=self.unused_mend)
        note_unused(self.other_folders(), known, problems, self.picture_ending, self.other_mend)

    def totals(self) -> dict[str, dict[str, int]]:
        """What there is after `setup`, counted: split -> title -> number."""
        datasets = {"training": self.train_dataset, "validation": self.val_dataset}
        return {split: dataset.totals() for split, dataset in datasets.items() if dataset is not None}

    def fingerprints(self) -> dict[str, int]:
        """By split, what shows whether another set is the same one, see `EpochDataset.fingerprint`; kept."""
        datasets = {"training": self.train_dataset, "validation": self.val_dataset}
        for split, dataset in datasets.items():
            if dataset is not None and split not in self._fingerprints:
                self._fingerprints[split] = dataset.fingerprint()
        return dict(self._fingerprints)

    def match_classes(self, names: Sequence[str], renamed: Mapping[str, str] | None = None) -> None:
        """Number the classes as a network does that was trained on another set of them; after `setup`.

        Args:
            names: The network's classes, by label.
            renamed: Names in this set -> names in the network, of those that differ.

        Raises:
            DataError: The classes are not the same ones; the message lists them.
        """
        self.fingerprints()  # of the set as it lies there
        order = class_order(names, self.class_names, renamed)
        for dataset in (self.train_dataset, self.val_dataset):
            if dataset is not None:
                dataset.renumber(order, names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels stand for; known after `setup`."""
        dataset = self.train_dataset or self.val_dataset
        if dataset is None:
            raise RuntimeError("the classes are known after setup()")
        return dataset.class_names

    @property
    def label_files(self) -> LabelFiles | None:
        """How predicted labels of pixels are written; None where predictions have no files of their own."""
        return None

    @property
    def num_classes(self) -> int:
        """Number of classes, background not counted; known after `setup`."""
        return len(self.class_names)

    def train_dataloader(self) -> EpochLoader:
        """Shuffled, augmented, whole batches only."""
        self._train_loader = EpochLoader(self._training_loader(_built(self.train_dataset), "the training set"))
        return self._train_loader

    def statistics_batches(self, number: int) -> Iterator[Any]:
        """The first training batches of the first epoch, and these again where there are fewer than `number`.

        They are the same on every rank, loaded in this process.
        """
        own = copy.copy(self)
        own.trainer, own.num_workers = None, 0
        loader = EpochLoader(own._training_loader(_built(self.train_dataset), "the training set"))
        return itertools.islice(again_and_again(loader), number)

    def teardown(self, stage: str | None = None) -> None:  # noqa: ARG002 - Lightning's interface
        """End the loader processes of training."""
        if self._train_loader is not None:
            self._train_loader.close()

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation sample once, in order; shares of ranks may differ by one sample."""
        dataset = _built(self.val_dataset)
        return self._loader(dataset, self._sampler(len(dataset), train=False), drop_last=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """The same as `val_dataloader`: the sets used here publish no test annotations."""
        return self.val_dataloader()

    def search_dataloaders(
        self, share: float = 0.5, augment_weight_half: bool = True
    ) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Loaders over two disjoint parts of the training set: for the weights, for the architecture.

        Args:
            share: The architecture's part of the training set; with 0 both loaders are over all of it, order and
                augmentation of each its own (FAD's release; spec FAD 3.2).
            augment_weight_half: Augment the weights' part as in training. False is FNA's released
                code; the architecture's part is always augmented.

        Returns:
            The loader of the weights' part and that of the architecture's part.

        Raises:
            ConfigError: `share` is negative, or 1 or more.
            DataError: A part holds less than one batch.
        """
        dataset = _built(self.train_dataset)
        plain = dataset if augment_weight_half else dataset.with_transform(self.eval_transform())
        if share == 0:
            return (
                self._training_loader(plain, "the training set"),
                self._training_loader(dataset, "the training set", _OTHER_PASSES),
            )
        architecture, weights = split_indices(len(dataset), share)
        return (
            self._training_loader(EpochSubset(plain, weights), "the weights' part of the training set"),
            self._training_loader(
                EpochSubset(dataset, architecture), "the architecture's part of the training set"
            ),
        )

    def held_out(self: SelfModule, share: float, fold: int = 0) -> SelfModule:
        """These settings over the training set alone: a part of it, as validation sees it, is for scores.

        Args:
            share: That part of the training set; the rest is to train on.
            fold: Which of the disjoint parts of this size.

        Raises:
            ConfigError: `share` is not between 0 and 1.
        """
        dataset = _built(self.train_dataset)
        scored, rest = split_indices(len(dataset), share, fold=fold)
        other = copy.copy(self)
        other.train_dataset = dataset.part(sorted(rest))
        other.val_dataset = self.for_validation(dataset.part(sorted(scored)))
        return other

    def for_validation(self, dataset: DatasetT) -> DatasetT:
        """`dataset` as validation sees it."""
        return dataset.with_transform(self.eval_transform())

    def _setup_of_one_part(self, fit: bool) -> None:
        """As `setup`, of a set without a part for validation; for evaluation alone all may be set aside."""
        if self.val_dataset is not None and (self.train_dataset is not None or not fit):
            return
        whole = self._checked("whole", self.build_train)
        train, self.val_dataset = self.set_aside(whole)
        tell(
            "%s: has no validation part: %d of its %d pictures are set aside for it, by their names "
            "(data.val_share=%s data.val_seed=%d)",
            *(whole.source, len(self.val_dataset), len(whole), self.val_share, self.val_seed),
        )
        if fit:
            if not len(train):
                raise ConfigError(f"data.val_share={self.val_share} leaves no picture to train on; lower it")
            self.train_dataset = train
            if self.check_images != "none":
                self._warn_of_both(train, self.val_dataset)

    def _checked(self, split: str, build: Callable[[Problems], DatasetT]) -> DatasetT:
        problems = Problems(self.on_error)
        dataset = build(problems)
        problems.settle()
        if self.check_images != "none":
            note_copies(dataset, problems)
        problems.warn(split)
        self._found += problems
        self.left_out |= {f"{split}: {title}": count for title, count in problems.left_out().items()}
        return dataset

    def _warn_of_both(self, train: DatasetT, val: DatasetT) -> None:
        """Say what shows only in both sets together."""
        if pairs := list(same_contents(train, val)):
            first = printable(str(pairs[0][1]))
            warn("%d validation picture(s) are trained on; the first: %s", len(pairs), first)
        problems = Problems(self.on_error)
        self.note_unused(train, val, self._found, problems)
        problems.warn("whole")

    def _training_loader(
        self, dataset: EpochDataset[Any, Any] | EpochSubset[Any], name: str, first_pass: int = 0
    ) -> DataLoader[Any]:
        sampler = self._sampler(len(dataset), train=True, first_pass=first_pass)
        if len(sampler) < self.batch_size:
            raise DataError(
                f"{name} has {len(sampler)} images per process, less than one batch of "
                f"data.batch_size={self.batch_size}; lower it or add images"
            )
        return self._loader(dataset, sampler, drop_last=True)

    def _sampler(self, size: int, *, train: bool, first_pass: int = 0) -> EpochSampler:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        repeat = self.repeat if train else 1
        return EpochSampler(
            size, self.random_seed, train, rank, world_size, drop_tail=train, repeat=repeat, first_pass=first_pass
        )

    def _loader(
        self, dataset: EpochDataset[Any, Any] | EpochSubset[Any], sampler: EpochSampler, *, drop_last: bool
    ) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=dataset.collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            prefetch_factor=self.prefetch if self.num_workers else None,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=start_worker,
            # Its own generator: starting a loader draws a number, and the run's generator must not notice.
            generator=torch.Generator().manual_seed(self.random_seed),
        )


def _built(dataset: DatasetT | None) -> DatasetT:
    if dataset is None:
        raise RuntimeError("call setup() before asking for a loader")
    return dataset
