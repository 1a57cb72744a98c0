"""How the code looks on the page, over the cells that export and the files written by hand.

`python tests/test_lines.py` prints the figures.
"""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {
    'p90 of line length': 92,
    'lines over 100 (%)': 1,
    'parallel assignments per 1,000 lines': 5,
    'named lambdas per 1,000 lines': 2,
    'public names without a docstring': 0,
}


def notebooks(root=ROOT):
    "`(path, cells)` of each notebook of a checkout, in order."
    folder = root / 'nbs'
    for path in sorted(folder.rglob('*.ipynb')):
        if any(part.startswith(('.', '_')) for part in path.relative_to(folder).parts):
            continue
        yield path, json.loads(path.read_text(encoding='utf-8'))['cells']


def is_exported(source):
    "Does a code cell export?"
    return bool(re.search(r'^#\|\s*export', source, re.M))


def exported_cells(root=ROOT):
    "`(place, source)` of each cell that exports."
    for path, cells in notebooks(root):
        for number, cell in enumerate(cells):
            source = ''.join(cell['source'])
            if cell['cell_type'] == 'code' and is_exported(source):
                yield f'{path.name}, cell {number}', source


def written_files(root=ROOT):
    "`(place, source)` of each Python file that no tool writes."
    folders = ('tests', 'tools', 'benchmarks')
    for path in sorted(path for folder in folders for path in (root / folder).rglob('*.py')):
        yield str(path.relative_to(root)), path.read_text(encoding='utf-8')


def is_parallel(node):
    "Is it `a, b = x, y`, and no exchange of the two?"
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    targets = [target for target in node.targets if isinstance(target, ast.Tuple)]
    names = {ast.unparse(name) for target in targets for name in target.elts}
    return bool(targets) and not names & {ast.unparse(value) for value in node.value.elts}


def is_named_lambda(node):
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)


def undocumented(tree):
    "Public functions, classes and methods of a module's text that have no docstring."
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if not isinstance(node, kinds) or node.name.startswith('_'):
            continue
        parts = node.body if isinstance(node, ast.ClassDef) else []
        for part in [node, *parts]:
            if isinstance(part, kinds) and not part.name.startswith('_'):
                if not ast.get_docstring(part):
                    yield node.name if part is node else f'{node.name}.{part.name}'


def figures(root=ROOT):
    "Name → figure, as in `LIMITS`, and the public names without a docstring."
    cells = list(exported_cells(root))
    sources = cells + list(written_files(root))
    lengths = sorted(len(line) for _, source in sources for line in source.splitlines() if line)
    nodes = [node for _, source in sources for node in ast.walk(ast.parse(source))]
    thousands = len(lengths) / 1000
    silent = [
        f'{place}: {name}' for place, source in cells for name in undocumented(ast.parse(source))
    ]
    found = {
        'p90 of line length': lengths[int(0.9 * len(lengths))],
        'lines over 100 (%)': 100 * sum(n > 100 for n in lengths) / len(lengths),
        'parallel assignments per 1,000 lines': sum(map(is_parallel, nodes)) / thousands,
        'named lambdas per 1,000 lines': sum(map(is_named_lambda, nodes)) / thousands,
        'public names without a docstring': len(silent),
    }
    return found, silent


@pytest.fixture(scope='module')
def measured():
    return figures()


def test_there_is_something_to_measure():
    assert len(list(exported_cells())) > 100
    assert len(list(written_files())) > 30


@pytest.mark.parametrize('name', LIMITS)
def test_figure(measured, name):
    found, silent = measured
    more = '\n'.join(silent) if 'docstring' in name else ''
    assert found[name] <= LIMITS[name], more


@pytest.mark.parametrize(
    'text, expected',
    [('a, b = 1, 2', True), ('a, b = b, a', False), ('a, b = pair', False), ('a = 1, 2', False)],
)
def test_parallel_assignments_are_known(text, expected):
    assert is_parallel(ast.parse(text).body[0]) == expected


if __name__ == '__main__':
    found, silent = figures()
    for name, figure in found.items():
        print(f'{name:40} {figure:8.2f}   (at most {LIMITS[name]})')
    print('\n'.join(silent))
