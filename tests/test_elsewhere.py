"""Predictions by other libraries: the files are those that were made, and `judge` says of them
what scikit-learn's metrics say, in whatever form they come."""

import csv
import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT, environment
from sklearn import metrics as reference

import mnist_cmp as mc
from benchmarks import elsewhere
from mnist_cmp.evidence.differences import difference

FOLDER = ROOT / 'nbs' / 'results' / 'elsewhere'
MADE = json.loads((FOLDER / 'made.json').read_text(encoding='utf-8'))
CLASSES = ['malignant', 'benign']


def rows(name):
    "A CSV file as dicts of text."
    with open(FOLDER / name, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def long_table(name):
    "Model → trainings×examples, and the truth, as numbers, by nothing but the `csv` module."
    answers = {}
    truth = {}
    for row in rows(name):
        seeds = answers.setdefault(row['model'], {})
        seeds.setdefault(int(row['seed']), {})[row['example']] = float(row['prediction'])
        truth[row['example']] = float(row['label'])
    arrays = {}
    for model, seeds in answers.items():
        arrays[model] = np.array([[seeds[s][i] for i in truth] for s in sorted(seeds)])
    return arrays, np.array(list(truth.values()))


def arrays_of(name):
    with np.load(FOLDER / name, allow_pickle=False) as file:
        return {model: file[model] for model in file.files}


def digits_labels():
    return long_table('digits.csv')[1].astype(int)


def jax_nets():
    "Model → trainings×examples."
    seeds = range(1, MADE['settings']['seeds'] + 1)
    return {
        model: np.array([np.load(FOLDER / f'{model}_{seed}.npy') for seed in seeds])
        for model in MADE['settings']['jax']['models']
    }


def cancer_labels():
    return np.array([row['label'] for row in rows('breast_cancer_labels.csv')])


def labels_in_ways():
    return np.array([int(row['label']) for row in rows('digits_ways_labels.csv')])


def whole(answers, y):
    "Numbers of classes as integers, for both."
    return {name: a.astype(int) for name, a in answers.items()}, y.astype(int)


def log_loss(y, p):
    return reference.log_loss(y == 'benign', np.maximum(p, elsewhere.FLOOR))


def auroc(y, p):
    return reference.roc_auc_score(y == 'malignant', p[:, 0])


def error_of_probabilities(y, p):
    return reference.zero_one_loss(y, np.array(CLASSES)[p.argmax(1)])


# file, metric → predictions, the truth, scikit-learn's metric, what else `judge` is told
def digits():
    return (*whole(*long_table('digits.csv')), reference.zero_one_loss, {})


def digits_in_ways():
    return arrays_of('digits_ways.npz'), labels_in_ways(), reference.zero_one_loss, {}


def jax():
    return jax_nets(), digits_labels(), reference.zero_one_loss, {}


def diabetes():
    return (*long_table('diabetes.csv'), reference.mean_squared_error, {})


def cancer(metric):
    more = {'classes': CLASSES}
    if metric is auroc:
        more['positive'] = 'malignant'
    return arrays_of('breast_cancer.npz'), cancer_labels(), metric, more


KINDS = {
    ('digits.csv', 'error'): digits(),
    ('digits_ways.npz', 'error'): digits_in_ways(),
    ('jax_*.npy', 'error'): jax(),
    ('diabetes.csv', 'squared_error'): diabetes(),
    ('breast_cancer.npz', 'error'): cancer(error_of_probabilities),
    ('breast_cancer.npz', 'log_loss'): cancer(log_loss),
    ('breast_cancer.npz', 'auroc'): cancer(auroc),
}


def means(kind):
    "Model → scikit-learn's metric, the mean over trainings."
    answers, y, metric, _ = KINDS[kind]
    return {name: np.mean([metric(y, a) for a in runs]) for name, runs in answers.items()}


def made(kind):
    "The same, as `made.json` has it."
    file, metric = kind
    if file == 'jax_*.npy':
        both = [MADE['metrics'][f'{model}_*.npy'][metric] for model in ('jax_mlp', 'jax_cnn')]
        return both[0] | both[1]
    return MADE['metrics'][file][metric]


def test_files_are_those_that_were_made():
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.iterdir()
        if path.name != 'made.json'
    }
    assert found == MADE['sha256']
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 600_000


