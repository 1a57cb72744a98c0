"The compiled kernel: whose file is loaded, what is built anew, what is left of a compiler."

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import mnist_cmp as mc
from mnist_cmp.engines import compiled

COMPILER = shutil.which('g++')
needs_compiler = pytest.mark.skipif(not COMPILER, reason='there is no g++')
is_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can give files away')
OTHER = 65534  # the user `nobody`


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    "An empty folder for kernels; nothing has failed in this process yet."
    folder = tmp_path / 'kernels'
    folder.mkdir(mode=0o700)
    monkeypatch.setenv('MNIST_CMP_KERNELS', str(folder))
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setattr(compiled, '_failed', set())
    return folder


@pytest.fixture(scope='session')
def library(tmp_path_factory):
    "A kernel's library, compiled once."
    if not COMPILER:
        pytest.skip('there is no g++')
    made = tmp_path_factory.mktemp('library') / 'step.so'
    flags = ['-shared', '-fPIC', '-std=c++20', '-O1', '-fopenmp']
    subprocess.run([COMPILER, *flags, '-o', made, compiled.SOURCE], check=True)
    return made.read_bytes()


@pytest.fixture
def compiler(library, monkeypatch):
    "A compiler that takes no time; how often it was asked."
    asked = []

    def compile_it(check):
        asked.append(check)
        return library

    monkeypatch.setattr(compiled, '_compile', compile_it)
    return asked


@pytest.fixture
def planted(kernels, tmp_path):
    "A stranger's library with a right digest in the kernel's place; the file that it would write."
    if not COMPILER:
        pytest.skip('there is no g++')
    ran = tmp_path / 'ran'
    source = tmp_path / 'evil.cpp'
    made = tmp_path / 'evil.so'
    source.write_text(
        '#include <fcntl.h>\n__attribute__((constructor)) void go(void) {'
        f' open("{ran}", O_CREAT | O_WRONLY, 0600); }}'
    )
    subprocess.run([COMPILER, '-shared', '-fPIC', '-o', made, source], check=True)
    content = made.read_bytes()
    path = compiled.kernel_path()
    path.write_bytes(content + hashlib.sha256(content).digest())
    path.chmod(0o644)
    return path, ran


def refuse(capsys, words, ran=None):
    "By name there is an error; by itself there is one line, once; and nothing of the file is run."
    with pytest.raises(OSError, match='MNIST_CMP_KERNELS') as error:
        compiled._kernel(compiled.build_kernel())
    assert words in str(error.value)
    assert [compiled.has_kernel(), compiled.has_kernel()] == [False, False]
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and words in said and said.endswith('Going on without it.\n')
    assert ran is None or not ran.exists()


def test_the_plant_would_run(planted):
    path, ran = planted
    with pytest.raises(OSError, match='cannot be loaded'):
        compiled._kernel(path)  # it is no kernel,
    assert ran.exists()  # but, with nothing wrong about its owner, was loaded


@pytest.mark.parametrize('mode', [0o777, 0o757, 0o703])
def test_folder_that_others_can_write_to(planted, kernels, capsys, mode):
    kernels.chmod(mode)
    refuse(capsys, 'can be written to by everybody', planted[1])


def test_file_that_others_can_write_to(planted, capsys):
    planted[0].chmod(0o666)
    refuse(capsys, 'can be written to by everybody', planted[1])


@is_root
@pytest.mark.parametrize(
    'what',
    ['file', 'folder', 'file in a sticky folder', 'group of the file', 'group of the folder'],
)
def test_owner_and_group(planted, kernels, capsys, what):
    path, ran = planted
    if what.startswith('file'):
        os.chown(path, OTHER, OTHER)
    if what == 'folder':
        os.chown(kernels, OTHER, OTHER)
    if 'sticky' in what:
        kernels.chmod(0o1777)
    if what.startswith('group'):
        target = path if 'file' in what else kernels
        os.chown(target, 0, OTHER)
        target.chmod(0o775)
    refuse(capsys, 'its group' if what.startswith('group') else 'belongs to another user', ran)


