"A report replaces no file that is none of ours, and loses nothing where it is told to make room."

import json

import pytest
import tiny

import mnist_cmp as mc
from mnist_cmp import cli
from mnist_cmp.comparison import check_extends
from mnist_cmp.core.ledger import LedgerError
from mnist_cmp.core.settings import Effort
from mnist_cmp.report import write_report

SMALL = '--n_trials 1 --search_epochs 1 --seeds 1 --epochs 1 --workers 1 --quiet'.split()
THEIRS = [
    'report.html',
    'runs.csv',
    'report.json',
    'figures/runs.png',
    'figures/search_one.svg',
    'weights/one/seed_0.safetensors',
]


def contents(folder):
    "Path → bytes of all files but our locks."
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.lock'
    }


def put(folder, *names):
    "Files of another's under these names; what they hold."
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({'mine': name}))
    return contents(folder)


@pytest.fixture(autouse=True)
def one_figure(monkeypatch):
    "Of the figures, that take long, only those of the models' searches are drawn."
    from mnist_cmp import report
    from mnist_cmp.evidence import figures

    everything = figures.comparison_figures

    def few(comparison):
        return [each for each in everything(comparison) if each[1].startswith('search_')]

    monkeypatch.setattr(report, 'comparison_figures', few)


@pytest.fixture
def found(compare_in):
    return compare_in(None)


@pytest.mark.parametrize('name', THEIRS)
def test_a_file_of_anothers_is_not_replaced(found, tmp_path, name):
    before = put(tmp_path, name, 'notes.txt')
    with pytest.raises(LedgerError) as refusal:
        write_report(found, tmp_path)
    said = str(refusal.value)
    assert name in said and 'notes.txt' not in said
    assert 'another folder' in said and 'overwrite=True' in said
    assert contents(tmp_path) == before


def test_all_are_named(found, tmp_path):
    put(tmp_path, *THEIRS)
    with pytest.raises(LedgerError) as refusal:
        write_report(found, tmp_path)
    assert all(name in str(refusal.value) for name in THEIRS)


def test_overwriting_keeps_them(found, tmp_path):
    before = put(tmp_path, *THEIRS, 'notes.txt', 'figures/mine.png')
    write_report(found, tmp_path, overwrite=True)
    assert mc.Comparison.load(tmp_path) == found
    (aside,) = (tmp_path / 'kept').iterdir()
    assert contents(aside) == {name: before[name] for name in THEIRS}
    after = contents(tmp_path)
    for name in ('notes.txt', 'figures/mine.png'):
        assert after[name] == before[name]
    write_report(found, tmp_path)  # from now on the report is ours
    assert [path.name for path in (tmp_path / 'kept').iterdir()] == [aside.name]


def test_saving_alone_asks_for_its_own_files_only(found, tmp_path):
    before = put(tmp_path, 'report.html')
    found.save(tmp_path)
    assert contents(tmp_path)['report.html'] == before['report.html']


def test_a_figure_of_a_new_model_in_our_report(compare_in, tmp_path):
    "Beside our report, too, a file that it never wrote is another's."
    write_report(compare_in(tmp_path), tmp_path)
    put(tmp_path, 'figures/search_three.png')
    before = contents(tmp_path)
    more = compare_in(tmp_path, models={'one': tiny.one, 'two': tiny.two, 'three': tiny.one})
    with pytest.raises(LedgerError, match='figures/search_three.png'):
        write_report(more, tmp_path)
    assert contents(tmp_path)['report.json'] == before['report.json']


def test_what_a_kill_left_of_our_own_is_replaced(found, tmp_path):
    write_report(found, tmp_path)
    whole = contents(tmp_path)
    # killed before its report.json was written: the weights are these
    for name in whole:
        if not name.startswith('weights'):
            (tmp_path / name).unlink()
    write_report(found, tmp_path)
    assert contents(tmp_path) == whole
    # a disk that lost the end of it
    (tmp_path / 'report.json').write_bytes(whole['report.json'][:50])
    write_report(found, tmp_path)
    assert contents(tmp_path) == whole


@pytest.mark.parametrize('text', ['[]', '{}', '{"format": "of mine"}', 'not JSON', '"format"'])
def test_whose_a_report_is(found, tmp_path, text):
    (tmp_path / 'report.json').write_text(text)
    with pytest.raises(LedgerError, match='report.json'):
        write_report(found, tmp_path)
    assert (tmp_path / 'report.json').read_text() == text


def test_a_newer_releases_report_is_kept(found, tmp_path):
    text = json.dumps({'format': 'mnist_cmp report 99'})
    (tmp_path / 'report.json').write_text(text)
    put(tmp_path, 'report.html', 'figures/search_one.png')
    write_report(found, tmp_path, overwrite=True)
    kept = {name for place in (tmp_path / 'kept').iterdir() for name in contents(place)}
    assert kept == {'report.json', 'report.html', 'figures/search_one.png'}


def test_a_folder_in_the_place_of_a_file(found, tmp_path):
    before = put(tmp_path, 'report.html/inside.txt')
    with pytest.raises(LedgerError, match='report.html'):
        write_report(found, tmp_path)
    assert contents(tmp_path) == before


def test_the_command_refuses_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('mnist_cmp.comparison.measure_costs', tiny.known_costs)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'two_nets.py').write_text(
        'import torch\ndef A(): return torch.nn.Sequential(torch.nn.Flatten(), '
        'torch.nn.Linear(784, 10))\ndef B(): return torch.nn.Sequential(torch.nn.Flatten(), '
        'torch.nn.Linear(784, 10))\n'
    )
    out = tmp_path / 'out'
    before = put(out, 'report.html', 'figures/search_A.png')
    words = ['--models', 'two_nets:A,two_nets:B', *SMALL, '--out', str(out)]
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert 'report.html' in said and 'figures/search_A.png' in said and 'another folder' in said
    assert contents(out) == before
    for name in before:
        (out / name).unlink()
    assert cli.main(words) == 0
    assert cli.main(words) == 0  # and in its own


def test_weights_of_a_store_are_ours(compare_in, data, tmp_path):
    compare_in(tmp_path)  # without a report
    effort = Effort(n_trials=1, seeds=2, search_epochs=1)
    error = tiny.error_of(
        lambda: check_extends(tmp_path, {'one': tiny.one, 'two': tiny.two}, data, effort, 1)
    )
    assert error is None, "our own weights are called another's"
