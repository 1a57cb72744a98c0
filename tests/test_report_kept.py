"A report is never lost by another one that is written into its folder."

import json
from functools import partial

import pytest
import tiny
import torch

import mnist_cmp as mc
from mnist_cmp import cli
from mnist_cmp.core.ledger import LedgerError
from mnist_cmp.report import write_report

SMALL = '--n_trials 1 --search_epochs 1 --seeds 2 --epochs 1 --workers 1 --quiet'.split()


def three():
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 2), torch.nn.Tanh(), torch.nn.Linear(2, 3)
    )


ALL = {'one': tiny.one, 'two': tiny.two, 'three': three}


def without(name):
    return {k: make for k, make in ALL.items() if k != name}


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.lock'
    }


@pytest.fixture(autouse=True)
def one_figure(monkeypatch):
    "Of the figures, that take long, only those of the models' searches are drawn."
    from mnist_cmp import report
    from mnist_cmp.evidence import figures

    everything = figures.comparison_figures

    def few(comparison):
        return [each for each in everything(comparison) if each[1].startswith('search_')]

    monkeypatch.setattr(report, 'comparison_figures', few)


def names_in(folder):
    report = json.loads((folder / 'report.json').read_text())
    return [each['name'] for each in report['contestants']]


def test_a_report_grows_with_its_comparison(compare_in, tmp_path):
    write_report(compare_in(tmp_path, models=without('three')), tmp_path)
    write_report(compare_in(tmp_path, models=ALL, seeds=3), tmp_path)
    assert names_in(tmp_path) == list(ALL)
    figures = sorted(path.name for path in (tmp_path / 'figures').glob('*.png'))
    assert figures == ['search_one.png', 'search_three.png', 'search_two.png']


def test_a_model_is_not_dropped(compare_in, tmp_path):
    write_report(compare_in(tmp_path, models=without('three')), tmp_path)
    other = compare_in(None, models=without('two'))
    before = contents(tmp_path)
    with pytest.raises(LedgerError, match='two would be dropped'):
        compare_in(tmp_path, models=without('two'))
    with pytest.raises(
        LedgerError,
        match=r'two would be dropped. Ask for all its models '
        r'\(one, two, three\), or choose another folder',
    ):
        write_report(other, tmp_path)
    assert contents(tmp_path) == before
    write_report(other, tmp_path / 'other')  # the way out
    write_report(compare_in(tmp_path, models=ALL), tmp_path)  # and the other one
    assert names_in(tmp_path) == list(ALL)


def test_overwriting_leaves_nothing_that_the_report_does_not_know(compare_in, tmp_path):
    folder = tmp_path / 'run'
    first = compare_in(folder, models=without('three'))
    write_report(first, folder)
    (folder / 'figures' / 'mine.png').write_text('mine')
    write_report(compare_in(None, models=without('two')), folder, overwrite=True)
    assert sorted(path.name for path in (folder / 'weights').iterdir()) == ['one', 'three']
    assert sorted(path.stem for path in (folder / 'figures').glob('*.png')) == [
        'mine',
        'search_one',
        'search_three',
    ]
    (aside,) = (folder / 'kept').glob('report_*')
    assert names_in(aside) == ['one', 'two'] and (aside / 'figures' / 'search_two.png').is_file()
    seen = []
    again = compare_in(folder, models=ALL, on_epoch=seen.append)
    assert again['two'].runs == first['two'].runs
    # The trials and trainings that were put aside are found again; only those of
    # three, of which the report knows the nets alone, are done.
    assert len(seen) == 3


def test_another_comparison_in_a_plain_folder(compare_in, tmp_path):
    "Without a store its weights are nobody's but the report's."
    models = {'one': partial(Scaled, 1.0), 'two': tiny.two}
    write_report(compare_in(None, models=models), tmp_path)
    before = contents(tmp_path)
    for change, word in (
        (dict(seeds=1), 'seeds of one was 2 and is 1'),
        (dict(seed=3), 'seed was 0 and is 3'),
        (dict(models=without('one')), 'one would be dropped'),
        (dict(models=models | {'one': partial(Scaled, 9.0)}), 'one has other results'),
    ):
        found = compare_in(None, **dict(models=models) | change)
        with pytest.raises(LedgerError, match=word):
            write_report(found, tmp_path)
        with pytest.raises(LedgerError, match=word):
            found.save(tmp_path)
        assert contents(tmp_path) == before
    write_report(found, tmp_path, overwrite=True)
    less = compare_in(None, seeds=1, models=without('one'))
    write_report(less, tmp_path, overwrite=True)
    assert sorted(
        p.relative_to(tmp_path).as_posix() for p in (tmp_path / 'weights').rglob('*.safetensors')
    ) == ['weights/three/seed_0.safetensors', 'weights/two/seed_0.safetensors']
    # and the reports that were there are whole, with their nets
    for aside in (tmp_path / 'kept').iterdir():
        report = mc.Comparison.load(aside)
        assert report.load_net('two', aside, 1, make=tiny.two) is not None
    assert len(list((tmp_path / 'kept').iterdir())) == 2


