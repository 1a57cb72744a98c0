"""The house in figures: `python tools/house.py` measures this checkout,
`python tools/house.py 2dc967b` that commit beside it.

A module is what a notebook exports; a part of the house is a chapter, or a workshop with all its
modules. An arrow leads from a module to one that it imports on being imported itself. A late import
stands inside a function; what only type checkers read is none. What imports no other is on the
first floor, anything else one floor above the highest that it imports.
"""

import ast
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / 'tests'))

import test_lines  # noqa: E402

PACKAGE = 'mnist_cmp'
CALLS = ('train', 'tune', 'retrain', 'compare')
NAMES_NOW = {'search': 'tune'}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def modules(root=ROOT):
    "Name → notebook of each module, such as 'core.files'."
    found = {}
    for path, cells in test_lines.notebooks(root):
        for cell in cells:
            for name in re.findall(r'^#\| default_exp (\S+)', ''.join(cell['source']), re.M):
                found[name] = path
    return found


def syntax_trees(root=ROOT):
    "Name → syntax tree of each module."
    trees = {}
    for name in modules(root):
        path = root / PACKAGE / f'{name.replace(".", "/")}.py'
        trees[name] = ast.parse(path.read_text(encoding='utf-8'))
    return trees


def named_by(statement, module):
    "What an import in a module may name in the package, such as 'core', 'core.files'."
    if isinstance(statement, ast.Import):
        paths = [alias.name for alias in statement.names]
    else:
        start = [PACKAGE, *module.split('.')][: -statement.level] if statement.level else []
        base = '.'.join([*start, *filter(None, [statement.module])])
        paths = [base, *(f'{base}.{alias.name}' for alias in statement.names)]
    ours = f'{PACKAGE}.'
    return [path.removeprefix(ours) for path in paths if path.startswith(ours)]


def imports(node, module, is_late=False):
    "`(name, is_late)` of all that a part of a module's syntax tree may name by imports."
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            for name in named_by(child, module):
                yield name, is_late
        elif not (isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(child.test)):
            yield from imports(child, module, is_late or isinstance(child, FUNCTIONS))


def arrows(root=ROOT):
    "Module → modules that it imports; and the same for those that it imports late alone."
    early = {}
    late = {}
    trees = syntax_trees(root)
    for module, tree in trees.items():
        found = [(name, is_late) for name, is_late in imports(tree, module) if name in trees]
        early[module] = {name for name, is_late in found if not is_late} - {module}
        late[module] = {name for name, _ in found} - early[module] - {module}
    return early, late


def part_of(module):
    "The chapter or workshop of a module."
    return module.partition('.')[0]


def between_parts(graph):
    "Part → parts that it imports, by the arrows of its modules."
    parts = {part_of(module): set() for module in graph}
    for module, names in graph.items():
        parts[part_of(module)] |= {part_of(name) for name in names} - {part_of(module)}
    return parts


def floors(graph):
    "Name → floor, from 1 on; raises `ValueError` if imports go in a circle."
    found = {}
    while len(found) < len(graph):
        free = [name for name in graph if name not in found and graph[name] <= found.keys()]
        if not free:
            raise ValueError(f'imports go in a circle: {sorted(graph.keys() - found.keys())}')
        found |= {name: 1 + max([0, *(found[below] for below in graph[name])]) for name in free}
    return found


def number_of_parameters(function):
    "How many parameters a function takes, without `self`."
    a = function.args
    names = [
        each.arg for each in [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg] if each
    ]
    return len(names) - (names[:1] in (['self'], ['cls']))


def functions_of(tree):
    "`(name, function)` of a module's functions and of its classes' methods, such as 'Split.to'."
    for node in tree.body:
        if isinstance(node, FUNCTIONS):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, FUNCTIONS):
                    yield f'{node.name}.{part.name}', part


def public_functions(root=ROOT):
    "`(module, name, number of parameters)` of each public function, method and `__init__`."
    for module, tree in syntax_trees(root).items():
        for name, function in functions_of(tree):
            parts = name.removesuffix('.__init__').split('.')
            if not any(part.startswith('_') for part in parts):
                yield module, name, number_of_parameters(function)


