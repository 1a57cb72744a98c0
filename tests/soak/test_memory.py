"Searches and runs of the panel, one after the other for half an hour, leave nothing behind."

import os
import sys
import threading
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from killing import workers_of
from victim import WORKERS, run_search

from mnist_cmp.ui.controls import ComparePanel


def taken():
    "Resident memory (MB), open files, threads and child processes of this process."
    status = Path('/proc/self/status').read_text()
    return (
        int(status.split('VmRSS:')[1].split()[0]) / 1024,
        len(os.listdir('/proc/self/fd')),
        threading.active_count(),
        len(workers_of(os.getpid())),
    )


@pytest.mark.soak
@pytest.mark.alone
@pytest.mark.timeout(0)  # its length is an option
@pytest.mark.skipif(sys.platform != 'linux', reason='it needs Linux')
def test_no_memory_file_thread_or_process_is_left_behind(tmp_path, pytestconfig):
    minutes = pytestconfig.getoption('minutes')
    begun = time.perf_counter()
    rounds = 0
    first = None

    def spent():
        return (time.perf_counter() - begun) / 60

    panel = ComparePanel(runs=tmp_path / 'runs', workers=WORKERS)
    panel.set(models=['mlp', 'deep_mlp'], points=2, search_epochs=1, epochs=1, seeds=2)
    while spent() < minutes or rounds < 3:
        run_search(tmp_path / f'search_{rounds}')
        panel.run()
        assert panel.wait().state == 'finished', panel.state.error
        plt.close('all')
        rounds = rounds + 1
        now = taken()
        if first is None and spent() > min(5, minutes / 6) and rounds > 1:
            first = now
    first = first or now
    print(
        f'memory: {rounds} searches and panel runs in {spent():.0f} min: {first[0]:.0f} MB after '
        f'the first minutes, {now[0]:.0f} MB at the end; {now[1]} files (before {first[1]}), '
        f'{now[2]} threads ({first[2]}), {now[3]} processes ({first[3]})'
    )
    assert now[0] - first[0] < 20, 'memory grows'
    left = [(b, a) for a, b in zip(first[1:], now[1:]) if b > a]
    assert not left, 'a file, thread or process was left over'