def test_files_were_made_with_the_settings_of_today():
    assert MADE['settings'] == elsewhere.SETTINGS
    assert {'scikit-learn', 'lightgbm', 'jax', 'numpy', 'python'} <= MADE['versions'].keys()


def test_each_metric_is_looked_at():
    looked_at = {(name, metric) for name, metric in KINDS if name != 'jax_*.npy'}
    written = {
        (name, metric)
        for name, found in MADE['metrics'].items()
        if not name.startswith('jax')
        for metric in found
    }
    assert looked_at == written


@pytest.mark.parametrize('kind', KINDS, ids=' '.join)
def test_metrics_agree_with_those_made(kind):
    answers, y, _, _ = KINDS[kind]
    found = means(kind)
    assert list(found) == list(made(kind))
    for name, value in found.items():
        assert value == pytest.approx(made(kind)[name], abs=1e-12), name
    for runs in answers.values():
        assert runs.shape[:2] == (MADE['settings']['seeds'], len(y))


def test_seeds_are_trainings_of_their_own():
    "No model of a kind has ten equal trainings, those that draw nothing at random included."
    for answers, _, _, _ in KINDS.values():
        for name, runs in answers.items():
            assert len(np.unique(runs, axis=0)) == len(runs), name


@pytest.mark.parametrize('kind', KINDS, ids=' '.join)
def test_judge_agrees_with_scikit_learn(kind):
    answers, y, _, more = KINDS[kind]
    _, metric = kind
    known = means(kind)
    result = mc.judge(answers, y, metric=metric, **more)
    # a difference is one of losses: lower is better
    sign = -1 if metric == 'auroc' else 1
    for a, b in itertools.combinations(known, 2):
        found = result.difference(a, b)
        assert found.estimate == pytest.approx(sign * (known[a] - known[b]), abs=1e-9), (a, b)
        assert found.low < found.estimate < found.high
    for name, value in known.items():
        assert result[name].value == pytest.approx(value, abs=1e-9), name
        if metric == 'error':
            assert 1 - result[name].error == pytest.approx(1 - made(kind)[name], abs=1e-12), name


def test_text_of_the_verdict_names_who_is_better():
    answers, y, _, more = KINDS['breast_cancer.npz', 'log_loss']
    result = mc.judge(answers, y, metric='log_loss', **more)
    assert result.difference('logistic', 'naive_bayes').better == 'logistic'
    text = str(result.verdict())
    assert 'logistic' in text and 'naive_bayes' in text and 'log loss' in text


def answer_of(result, names):
    "What a verdict rests on, and its text."
    pairs = itertools.combinations(names, 2)
    found = [result.difference(a, b) for a, b in pairs]
    return [(d.a, d.b, d.estimate, d.low, d.high) for d in found], str(result.verdict())


def test_forms_of_a_table_give_one_verdict(tmp_path):
    answers, y = whole(*long_table('digits.csv'))
    answers = dict(sorted(answers.items()))  # as in tables, whose rows may come in any order
    np.savez(tmp_path / 'digits.npz', **answers)
    files = {}
    for model, runs in answers.items():
        files[model] = str(tmp_path / f'{model}_*.npy')
        for seed, run in enumerate(runs, 1):
            np.save(tmp_path / f'{model}_{seed}.npy', run.astype(np.int16))
    forms = {
        'table': mc.judge(str(FOLDER / 'digits.csv')),
        'arrays': mc.judge(answers, y),
        'lists': mc.judge({name: list(runs) for name, runs in answers.items()}, y.tolist()),
        'npz': mc.judge(str(tmp_path / 'digits.npz'), y),
        'glob': mc.judge(files, y),
    }
    found = {form: answer_of(result, answers) for form, result in forms.items()}
    for form, answer in found.items():
        assert answer == found['table'], form


def test_a_glob_is_sorted_by_the_seed():
    "jax_cnn_10 comes after jax_cnn_2: sorted as text, trainings would be paired otherwise."
    files = {name: str(FOLDER / f'{name}_*.npy') for name in jax_nets()}
    by_glob = mc.judge(files, digits_labels())
    by_hand = mc.judge(jax_nets(), digits_labels())
    assert answer_of(by_glob, files) == answer_of(by_hand, files)


