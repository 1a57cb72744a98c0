"A stored study is gone on with and extended; what is refused is refused by its true cause."

import json
import re
import sqlite3
import warnings
from contextlib import closing

import pytest
import tiny
import torch

import mnist_cmp as mc
from mnist_cmp import training
from mnist_cmp.core import system
from mnist_cmp.core.ledger import Ledger, LedgerError
from mnist_cmp.study import population, scheduling, studies, trainers
from mnist_cmp.training import train as train_net


def three():
    "As many parameters as `tiny.two`, and another layer between."
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 2), torch.nn.Tanh(), torch.nn.Linear(2, 3)
    )


def numbers(found):
    return [
        (
            c.name,
            [t.history.last.train_loss for t in c.search.trials],
            [(run.test, [e.train_loss for e in run.history.epochs]) for run in c.runs],
        )
        for c in found.models
    ]


def contents(folder):
    "Each file's bytes; locks excepted."
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.lock'
    }


def refused(call):
    "What a call says that refuses to go on."
    with pytest.raises(LedgerError) as error:
        call()
    return str(error.value)


# What differs is named, cause first, and nothing is lost


def test_a_changed_model_is_told_before_any_engine_complains(search_in, tmp_path, monkeypatch):
    "Even where the engine that was asked for does not serve the changed net."
    search_in(tmp_path, engine='onednn')

    class Gated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(784, 3)

        def forward(self, x):
            y = self.layer(x.flatten(1))
            return y if y.sum() > 0 else y + 1

    def no_engine(*args, **kwargs):
        raise AssertionError('an engine was prepared')

    monkeypatch.setattr(trainers, 'choose_engine', no_engine)
    before = contents(tmp_path)
    for engine in 'auto', 'onednn':
        said = refused(lambda: search_in(tmp_path, make=Gated, engine=engine))
        assert "layers was 'Sequential(' and is 'Gated('" in said
        assert 'choose another folder' in said and 'step serves' not in said
    assert contents(tmp_path) == before


def test_changed_data_are_not_taken_for_a_changed_net(search_in, data, tmp_path):
    search_in(tmp_path)
    x = data.train.x.clone()
    x[0] = 255 - x[0]
    other = mc.Split(x, data.train.y, 'train', data.train.classes)
    said = refused(
        lambda: mc.tune(
            {'one': tiny.one},
            other,
            data.valid,
            mc.Space(batch_size=(8, 16)),
            n_trials=2,
            recipe=mc.Recipe(epochs=2),
            compute=mc.Compute(workers=1),
            store=tmp_path,
        )
    )
    assert 'fingerprint of the training images was' in said
    assert 'layers' not in said and 'answers' not in said


def test_every_part_that_differs_is_named_in_order(search_in, tmp_path):
    search_in(tmp_path, engine='autograd')
    said = refused(lambda: search_in(tmp_path, make=three, epochs=3, seed=4, engine='onednn'))
    places = [
        said.index(f'{word} was') for word in ('layers', 'parameters', 'epochs', 'seed', 'engine')
    ]
    assert places == sorted(places)
    said = refused(lambda: search_in(tmp_path, seed=4, epochs=3))
    assert 'To go on with it, take epochs=2, seed=0' in said


def test_a_change_inside_forward_is_told(search_in, tmp_path):
    class Net(torch.nn.Sequential):
        factor = 1.0

        def __init__(self):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 3))

        def forward(self, x):
            return super().forward(x) * self.factor

    search_in(tmp_path, make=Net)
    Net.factor = 2.0
    said = refused(lambda: search_in(tmp_path, make=Net))
    assert 'a fresh net of its model gives other answers' in said and 'layers' not in said


def test_a_study_of_an_older_release_goes_on(search_in, tmp_path):
    "Its ledger knows nothing of layers and first weights, and of them alone nothing is said."
    whole = search_in(tmp_path / 'whole', n_trials=3)
    search_in(tmp_path / 'old', n_trials=2)
    with closing(sqlite3.connect(tmp_path / 'old' / 'study.sqlite')) as ledger, ledger:
        (text,) = ledger.execute("SELECT value FROM study WHERE key='identity'").fetchone()
        identity = json.loads(text)
        for key in 'layers', 'first_weights':
            del identity[key]
        ledger.execute("UPDATE study SET value=? WHERE key='identity'", [json.dumps(identity)])
    again = search_in(tmp_path / 'old', n_trials=3)
    assert [t.accuracy for t in again.trials] == [t.accuracy for t in whole.trials]
    assert 'a fresh net of its model gives other answers' in refused(
        lambda: search_in(tmp_path / 'old', make=tanh_one)
    )


