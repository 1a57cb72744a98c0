"The house in figures: what tools/house.py counts, on small checkouts whose figures are known."

import ast
import json
import subprocess

import house
import pytest

FILES = """
#| default_exp shop.files
---
#| export
import math
---
#| export
def read(path, *, limit=None, **options):
    "Read."
---
#| export
def write(path): ...
---
assert read('x') is None
"""
MODEL = """
#| default_exp model
---
#| export
from typing import TYPE_CHECKING
import shop.files
from .shop import files
if TYPE_CHECKING:
    from . import cli
---
#| export
class Net:
    def __init__(self, a, b, c, d): ...
    def _secret(self, a, b, c, d, e): ...
---
Net(1, 2, 3, 4)
---
#| export
@patch
def grow(self: Net, by):
    from mnist_cmp.cli import main
---
#| export
@patch(as_prop=True)
def size(self: _Net):
    "Size."
"""
CLI = """
#| default_exp cli
---
#| export
import mnist_cmp.model as model, mnist_cmp.shop.files

def search(model, _b, c): "Search."
"""


@pytest.fixture
def checkout(tmp_path):
    "Three notebooks and the modules that they export."
    for name, text in {'01_model': MODEL, 'shop/files': FILES, '09_cli': CLI}.items():
        sources = [source.strip() for source in text.split('---\n')]
        cells = [{'cell_type': 'code', 'source': source.splitlines(True)} for source in sources]
        notebook = tmp_path / 'nbs' / f'{name}.ipynb'
        notebook.parent.mkdir(parents=True, exist_ok=True)
        notebook.write_text(json.dumps({'cells': cells}))
        module = tmp_path / 'mnist_cmp' / f'{name.lstrip("0123456789_")}.py'
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text('\n'.join(source for source in sources if '#| export' in source))
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'tool.py').write_text('x = 1\n\ny = 2\n')
    return tmp_path


def test_arrows_are_what_is_imported(checkout):
    early, late = house.arrows(checkout)
    assert early == {
        'model': {'shop.files'},
        'shop.files': set(),
        'cli': {'model', 'shop.files'},
    }
    assert late == {'model': {'cli'}, 'shop.files': set(), 'cli': set()}


def test_parts_are_chapters_and_workshops():
    graph = {'shop.a': {'shop.b'}, 'shop.b': {'core'}, 'core': set(), 'cli': {'shop.a'}}
    assert house.between_parts(graph) == {'shop': {'core'}, 'core': set(), 'cli': {'shop'}}


def test_floors_are_the_longest_way_down():
    graph = {'a': {'b', 'd'}, 'b': {'c'}, 'c': {'d'}, 'd': set()}
    assert house.floors(graph) == {'d': 1, 'c': 2, 'b': 3, 'a': 4}
    with pytest.raises(ValueError, match='circle.*a.*b'):
        house.floors({'a': {'b'}, 'b': {'a'}, 'c': set()})


@pytest.mark.parametrize(
    'text, number',
    [
        ('def f(): pass', 0),
        ('def f(a, /, b, *c, d=1, **e): pass', 5),
        ('def f(self, a): pass', 1),
        ('def f(cls): pass', 0),
    ],
)
def test_parameters_are_counted(text, number):
    assert house.number_of_parameters(ast.parse(text).body[0]) == number


def test_figures_of_a_small_house(checkout):
    figures = house.figures(checkout)
    expected = {
        'parts': 3,
        'floors of parts': 3,
        'arrows between parts': 3,
        'modules': 3,
        'floors of modules': 3,
        'arrows between modules': 3,
        'late imports': 1,
        'longest public parameter list': '4 (model.Net.__init__)',
        'parameters of tune': 3,  # `search` until 0.1.0
        'public names without a docstring': 3,
        'cells that export': 8,
        'of these, followed at once by another': 2,
        '@patch': 2,
        'of these, on public classes': 1,
        'lines in tests/': 0,
        'lines in tools/': 2,
    }
    assert {name: figures[name] for name in expected} == expected
    assert 'parameters of compare' not in figures


def test_a_commit_is_measured_as_its_files_are(checkout):
    def git(*words):
        user = ('-c', 'user.name=n', '-c', 'user.email=e@example.org')
        subprocess.run(['git', *user, *words], cwd=checkout, check=True, stdout=subprocess.PIPE)

    git('init', '-q')
    git('add', '.')
    git('commit', '-q', '-m', 'a house')
    before = house.figures(checkout)
    (checkout / 'mnist_cmp' / 'cli.py').write_text('')
    assert house.figures(checkout) != before
    assert house.figures_of('HEAD', checkout) == before


def test_a_column_for_each_commit_and_one_for_here(capsys, monkeypatch):
    monkeypatch.setattr(house, 'figures_of', lambda commit: {'modules': 34})
    monkeypatch.setattr(house, 'figures', lambda: {'modules': 46, 'parts': 14})
    house.main(['abc'])
    head, modules, parts = capsys.readouterr().out.splitlines()
    assert head.split() == ['abc', 'here']
    assert modules.split() == ['modules', '34', '46']
    assert parts.split() == ['parts', '–', '14']
