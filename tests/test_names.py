"""Whatever models, data, classes are called: names are shown as they are and stay apart; two
models of one name are told apart or refused; the path of a file names a model."""

import base64
import json
import os
import subprocess
import sys
import types
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from tiny import one, two

import mnist_cmp as mc
from mnist_cmp.cli import main
from mnist_cmp.comparison import _named
from mnist_cmp.core.display import drawn, drawn_names
from mnist_cmp.core.files import write_json
from mnist_cmp.evidence.figures import comparison_figures
from mnist_cmp.models import get_model
from mnist_cmp.ui.run_state import RunState
from mnist_cmp.ui.run_view import run_pictures

# ---- names in figures

LONG = 'a_model_of_a_very_long_name_with_dropout_of_0.'
ODD = {'_hidden': one, '__': two, LONG + '1': one, LONG + '2': two}


@pytest.fixture
def odd(compare_in, tmp_path):
    "A comparison whose models have odd names, on data whose name and classes are mathematics."
    found = compare_in(tmp_path / 'odd', models=ODD)
    pixels = base64.b64encode(bytes(784)).decode()
    wrong = found.models[0].runs[0].test.wrong[0]
    return replace(
        found,
        dataset='$x^2$ for $5',
        classes=['$a$', '_b', r'$\frac{'],
        pictures={'all': {str(wrong): pixels}},
    )


@pytest.fixture
def figures(odd):
    "Name → figure of each that the report holds."
    made = {name: draw() for _, name, _, draw in comparison_figures(odd)}
    yield {name: part.get_figure() for name, part in made.items() if part is not None}
    plt.close('all')


def test_models_without_confidences_have_the_names_of_all_others(odd):
    for c in odd.models:
        for run in c.runs:
            run.test.bins = [[0, None, None] for _ in range(15)]
    legend = odd.plot_calibration().axes[0].get_legend()
    plt.close('all')
    labels = [text.get_text() for text in legend.get_texts()]
    short = drawn_names(list(ODD))
    assert labels[1:] == [f'{short[name]}: no confidences' for name in ODD]
    assert len(set(labels)) == len(labels)


def texts_of(figure):
    figure.canvas.draw()  # fails where a text is taken for odd mathematics
    return [text for text in figure.findobj(plt.Text) if text.get_text()]


def shown_texts(figure):
    "The texts as they are seen."
    texts = texts_of(figure)
    for text in texts:
        if text.get_text().startswith(r'$\mathdefault{'):
            continue  # the number at a tick
        clean, is_math = text._preprocess_math(text.get_text())
        assert not is_math, text.get_text()
        yield clean


def legend_of(figure):
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()] + figure.legends
    return [text.get_text().strip() for legend in legends for text in legend.get_texts()]


def test_no_name_becomes_mathematics(figures):
    assert len(figures) >= 12
    seen = {text.strip() for figure in figures.values() for text in shown_texts(figure)}
    assert {'$a$', '_b', r'$\frac{'} <= seen
    assert any(text.startswith('$x^2$ for $5: ') for text in seen)


def test_legends_hold_each_model(figures):
    for name in 'kbest', 'budget', 'costs', 'class_errors':
        legend = legend_of(figures[name])
        assert legend[:2] == ['_hidden', '__'], name
        assert len(set(legend)) == 4, name
    assert [label for label in legend_of(figures['curves']) if label.startswith('_hidden, ')]
    assert [label for label in legend_of(figures['calibration']) if label.startswith('__: error')]


def test_long_names_stay_apart_in_figures(figures):
    for name in 'runs', 'confusions', 'pictures_all':
        parts = [text for text in shown_texts(figures[name]) if text.startswith('a_model_of')]
        ends = {text.partition(':')[0] for text in parts}
        assert len(ends) == 2, (name, parts)


def test_pictures_hold_each_model(figures):
    "Classes and models in the annotations of hard images."
    seen = list(shown_texts(figures['pictures_all']))
    assert any(text.strip().startswith('_hidden: ') for text in seen)


def test_the_panels_pictures(tmp_path):
    settings = {'models': ['nets:_hidden', 'nets:mlp'], 'n_trials': 1, 'seeds': 1}
    write_json(tmp_path / 'panel.json', {'state': 'stopped', 'settings': settings})
    state = RunState.read(tmp_path, running=False)
    history = mc.History(
        0.1, 8, 0, 'autograd', 1, 'cpu', 'here', epochs=[mc.Epoch(1, 0.5, 0.5, 0.4, 0.6, 0.1)]
    )
    state.trainings = {name: {0: history} for name in state.names}
    assert '_hidden' in run_pictures(state)


