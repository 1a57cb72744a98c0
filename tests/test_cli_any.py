"The command on data of any kind, with any recipe, and any setting searched; `init`; bad input."

import math
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

import mnist_cmp as mc
from mnist_cmp.cli import main

HOME = str(Path(mc.__file__).parent.parent)
NETS = """import math

from torch import nn


def linear(inputs, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), outputs))


def deep(inputs, outputs, width=16, dropout=0.0):
    first = nn.Linear(math.prod(inputs), width)
    return nn.Sequential(
        nn.Flatten(), first, nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
    )
"""
MODELS = '--models ./nets.py:linear,./nets.py:deep'
SMALL = '--n_trials 2 --search_epochs 4 --epochs 8 --seeds 2 --workers 1 --quiet --out run'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "An empty folder with some nets, in which the command runs."
    (tmp_path / 'nets.py').write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(options):
    "The command's exit code."
    try:
        return main(shlex.split(options))
    except SystemExit as e:
        return e.code


def compared(options):
    "What the command finds, with little effort."
    assert command(f'{options} {MODELS} {SMALL}') == 0
    return mc.Comparison.load('run')


def write_table(path):
    "Breast cancer as a table: thirty measures and a diagnosis in words."
    bunch = load_breast_cancer()
    names = [str(name).replace(' ', '_') for name in bunch.feature_names]
    rows = [','.join([*names, 'diagnosis'])]
    for x, y in zip(bunch.data, bunch.target):
        rows.append(','.join([*map(repr, x.tolist()), str(bunch.target_names[y])]))
    path.write_text('\n'.join(rows))


def write_pictures(folder, n=24):
    "Two classes of small pictures: bright on the left, or on the right."
    from PIL import Image

    rng = np.random.default_rng(0)
    for k, name in enumerate(('left', 'right')):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 100, (12, 12, 3), dtype=np.uint8)
            pixels[:, 6 * k : 6 * k + 6] += 120
            Image.fromarray(pixels).save(folder / name / f'{i}.png')


def lowest_errors(comparison):
    "The share that each model's best net gets wrong."
    n = comparison.sizes['test']
    return [min(len(run.test.wrong) for run in model.runs) / n for model in comparison.models]


def test_a_table_with_words_for_classes(folder, capsys):
    write_table(folder / 'cancer.csv')
    options = '--data cancer.csv --target diagnosis --scale standard --learning_rate log:0.01,0.3'
    comparison = compared(options)
    assert comparison.dataset == 'cancer'
    assert max(lowest_errors(comparison)) < 0.2  # of guessing: 0.37
    assert 'test examples' in capsys.readouterr().out


def test_a_folder_of_pictures_with_augmentation(folder):
    write_pictures(folder / 'pets')
    options = '--data pets --size 8 --test_size 0.25 --augment shift:1,erasing:2 --batch_size 4'
    comparison = compared(options)
    assert comparison.inputs == [3, 8, 8]
    assert max(lowest_errors(comparison)) < 0.4
    histories = [run.history for model in comparison.models for run in model.runs]
    assert all('shift' in str(history.recipe['augment']) for history in histories)
    assert {history.batch_size for history in histories} == {4}


def test_numbers_in_npy_files(folder, capsys):
    bunch = load_diabetes()
    np.save(folder / 'x.npy', bunch.data.astype(np.float32) * 20)
    np.save(folder / 'y.npy', bunch.target)
    comparison = compared('--data x.npy --labels y.npy --learning_rate 0.02 --test_size 100')
    assert comparison.metric.name == 'squared_error'
    values = [run.test.value for model in comparison.models for run in model.runs]
    assert max(values) < np.var(bunch.target)  # of guessing the mean
    assert all(math.isnan(run.test.accuracy) for model in comparison.models for run in model.runs)
    assert 'wrong' not in capsys.readouterr().out


