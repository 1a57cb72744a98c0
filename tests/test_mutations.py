"""The table of tools/mutate.py fits the package, and changes are made where they are said to be."""

import ast
import json

import mutate
import pytest
from mutations import MUTATIONS


@pytest.fixture(scope='module')
def table():
    "The changes of the table, and what does not fit."
    return mutate.found(MUTATIONS)


def test_each_change_is_found(table):
    found, faults = table
    assert not faults, '\n'.join(faults)
    assert len(found) >= 40
    assert len({str(mutation) for mutation in found}) == len(MUTATIONS), 'a change is there twice'


def test_module_and_notebook_are_changed_alike():
    name, old, new = next(entry for entry in MUTATIONS if entry[0] == 'DeepMLP.__init__')
    mutation = mutate.find_mutation(name, old, new)
    module, notebook = mutation.files.values()
    cells = [''.join(cell['source']) for cell in json.loads(notebook)['cells']]
    assert [new in text for text in (module, '\n'.join(cells))] == [True, True]
    for path, content in mutation.files.items():
        before = (mutate.ROOT / path).read_text(encoding='utf-8')
        assert content != before
        assert len(content.splitlines()) == len(before.splitlines())


@pytest.mark.parametrize(
    'entry, words',
    [
        (('no_such_function', 'a', 'b'), 'no_such_function is in no module'),
        (
            ('derive_seed', 'no such text', ''),
            "system.derive_seed holds 'no such text' 0 times",
        ),
        (('derive_seed', 'seed', 'b'), 'times, but must hold it once'),
    ],
)
def test_what_is_not_found_is_named(entry, words):
    found, faults = mutate.found([entry])
    assert (found, len(faults)) == ([], 1)
    assert words in faults[0]


@pytest.mark.parametrize(
    'source, name',
    [
        ('def f(): return 1', 'f'),
        ('class A:\n    def f(self): return 1', 'A.f'),
        ('@patch\ndef f(self:A): return 1', 'A.f'),
        ('@patch(as_prop=True)\ndef f(self:A)->int: return 1', 'A.f'),
    ],
)
def test_functions_are_known_by_name(source, name):
    made = mutate.changed(f'x = 1\n{source}\ny = 1\n', name, 'return 1', 'return 2')
    assert made == f'x = 1\n{source}\ny = 1\n'.replace('return 1', 'return 2')
    assert mutate.changed(source, 'other', 'return 1', 'return 2') is None


def test_every_change_can_be_run(table):
    for mutation in table[0]:
        for path, content in mutation.files.items():
            if path.suffix == '.py':
                assert ast.parse(content).body, str(mutation)


def test_own_notebook_is_asked_first():
    name, old, new = next(entry for entry in MUTATIONS if entry[0] == '_stay_within')
    tests = mutate.tests_of(mutate.find_mutation(name, old, new), 2)
    assert [path.as_posix() for path in tests][:2] == [
        'nbs/evidence/intervals.ipynb',
        'tests/test_edges.py',
    ]


def test_files_that_call_a_function_by_its_callers_are_asked():
    name, old, new = next(entry for entry in MUTATIONS if entry[0] == '_run_in_processes')
    tests = mutate.tests_of(mutate.find_mutation(name, old, new), 30)
    assert 'tests/test_edges.py' in [path.as_posix() for path in tests]  # which calls `run_jobs`
