"The panel says what is true of a run at each moment of its life, and of what its fields hold."

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import ipywidgets as widgets
import pytest
from tiny import grouped, known_costs

import mnist_cmp as mc
from mnist_cmp.core.files import write_json
from mnist_cmp.core.ledger import LedgerError, folder_lock, is_taken
from mnist_cmp.ui.run_display import RunFollower
from mnist_cmp.ui.run_process import compare_as_noted
from mnist_cmp.ui.run_state import RunState, check_settings, extended_settings
from mnist_cmp.ui.run_view import run_sentence

SMALL = dict(models=['mlp', 'deep_mlp'], n_trials=1, search_epochs=1, epochs=1, seeds=1)
LONG = SMALL | dict(epochs=3000)


def panel_on(runs, **settings):
    panel = mc.ComparePanel(runs=runs, workers=1)
    panel.set(**settings)
    return panel


@pytest.fixture(autouse=True)
def panels(monkeypatch):
    "The panels that a test makes, in order; what they began is ended, however the test ends."
    made = []
    begin = mc.ComparePanel.__init__

    def noted(self, *args, **kwargs):
        made.append(self)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(mc.ComparePanel, '__init__', noted)
    yield made
    for panel in made:
        if hasattr(panel, 'follower') and panel.follower.has_process:
            panel.stop()
            panel.wait(60)


def until(condition, seconds=300):
    "Wait for a condition, which must come true."
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it never comes true'
        time.sleep(0.02)


def enabled(panel):
    return {name for name, button in panel.buttons.items() if not button.disabled}


# ---- a run in a folder, by what its file says and who holds it


@pytest.fixture
def begun(tmp_path):
    "Write a run's file; gives its folder."

    def make(state):
        folder = tmp_path / 'runs' / 'run'
        write_json(folder / 'panel.json', dict(state=state, settings=SMALL))
        (folder / '.panel').mkdir()
        return folder

    return make


def test_nobody_is_at_work(begun):
    folder = begun('running')
    assert RunState.read(folder).state == 'stopped'


@pytest.mark.parametrize(
    'noted,by_panel,by_run,state',
    [
        ('running', True, False, 'starting'),
        ('running', True, True, 'running'),
        ('running', False, True, 'running'),
        ('paused', True, True, 'stopping'),
        ('stopped', True, False, 'stopping'),
        ('stopped', False, True, 'running'),  # the command goes on with it
        ('paused', False, False, 'paused'),
        ('failed', False, False, 'failed'),
    ],
)
def test_state_by_the_locks(begun, noted, by_panel, by_run, state):
    folder = begun(noted)
    with ExitStack() as stack:
        if by_panel:
            stack.enter_context(folder_lock(folder / '.panel'))
        if by_run:
            stack.enter_context(folder_lock(folder))
        assert RunState.read(folder).state == state


@pytest.mark.parametrize(
    'state,buttons',
    [
        ('starting', {'pause', 'stop'}),
        ('running', {'pause', 'stop'}),
        ('stopping', set()),
        ('paused', {'stop', 'resume'}),
        ('stopped', {'run', 'resume'}),
        ('failed', {'run', 'resume'}),
        ('finished', {'run', 'resume'}),  # to go on with more of the same
    ],
)
def test_buttons_of_each_state(begun, state, buttons):
    panel = mc.ComparePanel(runs=begun('stopped').parent, workers=1)
    panel.display.show_line(RunState(panel.runs / 'run', panel.settings, state))
    assert enabled(panel) == buttons
    assert panel.fields['n_trials'].disabled == ('run' not in buttons)


def test_word_from_before_stop_is_not_shown_after_it(begun):
    folder = begun('stopped')
    panel = mc.ComparePanel(folder, workers=1)
    assert panel.message.value.startswith('Stopped')
    panel.display.ending.add(folder)
    panel.display.show_line(RunState(folder, panel.settings, 'running'))
    assert panel.message.value.startswith('Stopped')
    assert enabled(panel) == {'run', 'resume'}


# ---- a finished run that is to grow

MODELS = ['mlp', 'deep_mlp']


