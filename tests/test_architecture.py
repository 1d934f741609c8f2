"""The directions of imports (docs/architecture.md) and the size limits (docs/contributing.md), as tests.

Each rule is a function from (path, source) to the offending lines, so that `test_rules_can_fail` can show that a wrong
import is caught.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("blender_talkhead", "torch_backend")
MAX_MODULE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8

BPY_ROOMS = (
    "blender_talkhead/registration.py",
    "blender_talkhead/preferences.py",
    "blender_talkhead/properties.py",
    "blender_talkhead/compat.py",
    "blender_talkhead/command_line.py",
    "blender_talkhead/headless/",
    "blender_talkhead/scene/",
    "blender_talkhead/bake/",
    "blender_talkhead/operators/",
    "blender_talkhead/ui/",
)
BPY_OPS_ROOMS = ("blender_talkhead/operators/", "blender_talkhead/headless/")
CONTRACT_ROOMS = ("blender_talkhead/contract/", "blender_talkhead/facial/")
PLAIN_ROOMS = (
    "torch_backend/modules/",
    "torch_backend/losses.py",
    "torch_backend/metrics/",
    "torch_backend/geometry/",
    "torch_backend/splatting/",
)
FRONT_ROOMS = {"operators", "ui", "properties", "preferences", "session", "registration"}
ROOMS_WITHIN: dict[str, set[str]] = {
    "contract": {"contract"},
    "facial": {"facial"},
    "backend_client": {"backend_client", "contract"},
    "ui": {
        "ui",
        "bake",
        "scene",
        "compat",
        "contract",
        "facial",
        "backend_client",
        "preferences",
        "properties",
        "session",
    },
}
"""Rooms of blender_talkhead that take only some of the others."""
ROOMS_BELOW_THE_WINDOW = ("scene", "bake", "output_files", "reporting", "job_list", "command_options")
NETWORK_LIBRARIES = ("socket", "ssl", "http", "urllib", "ftplib", "requests", "asyncio")
FRONT_LIBRARIES = {"numpy", "bpy", "mathutils", "aud"} | set(sys.stdlib_module_names)


def source_files() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def imported_modules(path: str, source: str) -> list[tuple[int, str]]:
    """(line, absolute module name) of every import in a file, relative ones resolved."""
    package = path.split("/")[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                name = ".".join(base + ([node.module] if node.module else []))
            else:
                name = node.module or ""
            found.append((node.lineno, name))
            found += [(node.lineno, f"{name}.{alias.name}") for alias in node.names]
    return found


def is_or_below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(parent + ".")


def bpy_outside_its_rooms(path: str, source: str) -> list[str]:
    """Rules 1 and 3: bpy and mathutils only in the rooms that talk to Blender."""
    if path.startswith(BPY_ROOMS):
        return []
    return [
        f"{path}:{line} imports {name}"
        for line, name in imported_modules(path, source)
        if is_or_below(name, "bpy") or is_or_below(name, "mathutils")
    ]


def front_imports_backend(path: str, source: str) -> list[str]:
    """Rule 2: the Blender side never imports torch or the backend, and only numpy beside the standard library."""
    if not path.startswith("blender_talkhead/"):
        return []
    return [
        f"{path}:{line} imports {name}"
        for line, name in imported_modules(path, source)
        if not is_or_below(name, "blender_talkhead") and name.split(".")[0] not in FRONT_LIBRARIES
    ]


def front_imports_are_relative(path: str, source: str) -> list[str]:
    """Extensions live under another package name in Blender: imports inside blender_talkhead are relative."""
    if not path.startswith("blender_talkhead/"):
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and is_or_below(node.module or "", "blender_talkhead"):
            found.append(f"{path}:{node.lineno} imports {node.module} absolutely")
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if is_or_below(alias.name, "blender_talkhead")]
            found += [f"{path}:{node.lineno} imports {name} absolutely" for name in names]
    return found


def backend_takes_more_than_the_contract(path: str, source: str) -> list[str]:
    """Rule 3: the backend takes only blender_talkhead.contract and blender_talkhead.facial."""
    if not path.startswith("torch_backend/"):
        return []
    allowed = ("blender_talkhead.contract", "blender_talkhead.facial")
    return [
        f"{path}:{line} imports {name}"
        for line, name in imported_modules(path, source)
        if is_or_below(name, "blender_talkhead") and not any(is_or_below(name, parent) for parent in allowed)
    ]


def version_outside_compat(path: str, source: str) -> list[str]:
    """Rule 4: bpy.app.version only in compat.py; bpy.ops only in operators and the headless command."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        text = ast.unparse(node)
        if text in {"bpy.app.version", "app.version"} and path != "blender_talkhead/compat.py":
            found.append(f"{path}:{node.lineno} reads {text}")
        if text == "bpy.ops" and not path.startswith(BPY_OPS_ROOMS):
            found.append(f"{path}:{node.lineno} calls {text}")
    return found


