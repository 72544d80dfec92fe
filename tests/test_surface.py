"""What users and other packages hold on to, frozen in `surface.txt`: changing it is a decision.

`python tests/test_surface.py` writes the file anew.
"""

import ast
import difflib
import importlib
import inspect
import pkgutil
import typing
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import fna_lightning
from fna_lightning.files import CONF_DIR

SURFACE = Path(__file__).with_name("surface.txt")
PACKAGE = Path(fna_lightning.__file__).parent
RENEW = "python tests/test_surface.py"
# What each entry point is composed with; one of them has no default.
DEFAULTS = {"train": [], "search": [], "evaluate": [], "check": ["data=coco"], "predict": [], "export": []}
# Modules that spaces, searches and tasks of other packages are written with, besides what packages offer.
FOR_EXTENSIONS = ("fna_lightning.settings", "fna_lightning.tasks.base", "fna_lightning.modules.base")
KINDS = {type(None): "null", dict: "mapping", list: "list"}


def entry_points():
    """Scripts, and modules to be run by `python -m`."""
    yield from (f"python {path.name}" for path in PACKAGE.parent.glob("*.py"))
    for path in PACKAGE.rglob("*.py"):
        if '__name__ == "__main__"' in path.read_text():
            yield f"python -m {'.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)}"


def options():
    """Every option of every group, with the keys in its file."""
    for path in CONF_DIR.rglob("*.yaml"):
        group, name = path.parent.relative_to(CONF_DIR).as_posix(), path.stem
        top, _, folder = group.partition("/")
        if top == "experiment":
            yield f"experiment={folder}/{name}"
        elif group != ".":
            keys = sorted(str(key) for key in yaml.safe_load(path.read_text()) if key != "defaults")
            yield f"{group}={name}: {', '.join(keys)}"


def keys():
    """Every key of the composed defaults, with the kind of its value."""
    for entry, overrides in DEFAULTS.items():
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose(entry, overrides)
        for key, value in leaves(OmegaConf.to_container(config)):
            yield f"{entry}: {key} {kind_of(value)}"


def leaves(node, key=""):
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def kind_of(value):
    if isinstance(value, str) and (value == "???" or value.startswith("${")):
        return value
    return KINDS.get(type(value), type(value).__name__)


def public(module):
    """The `__all__` of a package; of a module for extensions, what it defines without an underscore."""
    if module.__name__ not in FOR_EXTENSIONS:
        return getattr(module, "__all__", ())
    statements = ast.parse(inspect.getsource(module)).body
    defined = [each.name for each in statements if isinstance(each, ast.ClassDef | ast.FunctionDef)]
    defined += [each.targets[0].id for each in statements if isinstance(each, ast.Assign)]
    return sorted(name for name in defined if name[0] != "_")


def names():
    """Every public name, with its arguments; of a class, what it defines besides."""
    packages = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "fna_lightning.") if module.ispkg]
    for package in map(importlib.import_module, [*packages, *FOR_EXTENSIONS]):
        for name in public(package):
            thing, place = getattr(package, name), f"{package.__name__}.{name}"
            yield f"{place}{arguments(thing)}"
            if is_class(thing) and (own := sorted(part for part in vars(thing) if part[0] != "_")):
                yield f"{place}: {', '.join(own)}"


def is_class(thing):
    """Not such as list[int], which Python 3.10 takes for one."""
    return inspect.isclass(thing) and typing.get_origin(thing) is None


def arguments(thing):
    """Names and plain defaults; nothing for what is not called, or is constructed as a library says."""
    owner = thing
    if is_class(thing):
        owner = next((base for base in thing.__mro__ if "__init__" in vars(base)), object)
    ours = callable(thing) and owner.__module__.startswith("fna_lightning")
    if not ours or getattr(thing, "_is_protocol", False):
        return ""
    parameters = inspect.signature(thing).parameters.values()
    plain = [part.replace(annotation=part.empty, default=shown(part.default)) for part in parameters]
    return str(inspect.Signature(plain))


class Verbatim(str):
    """A default as it is shown, without quotes around it."""

    __repr__ = str.__str__


def shown(default):
    """A default that is no plain value would be another text in every process."""
    plain = default is inspect.Parameter.empty or isinstance(default, (bool, int, float, str, tuple, type(None)))
    return default if plain else Verbatim("...")


def surface():
    sections = {"entry points": entry_points, "options of groups": options, "keys": keys, "Python names": names}
    lines = [f"Written by {RENEW}; a change is a decision, for somebody relies on what is here."]
    for title, found in sections.items():
        lines += ["", f"# {title}", "", *sorted(set(found()))]
    return "\n".join(lines) + "\n"


def test_the_surface_is_what_was_decided():
    before, now = SURFACE.read_text().splitlines(), surface().splitlines()
    changes = list(difflib.unified_diff(before, now, "decided", "found", lineterm="", n=0))
    assert not changes, "\n".join([f"the surface has changed; if that is meant: {RENEW}", *changes])


if __name__ == "__main__":
    SURFACE.write_text(surface())
