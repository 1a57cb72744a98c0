"""A run folder that a stranger made: pipes and links in it, and reports that ask for gigabytes,
are refused at once."""

import json
import os
import shutil
import tracemalloc

import pytest
from tiny import error_of, one

import mnist_cmp as mc
from mnist_cmp.core.files import write_json
from mnist_cmp.ui.run_process import begin_process
from mnist_cmp.ui.run_state import RunState, histories_in, newest_run

posix = pytest.mark.skipif(os.name != 'posix', reason='pipes and links')
SETTINGS = {'state': 'finished', 'error': None, 'how': {}, 'settings': {'models': ['one', 'two']}}


@pytest.fixture
def run_folder(compare_in, tmp_path):
    "A finished run as a panel leaves it, small."
    found = compare_in(tmp_path / 'run')
    found.save(tmp_path / 'run')
    (tmp_path / 'run' / 'report.html').write_text('<p>')
    write_json(tmp_path / 'run' / 'panel.json', SETTINGS)
    return tmp_path / 'run'


READERS = {
    'report.json': lambda folder: mc.Comparison.load(folder),
    'panel.json': lambda folder: RunState.read(folder),
    'weights/one/seed_0.safetensors': lambda folder: mc.Comparison.load(folder).load_net(
        'one', folder, make=one
    ),
}


@posix
@pytest.mark.parametrize('name', READERS)
def test_pipes_are_refused(run_folder, name):
    READERS[name](run_folder)
    (run_folder / name).unlink()
    os.mkfifo(run_folder / name)
    assert isinstance(error_of(lambda: READERS[name](run_folder)), (ValueError, FileNotFoundError))


@posix
@pytest.mark.parametrize('name', READERS)
def test_linked_files_are_refused(run_folder, tmp_path, name):
    shutil.move(run_folder / name, tmp_path / 'outside')
    (run_folder / name).symlink_to(tmp_path / 'outside')
    with pytest.raises(ValueError, match='is a link'):
        READERS[name](run_folder)


@posix
@pytest.mark.parametrize('name', ['weights', 'weights/one'])
def test_weights_of_linked_folders_are_not_read(run_folder, tmp_path, name):
    shutil.move(run_folder / name, tmp_path / 'outside')
    (run_folder / name).symlink_to(tmp_path / 'outside')
    with pytest.raises(ValueError, match='is a link'):
        READERS['weights/one/seed_0.safetensors'](run_folder)


@posix
def test_pad_reads_no_linked_weights(run_folder, tmp_path):
    shutil.move(run_folder / 'weights', tmp_path / 'outside')
    (run_folder / 'weights').symlink_to(tmp_path / 'outside')
    with pytest.raises(ValueError, match='is a link'):
        mc.DigitPad.load(run_folder, makers={'one': one, 'two': one})


@posix
@pytest.mark.parametrize('name', ['search', 'search/one', 'search/one/study.sqlite'])
def test_panel_reads_no_linked_ledger(run_folder, tmp_path, name):
    assert histories_in(run_folder, 'search', 'one')
    shutil.move(run_folder / name, tmp_path / 'outside')
    (run_folder / name).symlink_to(tmp_path / 'outside')
    with pytest.raises(ValueError, match='is a link'):
        RunState.read(run_folder)


@posix
@pytest.mark.parametrize('name', ['figures', 'weights', 'weights/two'])
def test_reports_write_nothing_outside(run_folder, tmp_path, compare_in, name):
    found = compare_in(tmp_path / 'other')
    outside = tmp_path / 'outside'
    outside.mkdir()
    shutil.rmtree(run_folder / name, ignore_errors=True)
    (run_folder / name).symlink_to(outside)
    with pytest.raises(ValueError, match='is a link'):
        mc.write_report(found, run_folder)
    assert not list(outside.iterdir())


@posix
def test_linked_files_are_put_aside_and_not_written_through(run_folder, tmp_path, compare_in):
    found = compare_in(tmp_path / 'other')
    (tmp_path / 'outside').write_text('mine')
    (run_folder / 'figures').mkdir()
    for name in 'report.json', 'report.html', 'runs.csv', 'figures/runs.png':
        (run_folder / name).unlink(missing_ok=True)
        (run_folder / name).symlink_to(tmp_path / 'outside')
    with pytest.raises(ValueError, match='files that are none of a report here'):
        mc.write_report(found, run_folder)
    assert (run_folder / 'figures' / 'runs.png').is_symlink()  # nothing was touched
    mc.write_report(found, run_folder, overwrite=True)
    assert (tmp_path / 'outside').read_text() == 'mine'
    assert not (run_folder / 'figures' / 'runs.png').is_symlink()


