"The package as its users get it: light, typed, installed from a wheel, the same everywhere."

import ast
import statistics
import sys
import venv

import pytest
from checkout import BIN, ROOT, output_of, output_of_python
from test_checkout import rooms

import mnist_cmp

IMPORT_TIME = """import sys, time; start = time.perf_counter(); import mnist_cmp; print(time.perf_counter() - start)
assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules), 'import mnist_cmp alone loads a large package'"""
EVERY_NAME = """from mnist_cmp import *
import mnist_cmp, pathlib
assert set(mnist_cmp.__all__) < set(dir(mnist_cmp))
for name in dir(mnist_cmp): getattr(mnist_cmp, name)
assert (pathlib.Path(mnist_cmp.__file__).parent/'py.typed').exists(), 'py.typed is missing'"""
TYPED = """from typing import assert_type
import mnist_cmp as mc, pandas, torch
found = mc.compare(['mlp', lambda: mc.MLP(8, 8)], 'digits', n_trials=4, store='runs/x')
assert_type(found, mc.Comparison)
assert_type(found.best.runs[0].training.last.train_accuracy, float | None)
assert_type(found['mlp'].tuning.best.config.batch_size, int)
assert_type(mc.verdict(found), str)
data = mc.Data.from_arrays([[0]], [0], [[0]], [0])
assert_type(mc.train(mc.initialise(mc.MLP), data.train, data.valid, mc.Recipe(.1, 8, epochs=1)), mc.History)
assert_type(mc.tune('cnn', data.train, data.test, recipe=mc.Recipe(epochs=3)).best.accuracy, float)
assert_type(data.to_frame(), pandas.DataFrame)
assert_type(found.runs_frame(), pandas.DataFrame)
assert_type(found.best.tuning.to_frame(), pandas.DataFrame)
assert_type(mc.size_table({'mlp': mc.MLP()}), pandas.DataFrame)
assert_type(mc.measure(mc.MLP(), data.test).accuracy, float)
assert_type(mc.predict(mc.MLP(), data.test), torch.Tensor)
assert_type(mc.Comparison.load('runs/x'), mc.Comparison)
assert_type(mc.ComparePanel().settings, dict)
assert_type(mc.search.tune('cnn', data.train, data.test), mc.SearchResult)
assert_type(mc.evidence.intervals.paired_t([1, 2], [2, 4]).p, float)
mc.measure(mc.MLP(), 'test')   # type: ignore[arg-type]
mc.train(mc.MLP(), data.train, epochs=3)   # type: ignore[call-arg]
mc.compare(n_trials='four')   # type: ignore[arg-type]
mc.compare(n_trails=4)   # type: ignore[call-arg]
mc.comapre()   # type: ignore[attr-defined]"""
STAR = """from typing import assert_type
from mnist_cmp import *
data = load_data('digits')
assert_type(data, Data)
training = train(MLP(), data.train)
assert_type(training, History)"""
SAME = """from functools import partial
import hashlib, mnist_cmp as mc
from safetensors.torch import save
data, make = mc.load_data('digits'), partial(mc.CNNClassifier, 8)
few = data.train[:200], data.valid[:100]
print([(t.loss, t.accuracy) for t in mc.tune(make, *few, n_trials=3, recipe=mc.Recipe(epochs=1), compute=mc.Compute(workers={workers})).trials])
print([hashlib.sha256(save(run.weights)).hexdigest() for run in mc.retrain(make, *few, mc.Recipe(.1, 16, epochs=2), seeds=2, compute=mc.Compute(workers={workers}))])"""
BARE = """import sys, mnist_cmp, importlib.util
assert mnist_cmp.__file__.startswith(sys.prefix), f'{mnist_cmp.__file__} is not the installed package'
assert not importlib.util.find_spec('nbdev'), 'nbdev was installed with the package'"""


@pytest.mark.alone
def test_import_takes_under_300_ms():
    seconds = statistics.median(float(output_of_python('-c', IMPORT_TIME)) for _ in range(5))
    assert seconds < 0.3, f'import mnist_cmp takes {seconds:.2f} s'


def test_every_public_name_resolves():
    output_of_python('-c', EVERY_NAME)


def test_stub_is_read_as_python_reads_it():
    """The package reads the stub line by line: each import on one line, and `__all__` names what is
    imported from modules."""
    body = ast.parse((ROOT / 'mnist_cmp' / '__init__.pyi').read_text(encoding='utf-8')).body
    imports = [node for node in body if isinstance(node, ast.ImportFrom)]
    homes = {
        alias.name: '.' * node.level + (node.module or '')
        for node in imports
        for alias in node.names
    }
    assert mnist_cmp._homes == homes
    (listed,) = (ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign))
    assert listed == mnist_cmp.__all__
    modules = {name for name, home in homes.items() if home == '.'}
    assert modules == {room.partition('.')[0] for room in rooms()}


@pytest.mark.slow
def test_types_take_right_uses_and_refuse_wrong_ones(tmp_path):
    "The types are those of the modules themselves, which a type checker follows from the stub."
    uses = {'uses.py': TYPED, 'star.py': STAR}
    for name, source in uses.items():
        (tmp_path / name).write_text(source)
    options = ['--follow-imports=silent', '--warn-unused-ignores', '--cache-dir', tmp_path]
    files = [tmp_path / name for name in uses]
    output_of_python('-m', 'mypy', *options, *files, MYPYPATH=str(ROOT))


@pytest.mark.slow
def test_package_builds_and_installs_in_a_bare_environment(checkout, tmp_path):
    """sdist, wheel from that sdist, and that wheel in an environment with its declared
    dependencies alone."""
    bare = tmp_path / 'bare'
    tools = bare / BIN.name

    def run_there(*command):
        return output_of(*command, cwd=tmp_path, PYTHONPATH=None)

    run_there(sys.executable, '-m', 'build', '--outdir', tmp_path / 'dist', checkout)
    run_there(sys.executable, '-m', 'twine', 'check', '--strict', *(tmp_path / 'dist').iterdir())
    (wheel,) = (tmp_path / 'dist').glob('*.whl')
    venv.create(bare, with_pip=True)
    install = ['-m', 'pip', 'install', '--no-compile', '-c', ROOT / 'constraints.txt', wheel]
    run_there(tools / 'python', *install)
    for code in (BARE, EVERY_NAME):
        run_there(tools / 'python', '-c', code)
    run_there(tools / 'mnist_cmp', '--help')
    run_there(tools / 'python', '-m', 'mnist_cmp', '--version')


def numbers_of(workers, hash_seed):
    "The numbers of a search and of trainings in another process."
    return output_of_python('-c', SAME.format(workers=workers), PYTHONHASHSEED=hash_seed)


@pytest.mark.slow
def test_same_numbers_in_other_processes():
    "With other hash seeds and numbers of workers a search gives the same numbers."
    found = {numbers_of(*how) for how in ((1, '0'), (2, '1'), (2, 'random'))}
    assert len(found) == 1, f'{len(found)} different results of one search'
