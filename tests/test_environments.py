"""The command in odd environments: it works, or it says in a sentence why not; no traceback, no
bare number, no orphan."""

import configparser
import errno
import functools
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import mnist_cmp
from mnist_cmp.core import children
from mnist_cmp.core.files import new_path
from mnist_cmp.study import costs, workers

ROOT = Path(mnist_cmp.__file__).parent.parent
POSIX = pytest.mark.skipif(os.name != 'posix', reason='needs a POSIX shell')
pytestmark = POSIX

TINY = (
    '--models small:one,small:two --n_trials 1 --search_epochs 1 --seeds 1 --epochs 1 --workers 1'
).split()
COMMAND = [sys.executable, '-m', 'mnist_cmp', *TINY]
SMALL = """
"Two models as small as can be. They print, and they wait where a file asks for it."
import os, sys, time
from pathlib import Path
import torch

def hold(where):
    if not Path(f'hold_{where}').exists(): return
    Path('held_').write_text(str(os.getpid()))
    Path('held_').rename('held')
    time.sleep(600)

def one():
    print('a model that prints')
    hold('worker' if sys.argv[0] == '-c' else 'here')
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))

two = one
hold('import')
"""


def clean_environment(**changes):
    """The environment of a command, with the modules of this checkout; None: the variable is not
    set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(('PYTHON', 'MNIST_CMP', 'MPL'))}
    # nothing is drawn: that takes seconds
    ours = {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'nonsense'}
    return {k: v for k, v in (kept | ours | changes).items() if v is not None}


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
    """A folder with the models and a finished run, `run`: the same command again reads what it
    needs from there."""
    folder = tmp_path_factory.mktemp('environments')
    (folder / 'small.py').write_text(SMALL)
    subprocess.run(
        [*COMMAND, '--out', 'run'],
        cwd=folder,
        env=clean_environment(),
        check=True,
        capture_output=True,
    )
    (folder / 'run' / 'report.html').unlink()
    return folder


@pytest.fixture
def place(finished, tmp_path):
    "A copy of that folder."
    return Path(shutil.copytree(finished, tmp_path / 'place'))


def shell(line, place):
    """Run a line of bash in a folder with a finished run; `$RUN` is the command there, `$NEW`
    that of a new run."""
    environment = clean_environment(
        NEW=shlex.join(COMMAND),
        RUN=shlex.join([*COMMAND, '--out', 'run']),
        PYTHON=sys.executable,
        ROOT=str(ROOT),
        OPTIONS=shlex.join([*TINY, '--out', 'run']),
    )
    for name in ('RUN', 'NEW', 'OPTIONS', 'PYTHON', 'ROOT'):
        line = line.replace(f'${name}', environment.pop(name))
    return subprocess.run(
        ['bash', '-c', line],
        cwd=place,
        env=environment,
        timeout=300,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


def is_plain(text):
    "Is it free of what only programmers can read?"
    odd = 'Traceback', '[Errno', 'Fatal', 'Exception ignored', 'Warning:', 'NoneType'
    return not any(word in text for word in odd)


MEASURE = 'rm run/costs/two.json; '  # what it costs is measured again, in a process of its own
ISOLATED = (
    "import sys; sys.path.insert(0, '$ROOT'); from mnist_cmp.cli import main; sys.exit(main())"
)
UNSHARE = 'unshare -rm bash -c "mount -t tmpfs {} && {}"'
GONE = 'mkdir gone && cd gone && rmdir ../gone && '

# name → line, exit code, and what is said: in the output, among the errors
ENVIRONMENTS = {
    'plain': ('$RUN', 0, 'Report: run/report.html', 'The report goes without all figures'),
    'no stdin': (f'{MEASURE} $RUN <&-', 0, 'Report: ', ''),
    'no stdout': (f'{MEASURE} $RUN >&-', 0, '', ''),
    'no stderr': (f'{MEASURE} $RUN 2>&-', 0, 'Report: ', ''),
    'no standard files': (f'{MEASURE} $RUN <&- >&- 2>&-', 0, '', ''),
    'a full disk behind stdout': (
        '$RUN >/dev/full',
        1,
        '',
        'Nothing more can be printed (No space left on device)',
    ),
    'a full disk behind stderr': ('$RUN 2>/dev/full', 0, 'Report: ', ''),
    'ASCII': ('LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $RUN', 0, 'error % +- sd', ''),
    'a redirected stdout on Windows': ('PYTHONIOENCODING=cp1252 $RUN', 0, 'error % \xb1 sd', ''),
    'Latin-1': ('PYTHONIOENCODING=latin-1 $RUN', 0, 'error % \xb1 sd', ''),
    'python -I': (f'$PYTHON -I -c "{ISOLATED}" $OPTIONS', 0, 'Report: ', ''),
    # with --help, else all libraries would be compiled
    'python -OO': ('$PYTHON -OO -m mnist_cmp --help', 0, 'Which model is better', ''),
    'development mode': (f'{MEASURE} $PYTHON -X dev -m mnist_cmp $OPTIONS', 0, 'Report: ', ''),
    'one core': (f'{MEASURE} taskset -c 0 $RUN', 0, 'Report: ', ''),
    'many threads': (f'{MEASURE} OMP_NUM_THREADS=64 $RUN', 0, 'Report: ', ''),
    'no HOME': ('env -u HOME $RUN', 0, 'Report: ', ''),
    'a HOME that is no folder': ('HOME=/dev/null MPLCONFIGDIR=mpl $RUN', 0, 'Report: ', ''),
    'no TMPDIR': ('TMPDIR=/nonexistent $RUN', 0, 'Report: ', ''),
    'private files': ('umask 077; $RUN && stat -c %a run/report.html', 0, '\n600\n', ''),
    '64 open files': (f'{MEASURE} ulimit -n 64; $RUN', 0, 'Report: ', ''),
    '24 open files': (
        'ulimit -n 24; $NEW --out new --n_trials 12 --workers 12',
        1,
        '',
        'fewer workers',
    ),
    'a folder that is gone': (f'{GONE} $NEW --out ../run', 1, '', 'The current folder is gone'),
    'a folder that is gone, no --out': (f'{GONE} $NEW', 1, '', 'The current folder is gone'),
    'a read-only disk': (
        UNSHARE.format('-o ro none run', 'cd run && $NEW'),
        1,
        '',
        '(Read-only file system)',
    ),
    'no /proc': (UNSHARE.format('none /proc', 'rm -r run && $RUN'), 0, 'Report: ', ''),
    'warnings as errors, and TeX asked for': (
        (
            f'{MEASURE} echo text.usetex: True > rc; export PYTHONWARNINGS=error MATPLOTLIBRC=rc '
            'MPLBACKEND=agg; $RUN && ls run/figures'
        ),
        0,
        '\nruns.png\n',
        '',
    ),
    'little memory': ('ulimit -v 400000; $RUN', 1, '', 'mnist_cmp: '),
}


@functools.cache
def has_namespaces():
    "May this user unshare?"
    return (
        shutil.which('unshare')
        and subprocess.run(['unshare', '-rm', 'true'], capture_output=True).returncode == 0
    )


@pytest.fixture(scope='session')
def answers(request, finished, tmp_path_factory):
    "Name → the future answer of each of these environments that a test asks for, two at a time."
    asked = [
        item.callspec.params['name']
        for item in request.session.items
        if 'answers' in getattr(item, 'fixturenames', ())
    ]
    with ThreadPoolExecutor(2) as pool:

        def answer(name):
            place = shutil.copytree(finished, tmp_path_factory.mktemp('place') / 'it')
            return shell(ENVIRONMENTS[name][0], place), (place / 'run' / 'report.html').exists()

        yield {name: pool.submit(answer, name) for name in asked}


@pytest.mark.parametrize('name', ENVIRONMENTS)
def test_command_works_or_says_why_not(name, answers):
    line, code, printed, said = ENVIRONMENTS[name]
    if 'unshare' in line and not has_namespaces():
        pytest.skip('this user may not unshare')
    if 'taskset' in line and not shutil.which('taskset'):
        pytest.skip('there is no taskset')
    process, has_report = answers[name].result()
    out = process.stdout.decode('latin-1')
    errors = process.stderr.decode('utf-8')
    assert process.returncode == code, errors
    assert printed in out
    assert said in errors
    assert is_plain(out + errors), out + errors
    assert has_report == (code == 0 and '--help' not in line or 'run goes on' in errors)


def test_reader_of_a_pipe_that_has_gone_ends_nothing(place):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'wb') as out:
        process = subprocess.run(
            [*COMMAND, '--out', 'run'],
            cwd=place,
            env=clean_environment(),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
    assert process.returncode == 0
    assert (
        'Nothing more can be printed (Broken pipe). The run goes on, for run/report.html.'
    ) in process.stderr
    assert is_plain(process.stderr)
    assert (place / 'run' / 'report.html').exists()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def waited_for(condition):
    "Does it come true in a minute?"
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize(
    'name, where, options',
    [
        ('SIGINT', 'import', '--out run'),
        ('SIGTERM', 'here', '--out run'),
        ('SIGHUP', 'worker', '--out new --workers 2'),
        ('SIGINT', 'worker', '--out run'),
    ],
)  # the last: while costs are measured
def test_signal_ends_all_processes_and_says_how_to_go_on(place, name, where, options):
    (place / f'hold_{where}').touch()
    (place / 'run' / 'costs' / 'two.json').unlink()
    command = [*COMMAND, *options.split()]
    process = subprocess.Popen(
        command,
        cwd=place,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert waited_for((place / 'held').exists)
        held = int((place / 'held').read_text())
        process.send_signal(getattr(signal, name))
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 128 + getattr(signal, name)
    assert 'Stopped; what was finished is kept. To go on:\n  mnist_cmp --models small:one' in errors
    assert is_plain(errors)
    assert waited_for(lambda: not is_alive(held))


def test_what_a_signal_stopped_goes_on(place):
    (place / 'hold_worker').touch()
    (place / 'run' / 'costs' / 'two.json').unlink()
    before = (place / 'run' / 'tests' / 'two_0.json').read_bytes()
    process = subprocess.Popen(
        [*COMMAND, '--out', 'run'],
        cwd=place,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert waited_for((place / 'held').exists)
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
    (place / 'hold_worker').unlink()
    assert shell('$RUN', place).returncode == 0
    assert (place / 'run' / 'costs' / 'two.json').exists()
    assert (place / 'run' / 'tests' / 'two_0.json').read_bytes() == before


SIGNALS = """
import signal
from mnist_cmp.cli import _caught_signals
heard = []
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with _caught_signals(heard, restore=True):
    signal.raise_signal(signal.SIGHUP)
    try: signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt: print(heard == [signal.SIGTERM], flush=True)
    signal.raise_signal(signal.SIGTERM)