@posix
def test_log_of_a_run_is_not_written_through_links_and_pipes(run_folder, tmp_path):
    (tmp_path / 'outside').write_text('mine')
    (run_folder / 'panel.log').symlink_to(tmp_path / 'outside')
    with pytest.raises(ValueError, match='is a link'):
        begin_process(run_folder)
    (run_folder / 'panel.log').unlink()
    os.mkfifo(run_folder / 'panel.log')
    error = error_of(lambda: begin_process(run_folder))
    assert isinstance(error, ValueError) and 'panel.log is no file' in str(error)
    assert (tmp_path / 'outside').read_text() == 'mine'


@posix
def test_links_among_the_runs_are_no_runs(run_folder, tmp_path):
    linked = run_folder.parent / 'linked'
    linked.mkdir()
    write_json(tmp_path / 'outside.json', SETTINGS)
    os.utime(tmp_path / 'outside.json', (2e9, 2e9))
    (linked / 'panel.json').symlink_to(tmp_path / 'outside.json')
    assert newest_run(run_folder.parent) == run_folder


def test_panel_opens_nothing_unasked(run_folder, monkeypatch):
    def read(*args, **kwargs):
        raise AssertionError('a folder was opened unasked')

    monkeypatch.setattr(RunState, 'read', read)
    panel = mc.ComparePanel(runs=run_folder.parent, workers=1)
    assert panel.folder is None and panel.last.layout.display is None


# ---- reports that ask for more than they are


def without_labels(report):
    report.update(labels=[], pictures={})


def ten_million_images(report):
    without_labels(report)
    report['sizes']['test'] = 10**7


def million_classes(report):
    report['classes'] = ['x'] * 10**6


def many_runs(report):
    without_labels(report)
    report['sizes']['test'] = 10**6
    for c in report['contestants']:
        c['runs'] = c['runs'][:1] * 100


def many_models(report):
    first = report['contestants'][0]
    report['contestants'] = [first | {'name': f'net_{k}'} for k in range(1000)]


def many_ks(report):
    report['classes'] = [str(k) for k in range(5000)]
    for c in report['contestants']:
        for run in c['runs']:
            run['test']['errors'] |= {str(k): 0 for k in range(2, 5001)}


def large_k(report):
    for c in report['contestants']:
        for run in c['runs']:
            run['test']['errors'] |= {str(2**40): 0}


def many_pictures(report):
    picture = next(text for held in report['pictures'].values() for text in held.values())
    report['pictures'] = {'all': {str(k): picture for k in range(16)}}


@pytest.mark.parametrize(
    'change',
    [ten_million_images, million_classes, many_runs, many_models, many_ks, large_k, many_pictures],
)
def test_reports_that_ask_for_much_are_refused(run_folder, change):
    report = json.loads((run_folder / 'report.json').read_text())
    change(report)
    write_json(run_folder / 'report.json', report)
    tracemalloc.start()
    with pytest.raises(ValueError, match='report.json is damaged'):
        mc.Comparison.load(run_folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000, f'{peak:,} bytes'


def test_findings_take_memory_by_what_a_report_holds(run_folder):
    "5,000 classes and 500 runs are worked out in seconds: no table of classes², none of runs²."
    report = json.loads((run_folder / 'report.json').read_text())
    report['classes'] = [str(k) for k in range(5000)]
    report['trained_on'] = [1] * 5000
    for c in report['contestants']:
        c['runs'] = [c['runs'][0] | {'number': k} for k in range(500)]
    write_json(run_folder / 'report.json', report)
    found = mc.Comparison.load(run_folder)
    tracemalloc.start()
    assert len(found.class_errors()) == 5000
    assert found.agreement().loc['one', 'one'] == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000, f'{peak:,} bytes'


def test_settings_of_a_panel_are_bounded(run_folder):
    for change in {'n_trials': 10**300}, {'models': [f'net_{k}' for k in range(1000)]}:
        write_json(
            run_folder / 'panel.json', SETTINGS | {'settings': SETTINGS['settings'] | change}
        )
        with pytest.raises(ValueError, match='panel.json is damaged'):
            RunState.read(run_folder)


def test_long_error_of_a_run_is_cut(run_folder):
    write_json(run_folder / 'panel.json', SETTINGS | {'state': 'failed', 'error': 'x' * 10**6})
    assert len(RunState.read(run_folder).error) == 2000
