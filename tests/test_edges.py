"""Right values at edges, where a slip of one, of a sign or of an end would hide."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import odd
import pytest
import torch
from torch import nn

import mnist_cmp as mc
from mnist_cmp import data as data_room
from mnist_cmp.cli import _names, _resume_command
from mnist_cmp.core import checks, display, files, system
from mnist_cmp.core.ledger import Ledger, _transaction
from mnist_cmp.core.spaces import fit_batches
from mnist_cmp.datasets import sources
from mnist_cmp.engines.chains import recognise, why_no_chain
from mnist_cmp.engines.compiled import _who_else, is_served
from mnist_cmp.engines.evaluation import weights_digest
from mnist_cmp.evidence import differences
from mnist_cmp.evidence.comparison import Comparison
from mnist_cmp.evidence.differences import Difference
from mnist_cmp.evidence.intervals import _stay_within, calibration
from mnist_cmp.evidence.tables import unequal_sizes
from mnist_cmp.evidence.verdict import verdict
from mnist_cmp.study import costs
from mnist_cmp.study.population import nets_at_once
from mnist_cmp.study.scheduling import drop_checkpoints
from mnist_cmp.study.workers import run_jobs
from mnist_cmp.training import Epoch, History
from mnist_cmp.ui.pad import _offset
from mnist_cmp.ui.specs import parse_side

RESULTS = 'nbs/results'


# core


def test_limits_of_numbers_are_included():
    assert (checks.check_int('n', 5, 1, 5), checks.check_int('n', 1, 1, 5)) == (5, 1)
    assert (checks.check_float('x', 0, 0, 1), checks.check_float('x', 1, 0, 1)) == (0, 1)
    with pytest.raises(ValueError, match='above 0'):
        checks.check_float('x', 0, 0, 1, low_open=True)


@pytest.mark.parametrize(
    'seconds, words',
    [(59, '59 s'), (60, '1 min 00 s'), (3599, '59 min 59 s'), (3600, '1 h 00 min')],
)
def test_where_units_change(seconds, words):
    assert system.format_seconds(seconds) == words


def test_time_left_is_that_of_the_steps_to_come(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(display.time, 'perf_counter', lambda: clock[0])
    with display.Progress(10, 'work', done=2) as bar:
        clock[0] += 12
        bar.update(4)  # 3 s each, and 4 to come
        assert ', 12 s left' in bar._html()


@pytest.mark.skipif(os.name != 'posix', reason='folders are put on the disk on POSIX alone')
def test_file_and_name_are_put_on_the_disk_in_order(tmp_path, monkeypatch):
    said = []
    replace_file = os.replace

    def fsync(path):
        said.append('folder' if os.path.isdir(path) else 'file')

    def rename(*paths):
        said.append('name')
        replace_file(*paths)

    monkeypatch.setattr(files, '_fsync', fsync)
    monkeypatch.setattr(files.os, 'replace', rename)
    files.write_json(tmp_path / 'a.json', {})
    assert said == ['file', 'name', 'folder']


# data


@pytest.mark.parametrize('most, good', [(9, False), (10, True)])
def test_a_download_may_have_so_many_bytes_and_no_more(tmp_path, most, good):
    class Answer:
        def iter_content(self, size):
            yield from (b'12345', b'67890')

    stream = sources._Stream(most)
    if good:
        stream._save(Answer(), tmp_path / 'a')
        assert (tmp_path / 'a').read_bytes() == b'1234567890'
    else:
        with pytest.raises(ValueError, match='more than 9 bytes'):
            stream._save(Answer(), tmp_path / 'a')


def test_fingerprint_tells_shapes_and_types():
    zeros = [torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.int32)]
    assert len({data_room._sha256(t) for t in zeros}) == len(zeros)


def test_samples_depend_on_the_seed(data):
    shown = [mc.show_samples(data.train, 4, seed).images[0].get_array() for seed in (0, 0, 1)]
    assert np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[0], shown[2])


# nets


def test_deep_mlp_ends_in_plain_logits():
    logits = mc.initialise(mc.DeepMLP)(torch.rand(64, 1, 28, 28))
    assert (logits < 0).any() and (logits > 0).any()


def test_answers_of_an_mlp_are_those_of_its_layers_with_relu_between():
    net = mc.initialise(partial(mc.MLP, 20, 20))
    x = torch.rand(8, 1, 28, 28)
    hidden = x.flatten(1)
    for layer in (net.fc1, net.fc2):
        hidden = layer(hidden).clamp(min=0)
    assert torch.equal(net(x), net.fc3(hidden))


def test_sizes_that_differ_by_just_the_tolerance_are_equal():
    assert unequal_sizes({'a': 1000, 'b': 1250}, tolerance=0.25) == ''
    assert 'not of one size' in unequal_sizes({'a': 1000, 'b': 1251}, tolerance=0.25)


def test_scoring_leaves_each_layer_in_its_mode(data):
    net = nn.Sequential(
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, len(data.classes)), nn.Dropout(0.5)
    )
    net.train()
    net[1].eval()  # such as a part that is frozen
    before = [part.training for part in net.modules()]
    assert len(set(before)) == 2
    mc.measure(net, data.valid)
    assert [part.training for part in net.modules()] == before


def test_digest_tells_shapes():
    numbers = torch.arange(6.0)
    digests = [weights_digest({'w': numbers.view(shape)}, {}) for shape in ((2, 3), (3, 2))]
    assert digests[0] != digests[1]


def test_a_pooling_of_a_rare_kind_is_no_chain():
    pool = nn.MaxPool2d(2, ceil_mode=True)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), pool, nn.Flatten(), nn.Linear(4 * 14 * 14, 3)
    )
    assert 'rare kind' in why_no_chain(net)


@pytest.mark.skipif(os.name != 'posix', reason='owners of files')
def test_whether_root_is_trusted(monkeypatch):
    root = os.open('/', os.O_RDONLY)
    if os.fstat(root).st_uid or os.fstat(root).st_mode & 0o022:
        pytest.skip("/ is not root's alone")
    monkeypatch.setattr(os, 'geteuid', lambda: 1234)
    try:
        assert _who_else(root) == ''
        assert _who_else(root, roots=False) == 'belongs to another user'
    finally:
        os.close(root)


def test_overlapping_poolings_are_not_served():
    found = []
    for stride, side in ((2, 13), (1, 25)):
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.MaxPool2d(2, stride), nn.Flatten(), nn.Linear(4 * side * side, 3)
        )
        found.append(is_served(recognise(net)))
    assert found == [True, False]


class Dropping(nn.Module):
    "A net whose layers draw random numbers in training."

    def __init__(self, share):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 16), nn.Dropout(share), nn.Linear(16, 3)
        )

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize('share, differ', [(0.0, False), (0.5, True)])
def test_layers_draw_from_the_seed(data, share, differ):
    "All images are the same one: their order is of no account, what is dropped is."
    same = data.train[torch.zeros(len(data.train), dtype=torch.int64)]
    weights = []
    for seed in (0, 1):
        net = mc.initialise(lambda: Dropping(share))
        mc.train(
            net,
            same,
            recipe=mc.Recipe(learning_rate=0.1, batch_size=len(same), epochs=1),
            seed=seed,
            compute=mc.Compute(engine='autograd'),
        )
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert ((weights[0] - weights[1]).abs().max() > 1e-4) == differ


@pytest.mark.parametrize('measured', [True, False])
def test_a_training_that_diverges_is_said_to_with_and_without_validation(data, measured):
    net = mc.initialise(partial(odd.Diverging, 3, 3))
    history = mc.train(
        net,
        data.train,
        data.valid if measured else None,
        mc.Recipe(learning_rate=0.1, batch_size=8, epochs=3),
    )
    assert not np.isfinite(history.last.train_loss)
    assert history.state == 'diverged'


def test_a_net_stopped_within_an_epoch_has_the_weights_of_the_last_whole_one():
    digits = mc.load_data('digits')
    recipe = mc.Recipe(0.05, 1, 1)
    how = dict(seed=3, compute=mc.Compute(threads=1, engine='autograd'))
    whole = mc.initialise(partial(mc.MLP, 8, 8))
    mc.train(whole, digits.train, recipe=recipe, **how)
    done = []
    asked = []

    def should_stop():
        asked.extend(done)
        return len(asked) == 3  # well within the second epoch

    stopped = mc.initialise(partial(mc.MLP, 8, 8))
    longer = replace(recipe, epochs=2)
    history = mc.train(
        stopped,
        digits.train,
        recipe=longer,
        callbacks=mc.Callbacks(on_epoch=done.append, should_stop=should_stop),
        **how,
    )
    assert (history.state, len(history.epochs), len(asked)) == ('stopped', 1, 3)
    for before, after in zip(whole.parameters(), stopped.parameters()):
        assert torch.equal(before, after)


def test_a_net_in_evaluation_mode_is_trained_like_any_other(data):
    weights = []
    for mode in (True, False):
        net = mc.initialise(lambda: Dropping(0.5)).train(mode)
        mc.train(
            net,
            data.train,
            recipe=mc.Recipe(learning_rate=0.1, batch_size=20, epochs=1),
            compute=mc.Compute(engine='autograd'),
        )
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(*weights)


def test_a_finished_training_is_read_and_not_refused(data, tmp_path):
    def go():
        net = mc.initialise(lambda: mc.MLP(8, 8, 3))
        return mc.train(
            net,
            data.train,
            data.valid,
            mc.Recipe(learning_rate=0.1, batch_size=8, epochs=2),
            checkpoint=tmp_path / 'c',
        )

    assert go() == go()


def test_best_is_the_first_of_equals():
    epochs = [
        Epoch(number, 1.0, 0.5, 1.0, valid_loss=1.0, valid_accuracy=accuracy)
        for number, accuracy in ((1, 0.5), (2, 0.7), (3, 0.7))
    ]
    history = History(0.1, 8, 0, 'autograd', 1, 'cpu', 'some machine', epochs=epochs)
    assert history.best.epoch == 2


def test_half_of_the_free_memory_is_left(data):
    net = mc.MLP()
    free = 2**33
    least = (
        4 * 6 * sum(p.numel() for p in net.parameters())
    )  # bytes that a net and its training take
    used = least * nets_at_once(net, data.train, [1], free=free)
    assert 0.9 * free / 2 < used <= free / 2


def test_latency_is_that_of_an_answer(data):
    modes = []

    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(784, 3)

        def forward(self, x):
            modes.append(self.training)
            return self.layer(x.flatten(1))

    net = Told().train()
    costs.latency(net, data.test, seconds=0)
    assert (set(modes), net.training) == ({False}, True)


# studies


def history(state='finished', accuracy=0.5, loss=1.0):
    return History(
        0.1,
        8,
        0,
        'autograd',
        1,
        'cpu',
        'some machine',
        state=state,
        epochs=[Epoch(1, 1.0, 0.5, 1.0, valid_loss=loss, valid_accuracy=accuracy)],
    )


def test_of_equal_trials_the_one_of_lower_loss_is_best():
    trials = [mc.Trial(index, history(loss=loss)) for index, loss in enumerate((2.0, 1.0, 1.0))]
    found = mc.SearchResult('one', mc.Space(), 0, 3, 1, 'valid', trials)
    assert found.best.number == 1


def test_edges_of_a_box():
    def edges(rate):
        trial = mc.Trial(0, replace(history(), learning_rate=rate, batch_size=50))
        box = mc.Space((0.1, 1.1), (1, 101))
        return mc.SearchResult('one', box, 0, 1, 1, 'valid', [trial]).edges()

    assert [len(edges(rate)) for rate in (0.1, 0.14, 0.2, 1.0, 1.06, 1.1)] == [1, 1, 0, 0, 1, 1]
    assert 'lower edge' in edges(0.1)[0] and 'upper edge' in edges(1.1)[0]


def test_what_failed_halfway_is_not_kept(tmp_path):
    with Ledger(tmp_path, {'epochs': 1}) as ledger:
        ledger.record(0, history())
        with pytest.raises(RuntimeError):
            with _transaction(ledger.connection):
                ledger.connection.execute('DELETE FROM trial')
                raise RuntimeError
        assert list(ledger.histories()) == [0]


def test_ledger_waits_for_the_disk(tmp_path):
    with Ledger(tmp_path, {'epochs': 1}) as ledger:
        assert ledger.connection.pragma('synchronous') == 2  # FULL


@pytest.mark.parametrize('state', ['finished', 'diverged', 'failed'])
def test_no_trial_is_done_twice(tmp_path, state):
    with Ledger(tmp_path, {'epochs': 1}) as ledger:
        ledger.record(0, history(state))
        with pytest.raises(mc.ledger.LedgerError, match='no trial is done twice'):
            ledger.record(0, history())


def test_a_crashed_trial_is_shown_and_tried_again(tmp_path, search_in):
    search_in(tmp_path / 's')
    with Ledger.read(tmp_path / 's') as ledger:
        identity = ledger.identity
        index = min(ledger.histories())
    with Ledger(tmp_path / 's', identity) as ledger:
        ledger.reopen(index)
        ledger.record(index, history('crashed'))
    found = mc.SearchResult.load(tmp_path / 's')
    assert [t.history.state for t in found.trials] == ['crashed', 'finished']
    with Ledger(tmp_path / 's', identity) as ledger:
        assert ledger.histories()[index][0].state == 'stopped'


def session(shared, job, note, should_stop):
    return os.getsid(0)


@pytest.mark.skipif(os.name != 'posix', reason='sessions of processes')
def test_ctrl_c_does_not_reach_the_workers():
    found = {outcome.value for outcome in run_jobs(session, range(2), workers=2)}
    assert found and os.getsid(0) not in found


# statistics


@pytest.mark.parametrize(
    'low, high, chance',
    [([0.1], [0.9], 0.8), ([0.1, 0.1], [0.9, 0.9], 0.64), ([0, 0.5], [0.5, 1], 0.5)],
)
def test_chance_to_stay_within(low, high, chance):
    "Of one uniform variable; of two with the same limits; of one on each side of the middle."
    assert _stay_within(np.array(low), np.array(high)) == pytest.approx(chance, abs=1e-12)


def test_a_bin_holds_its_upper_edge():
    found = calibration([0.2, 0.4, 1.0], [True, False, True], bins=5)
    assert found.count.tolist() == [1, 1, 0, 0, 1]


# comparison


@pytest.mark.parametrize(
    'low, high, better', [(-0.2, -0.1, 'a'), (-0.1, 0.0, None), (0.0, 0.1, None), (0.1, 0.2, 'b')]
)
def test_an_interval_that_ends_at_0_tells_nothing(low, high, better):
    d = Difference(
        'a', 'b', 0.95, (low + high) / 2, low, high, {}, None, (low, high), 0, 0, (), None, False
    )
    assert d.better == better


def test_few_trainings_are_warned_of():
    found = Comparison.load(RESULTS + '/digits')

    def with_runs(n):
        return replace(found, models=[replace(c, runs=c.runs[:n]) for c in found.models])

    warned = ['tell little about the chance of the seed' in verdict(with_runs(n)) for n in (4, 5)]
    assert warned == [True, False]


def test_right_answers_are_left_blank_in_confusions():
    found = Comparison.load(RESULTS + '/digits')
    drawn = [ax.images[0].get_array() for ax in found.plot_confusions().axes if ax.images]
    assert len(drawn) == len(found.models)
    for picture in drawn:
        assert np.isnan(np.ma.filled(np.diagonal(picture).astype(float), np.nan)).all()


@pytest.mark.parametrize('text', ['0.1,0.1', '0.2,0.1', '0,0.1', '0.1,inf'])
def test_a_side_of_the_box_has_length(text):
    with pytest.raises(ValueError, match='must be below|above 0|finite'):
        mc.Space(learning_rate=parse_side('learning_rate', text, whole=False))


@pytest.mark.parametrize('text', ['mlp', 'mlp,mlp', 'mlp,', ''])
def test_models_are_two_at_least(text):
    with pytest.raises(Exception, match='two different models'):
        _names(text)


def test_a_drawing_of_an_even_width_stands_around_the_middle():
    assert (_offset(np.ones(4), 4), _offset(np.ones(1), 1)) == (12, 14)


def test_the_interval_over_both_chances_is_never_inside_that_of_one(monkeypatch):
    found = replace(Comparison.load(RESULTS + '/digits'), interval='union')
    both = differences.crossed_difference

    def narrow(*args):
        made = both(*args)
        return replace(made, low=made.estimate, high=made.estimate)

    monkeypatch.setattr(differences, 'crossed_difference', narrow)
    d = found.difference('mlp', 'cnn')
    assert d.low == min(d.seeds[0], d.images[0]) < d.estimate
    assert d.high == max(d.seeds[1], d.images[1]) > d.estimate


# where a run goes on


def test_a_batch_may_hold_all_images_and_no_more():
    spaces = {'net': mc.Space(batch_size=(4, 8))}
    assert fit_batches(spaces, 8) == spaces
    with pytest.raises(ValueError, match='goes up to 9'):
        fit_batches({'net': mc.Space(batch_size=(4, 9))}, 8)


def test_the_command_that_goes_on_names_the_folder_once():
    assert _resume_command(['--out=x'], 'x') == 'mnist_cmp --out=x'
    assert _resume_command(['--n_trials', '3'], 'x') == 'mnist_cmp --n_trials 3 --out x'


@pytest.mark.skipif(os.name != 'posix', reason='links')
def test_a_linked_checkpoint_is_left_alone(tmp_path):
    checkpoint = tmp_path / 'outside' / 'last.safetensors'
    checkpoint.parent.mkdir()
    checkpoint.touch()
    (tmp_path / 'trial_3_abcdef').symlink_to(checkpoint.parent)
    drop_checkpoints(tmp_path, 'trial', 3)
    assert checkpoint.exists()


def test_weights_of_another_seed_are_not_taken(data, tmp_path):
    def weights():
        point = mc.Config(0.1, 8)
        runs = mc.retrain(
            partial(mc.MLP, 4, 4, 3),
            data.train,
            data.valid,
            mc.Recipe(epochs=1).at(point),
            seeds=2,
            store=tmp_path,
            callbacks=mc.Callbacks(progress=False),
        )
        return [weights_digest(run.weights, {}) for run in runs]

    before = weights()
    first, second = sorted(tmp_path.glob('*.safetensors'))
    first.rename(tmp_path / 'third')
    second.rename(first)
    (tmp_path / 'third').rename(second)
    assert len(set(before)) == 2
    assert weights() == before


def test_a_kept_test_that_was_changed_is_made_again(compare_in, tmp_path):
    before = [run.test.loss for run in compare_in(tmp_path)['one'].runs]
    file = tmp_path / 'tests' / 'one_0.json'
    kept = files.read_json(file)
    kept['found']['loss'] += 1
    files.write_json(file, kept)
    assert [run.test.loss for run in compare_in(tmp_path)['one'].runs] == before