def parameters(root=ROOT):
    "Figures of the longest list of parameters, and of the functions that everybody calls."
    public = list(public_functions(root))
    most = max(n for *_, n in public)
    longest = ', '.join(f'{module}.{name}' for module, name, n in public if n == most)
    called = {NAMES_NOW.get(name, name): n for _, name, n in public}
    return {
        'longest public parameter list': f'{most} ({longest})',
        **{f'parameters of {name}': called[name] for name in CALLS if name in called},
    }


def is_import(node):
    "Is it an import, or some for type checkers alone?"
    if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
        return all(map(is_import, node.body))
    return isinstance(node, (ast.Import, ast.ImportFrom))


def exports_in_a_row(root=ROOT):
    "How many cells that export, imports apart, are followed by another one before any other code."
    count = 0
    for _, cells in test_lines.notebooks(root):
        code = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']
        for source, following in zip(code, code[1:]):
            if test_lines.is_exported(source) and test_lines.is_exported(following):
                count += not all(map(is_import, ast.parse(source).body))
    return count


def patched_classes(root=ROOT):
    "The class of each function that is put into a class from outside."
    for tree in syntax_trees(root).values():
        for node in tree.body:
            marks = [
                ast.unparse(mark).partition('(')[0] for mark in getattr(node, 'decorator_list', [])
            ]
            if isinstance(node, FUNCTIONS) and 'patch' in marks:
                yield ast.unparse(node.args.args[0].annotation)


def lines(sources):
    "How many lines are not empty."
    return sum(bool(line.strip()) for source in sources for line in source.splitlines())


def lines_of_code(root=ROOT):
    "Lines of the cells that export, of those that do not, and of files by folder."
    exported = []
    others = []
    for _, cells in test_lines.notebooks(root):
        for cell in cells:
            source = ''.join(cell['source'])
            if cell['cell_type'] == 'code':
                (exported if test_lines.is_exported(source) else others).append(source)
    files = list(test_lines.written_files(root))
    in_folder = {
        folder: lines(text for path, text in files if path.startswith(folder))
        for folder in ('tests', 'tools')
    }
    return {
        'lines in cells that export': lines(exported),
        'lines in other cells (examples, tests)': lines(others),
        'lines in tests/': in_folder['tests'],
        'lines in tools/': in_folder['tools'],
    }


def figures(root=ROOT):
    "Name → figure of a checkout."
    early, late = arrows(root)
    parts = between_parts(early)
    measured, _ = test_lines.figures(root)
    patched = list(patched_classes(root))
    return {
        'parts': len(parts),
        'floors of parts': max(floors(parts).values()),
        'arrows between parts': sum(map(len, parts.values())),
        'modules': len(early),
        'floors of modules': max(floors(early).values()),
        'arrows between modules': sum(map(len, early.values())),
        'late imports': sum(map(len, late.values())),
        **parameters(root),
        **{name: round(figure, 2) for name, figure in measured.items()},
        'cells that export': len(list(test_lines.exported_cells(root))),
        'of these, followed at once by another': exports_in_a_row(root),
        '@patch': len(patched),
        'of these, on public classes': sum(not name.startswith('_') for name in patched),
        **lines_of_code(root),
    }


def figures_of(commit, root=ROOT):
    "The figures of a commit, read from git into a folder that goes again."
    command = ['git', 'archive', commit]
    archive = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout
    with tempfile.TemporaryDirectory() as folder:
        tarfile.open(fileobj=io.BytesIO(archive)).extractall(folder, filter='data')
        return figures(Path(folder))


def main(commits):
    columns = {commit: figures_of(commit) for commit in commits} | {'here': figures()}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    width = max(map(len, names))
    print(' ' * width, *(f'{title:>24}' for title in columns))
    for name in names:
        print(f'{name:{width}}', *(f'{column.get(name, "–")!s:>24}' for column in columns.values()))


if __name__ == '__main__':
    main(sys.argv[1:])
