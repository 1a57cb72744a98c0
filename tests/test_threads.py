"Threads of one process that make, train and search at once: each gives what it gives alone."

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn as nn
from tiny import grouped

import mnist_cmp as mc
from mnist_cmp.engines.evaluation import weights_digest

THREADS = 4


@pytest.fixture(autouse=True)
def hasty():
    "Threads take turns a thousand times as often as usual."
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def dropout():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Dropout(0.5), nn.Linear(16, 3))


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 3))


def in_threads(work):
    "What `work` gives for 0, 1, … in threads that begin at the same moment."
    begin = threading.Barrier(THREADS)

    def run(number):
        begin.wait(60)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS), timeout=300))


def digest(net):
    return weights_digest(net.state_dict(), {})


def trained(make, data, seed, **kwargs):
    net = mc.initialise(make, seed=seed)
    kwargs = dict(learning_rate=0.1, batch_size=8, epochs=3, threads=1) | kwargs
    history = mc.train(net, data.train, data.valid, seed=seed, **grouped(**kwargs))
    return digest(net), [(e.train_loss, e.valid_loss, e.valid_accuracy) for e in history.epochs]


@pytest.mark.parametrize('init', [None, mc.glorot_init])
def test_nets_are_drawn_from_their_own_seed(init):
    def make_many(number):
        return [digest(mc.initialise(dropout, init, 1000 * number + i)) for i in range(75)]

    alone = [make_many(number) for number in range(THREADS)]
    assert in_threads(make_many) == alone


@pytest.mark.parametrize('make', [dropout, plain])
def test_trainings_are_those_of_each_alone(data, make):
    alone = [trained(make, data, seed) for seed in range(THREADS)]
    assert len({weights for weights, _ in alone}) == THREADS
    for _ in range(3):
        assert in_threads(lambda seed: trained(make, data, seed)) == alone


def test_searches_are_those_of_each_alone(data, tmp_path):
    def searched(seed, folder):
        found = mc.tune(
            dropout,
            data.train,
            data.valid,
            mc.Space(batch_size=(8, 16)),
            n_trials=3,
            recipe=mc.Recipe(epochs=2),
            compute=mc.Compute(workers=1),
            seed=seed,
            store=tmp_path / f'{folder}_{seed}',
        )
        return [(t.number, t.accuracy, t.loss) for t in found.trials]

    alone = [searched(seed, 'alone') for seed in range(THREADS)]
    assert in_threads(lambda seed: searched(seed, 'together')) == alone


def test_the_process_is_left_as_it_was(data):
    threads = torch.get_num_threads()
    before = torch.get_rng_state()
    in_threads(lambda seed: trained(dropout, data, seed, threads=seed % 2 + 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    seen = []
    newcomer = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    newcomer.start()
    newcomer.join()
    assert seen == [threads]


def test_recognising_a_net_leaves_those_of_other_threads_alone():
    "A trace that changes `nn.Module` for the whole process would make them fail."
    from mnist_cmp.engines.chains import recognise

    mine = mc.initialise(mc.MLP, seed=0)
    x = torch.zeros(2, 1, 28, 28)
    done = threading.Event()
    errors = []

    def call_it():
        while not done.is_set():
            try:
                mine(x)
            except Exception as error:
                errors.append(error)
                return

    caller = threading.Thread(target=call_it)
    caller.start()
    try:
        for _ in range(200):
            assert recognise(plain())
    finally:
        done.set()
        caller.join()
    assert not errors


class TestCallbacks:
    def test_a_training_in_a_callback(self, data):
        alone = trained(dropout, data, 0), trained(dropout, data, 1)
        within = []

        def on_epoch(history):
            within.append(trained(dropout, data, 1))

        assert trained(dropout, data, 0, on_epoch=on_epoch) == alone[0]
        assert within == [alone[1]] * 3

    @pytest.mark.parametrize('name', ['on_epoch', 'should_stop'])
    def test_a_callback_that_waits_for_a_training_in_another_thread(self, data, name):
        alone = trained(dropout, data, 0), trained(dropout, data, 1)
        within = []
        with ThreadPoolExecutor(1) as pool:

            def callback(*args):
                if len(within) < 2:
                    other = pool.submit(trained, dropout, data, 1)
                    within.append(other.result(timeout=60))

            assert trained(dropout, data, 0, **{name: callback}) == alone[0]
        assert within and set(map(str, within)) == {str(alone[1])}

    def test_a_training_in_a_maker(self, data):
        "Its callback, too, may wait for another thread."
        alone = trained(plain, data, 1)
        within = []
        with ThreadPoolExecutor(1) as pool:

            def wait(history):
                within.append(pool.submit(trained, plain, data, 1).result(timeout=60))

            def pretrained():
                net = mc.initialise(plain, seed=5)
                mc.train(
                    net,
                    data.train,
                    recipe=mc.Recipe(learning_rate=0.1, batch_size=8, epochs=1),
                    callbacks=mc.Callbacks(on_epoch=wait, progress=False),
                )
                return net

            first = digest(mc.initialise(pretrained, None, seed=0))
            assert digest(mc.initialise(pretrained, None, seed=0)) == first
        assert within == [alone] * 2

    def test_a_callback_draws_from_the_callers_generators(self, data):
        torch.manual_seed(3)
        expected = torch.rand(3).tolist()
        torch.manual_seed(3)
        drawn = []
        trained(dropout, data, 0, on_epoch=lambda history: drawn.append(torch.rand(()).item()))
        assert drawn == expected

    def test_an_error_of_a_callback_gives_the_lock_back(self, data):
        def fail(*args):
            raise KeyError('its own')

        for name in 'on_epoch', 'should_stop':
            with pytest.raises(KeyError):
                trained(dropout, data, 0, **{name: fail})
        with ThreadPoolExecutor(1) as pool:
            pool.submit(trained, dropout, data, 0).result(timeout=60)