def test_groups_widen_and_parts_divide():
    examples = rows('digits_ways_labels.csv')
    images = [row['image'] for row in examples]
    ways = [row['way'] for row in examples]
    answers = arrays_of('digits_ways.npz')
    y = labels_in_ways()
    alone = mc.judge(answers, y).difference('logistic', 'forest')
    grouped = mc.judge(answers, y, groups=images).difference('logistic', 'forest')
    assert grouped.estimate == pytest.approx(alone.estimate, abs=1e-12)
    assert grouped.high - grouped.low > alone.high - alone.low

    parts = mc.judge(answers, y, by=ways)
    text = str(parts.verdict())
    for way in MADE['settings']['digits_ways']['ways']:
        used = np.array(ways) == way
        within = {name: (runs[:, used] != y[used]).mean() for name, runs in answers.items()}
        found = difference(parts, 'logistic', 'forest', part=way)
        assert found.estimate == pytest.approx(within['logistic'] - within['forest'], abs=1e-12)
        assert way in text


def command(*words, cwd=ROOT):
    return subprocess.run(
        [sys.executable, '-m', 'mnist_cmp', 'judge', *map(str, words)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
    )


def test_command_says_what_judge_says(tmp_path):
    table = FOLDER / 'digits.csv'
    done = command(table, '--metric', 'error', '--baseline', 'svm', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(mc.judge(str(table), metric='error', baseline='svm').verdict()) in done.stdout


@pytest.mark.parametrize('kind', KINDS, ids=' '.join)
def test_command_gives_the_metric_as_data(kind, tmp_path):
    file, metric = kind
    words = [FOLDER / file]
    if file == 'jax_*.npy':
        np.save(tmp_path / 'y.npy', digits_labels())
        words = [f'{name}={FOLDER / name}_*.npy' for name in jax_nets()]
        words += ['--labels', tmp_path / 'y.npy']
    elif file.endswith('.npz'):
        words += ['--labels', FOLDER / file.replace('.npz', '_labels.csv')]
    if file == 'breast_cancer.npz':
        words += ['--classes', ','.join(CLASSES), '--positive', 'malignant']
    done = command(*words, '--metric', metric, '--json', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {model['name']: model['value'] for model in json.loads(done.stdout)['models']}
    assert found == pytest.approx(made(kind), abs=1e-9)


def test_command_takes_arrays_and_labels(tmp_path):
    files = FOLDER / 'digits_ways.npz', FOLDER / 'digits_ways_labels.csv'
    done = command(files[0], '--labels', files[1], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = arrays_of('digits_ways.npz')
    assert str(mc.judge(answers, labels_in_ways()).verdict()) in done.stdout


# no model is shown to be better than the SVM, and logistic regression and the MLP to be worse
@pytest.mark.parametrize(
    'words, code',
    [
        ('--baseline svm --fail-if worse', 3),
        ('--baseline svm --fail-if not-better', 3),
        ('--baseline logistic --fail-if worse', 0),
        ('--baseline svm --margin 20% --fail-if not-as-good', 0),
        ('--baseline svm --margin 0.5% --fail-if not-as-good', 3),
    ],
)
def test_exit_codes(words, code, tmp_path):
    done = command(FOLDER / 'digits.csv', '--metric', 'error', *words.split(), cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert 'svm' in done.stdout


@pytest.mark.parametrize(
    'words, named',
    [
        ('digits.csv --baseline svm --fail-if not-as-good', 'margin'),
        ('digits.csv --baseline nobody', 'nobody'),
        ('digits.csv --metric log_loss', 'probabilities'),
        ('digits.csv --margin 5%% --metric error', '5%%'),
        ('digits_ways.npz --labels nowhere.csv', 'nowhere.csv'),
        ('breast_cancer.npz --labels breast_cancer_labels.csv', 'classes'),
        ('diabetes.csv', 'label'),
    ],
)
def test_bad_input_is_named(words, named):
    done = command(*words.split(), cwd=FOLDER)
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr and 'unrecognized' not in done.stderr
    assert 'Traceback' not in done.stderr and not done.stdout


@pytest.mark.parametrize('file', ['digits.csv', 'breast_cancer_labels.csv'])
def test_numbers_in_files_are_whole_or_text(file):
    "No formula, no empty cell, no line that a spreadsheet would read as something else."
    for row in rows(file):
        for cell in row.values():
            assert cell and (cell.isalnum() or cell.replace('_', '').isalnum()), row
    assert b'\r' not in (Path(FOLDER) / file).read_bytes()
