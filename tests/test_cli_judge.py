"`mnist_cmp judge` in a real process: exit codes, JSON, forms of input, bad input, terminals."

import csv
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import numpy as np
import pytest

import mnist_cmp as mc
from mnist_cmp.cli import main
from mnist_cmp.core.display import text_width
from mnist_cmp.evidence.verdict_data import VERDICT_FORMAT, verdict_data

COMMAND = shutil.which('mnist_cmp', path=str(Path(sys.executable).parent))
WAYS = {'mnist_cmp': [COMMAND], 'python -m': [sys.executable, '-m', 'mnist_cmp']}
HOME = str(Path(mc.__file__).parent.parent)

# Errors of models whose order is clear with 5 trainings on 500 examples
ERRORS = {'base': 0.20, 'better': 0.05, 'worse': 0.40, 'alike': 0.20}
N = 500
SEEDS = 5


def environment(**more):
    return os.environ | {'PYTHONPATH': HOME, 'MNIST_CMP_QUIET': '1'} | more


def judge(folder, *options, way='python -m', **kwargs):
    "Run the command on options, in a folder."
    env = environment(**kwargs.pop('env', {}))
    command = [*WAYS[way], 'judge', *options]
    kwargs = {'capture_output': True, 'text': True} | kwargs
    return subprocess.run(command, cwd=folder, env=env, timeout=120, **kwargs)


def write_table(path, answers, names, label=None, site=None):
    "A long table of some models' answers."
    columns = ['model', 'seed', 'example', 'prediction']
    extra = {'label': label, 'site': site}
    extra = {name: values for name, values in extra.items() if values is not None}
    with open(path, 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow([*columns, *extra])
        for name in names:
            for seed, row in enumerate(answers[name]):
                for k, answer in enumerate(row):
                    more = [values[k] for values in extra.values()]
                    rows.writerow([name, seed, f'x{k}', answer, *more])


@pytest.fixture(scope='module')
def made():
    "Labels, and answers of each model."
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, N)
    answers = {}
    for name, error in ERRORS.items():
        answers[name] = np.where(rng.random((SEEDS, N)) < error, (y + 1) % 3, y)
    return y, answers


@pytest.fixture(scope='module')
def folder(made, tmp_path_factory):
    "The same predictions in each form of file, and files that are none."
    work = tmp_path_factory.mktemp('judge')
    y, answers = made
    site = np.where(np.arange(N) < 250, 'north', 'south')
    write_table(work / 'all.csv', answers, ERRORS, label=y, site=site)
    write_table(work / 'two.csv', answers, ['base', 'better'])
    with open(work / 'labels.csv', 'w') as file:
        file.write('example,label\n' + ''.join(f'x{k},{label}\n' for k, label in enumerate(y)))
    np.save(work / 'y.npy', y)
    np.savez(work / 'two.npz', y=y, base=answers['base'], better=answers['better'])
    for name in ('base', 'better'):
        np.save(work / f'{name}.npy', answers[name])
        for seed, row in enumerate(answers[name]):
            np.save(work / f'{name}_{seed}.npy', row)
    (work / 'empty.csv').touch()
    (work / 'empty.npz').touch()
    (work / 'table.csv').mkdir()
    (work / 'broken.npz').write_bytes(b'PK\x03\x04 and no more')
    (work / 'header.csv').write_text('model,seed,example,prediction\n')
    return work


def verdict_of(done):
    "The JSON that a run printed, which printed nothing else."
    return json.loads(done.stdout)


# What it says


@pytest.mark.parametrize('way', WAYS)
def test_table_and_verdict(folder, made, way):
    "The table of models and the verdict, as `judge` gives them in Python; nothing is written."
    if WAYS[way][0] is None:
        pytest.skip('the command is not installed')
    before = sorted(path.name for path in folder.iterdir())
    done = judge(folder, 'two.csv', '--labels', 'labels.csv', way=way)
    y, answers = made
    record = mc.judge({name: answers[name] for name in ('base', 'better')}, y, name='two')
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{mc.summary(record)}\n\n{record.verdict()}\n'
    assert done.stderr == ''
    assert sorted(path.name for path in folder.iterdir()) == before