print('not reached')
"""


def test_ignored_signal_stays_so_and_a_second_one_kills():
    process = subprocess.run(
        [sys.executable, '-c', SIGNALS], env=clean_environment(), capture_output=True, text=True
    )
    assert (process.returncode, process.stdout, process.stderr) == (-signal.SIGTERM, 'True\n', '')


def test_commands_of_one_second_get_folders_of_their_own(tmp_path):
    code = (
        "import sys, time; time.strftime = lambda _: 'now'; "
        'from mnist_cmp.core.files import new_path; sys.stdin.read(); '
        "print(*(new_path('runs').name for _ in range(20)))"
    )
    several = [
        subprocess.Popen(
            [sys.executable, '-c', code],
            cwd=tmp_path,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in several:
        process.stdin.close()  # now they begin
    names = [name for process in several for name in process.stdout.read().split()]
    for process in several:
        process.wait()
    assert len(names) == len(set(names)) == 80
    assert {folder.name for folder in (tmp_path / 'runs').iterdir()} == set(names)


def test_name_that_is_taken_by_a_dangling_link_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(time, 'strftime', lambda _: 'now')
    (tmp_path / 'now.png').symlink_to(tmp_path / 'elsewhere.png')
    assert new_path(tmp_path, '.png').name == 'now_1.png'


def test_run_that_never_began_leaves_no_folder(place):
    process = shell('$NEW --models mlp,rnn', place)
    assert process.returncode == 1
    assert not (place / 'runs').exists()


def test_search_path_with_a_path_in_it(monkeypatch):
    monkeypatch.setattr(sys, 'path', [Path('.'), *sys.path, b'bytes'])
    path = [place for place in sys.path if isinstance(place, str)]
    code = children.python_code('print(sys.path)')
    assert subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    ).stdout.strip() == repr(path)


def test_worker_that_cannot_be_started_leaves_no_other(monkeypatch):
    started = []
    begin = subprocess.Popen

    def popen(*args, **kwargs):
        if started:
            raise OSError(24, 'Too many open files')
        started.append(begin(*args, **kwargs))
        return started[0]

    monkeypatch.setattr(subprocess, 'Popen', popen)
    with pytest.raises(RuntimeError, match='Too many open files'):
        list(workers.run_jobs(print, [0, 1], workers=2))
    assert started[0].returncode is not None
    assert started[0].stdin.closed and started[0].stdout.closed


class Unreadable:
    def __reduce__(self):
        return getattr, (None, 'no such attribute')


def test_result_that_cannot_be_read_is_a_crash(monkeypatch):
    monkeypatch.setattr(workers, 'RETRIES', 0)
    end = time.monotonic() + 120  # it hung
    outcomes = list(
        workers.run_jobs(
            lambda *_: Unreadable(), [0], workers=2, should_stop=lambda: time.monotonic() > end
        )
    )
    assert [outcome.state for outcome in outcomes] == ['crashed']


def test_memory_is_unknown_where_the_system_does_not_tell(tmp_path, monkeypatch):
    (tmp_path / 'status').write_text('Name: x\n')
    monkeypatch.setattr(costs, 'open', lambda path: (tmp_path / 'status').open(), raising=False)
    assert costs._Memory(torch.device('cpu')).peak() is None


NO_LOCKS = """
import errno, fcntl
def flock(*_): raise OSError(errno.{0}, 'no locks here')
fcntl.flock = flock
"""


@pytest.mark.parametrize('name', ['EINVAL', 'ENOTSUP', 'ENOSYS', 'EBADF'])
def test_file_system_that_cannot_flush_a_folder(search_in, tmp_path, monkeypatch, name):
    "The files are flushed; that their names are is left to such a system."
    fsync = os.fsync
    flushed = []

    def only_files(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
        flushed.append(handle)
        return fsync(handle)

    monkeypatch.setattr(os, 'fsync', only_files)
    found = search_in(tmp_path / 'new' / 'folder')
    assert found.done and flushed


def test_file_system_without_rights(search_in, tmp_path, monkeypatch):
    "CIFS and mounted object stores refuse chmod."

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    for each in 'chmod', 'fchmod', 'lchmod', 'chown', 'fchown':
        if hasattr(os, each):
            monkeypatch.setattr(os, each, refuse)
    assert search_in(tmp_path).done


@pytest.mark.parametrize('name', ['ENOLCK', 'ENOSYS'])
def test_file_system_without_locks(place, name):
    (place / 'patch').mkdir()
    (place / 'patch' / 'sitecustomize.py').write_text(NO_LOCKS.format(name))
    process = shell('PYTHONPATH=patch:$ROOT $RUN', place)
    errors = process.stderr.decode()
    assert is_plain(errors), errors
    assert process.returncode == 0 or 'lock' in errors and 'run' in errors, errors


def test_oldest_libraries_are_named():
    "Each was tried; with an older Matplotlib a figure is lost, so pip must not take one."
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT / 'settings.ini', encoding='utf-8')
    least = dict(re.findall(r'([\w-]+)>=([\d.]+)', settings['DEFAULT']['requirements']))
    oldest = {
        'numpy': '1.26',
        'scipy': '1.11.1',
        'scikit-learn': '1.3',
        'pandas': '1.5',
        'matplotlib': '3.7',
    }
    assert {name: least.get(name) for name in oldest} == oldest
