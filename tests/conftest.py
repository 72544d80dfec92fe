"""Fixtures of all rooms: small networks, random weights, and referees that share no code with the product."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import mobilenet_v2

from fna_lightning.architectures import MobileArchitecture, Operation, Stage, parse_architecture
from fna_lightning.supernets import MobileSpace

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
def torchvision_net(randomise):
    """torchvision's MobileNetV2 with random weights and statistics, in eval mode; not to be changed."""
    return randomise(mobilenet_v2()).eval()


@pytest.fixture(scope="session")
def mobile_architectures():
    """Strategy for `MobileArchitecture`s that can be built."""

    @st.composite
    def architectures(draw, stages=None):
        operations = st.builds(Operation, st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2, 3, 6]))
        widths = st.integers(1, 12)
        stem, result = draw(widths), []
        for _ in range(stages or draw(st.integers(1, 4))):
            layers = (draw(operations), *draw(st.lists(st.none() | operations, max_size=3)))
            result.append(Stage(draw(widths), draw(st.sampled_from([1, 2])), layers))
        return MobileArchitecture(stem, tuple(result), draw(st.sampled_from([1280, 8, 1])))

    return architectures


@pytest.fixture(scope="session")
def hook_count():
    """(network, (1, C, H, W)) -> multiply-adds, counted by forward hooks on a real run."""

    def count(network, shape):
        total = 0

        def convolution(module, inputs, output):
            nonlocal total
            per_pixel = module.kernel_size[0] * module.kernel_size[1] * module.in_channels * module.out_channels
            pixels = (inputs[0] if isinstance(module, nn.ConvTranspose2d) else output)[0, 0].numel()
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
def mobilenet():
    """MobileNetV2 as FNA writes it."""
    return parse_architecture(
        "[[32, 16], ['k3_e1'], 1]|"
        "[[16, 24], ['k3_e6', 'k3_e6'], 2]|"
        "[[24, 32], ['k3_e6', 'k3_e6', 'k3_e6'], 2]|"
        "[[32, 64], ['k3_e6', 'k3_e6', 'k3_e6', 'k3_e6'], 2]|"
        "[[64, 96], ['k3_e6', 'k3_e6', 'k3_e6'], 1]|"
        "[[96, 160], ['k3_e6', 'k3_e6', 'k3_e6'], 2]|"
        "[[160, 320], ['k3_e6'], 1]"
    )


@pytest.fixture(scope="session")
def small():
    """A network of three stages and few channels."""
    return parse_architecture(
        "[[8, 6], ['k3_e1'], 1]|[[6, 8], ['k3_e3', 'k3_e3'], 2]|[[8, 10], ['k3_e3', 'k3_e3', 'k3_e3'], 2]"
    )


@pytest.fixture(scope="session")
def small_space(small):
    """Five searched layers over `small`: 3, 4, 4 and 3, 4 candidates."""
    return MobileSpace(small, {2: 3, 3: 2}, ("k3_e2", "k3_e3", "k5_e3"))


@pytest.fixture(scope="session")
def retinanet_space(mobilenet):
    """The search space of FNA for RetinaNet."""
    return MobileSpace(mobilenet, {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1})


@pytest.fixture(scope="session")
def ssdlite_space(mobilenet):
    """The search space of FNA for SSDLite, whose stage 6 must begin with expansion 6."""
    return MobileSpace(
        mobilenet,
        {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1},
        first_candidates={6: ("k3_e6", "k5_e6", "k7_e6")},
    )


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
    from fna_lightning.modules import ArchitectureAdaptation, ParameterAdaptation, SearchData, SearchOptimizers
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

    def search(warmup_epochs=1, target=None, weight_steps=1, **settings):
        """(module, data) of a search with three iterations an epoch."""
        torch.manual_seed(1)
        supernet = build_supernet(small_space, [3])
        tabulate(supernet, (32, 32))
        optimizers = SearchOptimizers(sgd, lambda alphas: torch.optim.Adam(alphas, 0.05), schedule, 35, 35)
        module = ArchitectureAdaptation(
            Classifier(supernet, 3),
            ClassificationTask(),
            text,
            CostObjective(0.1, target=target),
            optimizers,
            warmup_epochs,
            7,
        )
        return module, SearchData(data(**settings), 0.5, True, warmup_epochs, weight_steps)

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
