"""Write mnist_cmp/__init__.pyi, the types of the public names: `python tools/stubs.py`; with
`--check`, compare only.

A type checker sees neither the names that `__init__` loads at their first use nor the methods
that `@patch` adds to a class. Both are read from the living package here, as are signatures: an
argument that may be None says so in its stub, and what imports pandas when it is called, so as
not to burden the workers with it, gives a frame.
"""

import dataclasses
import inspect
import re
import sys
from functools import reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import mnist_cmp

STUB = Path(mnist_cmp.__file__).with_suffix('.pyi')
SPECIAL = {'__getitem__', '__len__', '__iter__', '__enter__', '__exit__', '__call__'}
OWN = re.compile(r'\bmnist_cmp(?:\.\w+)*\.(\w+)')


def without_notes(annotation):
    "A type without what `Annotated` adds to it, such as the limits of a record's field."
    origin = get_origin(annotation)
    if origin is Annotated:
        return without_notes(get_args(annotation)[0])
    if origin in (None, Literal):
        return annotation
    parts = [without_notes(part) for part in get_args(annotation)]
    return reduce(or_, parts) if origin in (Union, UnionType) else origin[tuple(parts)]


class Stubs:
    "The stubs of the public names, and of the classes that their types name."

    def __init__(self):
        self.todo, self.done, self.imports = list(mnist_cmp.__all__), {}, set()
        self.classes = {
            cls.__name__: cls
            for room in mnist_cmp._rooms
            for cls in vars(getattr_room(room)).values()
            if inspect.isclass(cls) and cls.__module__.startswith('mnist_cmp.')
        }
        while self.todo:
            name = self.todo.pop(0)
            if name not in self.done:
                self.done[name] = self.stub(name)

    def type_of(self, annotation, default=inspect.Parameter.empty):
        "An annotation as text; None as default joins it."
        if annotation is inspect.Parameter.empty:
            return 'Any'
        annotation = without_notes(annotation)
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        text = OWN.sub(r'\1', text.replace('NoneType', 'None').replace('typing.', ''))
        self.todo += [name for name in re.findall(r'\w+', text) if name in self.classes]
        self.imports.update(re.findall(r'\b([a-z_]\w*(?:\.[a-z_]\w*)*)\.[A-Z]\w*', text))
        return (
            f'{text} | None' if default is None and 'None' not in text and text != 'Any' else text
        )

    def arguments(self, function, skip=0):
        "The arguments as in a `def`, the first `skip` left out."
        texts = []
        star = False
        for p in list(inspect.signature(function).parameters.values())[skip:]:
            if p.kind is p.KEYWORD_ONLY and not star:
                texts.append('*')
            star = star or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
            mark = {p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')
            default = '' if p.default is p.empty else ' = None' if p.default is None else ' = ...'
            texts.append(f'{mark}{p.name}: {self.type_of(p.annotation, p.default)}{default}')
        return texts

    def function(self, name, function, first=()):
        arguments = [*first, *self.arguments(function, len(first))]
        returned = inspect.signature(function).return_annotation
        code = getattr(inspect.unwrap(function), '__code__', None)
        if returned is inspect.Parameter.empty and code and 'pandas' in code.co_names:
            returned = 'pandas.DataFrame'
        return f'def {name}({", ".join(arguments)}) -> {self.type_of(returned)}: ...'

    def member(self, name, value):
        "The lines of one attribute of a class; none for data."
        if isinstance(value, property):
            return ['@property', self.function(name, value.fget, ('self',))]
        if isinstance(value, classmethod):
            return ['@classmethod', self.function(name, value.__func__, ('cls',))]
        if isinstance(value, staticmethod):
            return ['@staticmethod', self.function(name, value.__func__)]
        return [self.function(name, value, ('self',))] if inspect.isfunction(value) else []

    def cls(self, name, cls):
        base = OWN.sub(r'\1', inspect.formatannotation(cls.__bases__[0]))
        fields = getattr(cls, '_fields', None)
        if fields:
            base = 'NamedTuple'
            typed = {f: cls.__annotations__[f] for f in fields}
        else:
            typed = (
                {f.name: f.type for f in dataclasses.fields(cls)}
                if dataclasses.is_dataclass(cls)
                else {}
            )
        self.imports.update(re.findall(r'^(.+)\.\w+$', base))
        if base in self.classes:
            self.todo.append(base)
        defaults = cls._field_defaults if fields else {}
        lines = [
            f'{f}: {self.type_of(t, defaults.get(f, ...))}'
            + ' = ...' * (f in defaults)
            + '   # type: ignore[assignment]' * bool(fields and hasattr(tuple, f))
            for f, t in typed.items()
        ]
        if not fields and cls.__init__ is not object.__init__:
            lines.append(
                f'def __init__({", ".join(["self", *self.arguments(cls.__init__, 1)])}) -> None: '
                '...'
            )
        for member, value in vars(cls).items():
            if member in typed or (member.startswith('_') and member not in SPECIAL):
                continue
            bound = getattr(cls, member)
            lines += self.member(
                member, classmethod(bound.__func__) if inspect.ismethod(bound) else value
            )
        body = '\n'.join('    ' + line for line in lines) or '    ...'
        return f'class {name}{"" if base == "object" else f"({base})"}:\n{body}'

    def stub(self, name):
        value = self.classes.get(name) or getattr(mnist_cmp, name)
        value = getattr(value, name) if inspect.ismodule(value) else value
        return self.cls(name, value) if inspect.isclass(value) else self.function(name, value)

    def text(self):
        rooms = [room for room in mnist_cmp._rooms if room not in self.done and '.' not in room]
        imports = '\n'.join(f'import {module}' for module in sorted(self.imports - {'typing'}))
        public = ', '.join(map(repr, mnist_cmp.__all__))
        return (
            '\n\n'.join(
                [
                    '# Made by tools/stubs.py from the package: change it there.',
                    'from typing import Any, Literal, NamedTuple, Self\n' + imports,
                    f'from . import {", ".join(f"{room} as {room}" for room in rooms)}',
                    f'__version__: str\n__all__ = [{public}]',
                    *self.done.values(),
                ]
            )
            + '\n'
        )


def getattr_room(room):
    "The module of a room, also where a function has its name."
    __import__(f'mnist_cmp.{room}')
    return sys.modules[f'mnist_cmp.{room}']


def main(check):
    text = Stubs().text()
    if not check:
        STUB.write_text(text, encoding='utf-8')
    elif not STUB.exists() or STUB.read_text(encoding='utf-8') != text:
        sys.exit(f'{STUB.name}: run `make stubs`')


if __name__ == '__main__':
    main('--check' in sys.argv[1:])
