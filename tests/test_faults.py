"""A file call that fails, a kill before one, and power loss cost a run nothing that the same call does not bring back.

A sample of what `make soak ARGS="faults kills powerloss"` tries in full, and tests of what does the trying.
"""
import itertools
import random
import subprocess
import sys

import pytest

from faults.powerloss import Call, Crash, read_record, read_tree, replayed, write_tree
from faults.shim import ROOT, run_python, why_not

needs_shim = pytest.mark.skipif(bool(why_not()), reason=why_not() or 'it can be used')


def soak(*arguments):
    "Exit code and printed lines of a part of tools/soak.py."
    command = [sys.executable, str(ROOT/'tools'/'soak.py'), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


@needs_shim
@pytest.mark.parametrize('part, cases', [('faults', 28), ('kills', 20), ('powerloss', 10)])
def test_the_same_call_again_ends_as_if_nothing_had_been(part, cases, tmp_path):
    code, text = soak(part, '--sample', cases, '--progress', tmp_path/'progress.jsonl')
    assert code == 0, text
    assert f'{cases} cases, 0 BAD' in text


@needs_shim
def test_a_sweep_that_was_cut_goes_on(tmp_path):
    arguments = ['kills', '--only', 'search, wal', '--progress', tmp_path/'progress.jsonl']
    soak(*arguments, '--sample', 1)
    tried = (tmp_path/'progress.jsonl').read_text()
    with (tmp_path/'progress.jsonl').open('a') as file: file.write('\n["search, wal, SIGK')   # killed while writing
    text = soak(*arguments, '--sample', 2)[1]
    assert 'which holds 1 cases' in text
    assert '2 of ' in text
    lines = (tmp_path/'progress.jsonl').read_text().splitlines()
    assert lines[1] == tried.splitlines()[1]
    assert len(lines) == 4   # the first is empty


# The shim


def in_shim(code, folder):
    "What Python code prints in a process with the shim; `shim` and `folder` are at hand."
    head = 'import errno, os, sys; from pathlib import Path; from faults.shim import *\n'
    head += 'shim, folder = Shim(), Path(sys.argv[1])\n'
    done = run_python(['-c', head + code, folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode in (0, -9), done.stdout
    return done.stdout


@needs_shim
@pytest.mark.parametrize('sticky, passed', [(False, 'abd'), (True, 'ab')])
def test_the_third_write_fails(sticky, passed, tmp_path):
    code = f'''
shim.arm(folder, WRITE, 3, error=errno.EIO, sticky={sticky})
for name in 'abcd':
    fd = os.open(folder/name, os.O_CREAT | os.O_WRONLY)
    try: os.write(fd, b'text')
    except OSError as error: assert error.errno == errno.EIO
shim.disarm()
print(shim.hit_call, shim.count, shim.hits)'''
    assert in_shim(code, tmp_path) == f'write c 4 {2 if sticky else 1}\n'
    assert ''.join(sorted(p.name for p in tmp_path.iterdir() if p.read_text())) == passed


@needs_shim
def test_a_write_is_cut_and_goes_on(tmp_path):
    code = '''
shim.arm(folder, WRITE, 1, Action.CUT, errno.ENOSPC)
fd = os.open(folder/'x', os.O_CREAT | os.O_WRONLY)
print(os.write(fd, b'123456'), os.write(fd, b'456'))'''
    assert in_shim(code, tmp_path) == '3 3\n'
    assert (tmp_path/'x').read_bytes() == b'123456'


@needs_shim
def test_calls_elsewhere_pass(tmp_path):
    (tmp_path/'x').mkdir()
    code = '''
shim.arm(folder/'x', CHANGES | READ, 1, error=errno.EIO, sticky=True)
(folder/'xy').write_text('a name that begins like the folder')
print((folder/'xy').read_text())'''
    assert 'begins like' in in_shim(code, tmp_path)


CALLS = {'mkdir': "(folder/'new').mkdir()", 'rename': "os.replace(folder/'a', folder/'b')", 'unlink': "(folder/'a').unlink()",
         'fsync': "os.fsync(os.open(folder/'a', os.O_RDWR))", 'chmod': "(folder/'a').chmod(0o600)",
         'truncate': "os.truncate(os.open(folder/'a', os.O_RDWR), 1)", 'rmdir': "(folder/'sub').rmdir()",
         'open': "(folder/'new').touch()", 'flock': "fcntl.flock(os.open(folder/'a', os.O_RDONLY), fcntl.LOCK_EX)",
         'mmap': "mmap.mmap(os.open(folder/'a', os.O_RDWR), 3)"}


@needs_shim
@pytest.mark.parametrize('call', CALLS)
def test_it_dies_before_the_call(call, tmp_path):
    (tmp_path/'a').write_text('abc')
    (tmp_path/'sub').mkdir()
    before = read_tree(tmp_path)
    classes = 'OPEN' if call == 'open' else 'CHANGES & ~OPEN'
    code = f"import fcntl, mmap\nshim.arm(folder, {classes}, 1, Action.KILL)\n{CALLS[call]}\nprint('alive')"
    assert in_shim(code, tmp_path) == ''
    assert read_tree(tmp_path) == before


@needs_shim
def test_reads_are_a_class_of_their_own(tmp_path):
    (tmp_path/'a').write_text('abc')
    code = '''
shim.arm(folder, CHANGES)
(folder/'a').read_text()
print(shim.count)
shim.arm(folder, READ)
(folder/'a').read_text()
print(shim.count)'''
    none, several = map(int, in_shim(code, tmp_path).split())
    assert none == 0 and several >= 2   # it is opened, and read to its end


# Power loss


@needs_shim
def test_a_record_gives_the_folder_again(tmp_path):
    folder, record = tmp_path/'run', tmp_path/'record'
    code = f'''
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
        with connection: connection.executemany('INSERT INTO t VALUES (?)', [[str(i)*100] for i in range(99)])
        connection.close()'''
    assert in_shim(code, folder) == ''
    tree = replayed(read_record(record)).tree()
    assert tree == read_tree(folder)
    assert tree['b'] == b'aBcde' and tree['sub'] == {'d': b'aBcde'} and len(tree['wal.sqlite']) > 8000
    write_tree(tree, tmp_path/'again')
    assert read_tree(tmp_path/'again') == tree


CREATE = [Call('create', 'part', inode=1), Call('write', 'part', inode=1, data=b'new'*1000)]
SYNC, RENAME, SYNC_NAMES = Call('sync', 'part', inode=1), Call('rename', 'part', 'file'), Call('sync', '.')
OLD = [Call('create', 'file', inode=9), Call('write', 'file', inode=9, data=b'old'), Call('sync', 'file', inode=9), SYNC_NAMES]


def states(calls, model):
    "What may be there after a crash: each of many states once."
    found = []
    for seed in range(300):
        tree = Crash(replayed(calls), model, random.Random(seed)).tree()
        if tree not in found: found.append(tree)
    return found


@pytest.mark.parametrize('model', ['ordered', 'weak'])
def test_a_file_that_is_synced_and_then_renamed_is_old_or_new(model):
    calls = [*OLD, *CREATE, SYNC, RENAME]
    assert {tree.get('file') for tree in states(calls, model)} == {b'old', b'new'*1000}
    assert states([*calls, SYNC_NAMES], model) == [{'file': b'new'*1000}]


@pytest.mark.parametrize('model', ['ordered', 'weak'])
def test_one_that_is_renamed_without_a_sync_may_be_empty_or_torn(model):
    found = {tree.get('file') for tree in states([*OLD, *CREATE, RENAME, SYNC_NAMES], model)}
    assert b'' in found and b'new'*1000 in found and any(0 < len(content) < 3000 for content in found)


def test_only_the_weak_model_grows_a_file_by_zeros():
    has_zeros = {model: any(0 in tree.get('part', b'') for tree in states([*CREATE], model)) for model in ('ordered', 'weak')}
    assert has_zeros == {'ordered': False, 'weak': True}


def test_only_the_weak_model_loses_the_name_of_a_synced_file():
    calls = [*CREATE, SYNC]
    assert states(calls, 'ordered') == [{'part': b'new'*1000}]
    assert {} in states(calls, 'weak')


def test_names_of_one_folder_survive_in_order_and_those_of_two_do_not():
    folders = [Call('mkdir', 'a'), Call('mkdir', 'b'), SYNC_NAMES]
    calls = [*folders, Call('create', 'a/1', inode=1), Call('create', 'a/2', inode=2), Call('create', 'b/3', inode=3)]
    for model in ('ordered', 'weak'):
        found = [{*tree['a'], *tree['b']} for tree in states(calls, model)]
        assert {'1', '2'} in found and not any('2' in names and '1' not in names for names in found)
        assert ({'3'} in found) == (model == 'weak')


@pytest.mark.parametrize('model', ['ordered', 'weak'])
def test_a_write_into_a_file_is_torn_at_sectors(model):
    old = [Call('create', 'f', inode=1), Call('write', 'f', inode=1, data=b'a'*1024), Call('sync', 'f', inode=1), SYNC_NAMES]
    found = {tree['f'] for tree in states([*old, Call('write', 'f', inode=1, data=b'b'*1024)], model)}
    assert found == {one*512 + other*512 for one, other in itertools.product([b'a', b'b'], repeat=2)}
