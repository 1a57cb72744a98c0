"""Files of a folder that a stranger may have made: plain ones are read and written, all else is
refused at once."""

import os
import socket

import pytest
from tiny import error_of

from mnist_cmp.core.files import plain_folder, plain_path, read_json, read_plain

posix = pytest.mark.skipif(os.name != 'posix', reason='pipes and sockets in folders')


def within(seconds, call):
    "The error of a call that must not wait."
    error = error_of(call, seconds)
    assert error is not None, 'nothing was refused'
    return error


@posix
@pytest.mark.parametrize('read', [read_plain, read_json])
def test_pipe_is_refused_without_waiting(tmp_path, read):
    os.mkfifo(tmp_path / 'pipe')
    error = within(30, lambda: read(tmp_path / 'pipe'))
    assert isinstance(error, ValueError) and 'pipe is no file' in str(error)


@posix
def test_socket_device_and_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind('socket')
        for path in tmp_path / 'socket', '/dev/zero', tmp_path:
            with pytest.raises(ValueError, match='is no file'):
                read_plain(path)


@posix
def test_links_are_refused_wherever_they_lead(tmp_path):
    (tmp_path / 'real.json').write_text('{}')
    for name, target in {'inside': 'real.json', 'nowhere': 'none', 'loop': 'loop'}.items():
        (tmp_path / name).symlink_to(target)
        for read in read_plain, read_json:
            with pytest.raises(ValueError, match=f'{name} is a link'):
                read(tmp_path / name)
        with pytest.raises(ValueError, match=f'{name} is a link'):
            plain_path(tmp_path, name)
        with pytest.raises(ValueError, match=f'{name} is a link'):
            plain_folder(tmp_path, name)


def test_file_that_claims_a_terabyte_is_not_read(tmp_path):
    with open(tmp_path / 'huge.json', 'wb') as file:
        try:
            file.truncate(2**40)  # nothing on the disk
        except OSError:
            pytest.skip('this file system has no files with holes')
    with pytest.raises(ValueError, match='but must hold at most'):
        read_json(tmp_path / 'huge.json')


def test_what_is_missing_is_said_to_be(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / 'none')
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / 'none.json')


def test_folder_named_by_the_user_may_be_a_link(tmp_path):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'linked').symlink_to('real', target_is_directory=True)
    assert plain_folder(tmp_path / 'linked', 'figures').is_dir()
    assert (tmp_path / 'real' / 'figures').is_dir()
