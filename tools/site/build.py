"""Build the site in _docs: `make docs`. With Quarto where it is installed; else, or with
`--sphinx`, with Sphinx, which needs no network.

Both render what nbdev makes of the notebooks (the folder _proc), in the order and with the
titles of _quarto.yml.
"""

import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import yaml
from nbdev.config import get_config
from nbdev.serve import proc_nbs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LINK = re.compile(r'(\]\()([^)\s]+)')


def quarto_config():
    return yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))


def sidebar(contents=None):
    """`(section, [(title or None, path), …])` of each part of the sidebar, in order; pages
    outside sections have '', a section within another is named 'outer / inner'."""
    parts = []
    for entry in (
        quarto_config()['website']['sidebar']['contents'] if contents is None else contents
    ):
        if isinstance(entry, dict) and 'section' in entry:
            for name, pages in sidebar(entry['contents']):
                parts.append((f'{entry["section"]} / {name}' if name else entry['section'], pages))
            continue
        page = (None, entry) if isinstance(entry, str) else (entry.get('text'), entry['href'])
        if not parts or parts[-1][0]:
            parts.append(('', []))
        parts[-1][1].append(page)
    return parts


def front_matter(nb):
    """What the first cell of a processed notebook says about the page: title, description,
    output-file."""
    return yaml.safe_load(nb.cells[0].source.strip().strip('-'))


def relink(markdown, page, rooms, site):
    """Links to the published pages of our own rooms become links to the notebooks beside `page`;
    one to a method without a heading of its own leads to its class. `rooms`: page → notebook and
    anchors of its headings."""

    def local(match):
        start, url = match.groups()
        target, _, anchor = url.removeprefix(site).partition('#')
        if not url.startswith(site) or target not in rooms:
            return match[0]
        notebook, anchors = rooms[target]
        if anchor and anchor not in anchors:
            anchor = anchor.partition('.')[0]
        path = posixpath.relpath(notebook, posixpath.dirname(page) or '.')
        return f'{start}{path}{"#" * bool(anchor)}{anchor}'

    return LINK.sub(local, markdown)


def anchors_of(nb):
    "The anchors of a notebook's headings, those of what it documents, too."
    texts = [cell.source for cell in nb.cells if cell.cell_type == 'markdown']
    for cell in nb.cells:
        for output in cell.get('outputs', []):
            texts.append(''.join(output.get('data', {}).get('text/markdown', '')))
    return {anchor(heading) for text in texts for heading in re.findall(r'^#+ (.+)$', text, re.M)}


def anchor(heading):
    "The anchor that Quarto gives a heading, so that one link serves both renderers: Pandoc's rule."
    return re.sub(r'^[^a-z]+', '', re.sub(r'\s', '-', re.sub(r'[^\w\s.-]', '', heading.lower())))


def flags(source):
    return re.findall(r'^#\|\s*(.+?)\s*$', source, re.M)


def documented(cell):
    "An output of `show_doc` as Markdown for Sphinx: Quarto's attributes and the rule go."
    text = next(
        (
            ''.join(o.data['text/markdown'])
            for o in cell.outputs
            if 'text/markdown' in o.get('data', {})
        ),
        '',
    )
    text = re.sub(r'^---\n', '', re.sub(r'(\[source\]\([^)]*\))\{[^}]*\}', r'\1', text))
    # then heading, docstring and, if there are parameters, their table
    link, *blocks = text.strip().split('\n\n')
    if not link.startswith('[source]'):
        return text
    blocks[1] += f' · {link}'
    return '\n\n'.join(blocks)


def converted(cell):
    "A code cell as Sphinx shall see it, or None if nothing of it is shown."
    asked = flags(cell.source)
    if 'output: asis' in asked:
        return nbformat.v4.new_markdown_cell(text) if (text := documented(cell)) else None
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()
    hidden = [
        name
        for name, flag in (('input', 'echo: false'), ('output', 'output: false'))
        if flag in asked
    ]
    cell.metadata = {'tags': [f'remove-{name}' for name in hidden]}
    alt = next(
        (flag.partition(':')[2].strip() for flag in asked if flag.startswith('fig-alt:')), ''
    )
    if alt:
        cell.metadata['mystnb'] = {'image': {'alt': alt}}
    for output in cell.outputs:  # in outputs Sphinx follows no link to a source file
        data = output.get('data', {})
        if 'text/markdown' in data:
            data['text/markdown'] = re.sub(
                r'(\]\([\w./]+)\.ipynb\b', r'\1.html', ''.join(data['text/markdown'])
            )
    return cell if cell.source else None