def test_private_group_may_write(kernels, compiler, monkeypatch):
    import grp

    me = pwd.getpwuid(os.geteuid())
    group = grp.getgrgid(os.getegid())
    private = grp.struct_group((me.pw_name, 'x', group.gr_gid, []))
    own = pwd.struct_passwd((*me[:3], group.gr_gid, *me[4:]))
    monkeypatch.setattr(grp, 'getgrgid', lambda gid: private)
    monkeypatch.setattr(pwd, 'getpwuid', lambda uid: own)
    kernels.chmod(0o770)
    assert compiled.has_kernel()
    others = grp.struct_group((me.pw_name, 'x', group.gr_gid, [me.pw_name, 'somebody']))
    monkeypatch.setattr(grp, 'getgrgid', lambda gid: others)
    with pytest.raises(OSError, match='can be written to by its group'):
        compiled.build_kernel()


def test_own_file_in_a_sticky_folder(kernels, compiler):
    kernels.chmod(0o1777)
    assert compiled.has_kernel()
    assert compiled._has_whole(compiled.kernel_path())


def test_link_and_pipe(planted, capsys, tmp_path):
    path, ran = planted
    path.rename(tmp_path / 'elsewhere.so')
    path.symlink_to(tmp_path / 'elsewhere.so')
    refuse(capsys, 'cannot be opened', ran)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(OSError, match='is no file'):
        compiled.build_kernel()  # without waiting


def test_swapped_after_the_look(kernels, compiler, planted, tmp_path, monkeypatch):
    "What is loaded is the file that was looked at, whatever its name leads to by then."
    path, ran = planted
    plant = path.read_bytes()
    path.unlink()
    compiled.build_kernel()
    load = compiled._load

    def swap_and_load(file):
        other = tmp_path / 'other.so'
        other.write_bytes(plant)
        os.replace(other, path)
        return load(file)

    monkeypatch.setattr(compiled, '_load', swap_and_load)
    assert compiled._kernel(path).lanes() in (8, 16)
    assert not ran.exists()