def tanh_one():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3), torch.nn.Tanh())


# Cores and threads


def with_cores(monkeypatch, number):
    text = re.sub(r'\d+ cores', f'{number} cores', system.machine())
    for module in (system, trainers, scheduling, training, population):
        monkeypatch.setattr(module, 'machine', lambda: text)


def test_more_cores_change_nothing(compare_in, tmp_path, monkeypatch):
    "Trials and trainings that are finished stay, and one that was begun goes on from its epoch."
    whole = numbers(compare_in(tmp_path / 'whole', epochs=3))
    seen = []

    def interrupt(history):
        seen.append(history)
        if len(seen) == 4:  # two trials, and two epochs of the first training
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_in(tmp_path / 'run', epochs=3, on_epoch=interrupt)
    begun = list((tmp_path / 'run').rglob('last.safetensors'))
    with_cores(monkeypatch, 512)
    assert numbers(compare_in(tmp_path / 'run', epochs=3, on_epoch=seen.append)) == whole
    assert len(begun) == 1 and len(seen) == 2 * 1 + 2 * 2 * 3  # no epoch was trained twice


def test_a_study_keeps_its_threads_and_says_so(search_in, tmp_path):
    whole = search_in(tmp_path / 'whole', n_trials=3)
    search_in(tmp_path / 's', n_trials=2)
    with pytest.warns(UserWarning, match='begun with threads=1 and goes on with that') as heard:
        again = search_in(tmp_path / 's', n_trials=3, threads=2)
    assert heard[0].filename.endswith('conftest.py')  # where search was called
    assert [t.history.threads for t in again.trials] == [1, 1, 1]
    assert [t.loss for t in again.trials] == [t.loss for t in whole.trials]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (
            search_in(tmp_path / 's', n_trials=3, threads=2) == again
        )  # finished: nothing to keep


def test_what_is_finished_is_there_on_any_machine(search_in, tmp_path, monkeypatch):
    found = search_in(tmp_path)
    monkeypatch.setattr(trainers, 'machine', lambda: 'another machine')
    assert search_in(tmp_path) == found
    assert 'machine was' in refused(lambda: search_in(tmp_path, n_trials=3))


# Extension


def test_the_first_trials_of_a_longer_search_are_those_of_a_shorter_one(search_in, tmp_path):
    ended = []
    short = search_in(tmp_path, n_trials=2)
    longer = search_in(tmp_path, n_trials=4, on_trial=lambda trial, _: ended.append(trial.number))
    assert longer.trials[:2] == short.trials and ended == [1032, 1033]
    assert search_in(tmp_path, n_trials=2) == short
    assert [t.loss for t in search_in(tmp_path / 'fresh', n_trials=4).trials] == [
        t.loss for t in longer.trials
    ]


EXTENSIONS = {
    'epochs': (dict(epochs=3), 2 * 2 * 3),
    'fewer epochs': (dict(epochs=1), 0),
    'seeds': (dict(seeds=3), 2 * 2),
    'epochs and seeds': (dict(epochs=3, seeds=3), 2 * 3 * 3),
    'models': (dict(models={'one': tiny.one, 'two': tiny.two, 'three': three}), 1 + 2 * 2),
}


@pytest.mark.parametrize('change, trained', EXTENSIONS.values(), ids=EXTENSIONS)
def test_a_stored_comparison_gives_what_a_fresh_one_gives(compare_in, tmp_path, change, trained):
    "And trains only what is new; back with the old arguments, nothing at all."
    if change == dict(epochs=1):
        compare_in(tmp_path / 'run', epochs=1)
    began = compare_in(tmp_path / 'run', epochs=2)
    seen = []
    found = compare_in(tmp_path / 'run', on_epoch=seen.append, **{'epochs': 2} | change)
    assert numbers(found) == numbers(compare_in(tmp_path / 'fresh', **{'epochs': 2} | change))
    assert len(seen) == trained
    seen.clear()
    assert numbers(compare_in(tmp_path / 'run', epochs=2, on_epoch=seen.append)) == numbers(began)
    assert seen == []


def test_more_trials_may_find_a_better_point(compare_in, tmp_path):
    "Then the trainings begin anew at that point, and the former ones are kept."
    seen = []
    few = compare_in(tmp_path / 'run', n_trials=1)
    many = compare_in(tmp_path / 'run', n_trials=6, on_epoch=seen.append)
    assert any(
        a.search.best.number != b.search.best.number for a, b in zip(few.models, many.models)
    )
    assert numbers(many) == numbers(compare_in(tmp_path / 'fresh', n_trials=6))
    seen.clear()
    assert numbers(compare_in(tmp_path / 'run', n_trials=1, on_epoch=seen.append)) == numbers(few)
    assert seen == []


