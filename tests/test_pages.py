"""The pages: no number typed where a result belongs, no empty table, tests that can fail."""

import ast
import json
import re
import runpy
from pathlib import Path

import pytest
from PIL import Image
from test_notebook import WATCH, Watch

from mnist_cmp.core.files import read_json
from mnist_cmp.evidence.comparison import Comparison
from mnist_cmp.evidence.verdict import verdict

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(
    path for path in (ROOT / 'nbs').rglob('*.ipynb') if not path.parent.name.startswith('.')
)
TESTS = sorted((ROOT / 'tests').rglob('test_*.py'))


def cells(path, kind):
    "The cells of a notebook of one kind."
    whole = json.loads(path.read_text(encoding='utf-8'))
    return [cell for cell in whole['cells'] if cell['cell_type'] == kind]


# Numbers as measuring gives them: with a unit, a percent sign or a spread, with decimals, or
# 'so many of so many'.
NUMBER = re.compile(r"""(?x)
    (?<![\w.,]) [−+-]? \d[\d,]* (?:\.\d+)? [\s ]?
        (?: % | points?\b | ± | ms\b | s\b | min\b | [kMG]B\b | [MG]FLOP | times\b | of\ \d[\d,]* )
    | ± \s? \d
    | (?<![\w.]) \d+\.\d+ (?![\w.])""")

# What may be typed: definitions, settings, and what the notebook of 2019 or a paper printed.
DEFINITIONS = {
    'process': ['PyTorch 2.9'],
    '01_data': ['10,000 of 60,000'],
    'step_protocol': ['goes 0.1, then 0.15, then 0.175'],
    'compiled': ['asked 20 times a second'],
    '04_training': ['every 0.05 s'],
    'scheduling': ['Epochs of 10 ms', 'epochs of 2 s'],
    'costs': [
        '95 % of all samples, n/2 ± 0.98 √n',
        '1999, 3.2',
        'calls of 1 ms, of 70 ms and of 5 s',
    ],
    'benchmarks': ['and 5 GB of them'],
    'recipes': ['else 30 % of the steps'],
    'health': [
        'one-sided at 1 %',
        'rarer than 1 %',
        'test at 1 % |',
        'test at 0.1 %',
        'right on 40 % of the images',
        'honest at 40 %',
        '2,300 of 10,000',
    ],
    'intervals': [
        '95 %',
        'from 0.03 % to 50 %',
        '93.5 %',
        '95 of 100',
        'says 0.9 should',
        'expected errors of 2 % each and of 2 % and 1.5 %',
    ],
    'crossed': [
        'err on 2 % and on 1 %',
        '95 % confidence',
        'below 93.5 %',
        'true errors of 1 % and of 9 %',
    ],
    'metrics': [
        'example at 34.5',
        'AUROC of 0.98 can be 0.90',
        'SD 0.1 in logits',
        'or 0.5, *seeds',
        '50, 30 and 20 %, or 70 and 30 %',
        'a 95 % interval',
        'below 93.5 %',
    ],
    'conclusions': ['the 95 % interval', 'test at 2.5 %', 'share 95 %'],
    'answers': ['80 %'],
    'differences': [
        'differ by 100 points',
        '100 to 100 points',
        'together with 95 %',
        'share their 95 %',
    ],
    'tables': ['95 %', 'over 10 % more'],
    'verdict': ['Here 95 of 100', 'the 95 % interval', 'share their 95 %'],
    'sound': ['done in 3 min 12 s'],
    'index': ['Python 3.11'],
    'the_report': ['cut at 100 points'],
    'the_2019_experiment': [
        'about 0.88 million',
        '11.37 %',
        '2.311',
        '0.0831689',
        '0.0505483',
        '0.0953835',
        '0.01 to 0.1',
        'From 0.001',
    ],
    'the_fair_comparison': [
        '0.80 %',
        '1.74 %',
        'same 20 configs of',
        'p < 0.05',
        '95 %',
        'in 5 % of',
    ],
    'your_own_model_and_data': ['black line at 97 %'],
    'what_changed': ['0.15 points', '0.01 to 0.1', 'from 0.001', 'above 0.001, not 0.01'],
}


