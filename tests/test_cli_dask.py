"The command on a Dask scheduler that lets nobody in without a certificate."

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mnist_cmp as mc

pytest.importorskip('distributed', reason='Dask is not installed')
pytest.importorskip(
    'cryptography', reason='cryptography, which makes certificates, is not installed'
)

SMALL = [
    '--models',
    'here:Net,here:Other',
    *'--n_trials 1 --search_epochs 1 --seeds 1 --epochs 1 --quiet'.split(),
]
NET = """import torch
def Net(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
def Other(): return Net().append(torch.nn.ReLU())
"""


def plain(tmp_path):
    "An environment in which this package is found, and no configuration of Dask's."
    package = str(Path(mc.__file__).parent.parent)
    return os.environ | {'PYTHONPATH': package, 'DASK_CONFIG': str(tmp_path / 'none')}


@pytest.fixture
def work(tmp_path):
    "A folder with a model."
    folder = tmp_path / 'work'
    folder.mkdir()
    (folder / 'here.py').write_text(NET)
    return folder


@pytest.fixture
def certified(tmp_path):
    "An environment whose Dask configuration names a certificate and its key."
    from distributed import Security

    made = Security.temporary()
    (tmp_path / 'cert.pem').write_text(made.tls_ca_file)
    (tmp_path / 'key.pem').write_text(made.tls_client_key)
    files = {'CERT': str(tmp_path / 'cert.pem'), 'KEY': str(tmp_path / 'key.pem')}
    env = plain(tmp_path) | {
        'DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION': 'true',
        'DASK_DISTRIBUTED__COMM__TLS__CA_FILE': files['CERT'],
    }
    for who in 'SCHEDULER', 'WORKER', 'CLIENT':
        for what, file in files.items():
            env[f'DASK_DISTRIBUTED__COMM__TLS__{who}__{what}'] = file
    return env


@pytest.fixture
def address(certified, work, tmp_path):
    "That of a scheduler and one worker on this machine."
    file = tmp_path / 'scheduler.json'
    crew = []
    env = certified | {'PYTHONPATH': f'{certified["PYTHONPATH"]}:{work}'}  # they have the model

    def start(kind, *options):
        options = ['--scheduler-file', file, '--no-dashboard', '--protocol', 'tls', *options]
        command = [sys.executable, '-P', '-m', f'distributed.cli.dask_{kind}', *options]
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        crew.append(subprocess.Popen(command, env=env, **quiet))

    try:
        start('scheduler', '--host', '127.0.0.1', '--port', '0')
        start('worker', '--nthreads', '1', '--no-nanny')
        while not file.exists():
            assert crew[0].poll() is None
            time.sleep(0.05)
        yield json.loads(file.read_text())['address']
    finally:
        for process in crew:
            process.kill()
        for process in crew:
            process.wait()


def command(env, cwd, *words):
    words = [sys.executable, '-m', 'mnist_cmp', *SMALL, *words]
    return subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True)


def test_tls_from_dasks_configuration(certified, address, work):
    "Also with a model of the current folder."
    assert address.startswith('tls://127.0.0.1:')
    done = command(certified, work, '--scheduler', address, '--out', 'run')
    assert done.returncode == 0, done.stderr
    for name in 'Net', 'Other':
        (trial,) = mc.SearchResult.load(work / 'run' / 'search' / name).trials
        assert trial.worker.startswith('tls://')


def test_without_certificates(address, work, tmp_path):
    "One line, and the way out, whatever the address begins with."
    env = plain(tmp_path)
    done = command(env, work, '--scheduler', address, '--out', 'run')
    assert (done.returncode, done.stderr.count('\n')) == (1, 1)
    assert "Name them in Dask's configuration: distributed.comm.tls." in done.stderr
    done = command(env, work, '--scheduler', address.replace('tls:', 'tcp:'), '--out', 'run')
    assert (done.returncode, done.stderr.count('\n')) == (1, 1)
    assert 'There is no Dask scheduler at tcp://' in done.stderr