def plain_rooms_take_configs(path: str, source: str) -> list[str]:
    """Rule 5: modules, losses, metrics, geometry and splatting take plain arguments: no config objects, no paths."""
    if not path.startswith(PLAIN_ROOMS):
        return []
    forbidden = ("torch_backend.config", "pathlib", "torch_backend.models.builders")
    return [
        f"{path}:{line} imports {name}"
        for line, name in imported_modules(path, source)
        if any(is_or_below(name, parent) for parent in forbidden)
    ]


def command_imports_torch_eagerly(path: str, source: str) -> list[str]:
    """Rule 6: the backend's command imports torch only when a job needs it."""
    if path not in {"torch_backend/__main__.py", "torch_backend/command_line.py", "torch_backend/worker.py"}:
        return []
    eager = ast.parse(source).body
    names = [
        name for node in eager if isinstance(node, ast.Import | ast.ImportFrom)
        for _, name in imported_modules(path, ast.unparse(node))
    ]  # fmt: skip
    return [f"{path} imports {name} at module level" for name in names if is_or_below(name, "torch")]


def forbidden_file_formats(path: str, source: str) -> list[str]:
    """Users' files are untrusted: no pickle, no code from data, igl.copyleft never."""
    found = [
        f"{path}:{line} imports {name}"
        for line, name in imported_modules(path, source)
        if is_or_below(name, "pickle") or is_or_below(name, "igl.copyleft")
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if keywords.get("allow_pickle") == "True" or keywords.get("weights_only") == "False":
                found.append(f"{path}:{node.lineno} loads objects from a file")
    return found


def rooms_reach_too_far(path: str, source: str) -> list[str]:
    """Rule 8: contract, facial, backend_client stand alone; scene and bake know no buttons; ui knows no operator."""
    if not path.startswith("blender_talkhead/"):
        return []
    room = path.split("/")[1].removesuffix(".py")
    found = []
    for line, name in imported_modules(path, source):
        parts = name.split(".")
        if parts[0] != "blender_talkhead" or len(parts) < 2 or name == "blender_talkhead":
            continue
        other = parts[1]
        too_far = room in ROOMS_WITHIN and other not in ROOMS_WITHIN[room]
        if too_far or (room in ROOMS_BELOW_THE_WINDOW and other in FRONT_ROOMS):
            found.append(f"{path}:{line} imports {name}")
    return found


def front_opens_connections(path: str, source: str) -> list[str]:
    """Rule 9: the extension itself never opens a connection; only pip does, when the user presses Install Backend."""
    if not path.startswith("blender_talkhead/"):
        return []
    return [
        f"{path}:{line} imports {name}"
        for line, name in imported_modules(path, source)
        if any(is_or_below(name, library) for library in NETWORK_LIBRARIES)
    ]


RULES: tuple[Callable[[str, str], list[str]], ...] = (
    bpy_outside_its_rooms,
    front_imports_backend,
    front_imports_are_relative,
    backend_takes_more_than_the_contract,
    version_outside_compat,
    plain_rooms_take_configs,
    command_imports_torch_eagerly,
    forbidden_file_formats,
    rooms_reach_too_far,
    front_opens_connections,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_directions_of_imports(rule: Callable[[str, str], list[str]]) -> None:
    assert [problem for path, source in source_files() for problem in rule(path, source)] == []


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (bpy_outside_its_rooms, "blender_talkhead/facial/timing.py", "import bpy"),
        (bpy_outside_its_rooms, "torch_backend/handlers.py", "from mathutils import Vector"),
        (front_imports_backend, "blender_talkhead/bake/shape_keys.py", "import torch"),
        (front_imports_backend, "blender_talkhead/bake/shape_keys.py", "from torch_backend import handlers"),
        (front_imports_backend, "blender_talkhead/scene/mesh.py", "import scipy.sparse"),
        (front_imports_are_relative, "blender_talkhead/scene/mesh.py", "from blender_talkhead.contract import errors"),
        (backend_takes_more_than_the_contract, "torch_backend/a.py", "from blender_talkhead.scene import mesh"),
        (version_outside_compat, "blender_talkhead/scene/mesh.py", "import bpy\nx = bpy.app.version"),
        (version_outside_compat, "blender_talkhead/bake/a.py", "import bpy\nbpy.ops.wm.save_mainfile()"),
        (plain_rooms_take_configs, "torch_backend/modules/graph.py", "from torch_backend.config import MMTalkerConfig"),
        (plain_rooms_take_configs, "torch_backend/metrics/lve.py", "from pathlib import Path"),
        (command_imports_torch_eagerly, "torch_backend/__main__.py", "import torch"),
        (rooms_reach_too_far, "blender_talkhead/contract/a.py", "from ..facial import timing"),
        (rooms_reach_too_far, "blender_talkhead/backend_client/a.py", "from ..preferences import read_preferences"),
        (rooms_reach_too_far, "blender_talkhead/bake/a.py", "from ..session import session"),
        (rooms_reach_too_far, "blender_talkhead/ui/a.py", "from ..operators import animate"),
        (front_opens_connections, "blender_talkhead/backend_client/a.py", "from urllib.request import urlopen"),
        (forbidden_file_formats, "torch_backend/data/a.py", "import pickle"),
        (forbidden_file_formats, "torch_backend/data/a.py", "import numpy as np\nnp.load('x', allow_pickle=True)"),
    ],
)
def test_rules_can_fail(rule: Callable[[str, str], list[str]], path: str, source: str) -> None:
    assert rule(path, source)