def typed_numbers(name, text):
    "The numbers of a piece of Markdown that no cell made, without those that define something."
    text = re.sub(r'```.*?```', '', text, flags=re.S)
    text = re.sub(r'`[^`]*`|\$\$.*?\$\$|\$[^$]+\$|<[^>]+>', '', text, flags=re.S)
    text = re.sub(r'\]\([^)]*\)', ']', text)
    for words in DEFINITIONS.get(name, ()):
        text = text.replace(words, '')
    return [match[0].strip() for match in NUMBER.finditer(text)]


def texts_of(path):
    "The Markdown of a page."
    if path.suffix == '.md':
        return [path.read_text(encoding='utf-8')]
    return [''.join(cell['source']) for cell in cells(path, 'markdown')]


PAGES = [*NOTEBOOKS, ROOT / 'nbs' / 'the_report.md']


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_numbers_are_made_by_cells(path):
    found = [number for text in texts_of(path) for number in typed_numbers(path.stem, text)]
    assert not found, (
        f'{path.name}: {", ".join(found)}. Let a cell make the sentence from the '
        'results, or, if this defines something, name it in DEFINITIONS.'
    )


@pytest.mark.parametrize('name', DEFINITIONS)
def test_no_definition_is_left_over(name):
    (path,) = [path for path in PAGES if path.stem == name]
    text = '\n'.join(texts_of(path))
    missing = [words for words in DEFINITIONS[name] if words not in text]
    assert not missing, f'{name} does not say {missing} any more'


# Docstrings that define something by a number.
DEFINED = {
    'check_level',
    'comparison_text',
    'decimals',
    'format_seconds',
    'kbest_interval',
    'level',
    'level_of',
    'plot_accuracy',
}


def test_docstrings_hold_no_measured_number():
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef
    modules = sorted((ROOT / 'mnist_cmp').rglob('*.py'))
    nodes = [
        node
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, kinds)
    ]
    texts = [(getattr(node, 'name', 'module'), ast.get_docstring(node) or '') for node in nodes]
    found = {name for name, text in texts if typed_numbers('', text)}
    assert found == DEFINED


@pytest.mark.parametrize(
    'text, numbers',
    [
        ('The CNN leads (98.93 % against 98.21 %).', ['98.93 %', '98.21 %']),
        ('ahead in 8 of 10 seeds', ['8 of 10']),
        ('178.4 ± 7.8 wrong', ['178.4 ±', '7.8']),
        ('93 s for a training instead of 12 s', ['93 s', '12 s']),
        ('a batch of 31 images in 2019', []),
        ('`0.5 s`, $p = 0.3$, [a paper](https://doi.org/10.1162/0.5)', []),
    ],
)
def test_what_counts_as_a_number(text, numbers):
    assert typed_numbers('', text) == numbers


def emptiness(output):
    "What is empty in an output of a cell; '' if nothing is."
    data = {
        kind: ''.join(content)
        for kind, content in output.get('data', {}).items()
        if kind.startswith('text/')
    }
    text = ''.join(output.get('text', '')) + data.get('text/plain', '')
    if 'Empty DataFrame' in text or 'Series([]' in text:
        return 'an empty frame'
    pages = data.get('text/html', '') + data.get('text/markdown', '')
    for table in re.findall(r'<table.*?</table>', pages, re.S):
        if '<td' not in table:
            return 'a table without a row'
    rows = [line for line in data.get('text/markdown', '').splitlines() if line.startswith('|')]
    return 'a table without a row' if 0 < len(rows) < 3 else ''


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.name)
def test_no_output_is_empty(path):
    found = [
        f'code cell {number}: {what}'
        for number, cell in enumerate(cells(path, 'code'), 1)
        for output in cell['outputs']
        if (what := emptiness(output))
    ]
    assert not found, f'{path.name}, {"; ".join(found)}'


