"""Which of two models is better on this data, at equal size and equal tuning effort, by how much, and how sure are we?

Each public name is here, and so is each chapter and workshop (`mnist_cmp.data`,
`mnist_cmp.evidence`, …). One is loaded at its first use: `import mnist_cmp` alone loads no other
package.
"""
from importlib import import_module

from . import _moved

__version__ = "0.1.0"


def _read_stub():
    "Name → its module, '.' for a module of this package: as `__init__.pyi` imports them."
    # Without `ast`, and so without lazy_loader: in `python -m mnist_cmp` the current folder is
    # still the first that is searched, where a file of that name may be a stranger's.
    homes = {}
    with open(f'{__path__[0]}/__init__.pyi', encoding='utf-8') as stub:
        for line in stub:
            if line.startswith('from '):
                _, home, _, names = line.split(maxsplit=3)
                for name in names.split(','):
                    homes[name.split()[0]] = home
    return homes


_homes = _read_stub()
_old = {'Box': 'Space', 'Point': 'Config'}  # names that go with the next release

__all__ = [name for name, home in _homes.items() if home != '.']


def __getattr__(name):
    home = _homes.get(name)
    if home == '.' or name in _moved.MODULES:
        return import_module(f'.{name}', __name__)
    if home:
        return getattr(import_module(home, __name__), name)
    if name in _old:
        from .core.checks import warn_renamed

        warn_renamed(name, _old[name])
        return __getattr__(_old[name])
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted({*globals(), *_homes})


_moved.install()
