"""A file call that fails, a kill, or power loss takes nothing that the same call can't bring back.

A sample of what `make soak ARGS="-k test_faults"` tries in full, and tests of its parts.
"""

import random
import re
import subprocess

import pytest
from faults.powerloss import Call, Crash, read_record, read_tree, replayed, write_tree
from faults.shim import run_python, why_not
from faults.sweep import Progress, check_only, chosen

needs_shim = pytest.mark.skipif(bool(why_not()), reason=why_not() or 'it can be used')


@needs_shim
@pytest.mark.slow
@pytest.mark.parametrize('part, cases', [('faults', 28), ('kills', 20), ('powerloss', 10)])
def test_the_same_call_again_ends_as_if_nothing_had_been(part, cases, seed, tmp_path, pytestconfig):
    sample = pytestconfig.getoption('sample') or str(cases)
    progress = pytestconfig.getoption('progress')
    if progress is None and pytestconfig.getoption('sample') is None:
        progress = tmp_path / 'progress.jsonl'
    options = ['--seed', seed]
    if sample != 'all':
        options += ['--sample', sample]
    if progress is not None:
        options += ['--progress', progress]
    if only := pytestconfig.getoption('only'):
        options += ['--only', only]
    command = ['-m', 'faults', part, *options]
    done = run_python(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    assert done.returncode == 0
    assert re.search(r'[1-9]\d* cases, 0 BAD', done.stdout)
    if sample == str(cases) and not only:
        assert f'{cases} cases, 0 BAD' in done.stdout


def test_a_sweep_that_was_cut_goes_on(tmp_path):
    path = tmp_path / 'new' / 'progress.jsonl'
    Progress(path).add('first', {'bad': []})
    with path.open('a') as file:
        file.write('\n["second", {"ba')  # killed while writing
    tried = []

    def work(case):
        tried.append(case)
        return {'bad': [case]}

    progress = Progress(path)
    progress.go_on(['first', 'second'], work)
    assert tried == ['second']
    assert progress['first'] == {'bad': []}
    assert Progress(path).results == {'first': {'bad': []}, 'second': {'bad': ['second']}}


def test_a_sample_takes_of_each_group():
    groups = {'a': ['a1', 'a2', 'a3'], 'b': ['b1'], 'c': list('cdefgh')}
    assert sorted(chosen(groups, None, 0)) == sorted(['a1', 'a2', 'a3', 'b1', *'cdefgh'])
    found = chosen(groups, 6, 0)
    assert len(set(found)) == 6
    of_each = [sum(case in cases for case in found) for cases in groups.values()]
    assert of_each in ([2, 1, 3], [3, 1, 2])
    assert found == chosen(groups, 6, 0)
    assert found != chosen(groups, 6, 1)


def test_a_text_that_is_in_no_case_is_refused():
    with pytest.raises(SystemExit, match="only is 'serach'"):
        check_only('serach', {})


# The shim


def in_shim(code, folder):
    "What Python code prints in a process with the shim; `shim` and `folder` are at hand."
    head = 'import errno, os, sys; from pathlib import Path; from faults.shim import *\n'
    head += 'shim, folder = Shim(), Path(sys.argv[1])\n'
    to_us = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = run_python(['-c', head + code, folder], **to_us)
    assert done.returncode in (0, -9), done.stdout
    return done.stdout


@needs_shim
@pytest.mark.parametrize('sticky, passed', [(False, 'abd'), (True, 'ab')])
def test_the_third_write_fails(sticky, passed, tmp_path):
    code = f"""
shim.arm(folder, WRITE, 3, error=errno.EIO, sticky={sticky})
for name in 'abcd':
    fd = os.open(folder/name, os.O_CREAT | os.O_WRONLY)
    try: os.write(fd, b'text')
    except OSError as error: assert error.errno == errno.EIO
shim.disarm()
print(shim.hit_call, shim.count, shim.hits)"""
    assert in_shim(code, tmp_path) == f'write c 4 {2 if sticky else 1}\n'
    assert ''.join(sorted(p.name for p in tmp_path.iterdir() if p.read_text())) == passed


@needs_shim
def test_a_write_is_cut_and_goes_on(tmp_path):
    code = """
shim.arm(folder, WRITE, 1, Action.CUT, errno.ENOSPC)
fd = os.open(folder/'x', os.O_CREAT | os.O_WRONLY)
print(os.write(fd, b'123456'), os.write(fd, b'456'))"""
    assert in_shim(code, tmp_path) == '3 3\n'
    assert (tmp_path / 'x').read_bytes() == b'123456'


@needs_shim
def test_calls_elsewhere_pass(tmp_path):
    (tmp_path / 'x').mkdir()
    code = """
shim.arm(folder/'x', CHANGES | READ, 1, error=errno.EIO, sticky=True)
(folder/'xy').write_text('a name that begins like the folder')
print((folder/'xy').read_text())"""
    assert 'begins like' in in_shim(code, tmp_path)


CALLS = {
    'mkdir': "(folder/'new').mkdir()",
    'rename': "os.replace(folder/'a', folder/'b')",
    'unlink': "(folder/'a').unlink()",
    'fsync': "os.fsync(os.open(folder/'a', os.O_RDWR))",
    'chmod': "(folder/'a').chmod(0o600)",
    'truncate': "os.truncate(os.open(folder/'a', os.O_RDWR), 1)",
    'rmdir': "(folder/'sub').rmdir()",
    'open': "(folder/'new').touch()",
    'flock': "fcntl.flock(os.open(folder/'a', os.O_RDONLY), fcntl.LOCK_EX)",
    'mmap': "mmap.mmap(os.open(folder/'a', os.O_RDWR), 3)",
}


@needs_shim
@pytest.mark.parametrize('call', CALLS)
def test_it_dies_before_the_call(call, tmp_path):
    (tmp_path / 'a').write_text('abc')
    (tmp_path / 'sub').mkdir()
    before = read_tree(tmp_path)
    classes = 'OPEN' if call == 'open' else 'CHANGES & ~OPEN'
    arm = f'import fcntl, mmap\nshim.arm(folder, {classes}, 1, Action.KILL)\n'
    code = f"{arm}{CALLS[call]}\nprint('alive')"
    assert in_shim(code, tmp_path) == ''
    assert read_tree(tmp_path) == before


@needs_shim
def test_reads_are_a_class_of_their_own(tmp_path):
    (tmp_path / 'a').write_text('abc')
    code = """
shim.arm(folder, CHANGES)
(folder/'a').read_text()
print(shim.count)
shim.arm(folder, READ)
(folder/'a').read_text()
print(shim.count)"""
    none, several = map(int, in_shim(code, tmp_path).split())
    assert none == 0 and several >= 2  # it is opened, and read to its end


# Power loss


@needs_shim
def test_a_record_gives_the_folder_again(tmp_path):
    folder = tmp_path / 'run'
    record = tmp_path / 'record'
    code = f"""
import shutil, sqlite3, tempfile
with shim.recording(folder, {str(record)!r}):
    folder.mkdir()
    (folder/'a').write_text('abc')
    with open(folder/'a', 'ab') as file: file.write(b'def')
    with open(folder/'a', 'r+b') as file:
        file.seek(1)
        file.write(b'B')
        file.truncate(5)
    os.replace(folder/'a', folder/'b')
    with tempfile.TemporaryFile(dir=folder) as file: file.write(b'nameless')
    (folder/'sub'/'deep').mkdir(parents=True)
    (folder/'sub'/'deep'/'c').write_bytes(bytes(10_000))
    os.link(folder/'b', folder/'sub'/'d')
    (folder/'gone').write_text('gone')
    shutil.rmtree(folder/'sub'/'deep')
    (folder/'gone').unlink()
    for mode in 'wal', 'delete':
        connection = sqlite3.connect(folder/(mode + '.sqlite'))
        connection.execute('PRAGMA journal_mode=' + mode)
        with connection: connection.execute('CREATE TABLE t (x)')
        rows = [[str(i)*100] for i in range(99)]
        with connection: connection.executemany('INSERT INTO t VALUES (?)', rows)
        connection.close()"""  # noqa: S608
    assert in_shim(code, folder) == ''
    tree = replayed(read_record(record)).tree()
    assert tree == read_tree(folder)
    assert tree['b'] == b'aBcde'
    assert tree['sub'] == {'d': b'aBcde'}
    assert len(tree['wal.sqlite']) > 8000
    write_tree(tree, tmp_path / 'again')
    assert read_tree(tmp_path / 'again') == tree


SYNC_NAMES = Call('sync', '.')


def written(name, inode, data):
    "A new file and its bytes, not yet synced."
    return [Call('create', name, inode=inode), Call('write', name, inode=inode, data=data)]


def safe(name, inode, data):
    "A file that is safe, with its name."
    return [*written(name, inode, data), Call('sync', name, inode=inode), SYNC_NAMES]


OLD = safe('file', 9, b'old')
NEW = written('part', 1, b'new' * 1000)
SYNC = Call('sync', 'part', inode=1)
RENAME = Call('rename', 'part', 'file')


def states(calls, model):
    "What may be there after a crash: each of many states once."
    found = []
    for seed in range(300):
        tree = Crash(replayed(calls), model, random.Random(seed)).tree()
        if tree not in found:
            found.append(tree)
    return found


@pytest.mark.parametrize('model', ['ordered', 'weak'])
def test_a_file_that_is_synced_and_then_renamed_is_old_or_new(model):
    calls = [*OLD, *NEW, SYNC, RENAME]
    assert {tree.get('file') for tree in states(calls, model)} == {b'old', b'new' * 1000}
    assert states([*calls, SYNC_NAMES], model) == [{'file': b'new' * 1000}]


@pytest.mark.parametrize('model', ['ordered', 'weak'])
def test_one_that_is_renamed_without_a_sync_may_be_empty_or_torn(model):
    found = {tree.get('file') for tree in states([*OLD, *NEW, RENAME, SYNC_NAMES], model)}
    assert b'' in found
    assert b'new' * 1000 in found
    assert any(0 < len(content) < 3000 for content in found)


def test_only_the_weak_model_grows_a_file_by_zeros():
    def has_zeros(model):
        return any(0 in tree.get('part', b'') for tree in states(NEW, model))

    assert has_zeros('weak')
    assert not has_zeros('ordered')


def test_only_the_weak_model_loses_the_name_of_a_synced_file():
    calls = [*NEW, SYNC]
    assert states(calls, 'ordered') == [{'part': b'new' * 1000}]
    assert {} in states(calls, 'weak')


def test_names_of_one_folder_survive_in_order_and_those_of_two_do_not():
    calls = [Call('mkdir', 'a'), Call('mkdir', 'b'), SYNC_NAMES]
    calls += [Call('create', name, inode=int(name[-1])) for name in ('a/1', 'a/2', 'b/3')]
    for model in ('ordered', 'weak'):
        found = [{*tree['a'], *tree['b']} for tree in states(calls, model)]
        assert {'1', '2'} in found
        assert not any('2' in names and '1' not in names for names in found)
        assert ({'3'} in found) == (model == 'weak')


@pytest.mark.parametrize('model', ['ordered', 'weak'])
def test_a_write_into_a_file_is_torn_at_sectors(model):
    calls = [*safe('f', 1, b'a' * 1024), Call('write', 'f', inode=1, data=b'b' * 1024)]
    found = {tree['f'] for tree in states(calls, model)}
    a = b'a' * 512
    b = b'b' * 512
    assert found == {a + a, a + b, b + a, b + b}
