"A finished comparison is read, judged and drawn without PyTorch."

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_checkout import rooms

ROOT = Path(__file__).resolve().parent.parent
HEAVY = 'torch', 'torchvision', 'fastai', 'dask', 'ipywidgets'
FOLDERS = {
    'digits': ROOT / 'nbs' / 'results' / 'digits',
    'real MNIST': ROOT / 'nbs' / 'results' / 'fair_comparison',
    'of 0.1.0': ROOT / 'nbs' / 'fixtures' / 'run_0.1.0',
}
METHODS = {
    'tables': 'to_frame runs_frame differences kbest costs leader_by_budget',
    'answers': 'class_errors agreement hard_frame',
    'figures': 'plot plot_runs plot_differences plot_kbest plot_budget plot_costs plot_confusions '
    'plot_class_errors plot_calibration',
}


def loaded_by(code, *names):
    "Which of some modules are loaded in a fresh process after code has run, and what it prints."
    ask = f'\nimport sys, json\nprint(json.dumps([n for n in {names!r} if n in sys.modules]))'
    done = subprocess.run(
        [sys.executable, '-c', 'import matplotlib\nmatplotlib.use("agg")\n' + code + ask],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *printed, loaded = done.stdout.splitlines()
    return json.loads(loaded), printed


def opened(folder):
    return (
        'from mnist_cmp import Comparison, verdict, summary\n'
        f'found = Comparison.load({str(folder)!r})\n'
    )


def test_the_test_sees_torch():
    "What trains does load it."
    assert loaded_by('import mnist_cmp.training', *HEAVY)[0][0] == 'torch'


@pytest.mark.parametrize('name', FOLDERS)
def test_verdict(name):
    code = opened(FOLDERS[name]) + 'print(verdict(found)); found.difference(*found.names[:2])'
    loaded, printed = loaded_by(code, *HEAVY, 'pandas', 'matplotlib.pyplot')
    assert loaded == []
    assert len(printed) >= 2


@pytest.mark.parametrize('kind', METHODS)
def test_methods(kind):
    calls = [f'assert found.{name}() is not None\n' for name in METHODS[kind].split()]
    by_name = [
        'found.budget("cnn"); found.confusion("cnn"); found.calibration("cnn")\n',
        'found.health("cnn"); found.calibration_error("cnn"); found._repr_html_()\n',
    ]
    loaded, _ = loaded_by(opened(FOLDERS['digits']) + ''.join(calls + by_name), *HEAVY)
    assert loaded == []


@pytest.mark.parametrize('name', ['digits', 'of 0.1.0'])
def test_report(name, tmp_path):
    code = (
        opened(FOLDERS[name])
        + 'from mnist_cmp import write_report\n'
        + f'print(summary(found)); page = write_report(found, {str(tmp_path)!r})\n'
        + 'again = Comparison.load(page.parent); assert again == found'
    )
    assert loaded_by(code, *HEAVY)[0] == []
    assert len(list((tmp_path / 'figures').glob('*.png'))) >= 5


def modules():
    return sorted((ROOT / 'mnist_cmp' / 'evidence').glob('*.py'))


def imported(path):
    "Modules of this package that a module imports at its top, without those below a function."
    tree = ast.parse(path.read_text(encoding='utf-8'))
    package = ['mnist_cmp', 'evidence']
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = '.'.join([*base, *filter(None, [node.module])])
            yield from (f'{module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_rooms_know_core_alone():
    "Each imports records, what every room needs, and other rooms of evidence: no circle."
    known = {'core', 'records', 'run_folder', 'evidence'}
    found = {path.stem: {*imported(path)} for path in modules()}
    assert {'answers', 'comparison', 'differences', 'figures', 'tables', 'verdict'} <= set(found)
    for names in found.values():
        ours = {name.split('.')[1] for name in names if name.startswith('mnist_cmp.')}
        assert ours <= known
        assert not {name.partition('.')[0] for name in names} & {'torch', 'pandas', 'scipy'}


def test_comparison_has_its_methods_itself():
    "Readers and type checkers find them in the class; no other room puts any there."
    code = (
        'import mnist_cmp as mc, inspect\n'
        'names = set(vars(mc.Comparison))\n'
        f'for room in {rooms()}: __import__(f"mnist_cmp.{{room}}")\n'
        'print(sorted(set(vars(mc.Comparison)) - names))\n'
        'import ast, textwrap\n'
        'tree = ast.parse(textwrap.dedent(inspect.getsource(mc.Comparison)))\n'
        'print(max(len(f.body) for f in tree.body[0].body if isinstance(f, ast.FunctionDef)))'
    )
    _, (added, longest) = loaded_by(code)
    assert added == '[]'
    assert int(longest) <= 3  # a docstring, a late import, a line