DAMAGE = {
    'empty': lambda whole: b'',
    'text': lambda whole: b'hello',
    'half': lambda whole: whole[: len(whole) // 2],
    'four kB': lambda whole: whole[:4096],
    'a bit': lambda whole: bytes([whole[0] ^ 1]) + whole[1:],
    'no digest': lambda whole: whole[:-32],
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_damaged_file_is_built_anew(kernels, compiler, kind):
    path = compiled.build_kernel()
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[kind](whole))
    assert compiled.has_kernel()
    assert path.read_bytes() == whole
    assert len(compiler) == 2
    assert compiled.build_kernel() == path and len(compiler) == 2  # and stays


def test_file_for_another_machine(kernels, capsys):
    path = compiled.kernel_path()
    content = b'\x7fELF of another system'
    path.write_bytes(content + hashlib.sha256(content).digest())
    refuse(capsys, 'cannot be loaded')


def test_file_without_our_functions(planted, capsys):
    refuse(capsys, 'cannot be loaded')


@pytest.mark.parametrize('mask', [0o000, 0o002, 0o077])
def test_what_is_made_is_ours_alone(tmp_path, compiler, monkeypatch, mask):
    monkeypatch.setenv('MNIST_CMP_KERNELS', str(tmp_path / 'new' / 'kernels'))
    before = os.umask(mask)
    try:
        path = compiled.build_kernel()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o022 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_unwritable_cache_is_noticed_before_compiling(tmp_path, compiler, monkeypatch, capsys):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('MNIST_CMP_KERNELS', str(tmp_path / 'file' / 'kernels'))
    monkeypatch.setattr(compiled, '_failed', set())
    refuse(capsys, 'Not a directory')
    (tmp_path / 'full').mkdir()
    monkeypatch.setenv('MNIST_CMP_KERNELS', str(tmp_path / 'full'))

    def no_room(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(compiled.tempfile, 'TemporaryFile', no_room)
    refuse(capsys, 'cannot be written to: No space left on device')
    assert not compiler


def test_no_home(monkeypatch, compiler, capsys, tmp_path):
    for name in ('HOME', 'XDG_CACHE_HOME', 'MNIST_CMP_KERNELS'):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    monkeypatch.setattr(compiled, '_failed', set())
    monkeypatch.chdir(tmp_path)
    refuse(capsys, 'no home folder')
    assert list(tmp_path.iterdir()) == [] and not compiler


def test_training_goes_on_without(kernels, data, monkeypatch, capsys):
    "By itself a long job takes another engine; one that was asked for by name is refused."
    monkeypatch.setattr('mnist_cmp.engines.steps.MINUTE', 1)  # so that this one counts as long
    kernels.chmod(0o777)
    small = partial(mc.MLP, 5, 5, classes=3)

    def train(**kwargs):
        return mc.train(mc.initialise(small), data.train, recipe=mc.Recipe(0.1, 20, 1), **kwargs)

    assert train().engine in ('onednn', 'autograd')
    assert 'MNIST_CMP_KERNELS. Going on without it.' in capsys.readouterr().err
    with pytest.raises(OSError, match='can be written to by everybody'):
        train(compute=mc.Compute(engine='compiled'))


HANGING = """#!/bin/sh
echo $$ > {pid}
echo half > "$TMPDIR/half.o"
exec sleep 1000
"""
BUILD = 'from mnist_cmp.engines.compiled import build_kernel; build_kernel()'


def gone(pid, seconds=60):
    "Has a process ended, or does it, before long?"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        state = Path(f'/proc/{pid}/stat')
        if state.exists() and state.read_text().rpartition(')')[2].split()[0] == 'Z':
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(sys.platform != 'linux', reason='it looks into /proc')
@pytest.mark.parametrize('end', [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_compiler_ends_with_its_process(kernels, tmp_path, end):
    noted = tmp_path / 'pid'
    script = tmp_path / 'cxx'
    temporary = tmp_path / 'tmp'
    temporary.mkdir()
    script.write_text(HANGING.format(pid=noted))
    script.chmod(0o755)
    package = str(Path(mc.__file__).parent.parent)
    env = os.environ | {'CXX': str(script), 'TMPDIR': str(temporary), 'PYTHONPATH': package}
    process = subprocess.Popen([sys.executable, '-c', BUILD], env=env, stderr=subprocess.DEVNULL)
    while not (noted.exists() and noted.read_text().endswith('\n')):
        assert process.poll() is None
        time.sleep(0.02)
    pid = int(noted.read_text())
    process.send_signal(end)
    process.wait(60)
    assert gone(pid)
    for _ in range(3000):  # the launcher sweeps up after it
        if not os.listdir(temporary):
            break
        time.sleep(0.02)
    assert os.listdir(temporary) == []
    assert os.listdir(kernels) == []


def compiler_says(tmp_path, monkeypatch, body):
    "The error of a build with a compiler that does as a shell script does."
    script = tmp_path / 'cxx'
    script.write_text('#!/bin/sh\n' + body)
    script.chmod(0o755)
    monkeypatch.setenv('CXX', f'{script} --with words')
    with pytest.raises(OSError, match='It takes GCC') as error:
        compiled.build_kernel()
    return str(error.value)


def test_compilers_that_fail(kernels, tmp_path, monkeypatch):
    no_room = 'echo "error: no room" >&2; exit 1'
    junk = 'while [ "$1" != -o ]; do shift; done; echo junk > "$2"'
    assert '(error: no room)' in compiler_says(tmp_path, monkeypatch, no_room)
    assert 'made no library' in compiler_says(tmp_path, monkeypatch, junk)
    assert 'step.so' in compiler_says(tmp_path, monkeypatch, 'exit 0')
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(OSError, match='no-such-compiler: not found'):
        compiled.build_kernel()
    assert os.listdir(kernels) == []


@needs_compiler
def test_a_real_compiler(kernels):
    assert compiled.has_kernel()
    assert compiled._kernel(compiled.kernel_path()).lanes() in (8, 16)
