"The types in the bodies of the package, by mypy.ini, and that mypy notices what breaks them."

import sys

import pytest
from checkout import ROOT, output_of

MISTYPED = """

def optional(number: int = None): ...


def text() -> int:
    return 'three'


def field(status: Status):
    return status.no_such_field
"""


def mypy(folder):
    return output_of(sys.executable, '-m', 'mypy', '--no-color-output', cwd=folder)


def test_bodies_are_typed():
    assert 'Success: no issues found' in mypy(ROOT)


def test_what_is_mistyped_is_seen(checkout):
    with open(checkout / 'mnist_cmp' / 'core' / 'display.py', 'a') as file:
        file.write(MISTYPED)
    with pytest.raises(AssertionError) as message:
        mypy(checkout)
    for kind in 'assignment', 'return-value', 'attr-defined':
        assert f'[{kind}]' in str(message.value)
    assert 'Found 3 errors in 1 file' in str(message.value)