def test_other_test_images_are_measured_again(compare_in, data, tmp_path, monkeypatch, free_costs):
    "The trainings stay; the results on the former images are kept."
    few = compare_in(tmp_path / 'run')
    other = mc.Data.from_arrays(
        data.train.x,
        data.train.y,
        255 - data.test.x,
        data.test.y,
        data.valid.x,
        data.valid.y,
        classes=list('abc'),
    )
    seen = []
    models = {'one': tiny.one, 'two': tiny.two}
    how = dict(epochs=1, workers=1, on_epoch=seen.append, search_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        space = {'batch_size': (8, 16)}
        store = tmp_path / 'run'
        found = mc.compare(
            models, other, space, n_trials=1, seeds=2, store=store, **tiny.grouped(**how)
        )
    assert seen == []
    assert found['one'].runs[0].test != few['one'].runs[0].test
    monkeypatch.setattr('mnist_cmp.comparison.measure_test', None)  # nothing is measured twice
    assert numbers(compare_in(tmp_path / 'run')) == numbers(few)


def test_a_kill_while_trainings_are_put_aside_loses_none(compare_in, tmp_path, monkeypatch):
    "Wherever it comes: before a folder is moved, after it, or after the report is."
    from mnist_cmp.core import run_folder

    folder = tmp_path / 'run'
    few = compare_in(folder, epochs=1)
    mc.write_report(few, folder)
    much = numbers(compare_in(tmp_path / 'fresh', epochs=2))

    class Killed(BaseException):
        pass

    move = run_folder._move
    for when in range(5):
        moves = []

        def killed_move(source, target):
            if len(moves) == when:
                raise Killed
            moves.append(source)
            move(source, target)

        monkeypatch.setattr(run_folder, '_move', killed_move)
        for epochs in 2, 1:
            try:
                compare_in(folder, epochs=epochs)
            except Killed:
                pass
        monkeypatch.setattr(run_folder, '_move', move)
        assert numbers(compare_in(folder, epochs=2)) == much
        assert numbers(compare_in(folder, epochs=1)) == numbers(few)


def test_search_epochs_of_a_stored_comparison(compare_in, tmp_path):
    compare_in(tmp_path)
    before = contents(tmp_path)
    said = refused(lambda: compare_in(tmp_path, search_epochs=2))
    assert 'epochs was 1 and is 2' in said and 'search_epochs=1 of a comparison' in said
    assert contents(tmp_path) == before


def test_a_checkpoint_knows_its_machine_without_its_cores(data, tmp_path, monkeypatch):
    net = tiny.one()
    train_net(net, data.train, data.valid, mc.Recipe(0.1, 8, 1), checkpoint=tmp_path)
    with_cores(monkeypatch, 512)
    longer = mc.Recipe(0.1, 8, 2)
    found = train_net(tiny.one(), data.train, data.valid, longer, checkpoint=tmp_path)
    assert len(found.epochs) == 2
    monkeypatch.setattr('mnist_cmp.training.machine', lambda: 'another machine')
    with pytest.raises(ValueError, match='machine was'):
        train_net(tiny.one(), data.train, data.valid, longer, checkpoint=tmp_path)


def test_another_study_of_a_retraining(data, tmp_path):
    how = dict(seeds=1, compute=mc.Compute(workers=1), store=tmp_path)
    mc.retrain({'one': tiny.one}, data.train, data.valid, mc.Recipe(0.1, 8, epochs=1), **how)
    with pytest.raises(
        LedgerError,
        match='The training in .* epochs was 1 and is 2. To go on with it, take epochs=1, or',
    ):
        mc.retrain({'one': tiny.one}, data.train, data.valid, mc.Recipe(0.1, 8, epochs=2), **how)
    with Ledger.read(tmp_path) as ledger:
        assert ledger.done() == {0}


# What a begun study keeps


def test_a_search_of_the_first_release_keeps_its_engine(data, search_in, tmp_path):
    """Its file does not name the engine; the trials do. A trial that was stopped is not one that
    is done."""
    made = search_in(tmp_path / 'now', engine='autograd', n_trials=2, init='glorot')
    with Ledger.read(tmp_path / 'now') as ledger:
        identity = ledger.identity
    later = 'engine', 'layers', 'first_weights', 'threads', 'device', 'machine', 'log'
    identity = {key: value for key, value in identity.items() if key not in later}
    trials = [{'index': trial.number, 'history': trial.history.to_dict()} for trial in made.trials]
    trials[1]['history'] |= {'state': 'stopped'}
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'study.json').write_text(
        json.dumps(
            {
                'format': 'mnist_cmp study 1',
                'identity': identity | {'init': 'glorot_init'},
                'trials': trials,
            }
        )
    )
    assert studies.study_in(tmp_path / 'old').done == {made.trials[0].number}
    found = search_in(tmp_path / 'old', n_trials=1)
    assert found.trials[0].history.engine == 'autograd'
    found = search_in(tmp_path / 'old', n_trials=3)
    assert [trial.history.engine for trial in found.trials] == ['autograd'] * 3


