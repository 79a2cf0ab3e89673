"""The rules of the house that a machine can check: who imports whom, and how long things are."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TASKS = ("tracking", "hgcal_clustering", "tagging")
LONGEST_FILE, LONGEST_FUNCTION = 450, 80
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc"}

# Heavy library -> the only places that may import it: files, or folders that end in a slash.
IMPORTERS = {
    "jraph": ("recon/graphs.py",),
    "uproot": ("recon/io/root",),
    "awkward": ("recon/io/root", "recon/io/parquet", "recon/io/jet_", "recon/io/weaver", "recon/sim/"),
    "fastjet": ("recon/sim/jets_clustering.py", "recon/sim/jets.py"),
    "pyarrow": ("recon/io/parquet",),
    "matplotlib": ("recon/display/",),
    "mplhep": ("recon/display/",),
    "plotly": ("recon/display/",),
    "orbax": ("recon/train/checkpoint.py",),
    "pythia8mc": ("recon/sim/",),
    "acts": ("recon/sim/",),
    "onnx": ("recon/io/weights",),
    "h5py": ("recon/io/weights_h5.py",),
    "numba": ("recon/sim/compiled.py",),
}


def sources(*folders):
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if "_pb2" not in path.name
    )


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree, package=""):
    """Dotted names of everything that a file imports, wherever in the file, strings of `import_module` included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: -node.level or None] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in {
            "import_module",
            "import_extra",
            "__import__",
            "importorskip",
        }:
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return found


@cache
def imports_of(path):
    # The file `a/b/c.py` is the module `a.b.c`: one dot in front of a name is `a.b`.
    return imports(parsed(path), name_of(path).removesuffix(".py").replace("/", "."))


def is_part_of(name, package):
    return name == package or name.startswith(package + ".")


RECON = sources("recon")
ALL = sources("recon", "serving", "benchmarks", "examples", "tests")


def test_imports_are_seen():
    tree = ast.parse(
        "import jax.numpy as jnp\nfrom orbax import checkpoint\nfrom . import geometry\n"
        "from ..nn.mlp import MLP\ndef f():\n    import uproot\n    importlib.import_module('acts.examples')\n"
    )
    found = imports(tree, "recon.tracking.pipeline")
    assert {"jax.numpy", "orbax.checkpoint", "recon.tracking.geometry", "recon.nn.mlp.MLP"} <= found
    assert {"uproot", "acts.examples"} <= found


@pytest.mark.parametrize("path", RECON, ids=name_of)
def test_recon_does_not_import_serving(path):
    foreign = {name for name in imports_of(path) if any(is_part_of(name, p) for p in ("serving", "grpc"))}
    assert foreign == set()


def test_serving_knows_models_only_as_artefacts():
    banned = ("recon", "flax", "optax", "jraph", "uproot")
    for path in sources("serving"):
        foreign = {name for name in imports_of(path) if any(is_part_of(name, p) for p in banned)}
        assert foreign == set(), name_of(path)


@pytest.mark.parametrize("task", [task for task in TASKS if (ROOT / "recon" / task).is_dir()])
def test_tasks_do_not_import_each_other(task):
    others = [f"recon.{other}" for other in TASKS if other != task]
    for path in sources(f"recon/{task}"):
        foreign = {name for name in imports_of(path) if any(is_part_of(name, p) for p in others)}
        assert foreign == set(), name_of(path)


@pytest.mark.parametrize("library", IMPORTERS)
def test_heavy_libraries_have_one_importer(library):
    using = [name_of(path) for path in RECON if any(is_part_of(name, library) for name in imports_of(path))]
    assert using, f"nothing imports {library}: the rule, or the dependency, can go"
    assert [name for name in using if not name.startswith(IMPORTERS[library])] == []


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_sizes(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{name_of(path)} has {lines} lines"
    long = {
        f"{node.name}, line {node.lineno}": node.end_lineno - node.lineno + 1
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert long == {}


def test_files_are_named_after_what_is_in_them():
    assert [name_of(path) for path in ALL if path.stem in FORBIDDEN_NAMES] == []


def modules_after(statement):
    """Modules that a fresh interpreter holds after a statement, and the packages that they are in."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    names = set(finished.stdout.split())
    return names | {name.partition(".")[0] for name in names}


HEAVY = {"jax", "numpy", "flax", "uproot", "matplotlib"}


def test_import_of_the_package_is_cheap():
    loaded = modules_after("import recon")
    assert "recon" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_help_is_cheap():
    loaded = modules_after("import recon.cli\nrecon.cli.main(['--help'])")
    assert "recon.cli" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_sensor_tables_do_not_cost_the_pipeline():
    loaded = modules_after("import recon.tracking.detector")
    assert "recon.tracking.detector" in loaded
    assert "recon.tracking.pipeline" not in loaded
    assert loaded.isdisjoint({"flax", "optax", "orbax", "matplotlib"})
