"What has moved is found under its old name, with a warning at the line that asked for it."

import subprocess
import sys
import warnings

import pytest
from test_checkout import rooms

from mnist_cmp import _moved


def ask(code):
    "What a fresh process prints and warns of; the code is a file of its own."
    done = subprocess.run(
        [sys.executable, '-W', 'always::DeprecationWarning', '-c', code],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if 'DeprecationWarning: mnist_cmp.' in line]
    return done.stdout, ours


@pytest.mark.parametrize(
    'code',
    [
        'import mnist_cmp.statistics\nold = mnist_cmp.statistics',
        'from mnist_cmp import statistics as old',
        'import mnist_cmp\nold = mnist_cmp.statistics',
        'import importlib\nold = importlib.import_module("mnist_cmp.statistics")',
    ],
)
def test_a_module_is_the_same_by_both_names(code):
    line = code.count('\n') + 1 if 'old = mnist_cmp.statistics' not in code else None
    said, warned = ask(
        f'{code}\nimport mnist_cmp.evidence.intervals as new\n'
        'print(old is new, old.paired_t is new.paired_t)'
    )
    assert said == 'True True\n'
    assert len(warned) == 1
    assert 'mnist_cmp.statistics is now mnist_cmp.evidence.intervals.' in warned[0]
    assert warned[0].startswith('<string>:')
    assert line is None or warned[0].startswith(f'<string>:{line}:')


def test_names_of_a_module_that_was_divided():
    said, warned = ask(
        'from mnist_cmp.findings import Difference, counted, decimals, n_trained, span\n'
        'from mnist_cmp.findings import wrong_matrix\n'
        'import mnist_cmp\n'
        'print(Difference is mnist_cmp.Difference, counted(2, "seed"), wrong_matrix.__module__)'
    )
    assert said == 'True 2 seeds mnist_cmp.evidence.answers\n'
    assert len(warned) == 1 and 'mnist_cmp.evidence.differences' in warned[0]


@pytest.mark.parametrize('old', _moved.MODULES)
def test_each_module_has_a_home(old):
    _, warned = ask(f'from mnist_cmp.{old} import *')
    for home in _moved.MODULES[old]:
        assert f'mnist_cmp.{home}' in warned[0]


@pytest.mark.parametrize(
    'module, name', [(module, name) for module, names in _moved.NAMES.items() for name in names]
)
def test_each_name_has_a_home(module, name):
    new = _moved.NAMES[module][name]
    home, _, new_name = new.rpartition('.')
    said, warned = ask(
        f'from mnist_cmp.{module} import {name} as old\n'
        f'from mnist_cmp.{home} import {new_name} as new\nprint(old is new)'
    )
    assert said == 'True\n'
    assert len(warned) == 1 and warned[0].startswith('<string>:1:')
    assert f'mnist_cmp.{module}.{name} is now mnist_cmp.{new}.' in warned[0]


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        import mnist_cmp.no_such_room  # noqa: F401
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(ImportError, match='no_such_name'):
            from mnist_cmp.findings import no_such_name
        with pytest.raises(ImportError, match='no_such_name'):
            from mnist_cmp.params import no_such_name  # noqa: F401


def test_nothing_of_ours_asks_by_an_old_name():
    "Each room is imported in a process where that would be an error."
    code = (
        'import importlib, mnist_cmp\n'
        f'for room in {rooms()}: importlib.import_module(f"mnist_cmp.{{room}}")\n'
        'from mnist_cmp import *'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'error::DeprecationWarning:mnist_cmp', '-c', code],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'DeprecationWarning' not in done.stderr