def report_in(folder, **how):
    "A finished comparison in a folder, and the panel's file beside it."
    how = dict(n_trials=1, search_epochs=1, epochs=1, seeds=1) | how
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mnist_cmp.comparison.measure_costs', known_costs)
        space = mc.Space(learning_rate=(0.001, 0.1), batch_size=(16, 48))
        kwargs = grouped(workers=1, progress=False, **how)
        result = mc.compare(MODELS, mc.load_data('digits'), space, store=folder, **kwargs)
    result.save(folder)
    write_json(folder / 'panel.json', dict(state='stopped', settings=SMALL | how))
    return folder


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    return report_in(tmp_path_factory.mktemp('grown') / 'runs' / 'run')


def test_trainings_of_fewer_epochs_are_none_of_the_longer_ones(finished):
    before = (finished / 'panel.json').read_bytes()
    write_json(finished / 'panel.json', dict(state='running', settings=SMALL | dict(epochs=40)))
    try:
        with folder_lock(finished):
            state = RunState.read(finished, running=True)
    finally:
        (finished / 'panel.json').write_bytes(before)
    assert state.share == 2 / 82  # the trials alone
    assert run_sentence(state, 1).startswith('Running: 2% of 82 epochs')
    assert RunState.read(finished).share == 1


def test_what_a_run_does_not_ask_for_is_not_counted(finished, tmp_path):
    folder = report_in(tmp_path / 'runs' / 'run', seeds=2, n_trials=2)
    write_json(folder / 'panel.json', dict(state='stopped', settings=SMALL))
    state = RunState.read(folder)
    assert state.share == 1 and {
        len(m) for d in (state.trials, state.trainings) for m in d.values()
    } == {1}


def test_the_share_never_falls_when_a_longer_search_finds_better_settings(tmp_path):
    "Trainings of a shorter search's settings are none of the run that is asked for now."
    folder = report_in(tmp_path / 'runs' / 'run', seeds=2)
    write_json(
        folder / 'panel.json', dict(state='running', settings=SMALL | dict(n_trials=4, seeds=2))
    )
    shares = []

    def look(trial=None, result=None):
        shares.append(RunState.read(folder, running=True).share)
        better = trial is not None and result.best.number == trial.number
        improved.append(better and trial.number != result.start)

    improved = []
    look()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mnist_cmp.comparison.measure_costs', known_costs)
        mc.compare(
            MODELS,
            mc.load_data('digits'),
            compute=mc.Compute(workers=1),
            store=folder,
            callbacks=mc.Callbacks(progress=False, on_trial=look, on_epoch=lambda history: look()),
            space=dict(learning_rate=(0.001, 0.1), batch_size=(16, 48)),
            n_trials=4,
            search_epochs=1,
            recipe=mc.Recipe(epochs=1),
            seeds=2,
        )
    look()
    assert any(improved), 'no longer search found better settings: this test says nothing'
    assert shares == sorted(shares)
    assert shares[-1] == 1


def go_on(panel, was):
    "The settings that Resume goes on with, where the run's note says `was`."
    return extended_settings(panel.folder, was, panel.settings)


def test_a_number_typed_by_mistake_can_be_taken_back(finished, monkeypatch):
    panel = mc.ComparePanel(finished, workers=1)
    noted = panel.state.settings
    wrong = noted | dict(seeds=100, epochs=50, n_trials=30, models=[*MODELS, 'cnn'])
    write_json(finished / 'panel.json', dict(state='stopped', settings=wrong))
    panel.set(**noted)
    assert go_on(panel, wrong) == noted
    for name in 'seeds', 'epochs', 'n_trials':
        assert go_on(panel, wrong)[name] == 1
    panel.set(models=['mlp', 'cnn'])  # of deep_mlp it holds results
    with pytest.raises(ValueError, match='models was'):
        go_on(panel, wrong)
    panel.set(models=MODELS)
    write_json(finished / 'panel.json', dict(state='stopped', settings=noted))


def test_fewer_than_the_report_holds_are_refused(tmp_path):
    folder = report_in(tmp_path / 'runs' / 'run', seeds=2, n_trials=2)
    panel = mc.ComparePanel(folder, workers=1)
    noted = panel.state.settings
    for name in 'seeds', 'n_trials':
        panel.set(**noted | {name: 1})
        with pytest.raises(ValueError, match=f'{name} was 2 and is 1'):
            go_on(panel, noted | {name: 100})  # whatever the note says
        with pytest.raises(ValueError, match=f'{name} was 2 and is 1'):
            go_on(panel, noted)