def test_samples_and_titles_of_a_user(data):
    odd = mc.Data(
        *(replace(s, classes=('$a$', '_b', '$c_{')) for s in data.splits),
        '$d',
        ('$a$', '_b', '$c_{'),
    )
    figure = mc.show_samples(odd.train, 12).get_figure()
    assert {'$a$', '$c_{'} & {text.strip() for text in shown_texts(figure)}
    history = mc.train(
        one(), data.train, data.valid, mc.Recipe(learning_rate=0.01, batch_size=8, epochs=1)
    )
    ax = mc.plot_accuracy(history, valid_label='_$held$', title=r'$\frac$ of my $net')
    assert r'$\frac$ of my $net' in list(shown_texts(ax.get_figure()))
    assert '_$held$' in [text.replace('\\', '') for text in legend_of(ax.get_figure())]
    plt.close('all')


@pytest.mark.parametrize(
    'name', ['$x$', r'\$x$', r'a\\$b$', '$$', '_', '__x', ' _x', '\n$', '$' * 99]
)
def test_any_text_is_drawn_as_it_is(name):
    figure, ax = plt.subplots()
    ax.plot([1], label=drawn(name))
    ax.legend()
    seen = list(shown_texts(figure))
    assert len(legend_of(figure)) == 1
    assert any(
        text.strip() == mc.core.display.printable(name).strip() or '…' in text for text in seen
    )
    plt.close(figure)


# ---- names in tables


def test_the_summary_keeps_names_apart(odd):
    text = mc.summary(odd)
    rows = text.splitlines()[1:5]
    first = [row.split()[0] for row in rows]
    assert len(set(first)) == 4
    assert all(len(word) <= 11 for word in first)
    for name in LONG + '1', LONG + '2':
        assert name in text  # the whole of it, below
    assert '_hidden' in first


def test_no_mathematics_in_notebooks(odd, data):
    made = [odd, odd.models[0].search, odd.models[0].runs[0].history, data]
    for obj in made:
        assert obj._repr_html_().startswith('<div class="mathjax_ignore'), type(obj)


# ---- two models of one name


def module_of(name, **members):
    "A module with some members, which say that they are its own."
    module = types.ModuleType(name)
    for key, value in members.items():
        value.__module__ = name
        setattr(module, key, value)
    return module


def net_class():
    class Net(torch.nn.Sequential):
        def __init__(self):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 3))

    Net.__qualname__ = 'Net'
    return Net


@pytest.fixture
def nets():
    return [module_of(name, Net=net_class()).Net for name in ('ann.nets', 'bob.nets', 'old')]


def test_two_nets_are_told_apart_by_their_modules(nets, compare_in, tmp_path):
    assert list(_named(nets)) == ['ann.nets.Net', 'bob.nets.Net', 'old.Net']
    assert list(_named(nets[1:])) == ['nets.Net', 'old.Net']
    found = compare_in(tmp_path, models=nets[:2])
    assert found.names == ['ann.nets.Net', 'bob.nets.Net']
    assert (tmp_path / 'search' / 'ann.nets.Net' / 'study.sqlite').exists()
    again = compare_in(tmp_path, models=nets[:2])  # goes on, under the same names
    assert [c.wrong for c in again.models] == [c.wrong for c in found.models]


def factory(width):
    def Net():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, width))

    return Net


@pytest.mark.parametrize(
    'models',
    [
        [factory(3), factory(4)],
        [partial(factory(3)), partial(factory(4))],
        ['mlp', mc.MLP],
        [partial(mc.MLP, 8), partial(mc.MLP, 9)],
        ['mlp', 'mlp'],
    ],
)
def test_who_can_not_be_told_apart_is_asked_for_names(models):
    with pytest.raises(ValueError, match=r"two have one name, .*compare\({'a': …, 'b': …}\)"):
        _named(models)


@pytest.mark.parametrize(
    'models',
    [[lambda: one(), lambda: two()], ['mlp', lambda: one()], [partial(lambda: one()), 'mlp']],
)
def test_a_lambda_is_asked_for_a_name(models):
    with pytest.raises(
        ValueError, match=r'lambda, which has no name. Name it in a dict: compare\('
    ):
        _named(models)
    assert list(_named({'a': models[0], 'b': models[1]})) == ['a', 'b']


# ---- the path of a file

NET = """import parts
import torch
class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, parts.WIDTH),
                         torch.nn.Linear(parts.WIDTH, 10))
"""
SMALL = """--n_trials 1 --search_epochs 1 --seeds 1 --epochs 1 --workers 2 --quiet""".split()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A folder with a model in it, another one below, each with a neighbour of the same name."
    for name in 'nets', 'parts':  # which other tests may have imported
        monkeypatch.delitem(sys.modules, name, raising=False)
    work = tmp_path / 'work'
    for place, width in (work, 5), (work / 'sub', 7):
        place.mkdir()
        (place / 'nets.py').write_text(NET)
        (place / 'parts.py').write_text(f'WIDTH = {width}\n')
    yield work
    for name in 'sub', 'fails':
        sys.modules.pop(name, None)


