"""The run directory: what is written at the start and at the end of a run."""

from __future__ import annotations

import logging
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning as L
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fna_lightning.callbacks import Timekeeper
from fna_lightning.costs import count
from fna_lightning.files import CONF_DIR, write_text
from fna_lightning.reporting.html import write_report
from fna_lightning.reporting.results import write_results
from fna_lightning.reporting.tables import print_summary, relative_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What config.yaml needs besides the settings, to be run again by --config-dir and --config-name.
_HYDRA = """
hydra:
  run:
    dir: outputs/${hydra.job.name}/${now:%Y-%m-%d_%H-%M-%S}
  job:
    chdir: false
  callbacks:
    one_directory:
      _target_: fna_lightning.runs.ranks.OneDirectory
"""


def run_folder() -> Path:
    """This run's directory, as Hydra made it."""
    return Path(HydraConfig.get().runtime.output_dir)


def begin(config: DictConfig) -> Path:
    """Fix the random seed; return this run's directory, still unwritten."""
    quieten()
    L.seed_everything(config.random_seed, workers=False, verbose=False)
    return run_folder()


def conclude(
    config: DictConfig,
    folder: Path,
    *,
    title: str,
    metrics: dict[str, float],
    objective: float,
    network: nn.Module,
    clock: Timekeeper | None = None,
    left_out: dict[str, int] | None = None,
    pictures: dict[str, Figure] | None = None,
    next_command: str | None = None,
    remark: str | None = None,
) -> None:
    """Write `results.json` and `report.html`, print the summary; `network` is what is counted."""
    input_size = cast("tuple[int, int]", tuple(config.cost.input_size))
    results = write_results(
        folder,
        entry=str(HydraConfig.get().job.name),
        metrics=metrics,
        objective=objective,
        cost=count(network, input_size),
        input_size=input_size,
        seconds=clock.seconds if clock else 0.0,
        images=clock.images if clock else 0,
        config=plain(config),
        left_out=left_out,
    )
    write_report(folder, title, pictures)
    print_summary(folder, results, next_command, remark=remark)


def plain(config: DictConfig) -> dict[str, Any]:
    """The settings as plain data, resolved but for the run's own directory."""
    settings = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    settings["paths"]["output"] = "${hydra:runtime.output_dir}"
    for logger in settings["logger"].values():
        logger["save_dir"] = "${paths.output}"
    return settings


def save_config(config: DictConfig, folder: Path) -> None:
    """Write `config.yaml`, from which the run can be started again."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(config))) + _HYDRA.lstrip())


def next_command(config: DictConfig, folder: Path) -> str | None:
    """The command that goes on from the run in `folder`, by the recipe `search_with` or else `train_with`.

    `search_with` names a search over the supernet, `train_with` the training of what was found, or of the network
    that was trained, on another set. Settings of the command line are kept where both recipes name the same
    option, those of the space where it is searched again; another set's root is left to be filled in.

    None where the recipe names neither, and for a run that was started from a saved configuration: what its data
    are is not on its command line.
    """
    choices = HydraConfig.get().runtime.choices
    recipe = config.get("search_with") or config.get("train_with")
    if recipe is None or "experiment" not in choices:
        return None
    goes_on, place = bool(config.get("search_with")), relative_path(folder)
    entry = "search" if goes_on else "train"
    handed_over = [f"search.supernet={place}"] if goes_on else [f"architecture={place}"]
    if "search" not in config:
        handed_over.append(f"seed.weights={place}")
    here, there = _options_of(choices["experiment"]), _options_of(recipe)
    alike = [name for name in ("data", "detector", "seed") if here.get(name) == there.get(name)]
    kept = ["strategy", "logger", *alike, *(["architecture", "space"] if goes_on else [])]
    overrides = [
        text for text in HydraConfig.get().overrides.task if text.lstrip("+~").split("=")[0].split(".")[0] in kept
    ]
    root = [] if "data" in kept else ["data.root=<folder>"]
    return shlex.join(["python", f"{entry}.py", f"experiment={recipe}", *handed_over, *overrides, *root])


def _options_of(recipe: str | None) -> dict[str, str]:
    """The options of groups that a recipe names, those of recipes that it begins with included."""
    path = CONF_DIR / "experiment" / f"{recipe}.yaml"
    found: dict[str, str] = {}
    for item in cast("DictConfig", OmegaConf.load(path)).get("defaults", []) if path.is_file() else []:
        if isinstance(item, str):
            found |= _options_of(item.removeprefix("/experiment/"))
        else:
            found |= {str(group).removeprefix("override /"): str(option) for group, option in item.items()}
    return found


def quieten() -> None:
    """Silence what libraries say about themselves, which no user can act on."""
    for message in (
        r".*does not have many workers.*",
        r".*litlogger.*",
        r".*`isinstance\(treespec, LeafSpec\)`.*",
        r".*lr_scheduler\.step\(\).*before.*optimizer\.step\(\).*",
        r".*Be aware that when using `ckpt_path`.*",
        r"The dirpath has changed from .*",
        r".*directory .* exists and is not empty.*",
        r".*has no `validation_step`.*",
        r".*sync_dist=True.*",
        r".*You defined a `validation_step` but have no `val_dataloader`.*",
        r".*The number of training batches .* is smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)
    # Hydra's handlers print what Lightning logs; its own would print it a second time.
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
    logging.getLogger("lightning").handlers.clear()
    logging.getLogger("lightning.pytorch").handlers.clear()


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "litlogger" not in record.getMessage() and "Tip:" not in record.getMessage()
