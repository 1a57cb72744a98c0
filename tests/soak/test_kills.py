"""A search and a whole comparison that are killed again and again lose nothing.

Each is started again until it is done, and its numbers and weights must be, bit for bit, those of a
run that was left in peace, in the same files. A few kills here, `make soak` tries a hundred; a full
and a read-only disk. Linux only.
"""

import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, output_of
from killing import KINDS, one_round, peace
from written import numbers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # on a busy machine it takes minutes
    pytest.mark.skipif(sys.platform != 'linux', reason='it needs Linux'),
]


@pytest.mark.parametrize('what', ['search', 'comparison'])
def test_runs_that_are_killed_give_the_numbers_of_one_that_is_not(
    what, seed, tmp_path, pytestconfig
):
    kills = pytestconfig.getoption('kills')
    expected, seconds = peace(what, tmp_path / 'peace')
    rng = random.Random(seed)
    done = dict.fromkeys(KINDS, 0)
    rounds = 0
    waits = []
    while (sofar := sum(done.values())) < kills:
        folder = tmp_path / f'round_{rounds}'
        rounds = rounds + 1
        one_round(what, rng, folder, seconds, min(sofar + 12, kills), done, waits)
        found = numbers(folder)
        assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
        assert found == expected, [name for name in found if found[name] != expected[name]]
    of_each = ', '.join(f'{n} {kind}' for kind, n in done.items())
    print(f'{what}: {sum(done.values())} kills ({of_each}) in {rounds} runs')
    if waits:
        print(
            f'Ctrl-C: stopped after {statistics.median(waits):.2f} s (median), '
            f'{max(waits):.2f} s (longest)'
        )


def namespaces_are_given():
    "Does this system give user namespaces?"
    if not shutil.which('unshare'):
        return False
    return subprocess.run(['unshare', '-rm', 'true'], capture_output=True).returncode == 0


def test_a_full_and_a_read_only_disk_take_nothing(tmp_path):
    if not namespaces_are_given():
        pytest.skip('this system gives no user namespaces (unshare -rm)')
    peace('search', tmp_path / 'peace')
    script = Path(__file__).with_name('full_disk.py')
    paths = ':'.join(map(str, (ROOT, ROOT / 'tools', ROOT / 'tests')))
    out = output_of('unshare', '-rm', sys.executable, script, tmp_path / 'peace', PYTHONPATH=paths)
    assert 'with room again the search went on to the same numbers' in out
    print(out)
