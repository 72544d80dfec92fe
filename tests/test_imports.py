"""Imports run one way (docs/architecture.md), and nothing that is read is ever executed."""

import ast
from pathlib import Path

import pytest

import fna_lightning

PACKAGE = Path(fna_lightning.__file__).parent
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
ENTRIES = {path.name: ast.parse(path.read_text()) for path in PACKAGE.parent.glob("*.py")}

CORE = {"architectures", "blocks", "choices", "backbones", "supernets", "checkpoints", "remapping", "costs"}
PARTS = {"detectors", "segmenters"}
# What a room may import of the other rooms. A file beside the rooms serves all of them and imports no room.
MAY_IMPORT = {
    "architectures": set(),
    "blocks": {"architectures"},
    "choices": {"architectures"},
    "backbones": {"architectures", "blocks"},
    "supernets": {"architectures", "blocks", "choices"},
    "checkpoints": {"architectures"},
    "remapping": {"architectures", "blocks", "choices", "backbones", "supernets", "checkpoints"},
    "costs": {"blocks", "choices"},
    "detectors": {"architectures", "blocks", "choices"},
    "segmenters": {"architectures", "blocks", "choices"},
    "data": {"architectures"},
    "tasks": CORE | PARTS | {"data"},
    "search": CORE | PARTS | {"data", "tasks"},
    "modules": CORE | PARTS | {"data", "tasks", "search"},
    "callbacks": CORE | PARTS | {"data", "tasks", "search", "modules"},
    "searches": CORE | PARTS | {"data", "tasks", "search", "modules", "callbacks"},
    "reporting": CORE | PARTS | {"data", "tasks", "search", "modules", "callbacks"},
    "runs": CORE | PARTS | {"data", "tasks", "search", "modules", "callbacks", "searches", "reporting"},
    "deployment": CORE | PARTS | {"data", "tasks", "callbacks", "reporting", "runs"},
    # Doors to it: a name of the package, and a command.
    "__init__": {"deployment"},
    "predict": CORE | {"data", "reporting", "runs", "deployment"},
    "export": {"runs", "deployment"},
}
DOORS = {"__init__", "predict"}
ROOMS = {path.split("/")[0] for path in TREES if "/" in path}
HELPERS = {path.removesuffix(".py") for path in TREES if "/" not in path}
WITHOUT_LIGHTNING = CORE | PARTS | {"search"}


def room_of(path):
    return path.split("/")[0].removesuffix(".py")


def imported(tree):
    """Full names of everything that a file imports, functions' own imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def libraries(path):
    return {name.split(".")[0] for name in imported(TREES[path])}


def files_importing(library):
    return {path for path in TREES if library in libraries(path)}


def calls(tree):
    """(dotted name, names of the keyword arguments) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


def test_every_room_has_a_rule():
    assert set(MAY_IMPORT) >= ROOMS


def test_the_rules_have_no_circle():
    left = dict(MAY_IMPORT)
    while left:
        free = {room for room, needs in left.items() if not needs & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {room: needs for room, needs in left.items() if room not in free}


@pytest.mark.parametrize("path", sorted(TREES))
def test_rooms_import_one_way(path):
    room = room_of(path)
    allowed = (HELPERS - DOORS) | {"__version__", room} | MAY_IMPORT.get(room, set())
    own = {name.split(".")[1] for name in imported(TREES[path]) if name.startswith("fna_lightning.")}
    assert own <= allowed


def test_nothing_imports_an_entry_point():
    names = {name.removesuffix(".py") for name in ENTRIES}
    assert {"train", "search", "evaluate"} & names
    assert not {path for path in TREES if libraries(path) & names}


def test_architectures_know_no_torch():
    foreign = {"torch", "torchvision", "numpy", "lightning", "safetensors"}
    files = {path for path in TREES if room_of(path) in {"architectures", "errors", "files"}}
    assert len(files) > 3
    assert not {path for path in files if libraries(path) & foreign}


def test_networks_and_algorithms_know_no_lightning():
    assert not {path for path in files_importing("lightning") if room_of(path) in WITHOUT_LIGHTNING}


def test_albumentations_stays_behind_one_file():
    assert files_importing("albumentations") <= {"data/augmentation/transforms.py"}


def test_hydra_stays_with_the_entry_points():
    # The first three are entry points too, of their own; the others serve both kinds.
    files = files_importing("hydra") - {
        "data/check.py",
        "predict.py",
        "export.py",
        "complaints.py",
        "overrides.py",
    }
    assert {room_of(path) for path in files} <= {"runs", "reporting"}


def test_lightning_has_one_name():
    everywhere = {**TREES, **ENTRIES}
    assert not {path for path, tree in everywhere.items() if any("pytorch_lightning" in n for n in imported(tree))}


@pytest.mark.parametrize("path", sorted([*TREES, *ENTRIES]))
def test_data_is_never_executed(path):
    tree = TREES.get(path) or ENTRIES[path]
    for name, keywords in calls(tree):
        assert name not in {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}, name
        assert name.split(".")[-1] not in {"unsafe_load", "full_load", "unsafe_load_all", "full_load_all"}, name
        assert name not in {"pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load"}, name
        assert name != "yaml.load", "use yaml.safe_load"
        assert keywords.get("shell") != "True", name
        assert keywords.get("allow_pickle") != "True", name
        if name == "torch.load":
            assert keywords.get("weights_only") == "True"
        if name.endswith(("load_from_checkpoint", "load_state_dict_from_url")):
            assert keywords.get("weights_only") == "True", name