def test_the_panels_process_refuses_what_its_report_would_lose_by(finished):
    before = (finished / 'panel.json').read_bytes()
    seen = []
    how = dict(data_dir=None, download=False, workers=1)
    write_json(
        finished / 'panel.json',
        dict(
            state='running', how=how, settings=check_settings(SMALL | dict(models=['mlp', 'cnn']))
        ),
    )
    try:
        with pytest.raises(LedgerError, match='deep_mlp would be dropped'):
            compare_as_noted(finished, lambda: seen.append(1) or False)
    finally:
        (finished / 'panel.json').write_bytes(before)
    assert seen == [] and not (finished / 'search' / 'cnn').exists()


def test_the_panels_process_goes_on_with_an_extended_search(tmp_path):
    how = dict(data_dir=None, download=False, workers=1)
    small = SMALL | dict(batch_size=[16, 17])
    for seeds in 1, 2:
        settings = check_settings(small | dict(seeds=seeds, tuning={'extend': 'True'}))
        write_json(tmp_path / 'panel.json', dict(state='running', how=how, settings=settings))
        compare_as_noted(tmp_path, lambda: False)
        found = mc.Comparison.load(tmp_path)
        assert found['mlp'].search.extended_from is not None
        assert [len(model.runs) for model in found.models] == [seeds, seeds]


# ---- runs


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory):
    "A whole run: what the panel said, and at each word whether verdict and report were there."
    panel = panel_on(tmp_path_factory.mktemp('whole') / 'runs', **SMALL)
    lines = []

    def note_line(change):
        there = bool(panel.words.value) and bool(panel.link.name) and '<svg' in panel.pictures.value
        lines.append((change.new, there, enabled(panel)))

    panel.message.observe(note_line, 'value')
    panel.run()
    panel.wait()
    return panel, lines


def test_words_of_a_whole_run(whole_run):
    panel, lines = whole_run
    words = [text for text, _, _ in lines]
    kinds = [text.split()[0].rstrip(':.') for text in words]
    assert words[0] == 'Starting: 0% of 4 epochs are done; the data are being loaded.'
    assert (
        'Running: all epochs are done; costs are being measured, then the report is written.'
    ) in words
    assert words[-2:] == ['The run has ended; its result is being drawn.', 'Finished.']
    assert [kind for kind, last in zip(kinds, ['', *kinds]) if kind != last] == [
        'Starting',
        'Running',
        'The',
        'Finished',
    ]


def test_finished_is_said_with_the_result(whole_run):
    panel, lines = whole_run
    assert [there for text, there, _ in lines if text == 'Finished.'] == [True]
    assert not any(there for text, there, _ in lines if text != 'Finished.')


def test_last_run_is_shown_with_its_result(whole_run):
    again = mc.ComparePanel(runs=whole_run[0].runs, workers=1)
    lines = []

    def note_line(change):
        lines.append((change.new, bool(again.words.value)))

    again.message.observe(note_line, 'value')
    again.last.click()
    assert lines == [(f'{whole_run[0].folder} is being read.', False), ('Finished.', True)]


def test_failing_on_finish_is_said(whole_run):
    def fail(run):
        raise ValueError('there is no pad')

    again = mc.ComparePanel(whole_run[0].folder, workers=1, on_finish=fail)
    assert again.message.value == 'Finished, but what on_finish calls has failed: there is no pad'
    assert again.message.bad and again.words.value


def test_panel_of_another_notebook_stops_a_run(tmp_path):
    panel = panel_on(tmp_path / 'runs', **LONG)
    panel.run()
    other = mc.ComparePanel(runs=tmp_path / 'runs', workers=1)
    other.show_last()
    assert other.state.state in ('starting', 'running')  # not stopped, though it has hardly begun
    with pytest.raises(ValueError, match='is in use'):
        mc.ComparePanel(panel.folder, workers=1).resume()
    until(lambda: any(panel.state.trainings.values()))
    other.buttons['pause'].click()
    panel.wait(), other.wait()
    for each in panel, other:
        assert each.state.state == 'paused', each.message.value
        assert each.message.value.startswith('Paused at')
    assert panel.follower.child.process.poll() is not None
    other.buttons['resume'].click()
    assert other.follower.child.is_running(), other.message.value
    other.buttons['stop'].click()
    other.wait()
    assert other.message.value.startswith('Stopped at')