FORMS = {
    'a table': ['two.csv', '--labels', 'labels.csv'],
    'an npz': ['two.npz'],
    'globs': ['base=base_*.npy', 'better=better_*.npy', '--labels', 'y.npy'],
    'arrays': ['base=base.npy', 'better=better.npy', '--labels', 'y.npy'],
    'lists': [
        *(
            f'{name}=[{",".join(f"{name}_{k}.npy" for k in range(SEEDS))}]'
            for name in ('base', 'better')
        ),
        '--labels',
        'y.npy',
    ],
}


@pytest.mark.parametrize('form', FORMS)
def test_forms(folder, made, form):
    "Whatever the predictions lie in, the verdict is the same."
    y, answers = made
    expected = verdict_data(
        mc.judge({name: answers[name] for name in ('base', 'better')}, y, name='mine')
    )
    done = judge(folder, *FORMS[form], '--json', '--name', 'mine')
    assert done.returncode == 0, done.stderr
    assert verdict_of(done) == expected
    assert done.stderr == ''


def test_parquet(folder, made):
    parquet = pytest.importorskip('pyarrow.parquet')
    import pyarrow.csv

    table = pyarrow.csv.read_csv(folder / 'all.csv')
    parquet.write_table(table, folder / 'all.parquet')
    options = '--baseline base --by site --margin 3% --json --name x'.split()
    first, second = (judge(folder, name, *options) for name in ('all.csv', 'all.parquet'))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout


def test_parquet_without_its_library(folder, monkeypatch, capsys):
    "What is not installed is no fault of the input: 1, and what to install."
    (folder / 'any.parquet').touch()
    monkeypatch.chdir(folder)
    for name in ('pyarrow', 'pyarrow.parquet'):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(['judge', 'any.parquet']) == 1
    assert "pip install 'mnist_cmp[tables]'" in capsys.readouterr().err


def test_one_training_says_nothing_of_models(folder):
    done = judge(folder, 'a=[base_0.npy]', 'b=[better_0.npy]', '--labels', 'y.npy', '--json')
    (pair,) = verdict_of(done)['pairs']
    assert (pair['better'], pair['n_seeds'], pair['method']) == (None, 1, 'one training')
    assert pair['refused'].startswith('one training of each')


def test_options_reach_the_verdict(folder):
    options = '--baseline base --margin 3% --by site --metric balanced_accuracy --json'.split()
    verdict = verdict_of(judge(folder, 'all.csv', *options))
    assert verdict['format'] == VERDICT_FORMAT
    assert (verdict['data'], verdict['baseline'], verdict['margin']) == ('all', 'base', 0.03)
    assert verdict['metric']['name'] == 'balanced_error'
    assert {pair['b'] for pair in verdict['pairs']} == {'base'}
    assert [part['examples'] for part in verdict['parts']] == [250, 250]
    assert all(len(part['pairs']) == 3 for part in verdict['parts'])
    assert any('is shown as' in line for line in verdict['verdict']['cautions'])


def test_positive_and_groups(folder, made):
    "The positive class and the column of groups are those that were named."
    verdicts = [
        verdict_of(judge(folder, 'all.csv', '--metric', 'sensitivity', '--positive', k, '--json'))
        for k in '01'
    ]
    y, answers = made
    for k, verdict in enumerate(verdicts):
        recall = (answers['base'][:, y == k] == k).mean()
        (base,) = [c for c in verdict['models'] if c['name'] == 'base']
        assert base['value'] == pytest.approx(recall, abs=1e-12)
    few = verdict_of(judge(folder, 'all.csv', '--groups', 'site', '--json'))
    assert few['groups'] == {'name': 'site', 'number': 2}
    assert {pair['better'] for pair in few['pairs']} == {None}  # two groups tell nothing


