"""How the site shows what is exported: its name, its docstring, and a table with a row for each
parameter or field.

nbdev's `show_doc` calls this by way of `renderer` in settings.ini; build.py puts this folder on
the path.
"""

import ast
import inspect
import io
import re
import tokenize
from dataclasses import is_dataclass
from functools import lru_cache
from textwrap import dedent

from nbdev.config import get_config
from nbdev.showdoc import BasicMarkdownRenderer

FUNCTION = ast.FunctionDef, ast.AsyncFunctionDef


@lru_cache
def exported_classes():
    """Name → source of each class of the package: a notebook's kernel can't tell the source of a
    class that has no method."""
    sources = [
        path.read_text(encoding='utf-8') for path in sorted(get_config().lib_path.rglob('*.py'))
    ]

    # with the comment at the end
    def lines(text, node):
        return '\n'.join(text.split('\n')[node.lineno - 1 : node.end_lineno])

    return {
        node.name: lines(text, node)
        for text in sources
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef)
    }


def source_of(symbol):
    """The source of a class, function, method or property, from the first column on; '' if there
    is none."""
    if inspect.isclass(symbol):
        return exported_classes().get(symbol.__name__, '')
    function = getattr(symbol, 'fget', None) or getattr(symbol, '__func__', symbol)
    try:
        return dedent(inspect.getsource(inspect.unwrap(function)))
    except (OSError, TypeError):
        return ''


def comments_of(source):
    "Line → what is said of the code in it: comments that stand above it, and the one at its end."
    above, at_end = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            is_alone = not token.line[: token.start[1]].strip()
            of = above if is_alone else at_end
            of[token.start[0]] = token.string.lstrip('# ').rstrip()
    comments = {}
    for line in range(1, source.count('\n') + 2):
        if line in above:
            continue
        first = line
        while first - 1 in above:
            first -= 1
        texts = [above[number] for number in range(first, line)]
        comments[line] = ' '.join([*texts, *([at_end[line]] if line in at_end else [])])
    return comments


def said_of(name, annotation, default):
    "A parameter or field as it stands in the source: `name:type=default`."
    made = (
        {word.arg: ast.unparse(word.value) for word in default.keywords}
        if isinstance(default, ast.Call)
        else {}
    )
    if 'default_factory' in made:
        default = {'list': '[]', 'dict': '{}'}.get(made['default_factory'], '…')
    elif 'default' in made:
        default = made['default']
    elif default is not None:
        default = ast.unparse(default)
    return (
        name
        + (f':{ast.unparse(annotation)}' if annotation else '')
        + (f'={default}' if default is not None else '')
    )


def arguments(function):
    "`(line, text)` of each parameter but self and cls; `*` where those by name begin."
    a = function.args
    ordered = a.posonlyargs + a.args
    defaults = [None] * (len(ordered) - len(a.defaults)) + a.defaults
    found = [
        (arg.lineno, said_of(arg.arg, arg.annotation, default))
        for arg, default in zip(ordered, defaults)
    ]
    first = ordered[0].annotation if ordered else None
    if ordered and (ordered[0].arg in ('self', 'cls') or getattr(first, 'id', '').startswith('_')):
        found = found[1:]
    if a.vararg:
        found.append((a.vararg.lineno, said_of('*' + a.vararg.arg, a.vararg.annotation, None)))
    elif a.kwonlyargs:
        found.append((None, '*'))
    found += [
        (arg.lineno, said_of(arg.arg, arg.annotation, default))
        for arg, default in zip(a.kwonlyargs, a.kw_defaults)
    ]
    return found + (
        [(a.kwarg.lineno, said_of('**' + a.kwarg.arg, a.kwarg.annotation, None))] if a.kwarg else []
    )


def described(source):
    """What the source says: `[(texts, meaning), …]` of the parameters or fields, one entry for
    each line, and what is returned."""
    if not source:
        return [], None
    node = ast.parse(source).body[0]
    comments = comments_of(source)
    if isinstance(node, ast.ClassDef):
        init = next(
            (part for part in node.body if isinstance(part, FUNCTION) and part.name == '__init__'),
            None,
        )
        fields = [
            (part.lineno, said_of(part.target.id, part.annotation, part.value))
            for part in node.body
            if isinstance(part, ast.AnnAssign) and not part.target.id.startswith('_')
        ]
        listed = arguments(init) if init else fields
        returns = None
    else:
        listed = arguments(node)
        # of a type in quotes, the type
        returns = node.returns and ast.unparse(node.returns).strip("'")
    rows = []
    for line, text in listed:
        if rows and line and rows[-1][0] == line:
            rows[-1][1].append(text)
        else:
            rows.append((line, [text]))
    return [
        (
            texts,
            comments.get(line, 'what follows is given by name')
            if line is None
            else comments.get(line, ''),
        )
        for line, texts in rows
    ], returns


