"""Fixtures of all rooms: random weights, a run in small, and referees that share no code with the product.

What belongs to one family of networks is in `families/`, a file each.
"""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn

HERE = Path(__file__).parent
FAMILIES = [f"families.{path.stem}" for path in sorted((HERE / "families").glob("*.py"))]
pytest_plugins = [*FAMILIES, "golden.records"]
# Tests run side by side, a process on each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
settings.register_profile("project", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _reproducible():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def randomise():
    """Fill parameters and norm statistics with random values of a size that keeps activations finite."""

    @torch.no_grad()
    def fill(network, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.num_batches_tracked.fill_(7)
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        return network

    return fill


@pytest.fixture(scope="session")
def hook_count():
    """(network, (N, C, H, W)) -> multiply-adds of all images, counted by forward hooks on a real run."""

    def count(network, shape):
        total = 0

        def convolution(module, inputs, output):
            nonlocal total
            per_pixel = module.kernel_size[0] * module.kernel_size[1] * module.in_channels * module.out_channels
            pixels = (inputs[0] if isinstance(module, nn.ConvTranspose2d) else output)[:, 0].numel()
            total += per_pixel // module.groups * pixels + (output.numel() if module.bias is not None else 0)

        def linear(module, inputs, _):
            nonlocal total
            total += inputs[0].numel() * module.out_features

        handles = []
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                handles.append(module.register_forward_hook(convolution))
            elif isinstance(module, nn.Linear):
                handles.append(module.register_forward_hook(linear))
        with torch.no_grad():
            network.eval()(torch.zeros(shape))
        for handle in handles:
            handle.remove()
        return total

    return count


@pytest.fixture(scope="session")
def searched():
    """searched(network, size) -> a network as a gradient search sees it: choices, alphas, cost."""
    from fna_lightning.choices import Choices
    from fna_lightning.costs import tabulate
    from fna_lightning.search import Alphas

    class Searched:
        def __init__(self, network, size=(32, 32), temperature=1.0):
            self.network, self.choices = network, Choices(network)
            self.parameters = Alphas(self.choices, temperature)
            self.alphas = list(self.parameters.values)
            self.cost = tabulate(network, size)
            self.costs = [torch.from_numpy(term.costs) for term in self.cost.terms]

        @torch.no_grad()
        def set_alphas(self, scale, seed=0):
            generator = torch.Generator().manual_seed(seed)
            for alpha in self.alphas:
                alpha.normal_(0, scale, generator=generator)
            return self

        def set_mixture(self):
            self.choices.set_mixture(self.parameters.weights())

        def draw(self, random_seed, iteration, policy="uniform"):
            rows = self.parameters.probabilities() if policy == "probability" else None
            return self.choices.draw(random_seed, iteration, rows)

        def best_path(self, limit=None):
            return self.cost.best_within(limit, self.parameters.probabilities())

        def expected_cost(self):
            return self.cost.searched(self.parameters.weights())

        def path_cost(self, path):
            return self.cost.of(path) - self.cost.fixed

    return Searched


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory):
    """A classification set of 24 and 8 images of 32x32, three classes; not to be changed."""
    from fna_lightning.data import ShapesClassificationDataModule

    root = tmp_path_factory.mktemp("data") / "shapes"
    ShapesClassificationDataModule(root, 24, 8, 32, 3).prepare_data()
    return root


@pytest.fixture
def adaptation(shapes_folder, small, small_space, tmp_path):
    """What a run is made of: data, modules and trainers, small enough for some iterations in a second."""
    from types import SimpleNamespace

    import lightning as L

    from fna_lightning.architectures import save_architecture
    from fna_lightning.backbones import Classifier, build_backbone
    from fna_lightning.costs import tabulate
    from fna_lightning.data import ShapesClassificationDataModule
    from fna_lightning.modules import (
        AlphaTraining,
        ArchitectureAdaptation,
        ParameterAdaptation,
        SearchData,
        WeightTraining,
    )
    from fna_lightning.schedules import multistep
    from fna_lightning.search import CostObjective
    from fna_lightning.supernets import build_supernet
    from fna_lightning.tasks import ClassificationTask

    save_architecture(small, tmp_path / "small.yaml")
    text = (tmp_path / "small.yaml").read_text()

    def schedule(optimizer, **settings):
        return multistep(optimizer, milestones=[1.5, 3], warmup_steps=4, **settings)

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)

    def data(**settings):
        return ShapesClassificationDataModule(
            shapes_folder, 24, 8, 32, 3, **{"batch_size": 4, "num_workers": 0, **settings}
        )

    def search(warmup_epochs=1, target=None, weight_steps=1, share=0.5, alphas=None, weights=sgd, **settings):
        """(module, data) of a search with three iterations an epoch; `alphas` are settings of `AlphaTraining`."""
        torch.manual_seed(1)
        supernet = build_supernet(small_space, [3])
        objective = CostObjective(0.1, target=target)
        module = ArchitectureAdaptation(
            Classifier(supernet, 3),
            ClassificationTask(),
            text,
            tabulate(supernet, (32, 32)),
            WeightTraining(weights, schedule, clip=35),
            AlphaTraining(
                lambda alphas: torch.optim.Adam(alphas, 0.05), objective, 35, warmup_epochs, **(alphas or {})
            ),
            7,
        )
        return module, SearchData(data(**settings), share, True, warmup_epochs, weight_steps)

    def train(dropout=0.2):
        torch.manual_seed(1)
        network = Classifier(build_backbone(small, [3]), 3, dropout=dropout)
        return ParameterAdaptation(network, ClassificationTask(), text, sgd, schedule, 7)

    def trainer(*callbacks, **settings):
        settings = {
            "max_epochs": 2,
            "accelerator": "cpu",
            "logger": False,
            "default_root_dir": tmp_path,
            **settings,
        }
        return L.Trainer(
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **settings,
        )

    return SimpleNamespace(
        data=data, search=search, train=train, trainer=trainer, schedule=schedule, sgd=sgd, text=text
    )
