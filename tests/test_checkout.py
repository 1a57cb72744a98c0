"Notebooks, modules, pages and files agree with each other, and are in style."

import json
import re

import pytest
from checkout import ROOT, code_cells, name_of, notebooks, output_of, output_of_python

OWN = {'__init__', '__main__', '_modidx', '_moved'}  # modules that no notebook exports


def contents(folder, pattern):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob(pattern)
    }


def differing(before, after):
    return sorted(name for name in before | after if before.get(name) != after.get(name))


def test_no_path_of_one_machine(checkout):
    pattern = re.compile(rf'(?<![\w.-])(?:/(?:home|Users|root|tmp)/\w|{re.escape(str(ROOT))}\b)')
    files = [path for path in sorted(checkout.rglob('*')) if path.is_file()]
    assert len(files) > 100
    found = [
        path.relative_to(checkout).as_posix()
        for path in files
        if pattern.search(path.read_text(encoding='utf-8', errors='ignore'))
    ]
    assert not found, f'a path of one machine stands in {", ".join(found)}'


def test_modules_are_what_the_notebooks_export(checkout):
    before = contents(checkout / 'mnist_cmp', '*.py')
    for name in before:
        path = checkout / 'mnist_cmp' / name
        if path.stem not in OWN - {'_modidx'}:
            path.unlink()
    output_of('nbdev_export', cwd=checkout)
    assert differing(before, contents(checkout / 'mnist_cmp', '*.py')) == [], 'run `nbdev_export`'


def test_notebooks_are_clean(checkout):
    before = contents(checkout / 'nbs', '*.ipynb')
    output_of('nbdev_clean', cwd=checkout)
    assert differing(before, contents(checkout / 'nbs', '*.ipynb')) == [], 'run `nbdev_clean`'


def faults_of(output):
    "What an output that is kept in git should not be or hold."
    sizes = {mime: len(''.join(data)) for mime, data in output.get('data', {}).items()}
    if output['output_type'] == 'error':
        yield 'an error'
    if any('widget' in mime for mime in sizes):
        yield 'a widget'
    images = [size * 3 / 4 for mime, size in sizes.items() if mime.startswith('image/')]
    if any(size > 90_000 for size in images):
        yield 'an image over 90 kB'


@pytest.mark.parametrize('path', notebooks(), ids=name_of)
def test_outputs_are_small_without_errors_and_widgets(path):
    assert '"widgets": {' not in path.read_text(encoding='utf-8'), 'it holds widget state'
    found = [
        f'code cell {number}: {fault}'
        for number, (cell, _) in enumerate(code_cells(path), 1)
        for output in cell['outputs']
        for fault in faults_of(output)
    ]
    assert not found, '\n'.join(found)


@pytest.mark.parametrize(
    'output, fault',
    [
        ({'output_type': 'error'}, 'an error'),
        ({'output_type': 'display_data', 'data': {'application/x.widget+json': ''}}, 'a widget'),
        (
            {'output_type': 'display_data', 'data': {'image/png': 'x' * 130_000}},
            'an image over 90 kB',
        ),
    ],
)
def test_faults_of_an_output_are_seen(output, fault):
    assert list(faults_of(output)) == [fault]


def test_code_is_in_style_and_starts_nothing_foreign(checkout):
    """What ruff.toml asks of notebooks and of files written by hand; of modules that nbdev writes,
    what is dangerous (its S rules)."""
    output_of_python('-m', 'ruff', 'check', '--no-cache', cwd=checkout)
    output_of_python('-m', 'ruff', 'format', '--check', '--no-cache', cwd=checkout)


@pytest.mark.parametrize(
    'code, rule',
    [
        ('eval(input())', 'S307'),
        ('import subprocess\nsubprocess.run("ls", shell=True)', 'S602'),
        ('import yaml\nyaml.load("x")', 'S506'),
        ('import tempfile\ntempfile.mktemp()', 'S306'),
        ('import hashlib\nhashlib.md5(b"x")', 'S324'),
        ('from IPython.display import Audio', 'TID251'),
    ],
)
def test_what_is_dangerous_in_a_module_is_seen(code, rule, checkout):
    (checkout / 'mnist_cmp' / 'training.py').write_text(code + '\n')
    with pytest.raises(AssertionError, match=rule):
        output_of_python('-m', 'ruff', 'check', '--no-cache', 'mnist_cmp', cwd=checkout)


def test_readme_is_made_of_the_index():
    output_of_python('tools/readme.py', '--check')


def test_sidebar_has_every_notebook():
    sidebar = (ROOT / '_quarto.yml').read_text(encoding='utf-8').partition('  sidebar:')[2]
    missing = [name_of(path) for path in notebooks() if name_of(path) not in sidebar]
    assert not missing, f'_quarto.yml: the sidebar lacks {", ".join(missing)}'


def test_servers_listen_on_this_machine_alone():
    "And with a token where code can be run."
    made = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for command, needed in (
        ('http.server', '--bind 127.0.0.1'),
        ('jupyter lab', '--ip=127.0.0.1'),
        ('voila app', '--Voila.auto_token=True'),
    ):
        (line,) = [line for line in made.splitlines() if command in line]
        assert needed in line, f'Makefile: {command} without {needed}'
    settings = json.loads((ROOT / 'nbs' / 'voila.json').read_text(encoding='utf-8'))
    assert settings['Voila']['ip'] == '127.0.0.1'
    assert not re.search(r'token=[\'"]{2}|--ip=(?!127)', made), 'a server is open to others'


def test_every_test_tool_that_is_named_is_there():
    "Pages and files name no tool or test that is gone; of earlier releases the changelog may."
    named = {}
    for pattern in (
        '[!C]*.md',
        'CONTRIBUTING.md',
        'Makefile',
        'pytest.ini',
        'ruff.toml',
        '.ci/run',
        'nbs/*.ipynb',
    ):
        for path in ROOT.glob(pattern):
            text = path.read_text(encoding='utf-8')
            for name in re.findall(r'\b(?:tools|tests|benchmarks)/[\w/]+\.py\b', text):
                named.setdefault(name, path.name)
    assert len(named) > 5
    assert [(path, name) for name, path in named.items() if not (ROOT / name).exists()] == []


def rooms():
    "Names of the modules that notebooks export, as `core.files`; some notebooks export none."
    sources = [source for path in notebooks() for _, source in code_cells(path)]
    return [name for source in sources for name in re.findall(r'^#\| default_exp (\S+)', source)]


def test_each_module_has_a_notebook():
    package = ROOT / 'mnist_cmp'
    paths = [path.relative_to(package) for path in package.rglob('*.py') if path.stem not in OWN]
    assert sorted(rooms()) == sorted('.'.join(path.with_suffix('').parts) for path in paths)
