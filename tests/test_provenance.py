"""A comparison says which code made it: the models' own repository, and not the package's; and
asking a stranger's repository runs nothing of it."""

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_cmp as mc
from mnist_cmp.study.provenance import Code, code_of, package_commit, repository_of

if shutil.which('git') is None:
    pytest.skip('git is not installed', allow_module_level=True)

NETS = """import torch
def Thin(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
class Wide(torch.nn.Sequential):
    def __init__(self): super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 3))
"""


def git(folder, *words):
    "What git says, as a user would ask it."
    who = ['-c', 'user.name=a', '-c', 'user.email=a@b.c', '-c', 'commit.gpgsign=false']
    return subprocess.run(
        ['git', '-C', folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    "A repository with a module of two models, which can be imported."
    top = tmp_path / 'thesis'
    (top / 'src').mkdir(parents=True)
    (top / 'src' / 'thesis_nets.py').write_text(NETS)
    (top / 'notes.txt').write_text('a')
    git(top, 'init', '-q')
    git(top, 'add', '.')
    git(top, 'commit', '-q', '-m', 'nets')
    monkeypatch.syspath_prepend(str(top / 'src'))
    sys.modules.pop('thesis_nets', None)
    importlib.invalidate_caches()
    yield top
    sys.modules.pop('thesis_nets', None)


def test_a_report_names_the_repository_of_the_models(repository, compare_in, tmp_path):
    found = compare_in(tmp_path / 'run', models=['thesis_nets:Thin', 'thesis_nets:Wide'])
    mc.write_report(found, tmp_path / 'run')
    commit = git(repository, 'rev-parse', 'HEAD')
    digest = hashlib.sha256(NETS.encode()).hexdigest()
    report = json.loads((tmp_path / 'run' / 'report.json').read_text())
    for model in report['contestants']:
        assert model['code'] == {
            'file': 'src/thesis_nets.py',
            'sha256': digest,
            'repository': 'thesis',
            'commit': commit,
            'changed': False,
            'also': [],
        }
    assert report['commit'] != commit
    page = (tmp_path / 'run' / 'report.html').read_text()
    assert f'src/thesis_nets.py in thesis, commit {commit}; SHA-256 {digest}' in page
    again = mc.Comparison.load(tmp_path / 'run')
    assert again['Thin'].code == found['Thin'].code


@pytest.mark.parametrize('change', ['the file', 'another file', 'a staged file'])
def test_changes_are_told(repository, change):
    import thesis_nets

    file = repository / ('notes.txt' if change == 'another file' else 'src/thesis_nets.py')
    file.write_text(file.read_text() + '# more\n')
    if change == 'a staged file':
        git(repository, 'add', '.')
    code = code_of(thesis_nets.Wide)
    assert code.changed
    assert 'with uncommitted changes' in str(code)


def test_what_is_noted_is_as_of_the_beginning(repository, compare_in, tmp_path):
    "An edit while the trainings run is none of what they ran."

    def edit(name, run):
        (repository / 'src' / 'thesis_nets.py').write_text('# another version')

    found = compare_in(
        tmp_path / 'run', models=['thesis_nets:Thin', 'thesis_nets:Wide'], on_run=edit
    )
    assert not found['Wide'].code.changed
    assert found['Wide'].code.sha256 == hashlib.sha256(NETS.encode()).hexdigest()


def test_a_repository_without_a_commit(tmp_path):
    git(tmp_path, 'init', '-q')
    (tmp_path / 'nets.py').touch()
    state = repository_of(tmp_path / 'nets.py')
    assert (state.commit, state.changed) == (None, True)


def test_the_environment_of_a_hook_names_no_other_repository(repository, tmp_path, monkeypatch):
    "Git sets GIT_DIR for its hooks, and such a hook may run tests."
    other = tmp_path / 'other'
    other.mkdir()
    git(other, 'init', '-q')
    monkeypatch.setenv('GIT_DIR', str(other / '.git'))
    monkeypatch.setenv('GIT_WORK_TREE', str(other))
    monkeypatch.setenv('GIT_INDEX_FILE', str(other / 'index'))
    assert repository_of(repository / 'src' / 'thesis_nets.py').top == repository


@pytest.mark.parametrize('path', ['', '/nowhere'])
def test_without_git(repository, compare_in, tmp_path, monkeypatch, path):
    monkeypatch.setenv('PATH', path)
    found = compare_in(tmp_path / 'run', models=['thesis_nets:Thin', 'thesis_nets:Wide'])
    code = found['Thin'].code
    assert (code.file, code.repository, code.commit, code.changed) == (
        'thesis_nets.py',
        None,
        None,
        None,
    )
    assert code.sha256 == hashlib.sha256(NETS.encode()).hexdigest()
    assert found.commit is None


# ---- repositories that were made to harm


def hostile_settings(note):
    "Settings that name programs, each of which leaves a note."
    program = f'sh -c "echo ran >> {note}; cat" --'
    settings = {
        'core.fsmonitor': program,
        'filter.odd.clean': program,
        'filter.odd.smudge': program,
        'filter.two.process': program,
        'filter.two.required': 'true',
        'core.sshCommand': program,
        'core.askPass': program,
        'core.pager': program,
        'core.editor': program,
        'diff.external': program,
        'gpg.program': program,
        'credential.helper': f'!{program}',
        'alias.status': f'!{program}',
    }
    return settings


@pytest.mark.skipif(os.name != 'posix', reason='the programs are shell scripts')
@pytest.mark.parametrize('way', ['settings', 'included settings', 'hooks', 'named hooks'])
def test_nothing_of_the_repository_is_run(repository, tmp_path, way):
    note = tmp_path / 'ran'
    file = repository / 'src' / 'thesis_nets.py'
    (repository / '.gitattributes').write_text('*.py filter=odd\n*.txt filter=two\n')
    git(repository, 'add', '.gitattributes')
    git(repository, 'commit', '-q', '-m', 'attributes')
    if 'settings' in way:
        settings = hostile_settings(note)
        where = ['--file', str(tmp_path / 'more')] if 'included' in way else []
        for name, value in settings.items():
            git(repository, 'config', *where, name, value)
        if 'included' in way:
            git(repository, 'config', 'include.path', str(tmp_path / 'more'))
    else:
        hooks = tmp_path / 'hooks' if 'named' in way else repository / '.git' / 'hooks'
        hooks.mkdir(exist_ok=True)
        for name in 'post-index-change', 'fsmonitor-watchman', 'post-checkout', 'pre-commit':
            (hooks / name).write_text(f'#!/bin/sh\necho ran >> {note}\n')
            (hooks / name).chmod(0o755)
        if 'named' in way:
            git(repository, 'config', 'core.hooksPath', str(hooks))

    def touch():
        "Times that git's index does not know: it has to read the files."
        for path in file, repository / 'notes.txt':
            os.utime(path, (1e9 + touch.n, 1e9 + touch.n))
        touch.n += 1

    touch.n = 0
    touch()
    assert repository_of(file) is not None
    assert code_of_file(file).commit == git(repository, 'rev-parse', 'HEAD')
    assert not note.exists()
    touch()
    subprocess.run(['git', '-C', repository, 'status'], capture_output=True)
    assert note.exists(), 'it is not hostile: git itself runs nothing'


def code_of_file(file):
    "The code of a model in a file."
    import thesis_nets

    assert Path(thesis_nets.__file__) == file
    return code_of(thesis_nets.Thin)


def test_nothing_is_written(repository):
    "Not even git's index, which `git status` brings up to date."
    file = repository / 'src' / 'thesis_nets.py'
    os.utime(file, (1e9, 1e9))
    before = {
        path: path.read_bytes() for path in (repository / '.git').rglob('*') if path.is_file()
    }
    assert not repository_of(file).changed
    after = {path: path.read_bytes() for path in (repository / '.git').rglob('*') if path.is_file()}
    assert after == before


def test_a_work_tree_elsewhere_is_not_followed(repository, tmp_path):
    git(repository, 'config', 'core.worktree', str(tmp_path / 'elsewhere'))
    assert repository_of(repository / 'src' / 'thesis_nets.py') is None


# ---- the package's own commit


def test_an_installed_package_is_not_of_the_project_around_it(tmp_path):
    project = tmp_path / 'project'
    place = project / '.venv' / 'lib'
    place.mkdir(parents=True)
    shutil.copytree(
        Path(mc.__file__).parent, place / 'mnist_cmp', ignore=shutil.ignore_patterns('__pycache__')
    )
    git(project, 'init', '-q')
    (project / 'notes.txt').touch()
    git(project, 'add', 'notes.txt')
    git(project, 'commit', '-q', '-m', 'notes')
    code = (
        'import mnist_cmp; from mnist_cmp.study.provenance import package_commit, code_of; '
        'print(mnist_cmp.__file__, package_commit(), code_of("mlp").commit)'
    )

    def ask():
        done = subprocess.run(
            [sys.executable, '-P', '-c', code],
            cwd=tmp_path,
            text=True,
            env=os.environ | {'PYTHONPATH': str(place)},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert ask() == [str(place / 'mnist_cmp' / '__init__.py'), 'None', code_of_untracked(project)]
    (project / '.gitignore').write_text('.venv\n')
    assert ask()[1:] == ['None', 'None']


def code_of_untracked(project):
    "A file that git does not ignore is the project's, as far as can be told."
    return git(project, 'rev-parse', 'HEAD')


def test_a_clone_has_a_commit(tmp_path):
    clone = tmp_path / 'clone'
    clone.mkdir()
    shutil.copytree(
        Path(mc.__file__).parent, clone / 'mnist_cmp', ignore=shutil.ignore_patterns('__pycache__')
    )
    git(clone, 'init', '-q')
    git(clone, 'add', '.')
    git(clone, 'commit', '-q', '-m', 'all')
    code = 'from mnist_cmp.study.provenance import package_commit; print(package_commit())'

    def ask():
        return subprocess.run(
            [sys.executable, '-P', '-c', code],
            cwd=tmp_path,
            text=True,
            check=True,
            env=os.environ | {'PYTHONPATH': str(clone), 'PYTHONDONTWRITEBYTECODE': '1'},
            capture_output=True,
        ).stdout.strip()

    commit = git(clone, 'rev-parse', 'HEAD')
    assert ask() == commit
    (clone / 'beside.txt').touch()
    git(clone, 'add', 'beside.txt')
    assert ask() == commit  # no change of the package
    with open(clone / 'mnist_cmp' / 'py.typed', 'a') as file:
        file.write('#')
    assert ask() == commit + '+'


# ---- models that are typed, and reports of others


@pytest.mark.parametrize('way', ['function', 'class', 'lambda'])
def test_source_of_a_model_in_a_notebook(way):
    nbclient = pytest.importorskip('nbclient')
    nbformat = pytest.importorskip('nbformat')
    make = {
        'function': 'def make(): return MLP(4, 4)',
        'class': 'class make(MLP):\n    def forward(self, x): return super().forward(x)',
        'lambda': 'make = lambda: MLP(4, 4)',
    }[way]
    cells = [
        'from mnist_cmp.models import MLP',
        make,
        'from mnist_cmp.study.provenance import code_of\ncode = code_of(make)\n'
        'print(code.file, code.repository, code.sha256)',
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name='python3').execute()
    file, repository, digest = notebook.cells[-1].outputs[0].text.split()
    assert (file, repository) == ('None', 'None')
    texts = [make, make + '\n']
    assert digest in [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def test_without_any_source():
    code = (
        'from mnist_cmp.models import MLP; from mnist_cmp.study.provenance import code_of\n'
        'def make(): return MLP(4, 4)\nprint(code_of(make))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'no source on record'


def test_older_reports_load(compare_in, tmp_path):
    found = compare_in(tmp_path)
    found.save(tmp_path)
    report = json.loads((tmp_path / 'report.json').read_text())
    for model in report['contestants']:
        del model['code']
    (tmp_path / 'report.json').write_text(json.dumps(report))
    again = mc.Comparison.load(tmp_path)
    assert again['one'].code is None
    mc.write_report(again, tmp_path)
    assert 'code of one' not in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize(
    'change', [{'sha256': 'x'}, {'commit': '<b>'}, {'changed': 'no'}, {'more': 1}]
)
def test_odd_code_in_a_report_is_refused(compare_in, tmp_path, change):
    found = compare_in(tmp_path)
    found.save(tmp_path)
    report = json.loads((tmp_path / 'report.json').read_text())
    report['contestants'][0]['code'] |= change
    (tmp_path / 'report.json').write_text(json.dumps(report))
    with pytest.raises(ValueError, match='report.json is damaged'):
        mc.Comparison.load(tmp_path)


def test_the_schema_knows_code(compare_in, tmp_path):
    jsonschema = pytest.importorskip('jsonschema')
    report = json.loads(json.dumps(compare_in(tmp_path).to_dict()))
    jsonschema.validate(report, mc.report_schema())
    report['contestants'][0]['code']['sha256'] = 'x'
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, mc.report_schema())
    del report['contestants'][0]['code']
    jsonschema.validate(report, mc.report_schema())


def test_package_commit_is_that_of_this_clone():
    top = Path(mc.__file__).resolve().parent.parent
    known = subprocess.run(
        ['git', '-C', top, 'ls-files', 'mnist_cmp'], capture_output=True, text=True
    )
    if known.returncode or not known.stdout:
        pytest.skip('this is no clone')
    assert package_commit().rstrip('+') == git(top, 'rev-parse', 'HEAD')


def test_words():
    plain = Code('nets.py', 'a' * 64, None, None, None)
    assert str(plain) == f'nets.py, in no repository; SHA-256 {"a" * 64}'