def command(folder, *words):
    env = os.environ | {'PYTHONPATH': str(Path(mc.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, '-P', '-m', 'mnist_cmp', *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    'spec',
    ['./nets.py:Net', 'nets.py:Net', '{}/nets.py:Net', 'sub/nets.py:Net', 'sub/../nets.py:Net'],
)
def test_a_path_names_a_model(folder, monkeypatch, spec):
    monkeypatch.chdir(folder)
    net = get_model(spec.format(folder))()
    assert net[1].out_features == (7 if spec.startswith('sub/n') else 5)
    assert get_model(spec.format(folder)) is get_model(spec.format(folder))
    assert not {'nets', 'parts'} & set(sys.modules)


def test_files_in_worker_processes_and_on_resume(folder):
    words = ['--models', './nets.py:Net,sub/nets.py:Net', '--out', 'run', *SMALL]
    done = command(folder, *words)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / 'run' / 'report.json').read_text())
    assert [(c['name'], c['maker']) for c in report['contestants']] == [
        ('nets.Net', './nets.py:Net'),
        ('sub.nets.Net', 'sub/nets.py:Net'),
    ]
    assert [c['parameters'] for c in report['contestants']] == [
        784 * width + width + 10 * width + 10 for width in (5, 7)
    ]
    # more seeds: the trainings go on, in processes as well
    words[words.index('--seeds') + 1] = '3'
    more = command(folder, *words)
    assert more.returncode == 0, more.stderr
    longer = json.loads((folder / 'run' / 'report.json').read_text())
    for before, after in zip(report['contestants'], longer['contestants']):
        assert after['search']['trials'] == before['search']['trials']
        assert len(after['runs']) == 3
        assert after['runs'][0] == before['runs'][0]


def test_the_panels_process_takes_a_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    models = ['./nets.py:Net', 'mlp']
    panel = mc.ComparePanel(runs='runs', models=models[:1], workers=1)
    panel.set(models=models, n_trials=1, search_epochs=1, seeds=1, epochs=1)
    panel.run()
    state = panel.wait(300)
    assert state.state == 'finished', state.error
    assert state.names == ['Net', 'mlp']
    again = mc.ComparePanel(panel.folder, models=models[:1], workers=1)
    assert again.state.verdict


@pytest.mark.parametrize(
    'spec, words',
    [
        ('.nets:Net', 'what stands before the colon is no whole name of a module'),
        ('..:Net', 'what stands before the colon is no whole name of a module'),
        (':Net', 'what stands before the colon is no whole name of a module'),
        ('./nets:Net', 'there is no file'),
        ('./none.py:Net', 'there is no file'),
        ('sub:Net', "sub has no attribute 'Net'"),
        ('./nets.py:', "./nets.py has no attribute ''"),
        ('./nets.py:Nest', "./nets.py has no attribute 'Nest'"),
        ('./nets.py:torch', 'must be a callable'),
        ('./nets.py', "'path/file.py:Name'"),
        ('./odd.py:Net', 'its module raised SyntaxError'),
        ('./fails.py:Net', 'its module raised ZeroDivisionError: division by zero'),
        ('fails:Net', 'its module raised ZeroDivisionError: division by zero'),
        ('./script.py:Net', 'its module raised SystemExit: 3'),
        ('./text.txt:Net', 'is no Python file'),
    ],
)
def test_what_names_no_model_is_said_in_our_words(folder, monkeypatch, capsys, spec, words):
    monkeypatch.chdir(folder)
    (folder / 'odd.py').write_text('class Net(')
    (folder / 'fails.py').write_text('1/0')
    (folder / 'script.py').write_text('import sys\nsys.exit(3)')
    (folder / 'text.txt').write_text('')
    (folder / 'sub' / '__init__.py').touch()
    assert main(['--models', f'{spec},mlp', '--out', 'run', *SMALL]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert 'package' not in line and 'Traceback' not in line


def test_a_files_folder_is_searched_last_and_for_it_alone(folder):
    "Nothing of the folder stands in for what is installed, then or later."
    note = folder.parent / 'ran'
    for name in 'random', 'pandas', 'torchvision':
        (folder / f'{name}.py').write_text(f'open({str(note)!r}, "a").write("x")')
    done = command(folder, '--models', 'nets.py:Net,mlp', '--out', 'run', *SMALL)
    assert done.returncode == 0, done.stderr
    assert not note.exists()


def test_a_panel_opens_no_strangers_file(folder, tmp_path):
    write_json(
        tmp_path / 'panel.json',
        {'state': 'stopped', 'settings': {'models': [f'{folder}/nets.py:Net', 'mlp']}},
    )
    with pytest.raises(
        ValueError, match='which this panel does not offer. It offers .* If you trust it'
    ):
        mc.ComparePanel(tmp_path, workers=1)


@pytest.mark.parametrize(
    'models', [['a:b/c', 'mlp'], ['a:..', 'mlp'], ['nets:Net', './nets.py:Net']]
)
def test_odd_names_in_a_strangers_folder_are_refused(tmp_path, models):
    write_json(tmp_path / 'panel.json', {'state': 'stopped', 'settings': {'models': models}})
    with pytest.raises(ValueError, match='panel.json is damaged'):
        RunState.read(tmp_path)