@pytest.mark.parametrize(
    'data, is_empty',
    [
        ({'text/plain': 'Empty DataFrame\nColumns: []\nIndex: []'}, True),
        ({'text/html': '<table><thead><tr><th>a</th></tr></thead><tbody></tbody></table>'}, True),
        ({'text/html': '<table><tr><th>a</th></tr><tr><td>1</td></tr></table>'}, False),
        ({'text/markdown': '| a | b |\n| --- | --- |'}, True),
        ({'text/markdown': '| a | b |\n| --- | --- |\n| 1 | 2 |'}, False),
    ],
)
def test_what_counts_as_empty(data, is_empty):
    assert bool(emptiness({'output_type': 'display_data', 'data': data})) == is_empty


def test_the_report_page_says_what_was_compared():
    file = ROOT / 'nbs' / 'results' / 'fair_comparison' / 'report.json'
    report = json.loads(file.read_text(encoding='utf-8'))
    number = {3: 'three', 10: 'ten', 20: 'twenty'}
    trials = {len(model['search']['trials']) for model in report['contestants']}
    seeds = {len(model['runs']) for model in report['contestants']}
    words = (
        f'{number[len(report["contestants"])]} models on the real MNIST, '
        f'{number[trials.pop()]} trials and {number[seeds.pop()]} seeds each'
    )
    assert not trials and not seeds
    assert words in ' '.join((ROOT / 'nbs' / 'the_report.md').read_text(encoding='utf-8').split())


def test_the_card_shows_the_results():
    found = runpy.run_path(str(ROOT / 'tools' / 'site' / 'card.py'))
    runs = read_json(ROOT / 'nbs' / 'results' / 'the_2019_experiment.json')
    with Image.open(ROOT / 'nbs' / 'images' / 'card.png') as picture:
        said = picture.info['Description']
    assert said == found['caption'](runs), 'run `python tools/site/card.py`'


def test_readme_says_what_make_compare_said():
    found = Comparison.load(ROOT / 'nbs' / 'results' / 'digits')
    said = f'`make compare` says: *{verdict(found).splitlines()[0]}*'
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert said in readme, 'run index.ipynb again, then `make readme`'


# Tests that can't fail, as far as that is seen without running them;
# tools/test_notebook.py sees the empty loops.


def sources():
    "Name and syntax tree of each file of tests and each code cell."
    for path in TESTS:
        yield path.name, ast.parse(path.read_text(encoding='utf-8'))
    for path in NOTEBOOKS:
        for number, cell in enumerate(cells(path, 'code'), 1):
            source = re.sub(r'^\s*[%!].*$', '', ''.join(cell['source']), flags=re.M)
            yield f'{path.name}, code cell {number}', ast.parse(source)


def called(node):
    "The name of what a call calls; '' for anything else."
    function = getattr(node, 'func', None)
    return getattr(function, 'id', getattr(function, 'attr', ''))


def is_test(node):
    if isinstance(node, ast.Assert):
        return True
    return isinstance(node, ast.Call) and called(node).startswith('test_')


def always_true(node):
    "Is a test one of constants, or of a non-empty tuple?"
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) or isinstance(node.test, ast.Tuple)
    constants = [isinstance(arg, ast.Constant) for arg in node.args[:2]]
    return called(node) in ('test_eq', 'test_close') and len(constants) == 2 and all(constants)


def swallows(node):
    "Does a `try` catch what its own tests raise?"
    if not isinstance(node, ast.Try):
        return False
    if not any(is_test(part) for statement in node.body for part in ast.walk(statement)):
        return False
    kinds = [handler.type or ast.Name('BaseException') for handler in node.handlers]
    caught = {getattr(name, 'id', '') for kind in kinds for name in ast.walk(kind)}
    return bool(caught & {'Exception', 'BaseException', 'AssertionError'})