class Scaled(torch.nn.Module):
    "A net whose code, and nothing else, depends on a number."

    def __init__(self, factor):
        super().__init__()
        self.layer = torch.nn.Linear(784, 3)
        self.factor = factor

    def forward(self, x):
        return self.factor * self.layer(x.flatten(1))


def test_a_report_does_not_stand_beside_other_weights(compare_in, tmp_path):
    "More epochs replace its nets: from then on, until the new one is written, it stands aside."
    first = compare_in(tmp_path, epochs=1)
    write_report(first, tmp_path)
    longer = compare_in(tmp_path, epochs=2)
    assert not (tmp_path / 'report.json').exists() and not (tmp_path / 'report.html').exists()
    (aside,) = (tmp_path / 'kept').glob('report_*')
    assert mc.Comparison.load(aside) == first
    write_report(longer, tmp_path)
    net = mc.Comparison.load(tmp_path).load_net('one', tmp_path, 0, make=tiny.one)
    for name, w in net.state_dict().items():
        assert torch.equal(w, longer.weights['one'][0][name])


def test_a_newer_releases_report_is_left_alone(compare_in, tmp_path):
    found = compare_in(None)
    (tmp_path / 'report.json').write_text(json.dumps({'format': 'mnist_cmp report 99'}))
    with pytest.raises(LedgerError, match='Choose another folder'):
        write_report(found, tmp_path)
    (tmp_path / 'report.json').write_text('{"form')  # damaged: nothing to lose
    write_report(found, tmp_path)
    assert mc.Comparison.load(tmp_path) == found


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    "The command on small models; exit code and error output."
    monkeypatch.setattr('mnist_cmp.comparison.measure_costs', tiny.known_costs)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'few_nets.py').write_text(
        'import torch\ndef net(*layers): return torch.nn.Sequential(torch.nn.Flatten(), *layers)\n'
        'def A(): return net(torch.nn.Linear(784, 10))\ndef B(): return net(torch.nn.Linear(784, '
        '10), torch.nn.Tanh())\ndef C(): return net(torch.nn.Linear(784, 10), torch.nn.Sigmoid())\n'
    )

    def run(models, *words):
        named = ','.join(f'few_nets:{name}' for name in models)
        code = cli.main(['--models', named, *SMALL, '--out', str(tmp_path / 'out'), *words])
        return code, capsys.readouterr().err

    return run


def test_the_command_refuses_before_any_work_and_extends(command, tmp_path):
    out = tmp_path / 'out'
    assert command('AB')[0] == 0
    before = contents(out)
    for models, words, why in (
        ('AC', [], 'B would be dropped'),
        ('AB', ['--seeds', '1'], 'seeds of A was 2 and is 1'),
        ('AB', ['--seed', '5'], 'seed was 0 and is 5'),
    ):
        code, said = command(models, *words)
        assert code == 1 and why in said and 'another folder' in said
        assert contents(out) == before
    assert command('ABC', '--seeds', '3', '--epochs', '2', '--n_trials', '2')[0] == 0
    assert names_in(out) == ['A', 'B', 'C']
    runs = mc.Comparison.load(out)['A'].runs
    assert [len(run.history.epochs) for run in runs] == [2, 2, 2]


def test_every_figure_of_a_report_is_known(compare_in, tmp_path):
    "By these names the figures of an old report are found."
    from mnist_cmp.core.run_folder import figure_files
    from mnist_cmp.evidence.figures import comparison_figures

    found = compare_in(tmp_path, models=ALL)
    found.save(tmp_path)
    names = {f'{name}.png' for _, name, _, _ in comparison_figures(found)}
    assert len(names) > 8
    assert names <= set(figure_files(tmp_path))
