"""Which tests notice a broken function? `make mutate`, or `python tools/mutate.py`.

Each change of tools/mutations.py is made in a copy of the checkout: in the module and in the
notebook that exports it. Then the tests that could notice run until one fails: the function's own
notebook, tests/test_edges.py and the files in tests/ that name it, then notebooks and further
files that name what calls it. A test that fails in the unchanged copy, too, notices nothing. A
line for each change says who noticed it, or that it survived; the last line is the score. The exit
code is 0 if all were noticed.
"""

import argparse
import ast
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from checkout import ROOT, copy_checkout, environment
from mutations import MUTATIONS

PACKAGE = 'mnist_cmp'
EDGES = Path('tests/test_edges.py')  # written for changes such as these


def patched_class(node):
    "The class that fastcore's `@patch` puts a function into; None if it is no such function."
    decorators = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    if not any(isinstance(d, ast.Name) and d.id == 'patch' for d in decorators):
        return None
    first = node.args.args[0].annotation
    return first.id if isinstance(first, ast.Name) else None


@cache
def functions_in(source):
    "Name → node of each function in a source: 'name' or 'Class.name'."
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            owner = patched_class(node)
            found[f'{owner}.{node.name}' if owner else node.name] = node
        elif isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found |= {f'{node.name}.{part.name}': part for part in methods}
    return found


def changed(source, name, old, new):
    """The source with `old` in the function replaced by `new`; None if it holds no such function.

    Raises `ValueError` unless the function holds `old` once.
    """
    node = functions_in(source).get(name)
    if node is None:
        return None
    lines = source.splitlines(keepends=True)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    if lines[-1:] and not lines[-1].endswith('\n'):
        lines[-1] += '\n'  # a cell's last line
    body = ''.join(lines[first : node.end_lineno])
    if body.count(old) != 1:
        raise ValueError(f'{name} holds {old!r} {body.count(old)} times, but must hold it once')
    body = body.replace(old, new)
    return ''.join(lines[:first]) + body + ''.join(lines[node.end_lineno :])


@dataclass
class Mutation:
    "A change, and what it makes of which files."

    name: str
    old: str
    new: str
    module: str  # 'evidence.intervals'
    files: dict  # path from the checkout → its new content

    def __str__(self):
        return f'{self.module}.{self.name}: {self.old.strip()!r} → {self.new.strip()!r}'


def notebook_of(module):
    "The notebook that exports a module, from the checkout."
    head = module.read_text(encoding='utf-8')[:2000]
    return Path(re.search(r'File to edit: (?:\.\./)+(nbs/\S+\.ipynb)', head)[1])