def faults(tree):
    "The tests in a tree that can't fail."
    return [ast.unparse(node) for node in ast.walk(tree) if is_test(node) and always_true(node)] + [
        f'try: {ast.unparse(node.body[0])}' for node in ast.walk(tree) if swallows(node)
    ]


def test_tests_can_fail():
    found = [f'{name}: {fault}' for name, tree in sources() for fault in faults(tree)]
    assert not found, '\n'.join(found)


@pytest.mark.parametrize(
    'source, number',
    [
        ('assert True', 1),
        ('assert (x == 1, "no")', 1),
        ('test_eq(1, 1)', 1),
        ('try: test_eq(f(), 1)\nexcept Exception: pass', 1),
        ('try:\n    assert f()\nexcept (ValueError, AssertionError): pass', 1),
        ('try: assert f()\nfinally: g()', 0),
        ('assert f() == 1', 0),
    ],
)
def test_what_can_not_fail(source, number):
    assert len(faults(ast.parse(source))) == number


def asserting(trees):
    "Names of functions that test something, themselves or by what they call."
    functions = {
        node.name: node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }

    def calls(node):
        return {called(part) for part in ast.walk(node) if isinstance(part, ast.Call)}

    def asserts(node):
        return any(isinstance(part, ast.Assert) for part in ast.walk(node))

    found = {
        name
        for name, node in functions.items()
        if asserts(node) or calls(node) & {'raises', 'warns', 'fail'}
    }
    while more := {name for name, node in functions.items() if calls(node) & found} - found:
        found |= more
    return found


@pytest.mark.parametrize('path', TESTS, ids=lambda path: path.name)
def test_each_test_asserts(path):
    own = ast.parse(path.read_text(encoding='utf-8'))
    helpers = [ROOT / 'tests' / 'conftest.py', ROOT / 'tests' / 'tiny.py']
    helpers += [ROOT / 'tools' / 'checkout.py', ROOT / 'tests' / 'browser' / 'lab.py']
    helpers = [ast.parse(helper.read_text(encoding='utf-8')) for helper in helpers]
    names = [
        node.name
        for node in own.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')
    ]
    assert names, 'no test stands here'
    silent = sorted({*names} - asserting([own, *helpers]))
    assert not silent, f'{", ".join(silent)}: nothing is asserted there'


@pytest.mark.parametrize(
    'source, empty, skipped',
    [
        ('for x in [1, 2]: test_eq(x > 0, True)', 0, 0),
        ('for x in []: test_eq(x, 1)', 1, 0),
        ('for x in []: print(x)', 0, 0),
        ('for x in [[], [1]]:\n    for y in x: test_eq(y, 1)', 0, 0),  # once is enough
        ('for x in [[], []]:\n    for y in x: test_eq(y, 1)', 1, 0),
        ('test_eq(all(x > 0 for x in []), True)', 1, 0),
        ('test_eq(all(x > 0 for x in [1]), True)', 0, 0),
        ('assert all([])', 1, 0),
        ('assert not all(x > 1 for x in [1])', 0, 0),
        ('def check(xs):\n    for x in xs: test_eq(x, 1)\ncheck([])', 1, 0),
        ('def check(x): test_eq(x, 1)\nfor x in []: check(x)', 1, 0),
        ('if 1 > 2: test_eq(1, 2)', 0, 1),
        ('if 1 < 2: test_eq(1, 1)', 0, 0),
        ('if 1 > 2: test_eq(1, 2)\nelse: test_eq(1, 1)', 0, 0),
    ],
)
def test_notebooks_tests_are_watched(source, empty, skipped):
    def test_eq(a, b):
        assert a == b

    watch = Watch()
    tree = watch.visit(ast.parse(source))
    exec(compile(tree, 'cell', 'exec'), {WATCH: watch, 'test_eq': test_eq, 'print': print})  # noqa: S102
    assert (len(watch.empty), len(watch.skipped)) == (empty, skipped)
