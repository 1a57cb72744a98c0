"The checkout: its files, a copy of it, and commands that are run in it, for tests and tools."

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent  # the commands of the environment that runs this file
REAL_MNIST = Path(os.environ.get('MNIST_CMP_DATA') or ROOT / 'nowhere').is_dir()


def environment():
    "Of the commands: one thread, no word of the shell that the tests were started from."
    foreign = ('IN_TEST', 'PYTHONPATH', 'MNIST_CMP_DATA', 'MPLBACKEND')
    env = {name: value for name, value in os.environ.items() if name not in foreign}
    env['PATH'] = f'{BIN}{os.pathsep}{os.environ["PATH"]}'
    env['OMP_NUM_THREADS'] = '1'
    env['MNIST_CMP_QUIET'] = '1'
    env['PYTHONPATH'] = str(ROOT)  # the package of this checkout, whatever is installed
    if REAL_MNIST:
        env['MNIST_CMP_DATA'] = str(Path(os.environ['MNIST_CMP_DATA']).resolve())
    return env


def output_of(*command, cwd=ROOT, **changes):
    """Run the command and return what it printed; a failure raises AssertionError with the end
    of its output. `changes` are variables of its environment, None for one that is taken away."""
    env = environment() | changes
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={name: value for name, value in env.items() if value is not None},
        text=True,
        errors='replace',
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    end = '\n'.join(done.stdout.splitlines()[-1000:])
    assert done.returncode == 0, f'{command[0]} ended with {done.returncode}:\n{end}'
    return done.stdout


def output_of_python(*arguments, **how):
    "Run Python of this environment; how, as for `output_of`."
    return output_of(sys.executable, *arguments, **how)


def copy_checkout(to):
    "A copy without what git ignores."
    lines = (ROOT / '.gitignore').read_text().splitlines()
    ignored = [line.strip() for line in lines if line and line[0] != '#']
    shutil.copytree(ROOT, to, symlinks=True, ignore=shutil.ignore_patterns('.git', *ignored))
    return to


def notebooks():
    "The paths of all notebooks, in order."
    paths = sorted((ROOT / 'nbs').rglob('*.ipynb'))
    return [path for path in paths if not path.parent.name.startswith('.')]


def name_of(path):
    "Of a notebook: its path below nbs."
    return path.relative_to(ROOT / 'nbs').as_posix()


def code_cells(path):
    "`(cell, source)` of each code cell."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [(cell, ''.join(cell['source'])) for cell in cells if cell['cell_type'] == 'code']


def flagged(source, flag):
    return re.search(rf'^#\|\s*{flag}', source, re.M)