def test_missing(folder, made):
    y, answers = made
    lines = (folder / 'two.csv').read_text().splitlines()
    (folder / 'gaps.csv').write_text('\n'.join([*lines[:100], *lines[110:]]))
    refused = judge(folder, 'gaps.csv', '--labels', 'labels.csv')
    assert refused.returncode == 2
    assert 'has no answer for 10 of 2,500' in refused.stderr
    counted = judge(folder, 'gaps.csv', '--labels', 'labels.csv', '--missing', 'wrong', '--json')
    assert counted.returncode == 0, counted.stderr
    value = {c['name']: c['value'] for c in verdict_of(counted)['models']}
    wrong = answers['base'] != y
    wrong[0, 99:109] = True  # the first line names the columns
    assert value['base'] == pytest.approx(wrong.mean(), abs=1e-12)


def test_classes(folder, tmp_path):
    "Names of the columns of scores, which a glob of arrays can't have with it."
    rng = np.random.default_rng(1)
    y = np.array(['cat', 'dog'])[rng.integers(0, 2, 60)]
    np.save(tmp_path / 'y.npy', y)
    for name in 'ab':
        np.save(tmp_path / f'{name}.npy', rng.random((3, 60, 2)))
    options = ['a=a.npy', 'b=b.npy', '--labels', 'y.npy']
    unnamed = judge(tmp_path, *options)
    assert (unnamed.returncode, 'classes is None' in unnamed.stderr) == (2, True)
    named = judge(tmp_path, *options, '--classes', 'cat,dog', '--json')
    assert named.returncode == 0, named.stderr
    scores = np.load(tmp_path / 'a.npy')
    expected = (np.array(['cat', 'dog'])[scores.argmax(-1)] != y).mean()
    assert verdict_of(named)['models'][0]['value'] == pytest.approx(expected, abs=1e-12)


# Gates

GATES = {
    'not-better': ['worse', 'alike'],
    'worse': ['worse'],
    'not-as-good': ['worse'],
}


@pytest.mark.parametrize('rule', GATES)
def test_fail_if(folder, rule):
    "Exit code 3, and who fails, and why, a line each; the result is printed as ever."
    options = ['all.csv', '--baseline', 'base', '--margin', '10%']
    done = judge(folder, *options, '--fail-if', rule)
    lines = done.stderr.splitlines()
    assert done.returncode == 3
    assert done.stdout == judge(folder, *options).stdout
    assert {line.split()[1] for line in lines} == set(GATES[rule])
    assert len(lines) == len(GATES[rule])
    for line in lines:
        assert line.startswith('mnist_cmp: ') and f'fails ({rule}): ' in line
    words = {'worse': 'worse than base', 'not-better': 'not shown to be better than base'}
    assert any(words.get(rule, 'or worse by no more than 10.00 points') in line for line in lines)


@pytest.mark.parametrize('rule', GATES)
def test_nothing_fails(folder, rule):
    "The one model that is better fails by no rule."
    options = ['two.csv', '--labels', 'labels.csv', '--baseline', 'base', '--margin', '1%']
    done = judge(folder, *options, '--fail-if', rule, '--json')
    assert (done.returncode, done.stderr) == (0, '')
    assert verdict_of(done)['failed'] == {'rule': rule, 'models': []}


def test_failing_is_in_the_json(folder):
    options = '--baseline base --fail-if not-better --json'.split()
    done = judge(folder, 'all.csv', *options)
    assert done.returncode == 3
    assert verdict_of(done)['failed'] == {'rule': 'not-better', 'models': ['alike', 'worse']}
    assert len(done.stderr.splitlines()) == 2


# Reports


def test_report(folder, tmp_path):
    out = tmp_path / 'deep' / 'report'
    options = ['two.npz', '--baseline', 'base', '--out', str(out)]
    done = judge(folder, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f'\nReport: {out / "report.html"}\n')
    assert {'report.html', 'report.json', 'runs.csv'} <= {path.name for path in out.iterdir()}
    assert mc.Comparison.load(out).baseline == 'base'
    # again, for a program: nothing but JSON goes where it reads
    again = judge(folder, *options, '--json')
    assert again.returncode == 0, again.stderr
    assert verdict_of(again) == verdict_data(mc.Comparison.load(out))
    assert again.stderr == f'Report: {out / "report.html"}\n'