def test_settings_of_the_recipe_and_of_models(folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype(np.float32)
    np.savez(folder / 'data.npz', x=x, y=np.where(x[:, 0] > 0, 'up', 'down'))
    comparison = compared(
        '--data data.npz --optimizer "adamw:betas=0.9/0.95" --schedule cosine --clip 1 '
        '--label_smoothing 0.05 --keep best --space "deep:width=4|8" --space "deep:dropout=0.,0.3"'
    )
    assert max(lowest_errors(comparison)) < 0.3
    searched = comparison['deep'].search
    assert {trial.config.width for trial in searched.trials} <= {4, 8}
    assert all(0 <= trial.config.dropout <= 0.3 for trial in searched.trials)
    assert not comparison['linear'].search.trials[0].config.settings
    for model in comparison.models:
        recipe = model.runs[0].history.recipe
        assert recipe['optimizer'][0] == 'adamw'
        assert recipe['optimizer'][1]['betas'] == [0.9, 0.95]
        assert (recipe['schedule'], recipe['clip'], recipe['keep']) == ('cosine', 1.0, 'best')


def test_choices_of_the_recipe_are_searched(folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype(np.float32)
    np.savez(folder / 'data.npz', x=x, y=x[:, 0] > 0)
    comparison = compared('--data data.npz --optimizer "sgd|adam" --select loss')
    tried = {t.config.optimizer for m in comparison.models for t in m.search.trials}
    assert tried <= {'sgd', 'adam'}


def test_a_finished_run_whose_search_was_extended_is_gone_on_with(folder):
    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    np.savez(folder / 'data.npz', x=x, y=x[:, 0] > 0)
    options = f'--data data.npz {MODELS} {SMALL} --space deep:width=2,3 --extend'
    assert command(options) == 0
    before = mc.Comparison.load('run')
    assert before['deep'].search.extended_from is not None
    assert command(f'{options} --seeds 3') == 0
    found = mc.Comparison.load('run')
    assert [len(model.runs) for model in found.models] == [3, 3]
    assert found['deep'].search.extended_from == before['deep'].search.extended_from


def test_stopped_and_gone_on_with_it_is_the_same(folder):
    "Own data, own nets and another recipe go on to the same numbers."
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    np.savez(folder / 'data.npz', x=x, y=x[:, 0] * x[:, 1] > 0)
    options = [
        *shlex.split(f'--data data.npz --optimizer adamw --schedule cosine {MODELS}'),
        *shlex.split('--n_trials 3 --search_epochs 2 --epochs 3 --seeds 2 --workers 1'),
    ]
    words = [sys.executable, '-m', 'mnist_cmp', *options, '--out', 'run']
    process = subprocess.Popen(
        words,
        env=os.environ | {'PYTHONPATH': HOME},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if 'trial 1/' in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    to_go_on = shlex.split(errors[errors.index('  mnist_cmp') :].replace('\\\n', ''))
    assert main([*to_go_on[1:], '--quiet']) == 0
    assert main([*options, '--quiet', '--out', 'undisturbed']) == 0
    stopped, undisturbed = (mc.Comparison.load(out) for out in ('run', 'undisturbed'))
    for a, b in zip(stopped.models, undisturbed.models, strict=True):
        assert [t.loss for t in a.search.trials] == [t.loss for t in b.search.trials]
        assert [run.test.loss for run in a.runs] == [run.test.loss for run in b.runs]


@pytest.mark.parametrize(
    ('options', 'words'),
    {
        '--data nowhere.npz': 'there is no such file or folder',
        '--data cifar': 'Did you mean cifar10?',
        '--data data.csv': 'target must say which column',
        '--data digits --target diagnosis': 'target is for a table',
        '--data data.csv --target a --size 8': 'size is for a folder of images',
        '--data data.csv --target a --labels y.npy': 'labels is for an .npy',
        '--learning_rate 1,0.1': 'the lower end must be below the upper one',
        '--learning_rate 0': 'learning_rate is 0.0, but must be a finite number above 0',
        '--clip -1': 'clip is -1.0',
        '--keep first': "'first' (choose from",
        '--augment rotate:3': 'must be some of shift, flip, erasing',
        '--space width': 'must have the form NAME=SPEC',
        '--space width=8 --space width=16': 'width is given twice',
        '--cv 1': "'1' is not a whole number from 2 to 100",
    }.items(),
)
def test_wrong_usage_is_said_before_anything_is_loaded(folder, capsys, options, words):
    (folder / 'data.csv').write_text('a,b\n1,2\n')
    assert command(options) == 2
    assert words in ' '.join(capsys.readouterr().err.split())
    assert not (folder / 'runs').exists()


@pytest.mark.parametrize(
    ('options', 'words'),
    {
        '--target diagnosi': "'diagnosis'",
        '--target diagnosis --space widht=8|16': 'width',
        '--target diagnosis --space conv:width=8|16': "the model of a setting is 'conv'",
        '--target diagnosis --optimizer adamm': 'adam',
    }.items(),
)
def test_what_the_data_or_models_do_not_have_is_said_before_work(folder, capsys, options, words):
    write_table(folder / 'cancer.csv')
    assert command(f'--data cancer.csv --scale standard {options} {MODELS} {SMALL}') == 1
    error = capsys.readouterr().err
    assert words in error and 'Traceback' not in error
    assert not (folder / 'run' / 'search').exists()


def test_code_that_mends_a_table_keeps_its_lines(folder, capsys):
    (folder / 'data.csv').write_text('colour,size,kind\n' + 'red,1,a\nblue,2,b\n' * 20)
    assert command('--data data.csv --target kind') == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith('    ') and 'get_dummies' in line for line in lines)


def test_init_writes_a_script_that_runs(folder, capsys):
    assert main(['init']) == 0
    assert 'python compare.py' in capsys.readouterr().out
    script = folder / 'compare.py'
    text = script.read_text()
    assert main(['init']) == 1
    assert 'compare.py is there already' in capsys.readouterr().err
    assert script.read_text() == text
    assert max(map(len, text.splitlines())) <= 100
    fast = text.replace('n_trials=10', 'n_trials=2, search_epochs=1').replace('seeds=5', 'seeds=2')
    script.write_text(fast.replace('mc.Recipe(', 'mc.Recipe(epochs=1, '))
    done = subprocess.run(
        [sys.executable, 'compare.py'],
        env=os.environ | {'PYTHONPATH': HOME, 'MNIST_CMP_QUIET': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'small' in done.stdout and 'Report:' in done.stdout
    assert mc.Comparison.load('runs/compare').names == ['mlp', 'small']


def test_help_of_init_and_a_name_that_is_none(folder, capsys):
    assert command('init --help') == 0
    assert 'compare.py' in capsys.readouterr().out
    assert main(['init', 'compare']) == 1
    assert 'must be the name of a Python file' in capsys.readouterr().err
    assert main(['init', 'there/compare.py']) == 1
    assert 'there/compare.py' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'words'),
    {
        '--data comma.csv --target b': "decimal=',')",
        '--models ./needs.py:linear,mlp': 'imports no_such_module, which is not installed',
        '--models mpl,cnn': 'Did you mean mlp?',
        '--models ./nets.py:line,mlp': 'Did you mean ./nets.py:linear?',
        '--space epochs=3': 'Write --epochs',
        '--metric squared_error': 'log_loss',
        '--models ./nets.py:deep,mlp --space width=abc|def': "width of the space can be 'abc'",
    }.items(),
)
def test_the_way_out_is_said_in_the_words_of_a_terminal(folder, capsys, options, words):
    (folder / 'comma.csv').write_text('a;b\n' + '1;0,5\n2;4,5\n' * 9)
    (folder / 'needs.py').write_text('import no_such_module\n')
    assert command(f'{options} {SMALL}') == 1
    assert words in ' '.join(capsys.readouterr().err.split())


def test_what_begins_with_a_minus_is_joined_to_its_option(capsys):
    assert command('--learning_rate -1,1') == 2
    assert 'joined to it: --learning_rate=-1' in ' '.join(capsys.readouterr().err.split())


def test_numbers_are_judged_by_a_metric_of_numbers(folder, capsys):
    rows = [f'{m},{k},{k}.15,{k}.2' for m in 'ab' for k in range(9)]
    table = '\n'.join(['model,example,prediction,label', *rows])
    (folder / 'p.csv').write_text(table)
    (folder / 'comma.csv').write_text(table.replace(',', ';').replace('.', ','))
    for options, words in (
        ('p.csv', 'Numbers to predict go with --metric squared_error.'),
        ('p.csv --metric squared_error --positive 1', 'positive is given'),
        ('comma.csv --metric squared_error', "such as '0,15'. Write it anew:"),
    ):
        assert command(f'judge {options}') == 2
        assert words in ' '.join(capsys.readouterr().err.split())
