"""Architecture adaptation: the bilevel search, as a LightningModule around `fna_lightning.search`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from torch.optim import Optimizer

from fna_lightning.blocks import Network
from fna_lightning.costs import CostTable
from fna_lightning.errors import ConfigError
from fna_lightning.modules.base import OptimizerFactory
from fna_lightning.modules.guard import StepGuard
from fna_lightning.modules.supernet import SupernetAdaptation, WeightTraining
from fna_lightning.search import (
    Alphas,
    BilevelSearch,
    CostObjective,
    Derivation,
    NextStep,
    SearchBatch,
    Stepper,
    check_unrollable,
)
from fna_lightning.tasks.base import Task


@dataclass(frozen=True)
class AlphaTraining:
    """How the architecture parameters are trained, and the weights beside them; their rate is constant.

    Attributes:
        optimizer: of the architecture parameters.
        objective: the cost term of architecture steps.
        clip: largest L2 norm of their gradient.
        warmup_epochs: epochs without architecture steps, and with uniformly drawn paths.
        temperature: of the mixture's softmax.
        drawn: paths whose losses give a gradient, see `BilevelSearch`; 0 for that of the mixture.
        weights_on: what weight steps train: drawn paths (FNA), or the mixture (DARTS, FAD).
        order: of the gradient of the mixture; 2 takes it through the weights' next step, see `NextStep`.
        derive: what a derivation compares across choices.

    Raises:
        ConfigError: for paths without a second-order gradient.
    """

    optimizer: OptimizerFactory
    objective: CostObjective
    clip: float | None = None
    warmup_epochs: int = 0
    temperature: float = 1.0
    drawn: int = 0
    weights_on: Literal["paths", "mixture"] = "paths"
    order: Literal[1, 2] = 1
    derive: Derivation = "probability"

    def __post_init__(self) -> None:
        if self.drawn and self.order == 2:
            raise ConfigError(
                f"search.order=2 is of the mixture's gradient, and search.paths={self.drawn} takes that of drawn "
                "paths: give search.paths=0 or search.order=1"
            )


class ArchitectureAdaptation(SupernetAdaptation):
    """Searches the architecture of the choices inside `network` by gradients (FNA, section 3.3).

    Args:
        network: see `SupernetAdaptation`, as for the arguments that are not named here.
        task: its losses.
        architecture_text: the architectures that the space begins with, in YAML.
        cost: of the searched part's paths.
        weights: how the weights are trained.
        architecture: how the architecture parameters are trained.
        random_seed: fixes the paths.
        guard: what becomes of a loss or gradient that is not finite.

    Attributes:
        alphas: the architecture parameters.
    """

    def __init__(
        self,
        network: Network,
        task: Task[Any],
        architecture_text: str,
        cost: CostTable,
        weights: WeightTraining,
        architecture: AlphaTraining,
        random_seed: int,
        guard: StepGuard | None = None,
    ) -> None:
        super().__init__(network, task, architecture_text, weights, random_seed, guard)
        self.cost = cost
        self.alphas = Alphas(self.choices, architecture.temperature, architecture.derive)
        self._architecture = architecture
        self.search = BilevelSearch(
            network,
            self.choices,
            self._task_losses,
            self.alphas,
            lambda weights: architecture.objective(cost, weights),
            drawn=architecture.drawn,
            mixed=architecture.weights_on == "mixture",
            clip_architecture=architecture.clip,
            **self._step_settings(),
        )
        self.paths = self.search

    def on_fit_start(self) -> None:
        """Refuse what hand-made steps cannot do right, see `SupernetAdaptation.on_fit_start`.

        Raises:
            ConfigError: likewise, and for a second order in bf16, which rounds the change of a weight away.
        """
        super().on_fit_start()
        if self._architecture.order == 2 and str(self.trainer.precision) != "32-true":
            raise ConfigError(f"trainer.precision={self.trainer.precision}: search.order=2 runs in 32-true")

    def training_step(self, batch: SearchBatch, _index: int) -> None:
        """An architecture step where it is due, then a weight step."""
        weight_optimizer, architecture_optimizer = cast("list[Stepper]", self.optimizers())
        if batch.architecture is not None:
            ahead = None
            if self._architecture.order == 2:
                ahead = NextStep(batch.weight, cast("list[Optimizer]", self.optimizers(False))[0])
            found = self.search.architecture_step(
                batch.architecture, architecture_optimizer, self.iteration, ahead
            )
            self.note_losses("arch", found)
        searching = self.current_epoch >= self._architecture.warmup_epochs
        drawn = searching and self._architecture.weights_on == "paths"
        self.step_weights(batch.weight, weight_optimizer, self.alphas.probabilities() if drawn else None)

    def configure_optimizers(self) -> Any:
        """The weights' optimiser with its schedule, and the architecture's at a constant rate.

        Raises:
            ConfigError: for a second order through another optimiser than SGD.
        """
        optimizer, schedule = self.weight_optimizer()
        if self._architecture.order == 2:
            check_unrollable(optimizer)
        return [optimizer, self._architecture.optimizer(self.alphas.parameters())], [schedule]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting; checkpoints of old kept every choice's architecture parameters with its layers."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        for name, value in self.alphas.signal.state_dict(prefix="alphas.signal.").items():
            state.setdefault(name, value)
        places = {id(module): name for name, module in self.network.named_modules()}
        for number, choice in enumerate(self.choices):
            old = f"network.{places[id(choice)]}.alpha"
            if old in state:
                state[f"alphas.values.{number}"] = state.pop(old)