def is_private(name):
    return any(part.startswith('_') and not part.startswith('__') for part in name.split('.'))


@lru_cache
def names_of_types():
    "What the modules of the package import for type checkers alone, by name."
    names = {}
    for path in sorted(get_config().lib_path.rglob('*.py')):
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
                package = '.'.join(path.relative_to(get_config().lib_path.parent).parent.parts)
                names['__package__'] = package  # for relative imports
                exec(compile(ast.Module(node.body, []), path, 'exec'), names)  # noqa: S102
    return {name: value for name, value in names.items() if not name.startswith('__')}


def import_for_types(symbol):
    "Import what a function's module names in types alone: here types are evaluated."
    function = getattr(symbol, 'fget', None) or getattr(symbol, '__func__', symbol)
    # of the module, or of the notebook, where the function is defined anew
    names = getattr(inspect.unwrap(function), '__globals__', {})
    if names.get('TYPE_CHECKING') is False:
        for name, value in names_of_types().items():
            names.setdefault(name, value)


class Signature(BasicMarkdownRenderer):
    "The renderer; nothing is shown of what is private, or has no docstring and a special name."

    def __init__(self, sym, *args, **kwargs):
        import_for_types(sym)
        super().__init__(sym, *args, **kwargs)

    def _repr_markdown_(self):
        said = (self.docs or '').strip()
        special = '.__' in self.nm
        # what fastcore says where nothing is said
        if special and said == 'Call self as a function.':
            said = ''
        if is_private(self.nm) or special and not said:
            return ''
        # rule, link to the source, heading
        start, _, _ = super()._repr_markdown_().partition('\n\n```python')
        rows, returns = described(source_of(self.sym))
        words = (
            ' '.join(
                filter(None, [f'*{said}*' if said else '', f'→ `{returns}`' if returns else ''])
            )
            or f'`{self.nm}`'
        )
        kind = 'field' if inspect.isclass(self.sym) and is_record(self.sym) else 'parameter'
        parts = [start.replace('__', r'\_\_'), words, table(kind, rows), methods_of(self.sym)]
        return '\n\n'.join(filter(None, parts))


def methods_of(symbol):
    "A line for each public method and property that stands in a class's body, as it is called."
    if not inspect.isclass(symbol) or not (source := source_of(symbol)):
        return ''
    node = ast.parse(source).body[0]
    rows = []
    for part in node.body:
        if isinstance(part, FUNCTION) and not part.name.startswith('_'):
            decorators = {ast.unparse(d) for d in part.decorator_list}
            if f'{part.name}.setter' in decorators:
                continue
            call = ', '.join(text for _, text in arguments(part))
            is_property = decorators & {'property', 'functools.cached_property', 'cached_property'}
            text = f'.{part.name}' if is_property else f'.{part.name}({call})'
            meaning = ' '.join((ast.get_docstring(part) or '').split())
            rows.append(f'- ``{text}``: {meaning}' if meaning else f'- ``{text}``')
    return '\n'.join(rows)


def table(kind, rows):
    "The parameters or fields, a row each; in one line if nothing is said of any of them."

    def code(text):  # in one backtick it would become a link to a function of that name
        text = re.sub(r'\s*\|\s*', ' or ', text)
        return f'`` {text} ``' if '`' in text else f'``{text}``'

    told = [(', '.join(map(code, texts)), meaning.replace('|', '/')) for texts, meaning in rows]
    if not any(meaning for _, meaning in told):
        return told and f'{kind}{"s" * (len(told) > 1)}: {", ".join(text for text, _ in told)}'
    return '\n'.join(
        [
            f'| {kind} | meaning |',
            '|:--------|:----------------|',
            *(f'| {text} | {meaning} |' for text, meaning in told),
        ]
    )


def is_record(cls):
    return is_dataclass(cls) or hasattr(cls, '_fields')