def imports_when_loaded(path: str, source: str) -> list[str]:
    """Absolute names of what a module imports at its own import: not within functions, not for types only."""
    names: list[str] = []
    pending = list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += [name for _, name in imported_modules(path, ast.unparse(node))]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return names


def test_registering_needs_no_numpy() -> None:
    """Rule 10: Debian's Blender may lack numpy; the extension registers and draws its panel without it."""
    sources = dict(source_files())
    pending, reached = ["blender_talkhead/registration.py"], set()
    while pending:
        path = pending.pop()
        reached.add(path)
        for name in imports_when_loaded(path, sources[path]):
            assert not is_or_below(name, "numpy"), f"{path} imports numpy when the extension is enabled"
            stem = name.replace(".", "/")
            pending += [
                file for file in (f"{stem}.py", f"{stem}/__init__.py") if file in sources and file not in reached
            ]
    assert "blender_talkhead/ui/panels.py" in reached and "blender_talkhead/bake/take.py" not in reached


def test_relative_imports_are_resolved() -> None:
    names = [name for _, name in imported_modules("blender_talkhead/bake/a.py", "from ..contract.errors import X")]
    assert names[0] == "blender_talkhead.contract.errors"


def test_size_limits() -> None:
    problems = []
    for path, source in source_files():
        lines = source.count("\n")
        if lines > MAX_MODULE_LINES:
            problems.append(f"{path} has {lines} lines (limit {MAX_MODULE_LINES})")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([a for a in arguments if a.arg not in {"self", "cls"}])
            if length > MAX_FUNCTION_LINES:
                problems.append(f"{path}:{node.lineno} {node.name} has {length} lines (limit {MAX_FUNCTION_LINES})")
            if count > MAX_PARAMETERS:
                problems.append(f"{path}:{node.lineno} {node.name} has {count} parameters (limit {MAX_PARAMETERS})")
    assert problems == []


def test_no_drawers() -> None:
    """Files are named by what they hold."""
    drawers = {"utils", "helpers", "misc", "common", "manager"}
    assert [path for path, _ in source_files() if Path(path).stem in drawers or set(Path(path).parts) & drawers] == []
