"""Run notebooks as tests, as nbdev_test does, and watch that the tests in them test something.

`python tools/test_notebook.py FILE …`: a loop around a test, or an `all(…)` in one, that never had
anything to go through fails, since it would pass whatever the code does. Tests below an `if` that
was not so here are skipped; a line says which, and why. `--slow` runs the slow cells, too.
"""

import argparse
import ast
import builtins
import sys
from pathlib import Path

from execnb.shell import CaptureShell
from nbdev import test as nbdev_test
from nbdev.config import get_config

WATCH = '__watch__'  # its name in a notebook


def name_called(node):
    "The name of the function that a call calls, without what stands before a dot."
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ''


class Watch(ast.NodeTransformer):
    "Puts counters into cells, and knows afterwards which of them counted nothing."

    def __init__(self):
        self.testers = set()  # functions of the notebook that test something
        self.met = {}  # place → how often there was something to go through
        self.skipped = []  # conditions that were not so

    def is_test(self, node):
        if isinstance(node, ast.Assert):
            return True
        if not isinstance(node, ast.Call):
            return False
        name = name_called(node)
        return name.startswith('test_') or name in self.testers

    def has_test(self, nodes):
        return any(self.is_test(part) for node in nodes for part in ast.walk(node))

    def visit_Module(self, tree):
        "A cell."
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and self.has_test(node.body):
                self.testers.add(node.name)
        for node in tree.body:
            if not isinstance(node, ast.If):
                continue
            if self.has_test(node.body) and not self.has_test(node.orelse):
                node.orelse.append(self.call('skip', ast.unparse(node.test)))
        return ast.fix_missing_locations(self.generic_visit(tree))

    def visit_For(self, node):
        tests = self.has_test(node.body)
        self.generic_visit(node)
        if not tests:
            return node
        place = f'for {ast.unparse(node.target)} in {ast.unparse(node.iter)}'
        node.body.insert(0, self.call('count', place))
        return [self.call('meet', place), node]

    def visit_Assert(self, node):
        node.test = self.watched(node.test)
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        if self.is_test(node):
            node.args = [self.watched(arg) for arg in node.args]
        return node

    def watched(self, node):
        "An argument of a test, each `all(…)` in it watched."
        for part in ast.walk(node):
            if not isinstance(part, ast.Call) or len(part.args) != 1:
                continue
            if isinstance(part.func, ast.Name) and part.func.id == 'all':
                place = ast.unparse(part)
                part.func = ast.Attribute(ast.Name(WATCH, ast.Load()), 'all', ast.Load())
                part.args.append(ast.Constant(place))
        return node

    def call(self, method, text):
        "A statement that calls a method of this object with a text."
        function = ast.Attribute(ast.Name(WATCH, ast.Load()), method, ast.Load())
        return ast.Expr(ast.Call(function, [ast.Constant(text)], []))

    def meet(self, place):
        self.met.setdefault(place, 0)

    def count(self, place):
        self.met[place] += 1

    def skip(self, condition):
        if condition not in self.skipped:
            self.skipped.append(condition)

    def all(self, items, place):
        self.meet(place)
        for item in items:
            self.count(place)
            if not item:
                return False
        return True

    @property
    def empty(self):
        "What never had anything to go through."
        return [place for place, n in self.met.items() if not n]


def run_notebook(path, flags=()):
    "Whether the cells passed, and the `Watch`."
    watch = Watch()

    class WatchedShell(CaptureShell):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.ast_transformers.append(watch)
            setattr(builtins, WATCH, watch)  # a cell may run in another namespace

    nbdev_test.CaptureShell = WatchedShell
    config = get_config()
    passed, _ = nbdev_test.test_nb(
        Path(path).absolute(),
        skip_flags=config.tst_flags.split(),
        force_flags=list(flags),
        basepath=config.config_path,
    )
    return passed, watch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='+', metavar='FILE')
    parser.add_argument('--slow', action='store_true', help='run the slow cells, too')
    args = parser.parse_args()
    good = True
    for path in args.paths:
        passed, watch = run_notebook(path, ['slow'] if args.slow else [])
        for place in watch.empty:
            print(f'{path}: a test that tested nothing: {place}')
        for condition in watch.skipped:
            print(f'SKIPPED {path}: tests that need: {condition}')
        good = good and passed and not watch.empty
    print('Success.' if good else 'Failed.')
    sys.exit(not good)


if __name__ == '__main__':
    main()
