"""How the house is kept: floors, start-up, size and words."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("embed", "train", "pipeline", "bindcache")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LIGHT = (
    "embed.store",
    "embed.pairs",
    "embed.sequences",
    "embed.config",
    "train.config",
    "pipeline.config",
    "pipeline.cli",
    "bindcache",
)


def name_of(path):
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def below(name, *roots):
    """Whether a name is one of the roots or lies in it."""
    return any(name == root or name.startswith(root + ".") for root in roots)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_downward(path):
    """bindcache -> pipeline -> train -> embed; train sees pairs, sequences, store and native; the store numpy, h5py."""
    name, imports = name_of(path), list(imports_of(path))
    if below(name, "embed"):
        assert not [i for i in imports if below(i, "train", "pipeline", "bindcache")]
    if below(name, "train"):
        assert not [i for i in imports if below(i, "pipeline", "bindcache")]
    if below(name, "pipeline"):
        assert not [i for i in imports if below(i, "bindcache")]
    if below(name, "bindcache"):
        assert all(below(i, "pipeline.api") for i in imports)
        allowed = ("embed.pairs", "embed.sequences", "embed.store", "embed.native")
        assert not [i for i in imports if below(i, "embed") and not below(i, *allowed)]
    if below(name, "embed.store"):
        allowed = ("numpy", "h5py", "embed.store", "embed.errors", *sys.stdlib_module_names)
        assert not [i for i in imports if not below(i, *allowed)]


def test_no_module_imports_itself_in_a_circle():
    """Module-level imports form no cycle."""
    names = {name_of(path): path for path in MODULES}
    graph = {}
    for name, path in names.items():
        top = [n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        found = set()
        for node in top:
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
            else:
                found |= {alias.name for alias in node.names}
        graph[name] = {n for n in found if n in names and n != name}
    done: set[str] = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_do_not_load_torch(module):
    """What answers at once must not wait for torch."""
    code = f"import sys, {module}; assert not {{'torch', 'transformers'}} & set(sys.modules), 'torch was loaded'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


def test_modules_stay_small():
    """A file of more than 250 lines has a second job."""
    long = {name_of(path): n for path in MODULES if (n := len(path.read_text("utf-8").splitlines())) > 250}
    assert long == {}


def test_functions_stay_small():
    """No function is longer than 60 lines, docstring apart; 85 % have at most 20."""
    sizes = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                doc = ast.get_docstring(node, clean=False)
                sizes[f"{name_of(path)}.{node.name}"] = (
                    node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
                )
    assert {name: size for name, size in sizes.items() if size > 60} == {}
    assert sum(size <= 20 for size in sizes.values()) / len(sizes) >= 0.85


def test_no_drawer_for_everything():
    """No module is named utils, common, helpers or manager."""
    assert not [path for path in MODULES if path.stem in ("utils", "common", "helpers", "manager", "misc")]


def test_few_broad_excepts_and_ignores():
    """Broad excepts are none outside the outermost boundary; type ignores are few."""
    text = {name_of(path): path.read_text("utf-8") for path in MODULES}
    assert not [name for name, t in text.items() if "except Exception" in t and name != "pipeline.boundary"]
    assert sum(t.count("type: ignore") for t in text.values()) <= 8


def test_stores_and_runs_change_files_through_one_seam():
    """What writes to stores and runs does it in `embed.store.disk`, whose place a test can take."""
    direct = {"write_text", "write_bytes", "touch", "unlink", "mkdir", "rmdir", "rmtree", "rename", "hardlink_to"}
    system = {"open", "write", "fsync", "link", "replace", "rename", "unlink", "mkdir", "makedirs", "rmdir", "utime"}
    found = []
    for path in MODULES:
        if not below(name_of(path), "embed.store", "train") or name_of(path) == "embed.store.disk":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            opens = node.func.attr == "open" and any(getattr(a, "value", "") in ("w", "a", "x") for a in node.args)
            if of != "disk" and (node.func.attr in (system if of == "os" else direct) or opens):
                found.append(f"{name_of(path)}:{node.lineno}")
    reading = "embed.store.plain"
    assert [place for place in found if not place.startswith((reading, "embed.store.maintenance"))] == []


UNSAFE = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml")


def test_nothing_is_pickled():
    """No module of ours pickles; torch.load reads tensors alone, numpy no objects, and no model brings its code."""
    for path in MODULES:
        unsafe = [i for i in imports_of(path) if below(i, *UNSAFE) and i != "pickle.UnpicklingError"]
        assert unsafe == [], path
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            named = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            called = ast.unparse(node.func)
            assert called != "torch.load" or named.get("weights_only") is True, f"{path}:{node.lineno}"
            assert not any(map(named.get, ("allow_pickle", "trust_remote_code"))), f"{path}:{node.lineno}"
            assert called not in ("eval", "exec", "torch.export.load", "torch.jit.load"), f"{path}:{node.lineno}"


def test_models_are_loaded_from_safetensors_here():
    """Every from_pretrained names local files; the one that loads weights wants safetensors."""
    calls = [
        {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        for path in MODULES
        if below(name_of(path), "embed", "train")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained")
    ]
    assert calls
    assert all(call.get("local_files_only") is True for call in calls)
    assert any(call.get("use_safetensors") is True for call in calls)