def test_a_run_hears_of_a_pause_while_its_panel_draws(tmp_path, monkeypatch):
    panel = panel_on(tmp_path / 'runs', **LONG)
    panel.run()
    until(lambda: is_taken(panel.folder))  # its process is at work
    monkeypatch.setattr(RunFollower, '_update', lambda *_: None)  # that has no end
    other = mc.ComparePanel(panel.folder, workers=1)
    other.buttons['pause'].click()
    panel.wait(60)
    other.wait(60)
    assert panel.follower.child.process.poll() is not None
    for each in panel, other:
        assert each.message.value.startswith('Paused at'), each.message.value


def test_stop_that_nobody_answers(begun):
    folder = begun('running')
    panel = mc.ComparePanel(folder, workers=1)
    with folder_lock(folder):  # such as the command
        panel._press('stop')
        assert 'is at work in another program' in panel.message.value and panel.message.bad
        assert RunState.read(folder).state == 'running'
    assert RunState.read(folder).state == 'stopped'


KERNEL = """import sys, time
from mnist_cmp import ComparePanel
panel = ComparePanel(runs=sys.argv[1], workers=1)
panel.set(models=['mlp', 'deep_mlp'], n_trials=1, search_epochs=1, epochs=3000, seeds=1)
panel.run()
print(panel.folder, flush=True)
if sys.argv[2] == 'late':
    while not any(panel.state.trainings.values()): time.sleep(.05)
print(panel.follower.child.process.pid, flush=True)
time.sleep(600)"""


@pytest.mark.skipif(os.name != 'posix', reason='signals')
@pytest.mark.parametrize('when', ['early', 'late'])
def test_kernel_that_dies_takes_its_run_along(tmp_path, when):
    "Killed so that nothing of it can say a word, while the run starts and while it trains."
    kernel = subprocess.Popen(
        [sys.executable, '-c', KERNEL, str(tmp_path / 'runs'), when],
        stdout=subprocess.PIPE,
        text=True,
    )
    folder = kernel.stdout.readline().strip()
    number = int(kernel.stdout.readline())
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()
    panel = mc.ComparePanel(folder, workers=1)
    panel.wait(60)
    assert panel.message.value.startswith('Stopped at'), panel.message.value
    assert enabled(panel) == {'run', 'resume'}
    until(lambda: not is_alive(number), 30)
    panel.set(epochs=3000)
    panel.buttons['resume'].click()
    assert panel.follower.child.is_running(), panel.message.value
    panel.stop()
    panel.wait()


def is_alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    entry = Path(f'/proc/{number}/stat')  # where nobody fetches its exit code it stays as a zombie
    return not entry.exists() or entry.read_text().rpartition(')')[2].split()[0] != 'Z'


def test_process_that_dies_at_its_start_has_failed(tmp_path, monkeypatch):
    "It has no time to note why."
    dying = 'raise SystemExit("no memory for this")'
    monkeypatch.setattr('mnist_cmp.ui.run_process.python_code', lambda code: dying)
    panel = panel_on(tmp_path / 'runs', **SMALL)
    panel.run()
    panel.wait()
    assert panel.state.state == 'failed' and panel.message.bad
    assert 'exit code 1' in panel.message.value and 'no memory for this' in panel.message.value


# ---- fields