def level_headings(cells):
    "No heading is more than one level below the one before it, as Sphinx wants."
    last = 0
    for cell in (cell for cell in cells if cell.cell_type == 'markdown'):
        lines = cell.source.split('\n')
        fenced = False
        for i, line in enumerate(lines):
            if line.startswith('```'):
                fenced = not fenced
            if fenced or not (found := re.match(r'(#+) ', line)):
                continue
            last = min(len(found[1]), last + 1)
            lines[i] = '#' * last + line[len(found[1]) :]
        cell.source = '\n'.join(lines)


def toctrees():
    "The sidebar as Sphinx takes it: the last cell of the home page."

    def entry(title, path):
        name = path.rpartition('.')[0]
        return f'{title} <{name}>' if title else name

    parts = {}
    for section, pages in sidebar():
        outer, _, inner = section.partition(' / ')
        if inner:  # its first page unfolds to the others, see `fold_sections`
            pages = [(inner, pages[0][1])]
        parts.setdefault(outer, []).extend(pages)
    trees = []
    for section, pages in parts.items():
        caption = f':caption: {section}\n' if section else ''
        entries = [entry(*page) for page in pages if page[1] != 'index.ipynb']
        if entries:
            trees.append(f'```{{toctree}}\n:hidden:\n{caption}\n' + '\n'.join(entries) + '\n```')
    return '\n\n'.join(trees)


def fold_sections(source):
    "The first page of each section within another leads to the section's other pages."
    for section, pages in sidebar():
        if ' / ' in section:
            (_, first), *others = pages
            entries = [f'/{path.rpartition(".")[0]}' for _, path in others]
            with open(source / first, 'a', encoding='utf-8') as file:
                file.write('\n```{toctree}\n:hidden:\n\n' + '\n'.join(entries) + '\n```\n')


def convert(path, page, rooms, site):
    "The processed notebook at `path` as one for Sphinx."
    nb = nbformat.read(path, as_version=4)
    head = front_matter(nb)
    lead = f'# {head["title"]}' + (
        f'\n\n> {head["description"]}' if head.get('description') else ''
    )
    cells = [nbformat.v4.new_markdown_cell(lead)]
    for cell in nb.cells[1:]:
        if cell.cell_type == 'code':
            cell = converted(cell)
        if cell is None or cell.source.startswith('<!-- WARNING'):
            continue
        if cell.cell_type == 'markdown':
            cell.source = relink(cell.source, page, rooms, site)
        cells.append(cell)
    level_headings(cells)
    if page == 'index.ipynb':
        cells.append(nbformat.v4.new_markdown_cell(toctrees()))
    nb.cells = cells
    nb.metadata = {
        'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}
    }
    nbformat.write(nb, path)


def with_sphinx(processed, out):
    "Render the processed notebooks to `out`; a warning is an error."
    pages = [path for _, part in sidebar() for _, path in part]
    cfg = get_config()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'source'
        shutil.copytree(processed, source)
        fold_sections(source)
        notebooks = [page for page in pages if page.endswith('.ipynb')]
        rooms = {}
        for page in notebooks:
            nb = nbformat.read(source / page, as_version=4)
            published = posixpath.join(posixpath.dirname(page), front_matter(nb)['output-file'])
            rooms[published] = page, anchors_of(nb)
        for page in notebooks:
            convert(source / page, page, rooms, f'{cfg.doc_host}{cfg.doc_baseurl}/')
        extra = [
            path
            for pattern in quarto_config()['project'].get('resources', [])
            for path in source.glob(pattern)
        ]
        html = Path(folder) / 'html'
        subprocess.run(
            [
                sys.executable,
                '-m',
                'sphinx',
                '-W',
                '--keep-going',
                '-q',
                '-b',
                'html',
                '-c',
                HERE,
                '-d',
                Path(folder) / 'doctrees',
                source,
                html,
            ],
            check=True,
        )
        for path in extra:
            target = html / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(html, out)


def with_quarto():
    # newer than index.ipynb: nbdev shall not write it, tools/readme.py does
    (ROOT / 'README.md').touch()
    subprocess.run([Path(sys.executable).parent / 'nbdev_docs', '--n_workers', '2'], check=True)


def main(sphinx):
    os.chdir(ROOT)
    # of signature.py
    os.environ['PYTHONPATH'] = os.pathsep.join(
        filter(None, (str(HERE), os.environ.get('PYTHONPATH')))
    )
    if shutil.which('quarto') and not sphinx:
        return with_quarto()
    shutil.rmtree('_proc', ignore_errors=True)
    with_sphinx(Path(proc_nbs('nbs', force=True, n_workers=2)), ROOT / '_docs')
    print(f'The site is in {ROOT / "_docs"}: `make docs-serve` opens it.')


if __name__ == '__main__':
    main('--sphinx' in sys.argv[1:])