def test_a_report_of_others_is_kept(folder, tmp_path):
    assert judge(folder, 'two.npz', '--out', str(tmp_path)).returncode == 0
    before = (tmp_path / 'report.json').read_bytes()
    done = judge(folder, 'all.csv', '--out', str(tmp_path))
    assert done.returncode == 0
    assert 'is kept in' in done.stderr
    assert (tmp_path / 'report.json').read_bytes() != before
    (kept,) = (tmp_path / 'kept').iterdir()
    assert (kept / 'report.json').read_bytes() == before


def test_bad_input_leaves_no_folder(folder, tmp_path):
    "A folder that the command has made goes again, one that was there stays."
    old = tmp_path / 'old'
    old.mkdir()
    for out in (tmp_path / 'new', old):
        done = judge(folder, 'two.npz', '--metric', 'none', '--out', str(out))
        assert done.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ['old']


def test_formulas_stay_text(folder, made, tmp_path):
    "A formula in a cell is a name like any other, and quoted in the table that we write."
    y, answers = made
    formula = "=cmd|'/C calc'!A0"
    path = tmp_path / 'odd.csv'
    with open(path, 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['model', 'seed', 'example', 'prediction', 'label'])
        for name in ('base', 'better'):
            for k in range(N):
                rows.writerow([name, formula, f'@x{k}', f'={answers[name][0, k]}', f'={y[k]}'])
    done = judge(tmp_path, 'odd.csv', '--out', 'report', '--json')
    assert done.returncode == 0, done.stderr
    assert verdict_of(done)['models'][0]['trainings'][0]['name'] == formula
    error = (answers['base'][0] != y).mean()
    assert verdict_of(done)['models'][0]['value'] == pytest.approx(error, abs=1e-12)
    with open(tmp_path / 'report' / 'runs.csv', newline='') as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert f"'{formula}" in cells
    assert not [cell for cell in cells if cell.startswith(('=', '+', '-', '@'))]


# Bad input, in one sentence

