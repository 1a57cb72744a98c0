"The command takes models from the current folder, and runs no other file that lies there."

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_cmp as mc

COMMAND = shutil.which('mnist_cmp', path=str(Path(sys.executable).parent))
WAYS = {'mnist_cmp': [COMMAND], 'python -m': [sys.executable, '-m', 'mnist_cmp']}

# What Python's libraries try to import and live without, and some of what they do have
OPTIONAL = """bottleneck colorama cuda cython dill flint gmpy2 lz4 msvcrt numexpr onnx opt_einsum
pyarrow pytz tensorflow tree triton uarray xarray zstandard _winapi""".split()
TAKEN = 'ast random torch numpy pandas sklearn cloudpickle filelock jinja2 sobol_seq'.split()
SMALL = """--models here:Net,mlp --n_trials 1 --search_epochs 1 --seeds 1 --epochs 1 --workers 2
--quiet --out run""".split()
NET = """import beside
import torch
from torch.nn import Flatten, Linear
class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(Flatten(), Linear(784, beside.WIDTH), Linear(beside.WIDTH, 10))
"""


def run(command, folder, *more):
    "Run in a folder, with this package on the path, and more."
    env = os.environ | {
        'PYTHONPATH': os.pathsep.join([str(Path(mc.__file__).parent.parent), *more])
    }
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path):
    "A folder with a model of the user's, and files that must not be run; each would leave a note."
    work = tmp_path / 'work'
    work.mkdir()
    for name in OPTIONAL + TAKEN:
        note = str(tmp_path / 'ran')
        (work / f'{name}.py').write_text(
            f'open({note!r}, "a").write("{name} ")\nraise ModuleNotFoundError("no {name}", '
            f'name="{name}")\n'
        )
    (work / 'here.py').write_text(NET)
    (work / 'beside.py').write_text('WIDTH = 7\n')
    return work


@pytest.mark.parametrize('way', WAYS)
def test_no_planted_module_is_run(folder, way):
    if WAYS[way][0] is None:
        pytest.skip('the command is not installed')
    done = run([*WAYS[way], *SMALL], folder)
    ran = folder.parent / 'ran'
    assert not ran.exists() or not ran.read_text()
    assert done.returncode == 0, done.stderr
    assert 'Net' in done.stdout and (folder / 'run' / 'report.html').exists()


def test_who_asks_for_the_folder_gets_it(folder):
    code = (
        'import sys, mnist_cmp.cli; mnist_cmp.cli._import_models(["here:Net"]); '
        'print(sys.modules["here"].__file__)'
    )
    for name in OPTIONAL + TAKEN:
        (folder / f'{name}.py').unlink()
    done = run([sys.executable, '-P', '-c', code], folder.parent, str(folder))
    assert done.stdout.split()[-1] == str(folder / 'here.py'), done.stderr


def test_installed_modules_come_first(folder):
    "A file of the folder does not stand in for a module that is installed."
    code = (
        'import mnist_cmp.cli; mnist_cmp.cli._import_models(["colorsys:rgb_to_hsv"]); '
        'import colorsys; print(colorsys.__file__)'
    )
    (folder / 'colorsys.py').write_text('def rgb_to_hsv(): pass\n')
    done = run([sys.executable, '-P', '-c', code], folder)
    assert done.returncode == 0 and str(folder) not in done.stdout, done.stderr
