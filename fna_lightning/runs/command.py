"""What the commands beside the entry points share: settings of one flat file, given as `key=value`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from fna_lightning.complaints import HELP_SHOWS, Parser, one_line
from fna_lightning.files import CONF_DIR
from fna_lightning.overrides import readable


@dataclass(frozen=True)
class Command:
    """A command `python -m fna_lightning.<name>`, whose settings are those of `conf/<name>.yaml`.

    Attributes:
        name: of module, file and schema.
        usage: what follows the command.
        description: for --help.
        epilog: likewise; holds `{command}`, `{file}` and `{settings}`.
    """

    name: str
    usage: str
    description: str
    epilog: str

    def read(self, arguments: Sequence[str] | None) -> list[str]:
        """The settings that a command line gives; shows the help where it asks for it."""
        command, settings = (
            f"python -m fna_lightning.{self.name}",
            "\n".join(f"  {line}" for line in self._lines()),
        )
        parser = Parser(
            prog=command,
            usage=f"{command} {self.usage} [<key>=<value> ...]",
            description=self.description,
            epilog=self.epilog.format(command=command, file=self._file, settings=settings),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("override", nargs="*", help="settings, of which the first two are needed")
        return parser.parse_args(arguments).override

    def settings(self, overrides: list[str]) -> DictConfig:
        """All settings, held against their schema.

        Raises:
            UserError: naming what is wrong; Hydra's and OmegaConf's errors besides.
        """
        from fna_lightning.runs.validation import check_types  # which loads torch; --help does without

        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose(self.name, readable(overrides))
        check_types(config, self.name)
        return config

    def complaint(self, error: BaseException) -> str:
        """What went wrong and how to mend it, on one line."""
        return one_line(error, HELP_SHOWS, self._hint, _otherwise)

    def _hint(self, key: str, chain: list[BaseException]) -> str:
        from fna_lightning.runs.hints import did_you_mean

        del chain
        return f": {did_you_mean(key, [line.partition(':')[0] for line in self._lines()])}"

    @property
    def _file(self) -> Path:
        return CONF_DIR / f"{self.name}.yaml"

    def _lines(self) -> list[str]:
        """The lines of the file that hold settings."""
        return [line for line in self._file.read_text().splitlines() if line[:1].isalpha()]


def _otherwise(chain: list[BaseException]) -> str:
    text = " ".join(str(chain[0]).split())
    # Without where Hydra looked, nor its advice to sweep, which these commands do not.
    return text.partition(" Config search path")[0].partition(" 3. To sweep")[0]