def change_notebook(text, name, old, new):
    "A notebook's text with the change made in the exported cell that holds the function."
    notebook = json.loads(text)
    hits = 0
    for cell in notebook['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'code' or not re.search(r'^#\|\s*export', source, re.M):
            continue
        made = changed(source, name, old, new)
        if made is not None:
            cell['source'] = made.rstrip('\n').splitlines(keepends=True)
            hits += 1
    if hits != 1:
        raise ValueError(f'{name} stands in {hits} exported cells, but must stand in one')
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + '\n'


def find_mutation(name, old, new, root=ROOT):
    "The change, its function looked for in all modules; `ValueError` says what is not found."
    hits = []
    faults = []
    for path in sorted((root / PACKAGE).rglob('*.py')):
        if path.name.startswith('_'):
            continue
        try:
            made = changed(path.read_text(encoding='utf-8'), name, old, new)
        except ValueError as e:  # another module may have a function of this name
            faults.append(f'{path.stem}.{e}')
            continue
        if made is not None:
            hits.append((path, made))
    if len(hits) != 1:
        places = ' and '.join(path.stem for path, _ in hits)
        raise ValueError(
            f'{name} with {old!r} is in {places}, but must be in one module'
            if hits
            else '; '.join(faults) or f'{name} is in no module'
        )
    path, made = hits[0]
    notebook = notebook_of(path)
    whole = change_notebook((root / notebook).read_text(encoding='utf-8'), name, old, new)
    module = '.'.join(path.relative_to(root / PACKAGE).with_suffix('').parts)
    return Mutation(name, old, new, module, {path.relative_to(root): made, notebook: whole})


def callers(source, name):
    "The names by which a function of a source, or one that calls it, can be called from elsewhere."
    functions = functions_in(source)
    bodies = {key: ast.get_source_segment(source, node) for key, node in functions.items()}

    def word(key):  # by which it is called
        owner, _, own = key.rpartition('.')
        return owner if own.startswith('__') else own

    reached = {name}
    while True:
        words = '|'.join(re.escape(word(key)) for key in reached)
        pattern = re.compile(rf'\b({words})\b')
        more = {key for key, body in bodies.items() if pattern.search(body)} - reached
        if not more:
            break
        reached |= more
    return {word(key) for key in reached if not word(key).startswith('_')}


def tests_of(mutation, most, quick=False, root=ROOT):
    "The tests that could notice, the likeliest first: own notebook, `most` others, `most` files."
    module = root / PACKAGE / f'{mutation.module.replace(".", "/")}.py'
    own = notebook_of(module)
    name = mutation.name.rpartition('.')[2]
    names = {name, *callers(module.read_text(encoding='utf-8'), mutation.name)}
    pattern = re.compile(rf'\b({"|".join(map(re.escape, names))})\b')
    counts = {}
    folders = [path.parent.name for path in (root / PACKAGE).glob('*/__init__.py')]
    rooms = [*(root / 'nbs').glob('[0-9]*.ipynb')]
    rooms += [path for folder in folders for path in (root / 'nbs' / folder).glob('*.ipynb')]
    for path in [*rooms, *(root / 'tests').glob('test_*.py')]:
        text = path.read_text(encoding='utf-8')
        if path.suffix == '.ipynb':
            cells = [cell for cell in json.loads(text)['cells'] if cell['cell_type'] == 'code']
            text = '\n'.join(''.join(cell['source']) for cell in cells)
        words = pattern.findall(text)
        if words:
            # Who names the function itself comes first.
            counts[path.relative_to(root)] = name in words, len(words)
    counts.pop(own, None)
    others = sorted(counts, key=counts.get, reverse=True)
    notebooks = [path for path in others if path.suffix == '.ipynb'][:most]
    files = [path for path in others if path.suffix == '.py' and path != EDGES][:most]
    direct = [EDGES] * bool(most) + [path for path in files if counts[path][0]]
    rest = [*notebooks, *(path for path in files if path not in direct)]
    return [*direct, own, *rest] if quick else [own, *direct, *rest]


def run_test(path, root, seconds):
    "Why a test fails in a copy, in a word; None if it passes."
    command = (
        [sys.executable, 'tools/test_notebook.py', path]
        if path.suffix == '.ipynb'
        else [sys.executable, '-m', 'pytest', '-q', '-x', path]
    )
    env = environment() | {'PYTHONPATH': str(root)}
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it left behind
            process.wait()
    return None if code == 0 else 'time' if code is None else 'failure'


@contextmanager
def applied(mutation, root):
    "Inside the block the files of a copy are the changed ones."
    before = {path: (root / path).read_bytes() for path in mutation.files}
    try:
        for path, content in mutation.files.items():
            (root / path).write_text(content, encoding='utf-8')
        yield
    finally:
        for path, content in before.items():
            (root / path).write_bytes(content)


class Judge:
    "Runs tests in two copies of the checkout, one of which is changed."

    def __init__(self, folder, seconds, most, quick):
        self.clean = copy_checkout(folder / 'clean')
        self.copy = copy_checkout(folder / 'copy')
        self.seconds = seconds
        self.most = most
        self.quick = quick
        self.sound = {}  # test → does it pass in the clean copy?

    def is_sound(self, test):
        if test not in self.sound:
            self.sound[test] = run_test(test, self.clean, self.seconds) is None
            if not self.sound[test]:
                print(f'{test} fails without any change: it notices nothing', flush=True)
        return self.sound[test]

    def __call__(self, mutation):
        "The test that notices a change; None if it survives."
        with applied(mutation, self.copy):
            for test in tests_of(mutation, self.most, self.quick):
                if run_test(test, self.copy, self.seconds) and self.is_sound(test):
                    return test
        return None


def chosen(args):
    "The entries of the table that were asked for."
    entries = [entry for entry in MUTATIONS if not args.only or re.search(args.only, entry[0])]
    if args.sample is not None:
        entries = random.Random(args.seed).sample(entries, min(args.sample, len(entries)))
    return entries


def found(entries):
    "The mutations, and a line for each entry that does not fit the package."
    mutations = []
    faults = []
    for name, old, new in entries:
        try:
            mutations.append(find_mutation(name, old, new))
        except ValueError as e:
            faults.append(str(e))
    return mutations, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', metavar='REGEX', help='changes of functions whose name fits')
    parser.add_argument('--sample', type=int, metavar='N', help='so many of them, drawn at random')
    parser.add_argument('--seed', type=int, default=0, help='of the sample')
    parser.add_argument(
        '--seconds', type=float, default=600, help='that a test may take (default: %(default)s)'
    )
    parser.add_argument(
        '--most',
        type=int,
        default=3,
        help='notebooks, and files of tests, besides the own notebook',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='files in tests/ that name the function before its own notebook',
    )
    parser.add_argument('--own', action='store_true', help='the own notebooks alone')
    parser.add_argument(
        '--list', action='store_true', help='show the changes and their tests, run nothing'
    )
    args = parser.parse_args()
    most = 0 if args.own else args.most
    mutations, faults = found(chosen(args))
    for fault in faults:
        print(f'error     {fault}', flush=True)
    if args.list:
        for mutation in mutations:
            print(f'{mutation}\n    {", ".join(map(str, tests_of(mutation, most, args.quick)))}')
        sys.exit(bool(faults))
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Path(folder), args.seconds, most, args.quick)
        for mutation in mutations:
            start = time.perf_counter()
            test = judge(mutation)
            verdict = f'noticed   {mutation}, by {test}' if test else f'survived  {mutation}'
            print(f'{verdict} ({time.perf_counter() - start:.0f} s)', flush=True)
            if test is None:
                survived.append(mutation)
    for mutation in survived:
        print(f'    survived: {mutation}')
    print(
        f'{len(mutations) - len(survived)} of {len(mutations)} changes noticed, '
        f'{len(survived)} survived, {len(faults)} not found'
    )
    sys.exit(bool(survived or faults))


if __name__ == '__main__':
    main()
