"The ledger against kills in the middle of a write, and against files that strangers made."

import errno
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from mnist_cmp.core.ledger import Ledger, LedgerError, folder_lock, is_taken
from mnist_cmp.core.trials import SearchResult
from mnist_cmp.training import Epoch, History
from mnist_cmp.ui.run_state import histories_in

fcntl = pytest.importorskip('fcntl')
WHAT = {'model': 'mlp', 'seed': 0}
EPOCHS = [Epoch(i, 0.5, 0.5, 0.1, 0.5, 0.5) for i in range(1, 200)]


def history(epochs=EPOCHS, state='finished'):
    return History(0.05, 32, 7, 'autograd', 1, 'cpu', 'some machine', list(epochs), state)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# A kill in the middle of a write

HALF_WRITTEN = """
import os, signal, sys
from mnist_cmp.core.ledger import Ledger
ledger = Ledger(sys.argv[1], {'model': 'mlp', 'seed': 0})
ledger.connection.execute('PRAGMA cache_size=2; PRAGMA cache_spill=1')
# more than the cache holds
ledger.connection.execute('BEGIN IMMEDIATE; UPDATE epoch SET seconds = 9; DELETE FROM trial')
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_in_a_write(folder, journal, monkeypatch):
    "A ledger of three trials, its writer killed when half of a transaction was in the file."
    monkeypatch.setenv('MNIST_CMP_JOURNAL', journal)
    with Ledger(folder, WHAT) as ledger:
        for index in range(3):
            ledger.record(index, history())
    subprocess.run([sys.executable, '-c', HALF_WRITTEN, str(folder)])
    beside = folder / f'study.sqlite-{"journal" if journal == "delete" else "wal"}'
    assert beside.stat().st_size > 0, 'the kill left nothing behind, so nothing is tested'


@pytest.mark.parametrize('journal', ['wal', 'delete'])
def test_whoever_looks_sees_the_last_whole_transaction_and_changes_nothing(
    tmp_path,
    journal,
    monkeypatch,
):
    killed_in_a_write(tmp_path, journal, monkeypatch)
    before = contents(tmp_path)
    with Ledger.read(tmp_path) as ledger:
        assert [row[0] for row in ledger.histories().values()] == [history()] * 3
    assert list(histories_in(tmp_path)) == [0, 1, 2]  # what the panel sees
    assert contents(tmp_path) == before


@pytest.mark.parametrize('journal', ['wal', 'delete'])
def test_the_study_goes_on(tmp_path, journal, monkeypatch):
    killed_in_a_write(tmp_path, journal, monkeypatch)
    with Ledger(tmp_path, WHAT) as ledger:
        assert [row[0] for row in ledger.histories().values()] == [history()] * 3
        ledger.record(3, history())
    assert sorted(contents(tmp_path)) == ['.lock', 'study.sqlite']


@pytest.mark.parametrize('journal', ['wal', 'delete'])
def test_a_search_goes_on_with_the_engine_that_it_began_with(
    search_in,
    tmp_path,
    journal,
    monkeypatch,
):
    whole = search_in(tmp_path / 'whole').to_dict()
    search_in(tmp_path / 's', n_trials=1)
    half = HALF_WRITTEN.replace("{'model': 'mlp', 'seed': 0}", 'Ledger.read(sys.argv[1]).identity')
    subprocess.run(
        [sys.executable, '-c', half, str(tmp_path / 's')],
        env=os.environ | {'MNIST_CMP_JOURNAL': journal},
    )
    again = search_in(tmp_path / 's').to_dict()
    for found in whole, again:
        for trial in found['trials']:
            trial['worker'] = ''
            for epoch in trial['history']['epochs']:
                epoch['seconds'] = 0
    assert again == whole


@pytest.mark.parametrize('journal', ['wal', 'delete'])
def test_what_is_left_of_a_ledger_that_was_taken_away_is_kept(tmp_path, journal, monkeypatch):
    "Its log holds a part of it: a new ledger beside it would destroy that."
    killed_in_a_write(tmp_path, journal, monkeypatch)
    (tmp_path / 'study.sqlite').rename(tmp_path / 'aside')
    before = contents(tmp_path)
    with pytest.raises(LedgerError, match='Put the file back beside it'):
        Ledger(tmp_path, WHAT)
    assert contents(tmp_path) == before
    (tmp_path / 'aside').rename(tmp_path / 'study.sqlite')
    with Ledger(tmp_path, WHAT) as ledger:
        assert len(ledger.histories()) == 3


def test_a_log_that_another_program_takes_away_is_saved(tmp_path, monkeypatch):
    "As one does that opens the file by itself in the same process, and so gives up its locks."
    monkeypatch.setenv('MNIST_CMP_JOURNAL', 'wal')
    with Ledger(tmp_path, WHAT) as ledger:
        ledger.record(0, history(EPOCHS[:2]))
        (tmp_path / 'study.sqlite-wal').unlink()
        ledger.record(1, history(EPOCHS[:2]))
        copied = tmp_path / 'as after a kill'
        copied.mkdir()
        for file in tmp_path.glob('study.sqlite*'):
            (copied / file.name).write_bytes(file.read_bytes())
    with Ledger.read(copied) as ledger:
        assert list(ledger.histories()) == [0, 1]


def test_a_reader_may_come_at_any_time(tmp_path):
    "A writer opens, writes and closes again and again while others read: none of them fails."
    seen = []
    problems = []
    with Ledger(tmp_path, WHAT):
        pass

    def look():
        while len(problems) == 0 and not done.is_set():
            try:
                with Ledger.read(tmp_path) as ledger:
                    seen.append(len(ledger.histories()))
            except Exception as e:
                problems.append(e)

    done = threading.Event()
    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for index in range(30):
        with Ledger(tmp_path, WHAT) as ledger:
            ledger.record(index, history(EPOCHS[:2]))
    done.set()
    for reader in readers:
        reader.join()
    assert not problems and seen and seen[-1] >= seen[0]


# Strangers' files


def with_super_journal(folder, victim):
    "Put a rollback journal beside a ledger that has SQLite delete another file."
    content = (folder / 'study.sqlite').read_bytes()
    page = content[:4096]
    nonce = 7
    name = os.fsencode(victim)
    checksum = nonce + sum(page[at] for at in range(4096 - 200, 0, -200))
    magic = bytes.fromhex('d9d505f920a163d7')
    head = (magic + struct.pack('>IIIII', 1, nonce, len(content) // 4096, 512, 4096)).ljust(
        512, b'\0'
    )
    changed = struct.pack('>I', 1) + page + struct.pack('>I', checksum & 0xFFFFFFFF)
    tail = (
        struct.pack('>I', 0x40000000 // 4096 + 1)
        + name
        + struct.pack('>II', len(name), sum(name))
        + magic
    )
    (folder / 'study.sqlite-journal').write_bytes(head + changed + tail)


@pytest.fixture
def crafted(tmp_path):
    "A ledger with a crafted journal, and the file that it is after."
    victim = tmp_path / 'thesis.tex'
    victim.write_text('years of work')
    with Ledger(tmp_path / 's', WHAT) as ledger:
        ledger.record(0, history(EPOCHS[:2]))
    with_super_journal(tmp_path / 's', victim)
    return tmp_path / 's', victim


def test_plain_sqlite_would_delete_the_victim(crafted):
    "So the tests below test something."
    folder, victim = crafted
    with closing(sqlite3.connect(folder / 'study.sqlite')) as connection:
        connection.execute('SELECT * FROM trial').fetchall()
    assert not victim.exists()


@pytest.mark.parametrize(
    'opens', [lambda folder: Ledger(folder, WHAT), Ledger.read, SearchResult.load]
)
def test_no_journal_makes_us_delete_a_file(crafted, opens):
    folder, victim = crafted
    before = contents(folder)
    with pytest.raises(LedgerError, match='names a file which is none of its own'):
        opens(folder)
    assert victim.read_text() == 'years of work'
    assert contents(folder) | {'.lock': b''} == before | {'.lock': b''}


def test_nor_another_ledger(tmp_path):
    "A file of the same name elsewhere is a stranger's too."
    for name in 's', 'other':
        with Ledger(tmp_path / name, WHAT) as ledger:
            ledger.record(0, history(EPOCHS[:2]))
    with_super_journal(tmp_path / 's', tmp_path / 'other' / 'study.sqlite')
    with pytest.raises(LedgerError):
        Ledger(tmp_path / 's', WHAT)
    with Ledger.read(tmp_path / 'other') as ledger:
        assert list(ledger.histories()) == [0]


@pytest.mark.parametrize('where', ['search', 'weights'])
def test_nor_does_a_comparison(compare_in, tmp_path, where):
    compare_in(tmp_path / 'run')
    victim = tmp_path / 'thesis.tex'
    victim.write_text('years of work')
    with_super_journal(tmp_path / 'run' / where / 'one', victim)
    with pytest.raises(LedgerError, match='names a file which is none of its own'):
        compare_in(tmp_path / 'run')
    assert victim.exists()


def test_a_journal_put_there_after_the_check_is_refused_too(tmp_path, monkeypatch):
    """There is no gap between check and use: the journal appears at the last moment before
    SQLite looks for it."""
    import mnist_cmp.core.ledger as room

    folder = tmp_path / 's'
    victim = tmp_path / 'thesis-mj0000009AA'  # newer SQLites go by such names alone
    victim.write_text('years of work')
    with Ledger(folder, WHAT) as ledger:
        ledger.record(0, history(EPOCHS[:2]))
    with_super_journal(folder, victim)
    journal = folder / 'study.sqlite-journal'
    hidden = journal.rename(folder / 'hidden')
    connect = room._connect

    def connect_late(path, *args):
        connection = connect(path, *args)
        hidden.rename(journal)
        return connection

    monkeypatch.setattr(room, '_connect', connect_late)
    with pytest.raises(LedgerError, match='names a file which is none of its own'):
        Ledger(folder, WHAT)
    assert victim.exists()


@pytest.mark.parametrize('end', ['', '-journal', '-wal'])
@pytest.mark.parametrize('opens', [lambda folder: Ledger(folder, WHAT), Ledger.read])
def test_links_are_not_followed(tmp_path, end, opens):
    for name in 's', 'elsewhere':
        with Ledger(tmp_path / name, WHAT) as ledger:
            ledger.record(0, history(EPOCHS[:2]))
    target = tmp_path / 'elsewhere' / 'study.sqlite'
    before = target.read_bytes()
    link = tmp_path / 's' / f'study.sqlite{end}'
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    with pytest.raises(LedgerError, match=link.name):
        opens(tmp_path / 's')
    assert target.read_bytes() == before


@pytest.mark.parametrize('end', ['', '-journal', '-wal'])
@pytest.mark.parametrize('opens', [lambda folder: Ledger(folder, WHAT), Ledger.read])
def test_a_link_swapped_in_between_is_not_followed(tmp_path, end, opens, monkeypatch):
    "The plain file that was looked at becomes a link before it is opened."
    import mnist_cmp.core.ledger as room

    for name in 's', 'elsewhere':
        with Ledger(tmp_path / name, WHAT) as ledger:
            ledger.record(0, history(EPOCHS[:2]))
    target = tmp_path / 'elsewhere' / 'study.sqlite'
    link = tmp_path / 's' / f'study.sqlite{end}'
    before = target.read_bytes()

    def swap(path):
        link.unlink(missing_ok=True)
        link.symlink_to(target)

    monkeypatch.setattr(room, '_check_plain', swap)
    stamps = room._stamps
    monkeypatch.setattr(room, '_stamps', lambda path: (swap(path), stamps(path))[1])
    with pytest.raises(LedgerError):
        opens(tmp_path / 's')
    assert target.read_bytes() == before


@pytest.mark.parametrize('opens', [lambda folder: Ledger(folder, WHAT), Ledger.read])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, opens):
    os.mkfifo(tmp_path / 'study.sqlite')
    with pytest.raises(LedgerError):
        opens(tmp_path)


CRAFTED_SQL = {
    'an endless view': (
        'ALTER TABLE trial RENAME TO old; CREATE VIEW trial AS WITH RECURSIVE c(x) AS '
        '(SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c'
    ),
    'a huge view': (
        'ALTER TABLE trial RENAME TO old; CREATE VIEW trial AS SELECT zeroblob(1000000000)'
    ),
    'a trigger': 'CREATE TRIGGER t AFTER UPDATE ON trial BEGIN DELETE FROM epoch; END',
    'a generated column': 'CREATE TABLE more (a, b AS (zeroblob(1000000000)))',
    'a check': (
        'DROP TABLE study; CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL CHECK '
        '(length(value) > 1))'
    ),
    'an index on an expression': 'CREATE INDEX i ON trial (abs(seconds))',
}


@pytest.mark.parametrize('sql', CRAFTED_SQL.values(), ids=CRAFTED_SQL)
@pytest.mark.parametrize('opens', [lambda folder: Ledger(folder, WHAT), Ledger.read])
def test_only_plain_tables_are_taken(tmp_path, sql, opens):
    with Ledger(tmp_path, WHAT) as ledger:
        ledger.record(0, history(EPOCHS[:2], 'running'))
    with closing(sqlite3.connect(tmp_path / 'study.sqlite')) as connection:
        connection.executescript(sql)
    before = (tmp_path / 'study.sqlite').read_bytes()
    with pytest.raises(LedgerError, match='is damaged'):
        opens(tmp_path)
    assert (tmp_path / 'study.sqlite').read_bytes() == before


def grown_log(folder, pages):
    "Have the last frame of a ledger's log say that the file has so many pages."
    import struct as s

    log = folder / 'study.sqlite-wal'
    content = bytearray(log.read_bytes())
    big = s.unpack('>I', content[:4])[0] & 1
    order = '>' if big else '<'

    def checksum(data, a, b):
        for x, y in zip(*[iter(s.unpack(f'{order}{len(data) // 4}I', data))] * 2):
            a = (a + x + b) & 0xFFFFFFFF
            b = (b + y + a) & 0xFFFFFFFF
        return a, b

    size = s.unpack('>I', content[8:12])[0]
    sums = checksum(content[:24], 0, 0)
    frames = range(32, len(content) - size - 23, size + 24)
    for at in frames:
        if at == frames[-1]:
            content[at + 4 : at + 8] = s.pack('>I', pages)
        sums = checksum(bytes(content[at : at + 8] + content[at + 24 : at + 24 + size]), *sums)
        content[at + 16 : at + 24] = s.pack('>II', *sums)
    log.write_bytes(content)


@pytest.mark.parametrize('opens', [lambda folder: Ledger(folder, WHAT), Ledger.read])
def test_a_log_that_would_make_a_huge_file_is_refused(tmp_path, opens, monkeypatch):
    monkeypatch.setenv('MNIST_CMP_JOURNAL', 'wal')
    (tmp_path / 's').mkdir()
    with Ledger(tmp_path / 'live', WHAT) as ledger:
        ledger.record(0, history(EPOCHS[:2]))
        for file in (tmp_path / 'live').glob('study.sqlite*'):
            if not file.name.endswith('-shm'):
                (tmp_path / 's' / file.name).write_bytes(file.read_bytes())
    grown_log(tmp_path / 's', 5)
    with Ledger.read(tmp_path / 's') as ledger:  # the checksums are right
        pass
    grown_log(tmp_path / 's', 10_000_000)
    before = contents(tmp_path / 's')
    with pytest.raises(LedgerError, match='would make it'):
        opens(tmp_path / 's')
    after = contents(tmp_path / 's')
    assert after['study.sqlite'] == before['study.sqlite']


@pytest.mark.parametrize('opens', [lambda folder: Ledger(folder, WHAT), Ledger.read])
def test_a_journal_that_would_make_a_huge_file_is_refused(crafted, opens):
    folder, victim = crafted
    journal = folder / 'study.sqlite-journal'
    content = bytearray(journal.read_bytes()[: 512 + 4104])  # without the name of a further file
    content[16:20] = struct.pack('>I', 300_000)
    journal.write_bytes(content)
    before = (folder / 'study.sqlite').read_bytes()
    with pytest.raises(LedgerError, match='would make it'):
        opens(folder)
    assert (folder / 'study.sqlite').read_bytes() == before


@pytest.mark.parametrize(
    'content', ['[]', 'null', '{}', '{"identity": 3}', '{"identity": {}, "trials": [1]}']
)
def test_an_odd_study_of_the_first_release(search_in, tmp_path, content):
    (tmp_path / 'study.json').write_text(content)
    with pytest.raises(LedgerError, match='study.json is damaged'):
        search_in(tmp_path)


def test_a_link_to_nowhere_is_not_replaced(tmp_path):
    "It may lead to a disk that is not there now."
    (tmp_path / 'study.sqlite').symlink_to(tmp_path / 'disk' / 'study.sqlite')
    with pytest.raises(LedgerError, match='is a link'):
        Ledger(tmp_path, WHAT)
    assert (tmp_path / 'study.sqlite').is_symlink()


def test_a_huge_file_is_not_read(tmp_path):
    with Ledger(tmp_path, WHAT):
        pass
    # takes no room, and would take a terabyte of memory
    os.truncate(tmp_path / 'study.sqlite', 2**40)
    with pytest.raises(LedgerError, match='must hold at most'):
        Ledger.read(tmp_path)


# The lock


def test_looking_takes_no_lock_and_makes_no_file(tmp_path):
    assert not is_taken(tmp_path) and list(tmp_path.iterdir()) == []
    with folder_lock(tmp_path):
        pass
    with open(tmp_path / '.lock') as f:
        fcntl.flock(f, fcntl.LOCK_SH)  # as somebody else's look does, at this very moment
        threading.Timer(0.2, fcntl.flock, [f, fcntl.LOCK_UN]).start()
        with folder_lock(tmp_path):  # the run that begins waits for it to end
            assert is_taken(tmp_path)


def test_the_lock_changes_nothing_that_a_link_leads_to(tmp_path):
    victim = tmp_path / 'victim.txt'
    victim.write_text('precious')
    (tmp_path / 's').mkdir()
    for make in (tmp_path / 's' / '.lock').symlink_to, (tmp_path / 's' / '.lock').hardlink_to:
        make(victim)
        try:
            with folder_lock(tmp_path / 's'):
                pass
        except LedgerError as e:
            assert 'cannot be locked' in str(e)
        assert victim.read_text() == 'precious'
        (tmp_path / 's' / '.lock').unlink()


@pytest.fixture
def flock_fails(monkeypatch):
    "Have each try to lock a file fail, for this process and those that it forks."

    def fail(number):
        def fails(fd, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, 'flock', fails)

    return fail


@pytest.mark.parametrize('number', ['ENOSYS', 'ENOLCK', 'EOPNOTSUPP'])
def test_a_file_system_without_locks(tmp_path, flock_fails, number):
    """A lock is one all the same: nobody else gets it, and it is free when its owner has been
    killed."""
    flock_fails(getattr(errno, number))
    with Ledger(tmp_path, WHAT) as ledger:
        ledger.record(0, history(EPOCHS[:2]))
        assert is_taken(tmp_path)
        with pytest.raises(LedgerError, match='is in use'):
            Ledger(tmp_path, WHAT)
    assert not is_taken(tmp_path)
    child = os.fork()
    if child == 0:
        Ledger(tmp_path, WHAT)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert not is_taken(tmp_path)
    with Ledger.read(tmp_path) as ledger:
        assert list(ledger.histories()) == [0]
    with Ledger(tmp_path, WHAT) as ledger:
        ledger.record(1, history(EPOCHS[:2]))


def test_a_lock_that_fails_is_told_in_words(tmp_path, flock_fails):
    flock_fails(errno.EIO)
    with pytest.raises(LedgerError, match='cannot be locked against other runs'):
        Ledger(tmp_path, WHAT)


@pytest.mark.parametrize('journal', ['wal', 'delete'])
def test_a_callback_may_look_at_the_search_that_calls_it(search_in, tmp_path, journal, monkeypatch):
    monkeypatch.setenv('MNIST_CMP_JOURNAL', journal)
    seen = []
    found = search_in(
        tmp_path,
        on_trial=lambda trial, result: seen.append(len(SearchResult.load(tmp_path).trials)),
    )
    assert seen == [1, 2] and found.done
