"""What a process was told before, and whose chance is drawn from, changes no result; afterwards
all is as it was."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn as nn
from tiny import noise

import mnist_cmp as mc
from mnist_cmp.engines.evaluation import weights_digest
from mnist_cmp.study.costs import latency
from mnist_cmp.study.trainers import net_digest


class Noisy(nn.Module):
    "Draws from NumPy and Python in training, and when it is made."

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 3)
        self.register_buffer(
            'mask', torch.from_numpy((np.random.rand(784) < 0.5).astype('float32'))
        )
        self.shift = random.random()

    def forward(self, x):
        if self.training:
            x = x * float(np.random.uniform(0.5, 1.5)) + self.shift * random.random()
        return self.fc(x.flatten(1) * self.mask)


class Dropping(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 16), nn.Dropout(0.5), nn.Linear(16, 3))


class Convolving(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(144, 3)
        )


MAKERS = [Noisy, Dropping, Convolving]


def digest(net):
    return weights_digest(net.state_dict(), {})


def trained(make, data, seed=0, epochs=3, **kwargs):
    net = mc.initialise(make, seed=seed)
    history = mc.train(
        net,
        data.train,
        data.valid,
        mc.Recipe(learning_rate=0.1, batch_size=8, epochs=epochs),
        seed=seed,
        compute=mc.Compute(threads=1),
        callbacks=mc.Callbacks(progress=False),
        **kwargs,
    )
    return digest(net), [(e.train_loss, e.valid_loss, e.valid_accuracy) for e in history.epochs]


def put_double():
    torch.set_default_dtype(torch.float64)


def put_medium():
    torch.set_float32_matmul_precision('medium')


def put_mixed_precision():
    "By the new way and by the old one: PyTorch then refuses to tell the old one."
    if not hasattr(torch.backends.mkldnn, 'matmul'):
        pytest.skip('this PyTorch has one way only')
    torch.set_float32_matmul_precision('medium')
    torch.backends.mkldnn.matmul.fp32_precision = 'ieee'
    torch.backends.mkldnn.conv.fp32_precision = 'bf16'


def put_deterministic():
    torch.use_deterministic_algorithms(True, warn_only=True)


def put_flushing():
    if not torch.set_flush_denormal(True):
        pytest.skip('this processor has no such setting')


def put_without_onednn():
    torch.backends.mkldnn.enabled = False


def put_benchmarking():
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = True


def put_on_meta():
    torch.set_default_device('meta')


def put_autocast():
    torch.set_autocast_enabled('cpu', True)


def put_chance():
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


STATES = [
    put_double,
    put_medium,
    put_mixed_precision,
    put_deterministic,
    put_flushing,
    put_without_onednn,
    put_benchmarking,
    put_on_meta,
    put_autocast,
    put_chance,
]


def state():
    "All that a user may have told the process, as far as it can be asked for."

    def ask(get):
        try:
            return get()
        except (RuntimeError, AttributeError) as error:
            return type(error).__name__

    backends = torch.backends
    return [
        str(ask(get))
        for get in (
            torch.get_default_dtype,
            torch.get_float32_matmul_precision,
            torch.get_default_device,
            torch.get_deterministic_debug_mode,
            torch.get_num_threads,
            torch.is_grad_enabled,
            lambda: sys.float_info.min / 2,
            lambda: torch.is_autocast_enabled('cpu'),
            lambda: backends.mkldnn.enabled,
            lambda: backends.mkldnn.deterministic,
            lambda: backends.cudnn.enabled,
            lambda: backends.cudnn.benchmark,
            lambda: backends.cudnn.deterministic,
            lambda: backends.mkldnn.matmul.fp32_precision,
            lambda: backends.mkldnn.conv.fp32_precision,
            lambda: backends.cudnn.conv.fp32_precision,
            lambda: backends.cuda.matmul.fp32_precision,
            lambda: backends.fp32_precision,
            random.getstate,
            lambda: np.random.get_state()[1].tobytes() + bytes(np.random.get_state()[2]),
            lambda: torch.get_rng_state().numpy().tobytes(),
        )
    ]


def put_all_back():
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    torch.set_flush_denormal(False)
    torch.use_deterministic_algorithms(False)
    torch.set_autocast_enabled('cpu', False)
    torch.backends.mkldnn.enabled = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = False
    torch.set_float32_matmul_precision('highest')
    if hasattr(torch.backends.mkldnn, 'matmul'):
        torch.backends.mkldnn.matmul.fp32_precision = 'none'
        torch.backends.mkldnn.conv.fp32_precision = 'none'
        torch.backends.cuda.matmul.fp32_precision = 'none'


@pytest.fixture(params=STATES, ids=[put.__name__ for put in STATES])
def told(request):
    "Tells the process something; everything is put back at the end."
    yield request.param
    put_all_back()


@pytest.fixture(scope='module')
def usual(data):
    "The results of a process that was told nothing."
    return {make: trained(make, data) for make in MAKERS}


@pytest.mark.parametrize('make', MAKERS)
def test_a_training_is_that_of_a_fresh_process(data, usual, told, make):
    told()
    before = state()
    found = trained(make, data)
    after = state()
    put_all_back()
    assert found == usual[make]
    assert after == before


def test_a_scoring_is_that_of_a_fresh_process(data, told):
    net = mc.initialise(Convolving)

    def found():
        score = mc.measure(net, data.test)
        answers = mc.predict(net, data.test)
        smoke = mc.smoke_test(net, data.train)
        latency(net, data.test, 1, seconds=0)
        return (
            score,
            answers.tolist(),
            str(answers.dtype),
            smoke,
            net_digest(net, data.train),
            mc.flops(net),
        )

    alone = found()
    told()
    before = state()
    again = found()
    after = state()
    put_all_back()
    assert again == alone
    assert after == before


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 3)

    def forward(self, x):
        if self.training:
            random.random()
            np.random.rand()
            torch.rand(())
            torch.set_default_dtype(torch.float64)
            raise ZeroDivisionError
        return self.fc(x.flatten(1))


def test_an_error_leaves_the_process_as_it_was(data):
    before = state()
    with pytest.raises(ZeroDivisionError):
        trained(Failing, data)
    with pytest.raises(ZeroDivisionError):
        mc.initialise(lambda: random.random() / 0)
    assert state() == before


@pytest.mark.parametrize('stop', [1, 2])
def test_a_training_that_draws_from_numpy_goes_on_to_the_same_bits(data, usual, tmp_path, stop):
    trained(Noisy, data, epochs=stop, checkpoint=tmp_path)
    put_chance()
    whole, epochs = trained(Noisy, data, checkpoint=tmp_path)
    assert (whole, epochs) == usual[Noisy]


def test_chance_in_a_net_differs_by_seed_and_by_epoch():
    class Telling(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(784, 3)

        def forward(self, x):
            if self.training:
                drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
            return self.fc(x.flatten(1))

    def drawn_by(seed):
        drawn.clear()
        trained(Telling, noise(), seed)
        assert len(set(drawn)) == len(drawn) == 15  # 3 epochs of 5 batches
        return list(drawn)

    drawn = []
    first = drawn_by(0)
    assert not set(drawn_by(1)) & set(first)
    assert drawn_by(0) == first


@pytest.mark.parametrize('make', [Noisy, Dropping])
def test_a_search_gives_the_same_with_other_workers(data, make):
    def searched(workers):
        put_chance()
        found = mc.tune(
            make,
            data.train,
            data.valid,
            mc.Space(batch_size=(8, 16)),
            n_trials=2,
            recipe=mc.Recipe(epochs=2),
            compute=mc.Compute(workers=workers),
        )
        return [(t.accuracy, t.loss) for t in found.trials]

    put_double()
    try:
        assert searched(1) == searched(2)
    finally:
        put_all_back()


def test_a_store_of_a_net_drawn_by_numpy_is_known_again(data, search_in, tmp_path):
    search_in(tmp_path, make=Noisy, n_trials=1)
    put_chance()
    assert len(search_in(tmp_path, make=Noisy, n_trials=2).trials) == 2


def test_a_fork_in_the_middle_of_a_training(tmp_path):
    "The child of a process in which a thread trains can train as well."
    if not hasattr(__import__('os'), 'fork'):
        pytest.skip('there is no fork')
    script = tmp_path / 'forking.py'
    script.write_text("""
import os, sys, threading, time
from tiny import noise, one
import mnist_cmp as mc
from mnist_cmp.core.process import sealed

def train():
    mc.train(mc.initialise(one), noise().train, learning_rate=.1, batch_size=8, epochs=1, threads=1,
             progress=None)

inside = threading.Event()
leave = threading.Event()
def hold():
    with sealed(1):
        inside.set()
        leave.wait(60)

holder = threading.Thread(target=hold)
holder.start()
inside.wait(60)
child = os.fork()
if child == 0:
    threading.Timer(60, os._exit, [3]).start()
    train()
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
leave.set()
sys.exit(code)
""")
    here = str(__import__('pathlib').Path(__file__).parent)
    path = f'import sys; sys.path[:0] = [{here!r}]; import runpy; runpy.run_path({str(script)!r})'
    assert subprocess.run([sys.executable, '-W', 'ignore', '-c', path], timeout=120).returncode == 0
