"Which module may import which: the contracts of .importlinter hold, and notice what breaks them."

import configparser
import re

import pytest
from checkout import ROOT, output_of
from test_checkout import rooms


def lint(folder):
    return output_of('lint-imports', '--no-cache', '--no-logo', cwd=folder, PYTHONPATH=str(folder))


def layers():
    "As .importlinter names them, from the highest to the lowest."
    config = configparser.ConfigParser()
    config.read(ROOT / '.importlinter', encoding='utf-8')
    return config['importlinter:contract:order']['layers'].replace('|', ' ').split()


def test_contracts_are_kept():
    assert re.search(r'[1-9]\d* kept, 0 broken', lint(ROOT))


def test_every_room_and_workshop_is_a_layer():
    assert sorted(layers()) == sorted({room.partition('.')[0] for room in rooms()})


@pytest.mark.parametrize(
    'room, line, broken',
    [
        (
            'core/files',
            'from mnist_cmp import data',
            'is not allowed to import torch',
        ),
        ('core/files', 'import ipywidgets', 'is not allowed to import ipywidgets'),
        ('ui/sound', 'import ipywidgets', 'is not allowed to import ipywidgets'),
        (
            'models',
            'def late():\n    from mnist_cmp.cli import main',
            'mnist_cmp.models is not allowed to import mnist_cmp.cli',
        ),
        (
            'study/population',
            'from mnist_cmp.study import studies',
            'mnist_cmp.study.population is not allowed to import mnist_cmp.study.studies',
        ),
        ('new', 'x = 1', 'new'),
        ('study/new', 'x = 1', 'study.new'),
        ('core/new', 'x = 1', 'mnist_cmp.core.new'),
        (
            'core/display',
            'def late():\n    from mnist_cmp.core.records import Run',
            'mnist_cmp.core.display is not allowed to import mnist_cmp.core.records',
        ),
        ('evidence/tables', 'import torch', 'mnist_cmp.evidence is not allowed to import torch'),
        ('report', 'from . import training', 'is not allowed to import mnist_cmp.training'),
    ],
)
def test_what_breaks_a_contract_is_seen(room, line, broken, checkout):
    with open(checkout / 'mnist_cmp' / f'{room}.py', 'a') as file:
        file.write(f'\n{line}\n')
    with pytest.raises(AssertionError, match=broken):
        lint(checkout)