def test_more_cores_do_not_hide_a_changed_model(search_in, tmp_path, monkeypatch):
    search_in(tmp_path, n_trials=1)
    identity = studies.study_in(tmp_path).identity

    class Changed(torch.nn.Sequential):
        def forward(self, x):
            return -super().forward(x)

    def changed():
        net = tiny.one()
        return Changed(*net)

    more = identity | {'machine': re.sub(r'\d+ core', '64 core', identity['machine'])}
    assert system.machine_kind(more['machine']) == system.machine_kind(identity['machine'])
    assert more['machine'] != identity['machine']
    kept = studies.as_begun(identity | {'net': 'another'}, studies.Begun(more, {1030}, False))
    assert kept['net'] == 'another'  # and so it is refused
    with pytest.raises(LedgerError, match='layers was'):
        search_in(tmp_path, n_trials=1, make=changed)


def test_a_net_that_shows_an_address_is_one_net(data):
    "What PyTorch says of this net names a place in memory, another one for each net."

    class Showing(torch.nn.Linear):
        def extra_repr(self):
            return f'of {self.other}'

    def made():
        torch.manual_seed(0)
        layer = Showing(784, 3)
        layer.other = object()
        return torch.nn.Sequential(torch.nn.Flatten(), layer)

    nets = made(), made()
    assert str(nets[0]) != str(nets[1])
    assert trainers.net_digest(nets[0], data.train) == trainers.net_digest(nets[1], data.train)


def test_trainings_that_are_stopped_at_once_give_what_is_done(data, tmp_path):
    study = {'one': tiny.one}, data.train, data.valid, mc.Recipe(0.1, 16, 1)
    how = dict(compute=mc.Compute(workers=1, engine='compiled'), store=tmp_path)
    before = mc.retrain(*study, seeds=1, **how)
    after = mc.retrain(*study, seeds=2, callbacks=mc.Callbacks(should_stop=lambda: True), **how)
    assert [one.history for one in after] == [one.history for one in before]


def test_a_model_added_to_an_older_comparison_begins_as_the_others_did(
    compare_in, tmp_path, capsys
):
    own = {'one': tiny.one, 'two': tiny.two}
    compare_in(tmp_path, models=own, init=mc.models.glorot_of_all)  # as all were before
    found = compare_in(tmp_path, models=own | {'three': three})
    assert {c.init for c in found.models} == {'Glorot & Bengio (2010)'}
    assert 'goes on with them for three' in capsys.readouterr().err
    fresh = compare_in(tmp_path / 'fresh', models=own | {'three': three})
    assert {c.init for c in fresh.models} == {"the model's own"}


def test_costs_and_tests_are_computed_with_the_threads_of_the_trainings(
    compare_in, tmp_path, monkeypatch
):
    compare_in(tmp_path, threads=2)
    asked = []

    def measured(models, *args, threads, **how):
        asked.append(threads)
        return tiny.known_costs(models)

    monkeypatch.setattr('mnist_cmp.comparison.measure_costs', measured)
    for file in (tmp_path / 'costs').glob('*.json'):
        file.unlink()
    with pytest.warns(UserWarning, match='threads is 1, but the searches of one, two'):
        compare_in(tmp_path, threads=1)
    assert asked == [{'one': 2, 'two': 2}]


def test_layers_that_are_frozen_later_make_another_study(search_in, tmp_path):
    search_in(tmp_path, n_trials=1)

    def frozen():
        net = tiny.one()
        net[1].weight.requires_grad_(False)
        return net

    assert "'1.weight: (3, 784), frozen'" in refused(
        lambda: search_in(tmp_path, n_trials=1, make=frozen)
    )