WRONG = [
    ('n_trials', '0', 'trials is 0, but must be a whole number from 1 to 1000000000.'),
    ('n_trials', '-3', 'trials is -3, but must be a whole number from 1 to 1000000000.'),
    ('n_trials', '2000000000', 'trials is 2000000000, but must be'),
    ('n_trials', '2.5', "trials is '2.5', but must be a whole number"),
    ('n_trials', 'many', "trials is 'many', but must be a whole number"),
    ('n_trials', '', "trials is '', but must be a whole number"),
    ('search_epochs', '0', 'trial epochs is 0, but must be'),
    ('epochs', '0', 'epochs is 0, but must be'),
    ('seeds', '0', 'seeds is 0, but must be'),
    ('seed', '-1', 'seed is -1, but must be a whole number from 0'),
]
WRONG_ENDS = [
    ('learning_rate', 0, '0', 'learning rate is 0.0, but must be a finite number'),
    ('learning_rate', 1, 'nan', 'learning rate is nan, but must be a finite number'),
    ('learning_rate', 0, '0,1', "learning rate is '0,1', but must be a finite number"),
    ('learning_rate', 0, '7', 'lower end must be below'),
    ('batch_size', 0, '0', 'batch size is 0, but must be a whole number from 1'),
    ('batch_size', 1, '1.5', "batch size is '1.5', but must be a whole number"),
    ('batch_size', 0, '99', 'lower end must be below'),
]


def says(panel, field, text, problem):
    "The field keeps what was typed and is marked; the problem is said at once, and by Run."
    assert field.value == text
    assert 'mnist-cmp-wrong' in field._dom_classes
    assert problem.replace("'", '&#x27;') in panel.problem.value
    assert 'role="alert"' in panel.problem.value
    panel.buttons['run'].click()
    assert panel.message.bad and problem in panel.message.value
    assert not panel.runs.exists()


@pytest.mark.parametrize('name,text,problem', WRONG)
def test_wrong_number_is_said(tmp_path, name, text, problem):
    panel = panel_on(tmp_path / 'runs', **SMALL)
    panel.fields[name].value = text
    says(panel, panel.fields[name], text, problem)
    panel.fields[name].value = '3'
    assert panel.problem.value == '' and panel.settings[name] == 3
    assert 'mnist-cmp-wrong' not in panel.fields[name]._dom_classes


@pytest.mark.parametrize('name,end,text,problem', WRONG_ENDS)
def test_wrong_end_of_a_side_is_said(tmp_path, name, end, text, problem):
    panel = panel_on(tmp_path / 'runs', **SMALL)
    panel.fields[name][end].value = text
    says(panel, panel.fields[name][end], text, problem)


def test_one_model_is_said(tmp_path):
    panel = panel_on(tmp_path / 'runs', **SMALL)
    panel.fields['models'].value = ('mlp',)
    assert 'a comparison needs two at least' in panel.problem.value


def test_set_mends_a_wrong_field(tmp_path):
    panel = panel_on(tmp_path / 'runs', **SMALL)
    panel.fields['n_trials'].value = 'many'
    panel.set(n_trials=4, learning_rate=[0.002, 0.25])
    assert panel.settings == panel.settings | dict(n_trials=4, learning_rate=[0.002, 0.25])
    assert panel.problem.value == ''


def test_epochs_of_ones_own_outlive_another_data_set(tmp_path):
    panel = mc.ComparePanel(runs=tmp_path / 'runs', workers=1)
    panel.fields['epochs'].value = '7'
    panel.fields['dataset'].value = 'mnist'
    assert panel.settings['epochs'] == 7
    assert panel.settings['search_epochs'] == mc.Data.search_epochs
    panel.fields['dataset'].value = 'digits'
    assert panel.settings['search_epochs'] == 10


def test_each_label_has_a_title(tmp_path):
    "A label whose widget has no tooltip gets the title 'null' in the browser."

    def parts(widget):
        yield widget
        for child in getattr(widget, 'children', ()):
            yield from parts(child)

    panel = mc.ComparePanel(runs=tmp_path / 'runs', workers=1)
    labelled = widgets.widget_description.DescriptionWidget
    labels = [w for w in parts(panel.ui) if isinstance(w, labelled)]
    assert len(labels) > 10
    assert [w for w in labels if w.tooltip is None] == []


# ---- old names


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize('module', ['mnist_cmp.ui.controls', 'mnist_cmp.controls'])
def test_what_the_panels_module_gave_is_still_there(module):
    controls = importlib.import_module(module)
    assert controls.ComparePanel is mc.ComparePanel
    assert controls.RunState is RunState
    assert controls.check_settings is check_settings