TWO = ['two.csv', '--labels', 'labels.csv']
BAD = {
    'no such table': (['nowhere.csv'], 'No such file or directory: nowhere.csv'),
    'no such labels': (['two.csv', '--labels', 'no.csv'], 'No such file or directory: no.csv'),
    'no labels': (['two.csv'], 'labels must be given'),
    'a margin of no number': ([*TWO, '--margin', 'small'], "margin is 'small', but must be"),
    'no margin': ([*TWO, '--margin', '0'], 'margin is 0.0, but must be a finite number above 0'),
    'a negative margin': ([*TWO, '--margin=-1%'], "margin is '-1%', but must be"),
    'more than all': ([*TWO, '--margin', '101%'], 'margin is 1.01, but must be'),
    'a baseline of another name': (
        [*TWO, '--baseline', 'bass'],
        "baseline is 'bass', but must be one of 'base', 'better'",
    ),
    'a metric of another name': ([*TWO, '--metric', 'log_los'], "Did you mean 'log_loss'?"),
    'a metric of scores': ([*TWO, '--metric', 'auroc'], 'needs scores, but the predictions are'),
    'a folder': (['.'], "predictions is '.', but must be"),
    'a folder as table': (['table.csv'], 'table.csv'),
    'a table of no bytes': (['empty.csv'], "empty.csv begins with the line ''"),
    'an npz of no bytes': (['empty.npz'], 'empty.npz can not be read'),
    'a broken npz': (['broken.npz'], 'broken.npz can not be read'),
    'a table of no rows': (['header.csv'], 'no row'),
    'no such column': ([*TWO, '--groups', 'patient'], "no column 'patient'"),
    'a column of arrays': (['two.npz', '--groups', 'patient'], 'under the key groups'),
    'a glob that finds nothing': (
        ['a=zz*.npy', 'b=base_*.npy', '--labels', 'y.npy'],
        'no file is called so',
    ),
    'files without names': (['base_0.npy', 'base_1.npy'], "PREDICTIONS is 'base_0.npy'"),
    'a name given twice': (['a=base_*.npy', 'a=better_*.npy'], "has 'a' twice"),
    'one training as such': (
        ['a=base_0.npy', 'b=base_1.npy', '--labels', 'y.npy'],
        'one training is [p]',
    ),
    'no folder to write to': ([*TWO, '--out', 'two.csv/report'], 'must be a folder'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input(folder, case, monkeypatch, capsys):
    "Exit code 2 and one line among the errors, before anything is computed or printed."
    options, message = BAD[case]
    monkeypatch.chdir(folder)
    assert main(['judge', *options]) == 2
    output, errors = capsys.readouterr()
    assert output == ''
    assert errors.startswith('mnist_cmp: ') and message in errors
    assert errors.count('\n') == 1 and 'Traceback' not in errors


@pytest.mark.parametrize('case', ['no such table', 'a table of no bytes', 'a margin of no number'])
def test_bad_input_in_a_process_of_its_own(folder, case):
    options, message = BAD[case]
    done = judge(folder, *options)
    assert (done.returncode, done.stdout) == (2, '')
    assert message in done.stderr and done.stderr.count('\n') == 1


USAGE = {
    'no predictions': ([], 'required: PREDICTIONS'),
    'no baseline': ([*TWO, '--fail-if', 'worse'], 'give --baseline'),
    'no margin': (
        [*TWO, '--baseline', 'base', '--fail-if', 'not-as-good'],
        '--fail-if not-as-good needs --margin',
    ),
    'no such rule': ([*TWO, '--baseline', 'base', '--fail-if', 'best'], "invalid choice: 'best'"),
    'two rules': (
        [*TWO, '--baseline', 'base', '--fail-if', 'worse', '--fail-if', 'not-better'],
        '--fail-if may be given once',
    ),
    'no such option': ([*TWO, '--seeds', '3'], 'unrecognized arguments: --seeds'),
}


@pytest.mark.parametrize('case', USAGE)
def test_wrong_usage(folder, case):
    options, message = USAGE[case]
    done = judge(folder, *options)
    assert (done.returncode, done.stdout) == (2, '')
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.startswith('usage: mnist_cmp judge ')


def test_debug_shows_where(folder):
    done = judge(folder, 'nowhere.csv', '--debug')
    assert done.returncode == 2
    assert 'Traceback' in done.stderr
    assert done.stderr.splitlines()[-1] == 'mnist_cmp: No such file or directory: nowhere.csv'


def test_texts_of_strangers_move_no_cursor(folder, tmp_path):
    "What a file or an option holds can't clear the screen that an error is shown on."
    (tmp_path / 'odd.csv').write_text('model\x1b[2J,seed\n1,2\n')
    done = judge(tmp_path, 'odd.csv')
    named = judge(folder, *TWO, '--name', 'x\x1b[2J', '--baseline', '\x1b[2J')
    assert (done.returncode, named.returncode) == (2, 2)
    assert '\x1b' not in done.stderr + named.stderr


# Processes and terminals


def test_no_torch_is_loaded(folder):
    "Nor anything else that is slow, where it is not needed."
    code = (
        'import sys\nfrom mnist_cmp.cli import main\n'
        'code = main(sys.argv[1:])\n'
        'heavy = {"torch", "torchvision", "sklearn", "matplotlib.pyplot", "dask", "ipywidgets"}\n'
        'print(code, sorted(heavy & set(sys.modules)), "pandas" in sys.modules, file=sys.stderr)'
    )
    for words, has_pandas in ((TWO, True), (['two.npz'], False)):
        done = subprocess.run(
            [sys.executable, '-c', code, 'judge', *words],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.stderr == f'0 [] {has_pandas}\n'


def test_help_names_each_option(folder):
    done = judge(folder, '--help', env={'COLUMNS': '80'})
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.isascii()
    for option in (
        'labels metric margin baseline groups by positive missing name out fail-if json'
    ).split():
        assert f'--{option}' in done.stdout
    other = subprocess.run(
        [*WAYS['python -m'], '--help'],
        env=environment(COLUMNS='80'),
        capture_output=True,
        text=True,
    )
    assert 'mnist_cmp judge --help' in other.stdout
    assert max(map(len, other.stdout.splitlines())) <= 80


@pytest.fixture(scope='module')
def plain(folder):
    "What is printed where the encoding has all signs."
    done = judge(folder, 'all.csv', '--margin', '1%', env={'PYTHONIOENCODING': 'utf-8'}, text=False)
    return done.stdout.decode()


def same_signs(text):
    "The words of a text with signs that each encoding has."
    for sign, other in {'−': '-', '±': '+-', '\xa0': ' '}.items():
        text = text.replace(sign, other)
    return text.split()


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'cp1252', 'cp932'])
def test_encodings(folder, plain, encoding):
    "What an encoding does not have gives way to what looks alike; JSON is ASCII."
    env = {'PYTHONIOENCODING': encoding}
    done = judge(folder, 'all.csv', '--margin', '1%', env=env, text=False)
    assert (done.returncode, done.stderr) == (0, b'')
    text = done.stdout.decode(encoding)
    assert len(text.split('\n')) == len(plain.split('\n'))
    assert same_signs(text) == same_signs(plain)
    data = judge(folder, 'all.csv', '--name', 'Zürich 数', '--json', env=env, text=False)
    assert json.loads(data.stdout.decode('ascii'))['data'] == 'Zürich 数'


def shown_in_terminal(folder, columns, *options):
    "What a run prints in a terminal of so many columns, line by line."
    parent, child = pty.openpty()
    ioctl(child, termios.TIOCSWINSZ, struct.pack('HHHH', 40, columns, 0, 0))
    process = subprocess.Popen(
        [*WAYS['python -m'], 'judge', *options],
        cwd=folder,
        env=environment(TERM='xterm'),
        stdout=child,
        stderr=child,
    )
    os.close(child)
    parts = []
    end = time.monotonic() + 60
    while time.monotonic() < end and select.select([parent], [], [], 30)[0]:
        try:
            part = os.read(parent, 65536)
        except OSError:  # its end, in Linux
            break
        if not part:
            break
        parts.append(part)
    os.close(parent)
    assert process.wait(30) == 0
    return b''.join(parts).decode().replace('\r\n', '\n').splitlines()


@pytest.mark.parametrize('columns', [80, 60])
def test_narrow_terminals(folder, columns):
    "Lines are broken between words to the width of the terminal; no word is lost."
    options = ['all.csv', '--baseline', 'base', '--margin', '2%', '--by', 'site']
    lines = shown_in_terminal(folder, columns, *options)
    assert max(map(text_width, lines)) <= columns
    assert ' '.join(lines).split() == judge(folder, *options).stdout.split()
    as_data = shown_in_terminal(folder, columns, *options, '--json')
    assert json.loads('\n'.join(as_data))['format'] == VERDICT_FORMAT


def test_ctrl_c(folder):
    "130 and a word, no traceback; here `judge` takes its time."
    code = (
        'import sys, time\n'
        'import mnist_cmp.evidence.judging as judging\n'
        'def slow(*args, **kwargs):\n'
        '    print("begun", flush=True)\n'
        '    time.sleep(60)\n'
        'judging.judge = slow\n'
        'from mnist_cmp.cli import main\n'
        'sys.exit(main())'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code, 'judge', 'two.npz', '--out', 'stopped'],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'begun\n'
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (130, 'Stopped.')
    assert not (folder / 'stopped').exists()


def test_outputs_that_take_nothing(folder):
    "A reader that has gone is no failure, a full disk is; the gate's code stays what it is."
    gate = '--baseline base --fail-if worse'.split()
    command = [*WAYS['python -m'], 'judge', 'all.csv']
    for words, code in (([], 0), (gate, 3)):
        process = subprocess.Popen(
            [*command, *words],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        process.stdout.close()
        assert process.wait(60) == code
    if not os.path.exists('/dev/full'):
        pytest.skip('there is no /dev/full')
    for words, code in (([], 1), (gate, 3), (['--json'], 1)):
        with open('/dev/full', 'w') as full:
            done = judge(
                folder, 'all.csv', *words, stdout=full, stderr=subprocess.PIPE, capture_output=False
            )
        assert done.returncode == code
        assert 'No space left on device' in done.stderr and 'Traceback' not in done.stderr


def test_the_other_command_is_as_it_was(folder):
    "Without the word `judge` the options are those of a comparison."
    done = subprocess.run(
        [*WAYS['python -m'], '--fail-if', 'not-better'],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith('usage: mnist_cmp')
    assert 'unrecognized arguments: --fail-if' in done.stderr
