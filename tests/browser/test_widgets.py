"""Chime, pad, panel and app in a real browser; `--pictures FOLDER` keeps pictures of them.

With MNIST_CMP_DATA the pad's models learn the real MNIST, else the digits.
"""

import json
import math
import os
import re
import signal
import time

import pytest
from checkout import BIN, REAL_MNIST
from lab import THEMES, WIDTHS, run_cell, server

from mnist_cmp import ComparePanel

pytestmark = pytest.mark.browser


def test_chime(lab):
    """Off: no audio context. On: one, running, with the seed's waveform in its buffer; nothing
    of it in the saved notebook."""
    lab.write(
        'chime_check.ipynb',
        'from mnist_cmp import chime, make_sound\n@make_sound\ndef work(fails=False):\n    if '
        'fails: raise ValueError("no")\n    return 7',
        'print(work())',
        'chime.on()',
        'print(work())',
        'try: work(True)\nexcept ValueError: print("failed")',
        'chime.off()',
    )
    page = lab.open('chime_check.ipynb')
    run_cell(page, 0)
    assert run_cell(page, 1) == '7\n'
    time.sleep(1)
    assert page.evaluate('[window.contexts, window.mnist_cmp_chime?.context ?? null]') == [
        0,
        None,
    ], 'a context was made while off'
    run_cell(page, 2)
    page.wait_for_function('() => window.mnist_cmp_chime?.context?.state === "running"')
    assert run_cell(page, 3) == '7\n'
    page.wait_for_function('() => window.mnist_cmp_chime.buffer')
    state, rate, wave = page.evaluate(
        '(c => [c.context.state, c.buffer.sampleRate, '
        '[...c.buffer.getChannelData(0)]])(window.mnist_cmp_chime)'
    )
    seed = [math.sin(1.5 * math.pi * 400 * k / 10000) for k in range(10000)]
    assert (state, rate, len(wave)) == ('running', 10000, 10000), (state, rate, len(wave))
    assert max(abs(a - b) for a, b in zip(wave, seed)) < 1e-6, 'the waveform is not the one of 2019'
    note = page.locator('.mnist-cmp-chime [role=status]')
    assert re.match('done in .* s$', note.inner_text()), note.inner_text()
    run_cell(page, 4)
    page.wait_for_function(
        '() => document.querySelector(".mnist-cmp-chime '
        '[role=status]").textContent.startsWith("failed after")'
    )
    other = page.evaluate('[...window.mnist_cmp_chime.buffer.getChannelData(0)]')
    assert max(abs(a - b) for a, b in zip(other, seed)) > 0.1, 'the failure sounds like the end'
    page.get_by_role('button', name='mute the chime', exact=True).click()
    assert page.evaluate('window.mnist_cmp_chime.gain.gain.value') == 0
    assert page.evaluate('window.contexts') == 1
    text = lab.saved(page, 'chime_check.ipynb')
    outputs = [c['outputs'] for c in json.loads(text)['cells']]
    assert (
        [len(o) for o in outputs] == [0, 1, 0, 1, 1, 0]
        and 'widget' not in text
        and 'audio' not in text
    ), outputs
    run_cell(page, 5)
    page.wait_for_function(
        '() => window.mnist_cmp_chime.context === null && '
        '!document.querySelector(".mnist-cmp-chime")'
    )


def ellipse(x, y, rx, ry, start, end, n=24):
    "Points on an arc, angles in degrees, clockwise from the right."
    at = (math.radians(start + (end - start) * k / n) for k in range(n + 1))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in at]


DIGITS = {
    0: [ellipse(0.5, 0.5, 0.2, 0.32, -90, 270)],
    1: [[(0.52, 0.15), (0.5, 0.5), (0.48, 0.85)]],
    2: [ellipse(0.5, 0.32, 0.18, 0.15, -170, 40) + [(0.33, 0.8), (0.72, 0.8)]],
    3: [ellipse(0.47, 0.32, 0.17, 0.15, -150, 90) + ellipse(0.47, 0.64, 0.2, 0.17, -90, 150)],
    4: [[(0.38, 0.15), (0.3, 0.52), (0.68, 0.52)], [(0.62, 0.15), (0.6, 0.85)]],
    5: [[(0.68, 0.17), (0.4, 0.17), (0.38, 0.45)] + ellipse(0.48, 0.62, 0.19, 0.19, -120, 140)],
    7: [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]],
}

NETS = """import torch
from mnist_cmp import Compute, DigitPad, MLP, CNNClassifier, Recipe, initialise, load_data, train
data = load_data({name!r})
small = data.train[:{n}]
nets = {{'mlp': initialise(MLP), 'cnn': initialise(CNNClassifier)}}
for net, rate in zip(nets.values(), (.1, .05)):
    train(net, small, recipe=Recipe(rate, 32, {epochs}), compute=Compute(threads=1))
pad = DigitPad(nets, data.test, box={box})
{{name: (torch.stack([net(data.test.x[:200].float()/data.test.x.max()).argmax(1)])[0] == data.test.y[:200]).float().mean().item() for name, net in nets.items()}}"""


def draw(page, strokes):
    "Empty the pad, and draw on it with the mouse."
    clear = page.get_by_role('button', name='Clear')
    if clear.is_enabled():
        clear.click()  # it is not where the pad is empty
    paper = page.locator('.mnist-cmp-pad .paper')
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()

    def at(p):
        return (box['x'] + p[0] * box['width'], box['y'] + p[1] * box['height'])

    for stroke in strokes:
        page.mouse.move(*at(stroke[0]))
        page.mouse.down()
        for p in stroke[1:]:
            page.mouse.move(*at(p), steps=4)
        page.mouse.up()


def settled(page, query, every=0.4, tries=60):
    "The text of an element once it stays the same."
    last = None
    for _ in range(tries):
        text = page.locator(query).inner_text()
        if text and text == last:
            return text
        last = text
        time.sleep(every)
    raise AssertionError(f'{query} never settled: {last!r}')


SEEN = """() => { const c = document.querySelector('.mnist-cmp-pad .seen'), d = c.getContext('2d').getImageData(0, 0, 28, 28).data;
    const style = getComputedStyle(document.querySelector('.mnist-cmp-pad .paper')), channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const paper = channels(style.backgroundColor)[0], [ink, , , alpha = 1] = channels(style.color);   // the page draws in its theme's colours
    return Array.from({ length: 784 }, (_, i) => 255 * (paper - d[4 * i]) / (paper - ink) / alpha); }"""


def test_pad(lab, pictures):
    """Digits drawn by mouse: the better model is right on four of five at least, and what it
    sees is the drawing."""
    how = (
        dict(name='mnist', n=20000, epochs=1, box=20)
        if REAL_MNIST
        else dict(name='digits', n=1500, epochs=20, box=24)
    )
    lab.write(
        'pad_check.ipynb',
        NETS.format(**how),
        'pad',
        'print(pad.seen.hex(), pad.hard, pad.message)',
        'DigitPad(nets)',
    )
    page = lab.open('pad_check.ipynb')
    run_cell(page, 0, timeout=500)
    run_cell(page, 1)
    page.wait_for_selector('.mnist-cmp-pad .paper')
    right = {'mlp': 0, 'cnn': 0}
    for digit, strokes in DIGITS.items():
        draw(page, strokes)
        said = settled(page, '.mnist-cmp-pad .said')
        guesses = dict(re.findall(r'(\w+): (\d)', said))
        print(f'    {digit} drawn: {said}', flush=True)
        for name in right:
            right[name] += guesses[name] == str(digit)
        seen = page.evaluate(SEEN)
        assert sum(v > 128 for v in seen) > 20, 'the input is empty'
    best = max(right.values())
    print(f'    right of {len(DIGITS)}: {right}', flush=True)
    # the bars are two charts side by side, and the input is what the kernel has, which is the last
    # drawing
    assert (
        page.locator('.mnist-cmp-pad .answer').count() == 2
        and page.locator('.mnist-cmp-pad .bar').count() == 20
    )
    kernel = bytes.fromhex(run_cell(page, 2).split()[0])
    far = max(abs(a - b) for a, b in zip(kernel, seen))
    assert far <= 2 and len(seen) == len(kernel), (
        f'the page shows another input than the kernel has: {far:.1f} of 255 off'
    )
    left, right_side = (
        sum(v for i, v in enumerate(kernel) if (i // 28 < 10) and (i % 28 < 14) == side)
        for side in (True, False)
    )
    assert kernel[14 * 28 :].count(0) > 200 and left and right_side, 'the input is not a seven'
    assert best >= 0.8 * len(DIGITS), f'the better model is right on {best} of {len(DIGITS)}'
    # buttons and keys
    page.get_by_role('button', name='Undo').click()
    page.wait_for_function(
        '() => document.querySelector(".mnist-cmp-pad .said").textContent === ""'
    )
    page.locator('.mnist-cmp-pad .paper').focus()
    for key in [' ', *['ArrowDown'] * 12, 'ArrowRight']:
        page.keyboard.press(key)
    assert ':' in settled(page, '.mnist-cmp-pad .said')
    page.keyboard.press('Escape')
    page.wait_for_function(
        '() => document.querySelector(".mnist-cmp-pad .said").textContent === ""'
    )
    page.get_by_role('button', name='Next hard image').click()
    said = settled(page, '.mnist-cmp-pad .said')
    guesses = re.findall(r'\w+: (\d)', said)
    assert 'Test image' in said and guesses[0] != guesses[1], said
    there = [
        name
        for name in ('Undo', 'Clear', 'Next hard image')
        if named_button(page, name, '.mnist-cmp-pad').is_visible()
    ]
    assert there == ['Undo', 'Clear', 'Next hard image'], there
    run_cell(page, 3)  # a pad without test images
    page.wait_for_function('() => document.querySelectorAll(".mnist-cmp-pad").length === 2')
    second = page.locator('.mnist-cmp-pad').last
    assert (
        second.get_by_role('button', name='Undo').is_visible()
        and not second.get_by_role('button', name='Next hard image').is_visible()
    )
    if pictures:
        for dark in (False, True):
            other = lab.open('pad_check.ipynb', dark=dark)
            run_cell(other, 1)  # its kernel still has the pad
            for width in WIDTHS:
                other.set_viewport_size({'width': width, 'height': 800})
                other.wait_for_selector('.mnist-cmp-pad .paper')
                draw(other, DIGITS[3])
                settled(other, '.mnist-cmp-pad .said')
                time.sleep(0.5)
                other.locator('.mnist-cmp-pad').screenshot(
                    path=pictures / f'pad_{THEMES[dark]}_{width}.png'
                )
            other.context.close()


PANEL = """from mnist_cmp import ComparePanel
panel = ComparePanel(runs='runs_check')
panel.set(models=['mlp', 'deep_mlp'], n_trials=6, search_epochs=6, epochs=12, seeds=4, learning_rate=[.05, .2])
panel"""
SAME = """from mnist_cmp import Comparison, Compute, Recipe, compare
def numbers(comparison):
    each = lambda h: [(e.train_loss, e.valid_loss, e.valid_accuracy) for e in h.epochs]
    return [(c.name, [each(t.history) for t in c.search.trials], [(each(r.history), r.test.wrong) for r in c.runs]) for c in comparison.models]
plain = compare(['mlp', 'deep_mlp'], 'digits', space={'learning_rate': (.05, .2)}, n_trials=6, search_epochs=6, recipe=Recipe(epochs=12), seeds=4, compute=Compute(workers=1))
print(numbers(plain) == numbers(Comparison.load(panel.folder)))"""
OUTPUT = '.jp-OutputArea-output:has(.widget-button)'
HIDEABLE = 'Show the last run', 'Open the report'  # buttons that are there only sometimes


def named_button(page, name, within=''):
    "A button by its whole text."
    return page.locator(f'{within} button', has_text=re.compile(rf'^\s*{name}\s*$'))


def shown_buttons(page, within=''):
    "Those of the buttons that can be hidden which are seen."
    return [name for name in HIDEABLE if named_button(page, name, within).is_visible()]


def restart(page, lab, says=None):
    """A new kernel, and the first cell again; before that the old panel `says` that it is dead,
    and its controls are off."""
    page.evaluate('jupyterapp.shell.currentWidget.sessionContext.restartKernel()')
    lab.ready(page)
    if says:
        page.locator(f'{OUTPUT} [role=status]', has_text=re.compile(says)).wait_for(timeout=20_000)
        controls = (
            page.locator(OUTPUT).locator('button:visible, input:visible, select:visible').all()
        )
        assert len(controls) >= 15 and not any(c.is_enabled() for c in controls), (
            'a panel without kernel has a button to press'
        )
    run_cell(page, 0)
    page.wait_for_selector(OUTPUT)


WORDS = """query => {   // each word of the line, and whether the verdict is there when it comes
    window.words = [];
    const panel = document.querySelector(query);
    const note = () => {
        const said = panel.querySelector('[role=status]').textContent;
        if (said && said !== window.words.at(-1)?.[0]) window.words.push([said, panel.querySelectorAll('p').length]);
    };
    new MutationObserver(note).observe(panel, { childList: true, characterData: true, subtree: true });
}"""


def typed(page, label, text):
    "Type into a field of the panel, and leave it."
    field = page.get_by_label(label, exact=True)
    field.fill(text)
    field.press('Tab')
    return field


def says_wrong_numbers(page):
    "What is typed and can't be run stays as it was typed, is marked, and is said at once."
    alert = page.locator(f'{OUTPUT} [role=alert]')
    for label, good, bad in (
        ('trials', '6', '0'),
        ('trial epochs', '6', '-1'),
        ('epochs', '12', '1.5'),
        ('seeds', '4', ''),
        ('seed', '0', '-7'),
        ('learning rate', '0.05', 'fast'),
        ('batch size', '16', '0'),
    ):
        field = typed(page, label, bad)
        alert.get_by_text(re.compile(f'^{label} is')).wait_for(timeout=20_000)
        assert alert.is_visible() and field.input_value() == bad, (
            f'{label}: {bad!r} became {field.input_value()!r}'
        )
        border, colour = field.evaluate(
            'e => [getComputedStyle(e).borderColor, '
            'getComputedStyle(document.querySelector("[role=alert]")).color]'
        )
        assert border == colour, f'{label} is not marked: {border}, {colour}'
        typed(page, label, good)
        alert.wait_for(state='detached', timeout=20_000)


def opened_report(page, button):
    "The tab of a report: its page in a frame that may run nothing, without a way back."
    with page.context.expect_page() as new:
        button.click()
    tab = new.value
    tab.frame_locator('iframe').locator('h1').wait_for()
    assert tab.evaluate('window.opener') is None, 'the report has an opener'
    assert tab.evaluate("document.querySelector('iframe').getAttribute('sandbox')") == '', (
        'the frame may do something'
    )
    return tab


@pytest.mark.alone  # Stop is measured
def test_panel(lab, pictures):
    """Run, watch, compute meanwhile, Stop, Resume; a restarted kernel finds it again; the end
    equals the call from Python."""
    lab.write('panel_check.ipynb', PANEL, 'print(6*7)', SAME)
    page = lab.open('panel_check.ipynb')
    run_cell(page, 0)

    def button(name):
        return page.locator(f'{OUTPUT} button', has_text=re.compile(rf'^\s*{name}\s*$'))

    status = page.locator(f'{OUTPUT} [role=status]')

    def says(text):
        try:
            status.get_by_text(re.compile(text)).first.wait_for(timeout=180_000)
        except Exception:
            raise AssertionError(
                f'the panel never says {text!r}, but {status.inner_text()!r}'
            ) from None

    button('Run').wait_for()
    assert shown_buttons(page, OUTPUT) == [], (
        f'offered where there is no run: {shown_buttons(page, OUTPUT)}'
    )
    assert not page.locator(f'{OUTPUT} .widget-hprogress').is_visible(), (
        'a bar is shown where there is no run'
    )
    nulls = page.locator('[title=null]')
    assert nulls.count() == 0, f'{nulls.count()} elements have the title null'
    says_wrong_numbers(page)
    page.evaluate(WORDS, OUTPUT)
    button('Run').click()
    page.wait_for_selector(f'{OUTPUT} svg')
    says('^Running.*[1-9]%')
    assert page.evaluate('window.words[0][0]').startswith('Starting'), page.evaluate('window.words')
    assert shown_buttons(page, OUTPUT) == [], (
        f'offered while it trains: {shown_buttons(page, OUTPUT)}'
    )
    assert page.locator(f'{OUTPUT} .widget-hprogress').is_visible()
    first = page.locator(OUTPUT).screenshot()
    assert run_cell(page, 1) == '42\n', 'a cell gave no answer while the panel trained'
    before = status.inner_text()
    page.wait_for_function(
        'before => document.querySelector(".jp-OutputArea-output [role=status]").textContent !== '
        'before',
        arg=before,
    )
    assert 'Running' in before and page.locator(OUTPUT).screenshot() != first, (
        'nothing moved while it trained'
    )
    start = time.perf_counter()
    button('Stop').click()
    page.wait_for_function(
        '() => document.querySelector(".jp-OutputArea-output '
        '[role=status]").textContent.startsWith("Stopped")'
    )
    stopped = time.perf_counter() - start
    print(f'    stopped in {stopped:.2f} s', flush=True)
    assert stopped < 1, f'Stop took {stopped:.2f} s'
    button('Resume').click()
    says('^Running')
    restart(page, lab)  # in the middle: the run's process ends with its kernel
    assert not page.locator(f'{OUTPUT} svg').count(), 'a run was opened unasked'
    button('Show the last run').click()
    says('^Stopped')
    assert button('Resume').is_enabled() and not button('Stop').is_enabled()
    assert not named_button(page, 'Open the report', OUTPUT).is_visible(), (
        'a report is offered before there is one'
    )
    page.evaluate(WORDS, OUTPUT)
    button('Resume').click()
    says('^Finished')
    words = page.evaluate('window.words')
    assert all((word == 'Finished.') == (verdict > 0) for word, verdict in words), (
        f'verdict and state apart: {words}'
    )
    assert shown_buttons(page, OUTPUT) == ['Open the report'], shown_buttons(page, OUTPUT)
    said = run_cell(page, 2, timeout=600)
    assert said == 'True\n', f'the panel and Python differ: {said!r}'
    (report,) = (lab.nbs / 'runs_check').glob('*/report.json')
    written = report.stat().st_mtime_ns
    restart(page, lab, says='^Finished. The kernel has ended')
    button('Show the last run').click()
    says('^Finished')
    page.locator(f'{OUTPUT} svg').nth(1).wait_for()  # two pictures
    assert report.stat().st_mtime_ns == written, 'the report was written again'
    assert shown_buttons(page, OUTPUT) == ['Open the report'], shown_buttons(page, OUTPUT)
    tab = opened_report(page, button('Open the report'))
    if pictures:
        for width in WIDTHS:
            tab.set_viewport_size({'width': width, 'height': 900})
            for dark in (False, True):
                tab.emulate_media(color_scheme=THEMES[dark])
                tab.screenshot(path=pictures / f'report_{THEMES[dark]}_{width}.png')
        for dark in (False, True):
            other = lab.open('panel_check.ipynb', dark=dark)
            run_cell(other, 0)
            other.locator(f'{OUTPUT} button', has_text='Show the last run').click()
            for width in WIDTHS:
                other.set_viewport_size({'width': width, 'height': 1300})
                time.sleep(2)
                other.locator(OUTPUT).screenshot(
                    path=pictures / f'panel_{THEMES[dark]}_{width}.png'
                )
            other.context.close()


LONG = """import os
from mnist_cmp import ComparePanel
panel = ComparePanel(runs='runs_lost')
panel.set(models=['mlp', 'deep_mlp'], n_trials=1, search_epochs=1, epochs=100_000, seeds=1)
panel"""


def test_a_panel_without_kernel_says_so(lab):
    """A panel that its kernel has left says so: a kernel that is silent, a page that is loaded
    again, a kernel that is restarted."""
    lab.write('lost_check.ipynb', LONG, 'print(os.getpid())')
    page = lab.open('lost_check.ipynb')
    run_cell(page, 0)

    def button(name):
        return named_button(page, name, OUTPUT)

    def says(text):
        return page.locator(f'{OUTPUT} [role=status]', has_text=re.compile(text)).wait_for(
            timeout=60_000
        )

    button('Run').click()
    says('^Running')
    kernel = int(run_cell(page, 1))
    os.kill(kernel, signal.SIGSTOP)
    try:
        says('^No word from the kernel for 1[0-9] s. The last was: Running')
    finally:
        os.kill(kernel, signal.SIGCONT)
    says('^Running')
    lab.saved(page, 'lost_check.ipynb')
    page.reload()  # the kernel lives, and the run with it
    lab.ready(page)
    says('^Running')
    assert button('Stop').is_enabled() and not button('Run').is_enabled()
    restart(page, lab, says='^The kernel has ended, and the run with it')
    button('Show the last run').click()
    says('^Stopped at')
    assert (
        button('Resume').is_enabled()
        and button('Run').is_enabled()
        and not button('Stop').is_enabled()
    )


STRANGER = """import json
from pathlib import Path
import mnist_cmp as mc
evil = '"><script>fetch(`/evil`)</script><img src="/evil" onerror="fetch(`/evil`)"><iframe src="javascript:parent.fetch(`/evil`)">'
folder = Path('runs_stranger/run')
data = mc.load_data('digits')
found = mc.compare(['mlp', 'deep_mlp'], data, n_trials=1, search_epochs=1, recipe=mc.Recipe(epochs=1), seeds=1, compute=mc.Compute(workers=1), store=folder)
mc.write_report(found, folder)
settings = dict(dataset='digits', models=['mlp', 'deep_mlp'], protocol='holdout', learning_rate=[.001, .1], batch_size=[16, 48],
                n_trials=1, search_epochs=1, epochs=1, seeds=1, seed=0)
(folder/'panel.json').write_text(json.dumps(dict(state='finished', error=evil, how={}, settings=settings)))
report = json.loads((folder/'report.json').read_text()) | {'dataset': evil, 'machine': evil, 'classes': [evil]*10, 'commit': evil}
report['contestants'][0]['description'] = report['contestants'][0]['search']['model'] = evil
(folder/'report.json').write_text(json.dumps(report))
page = (folder/'report.html').read_text()
csp = page.index('<meta http-equiv'), page.index('<title>')
page = page[:csp[0]] + "<script>fetch(`/evil`); opener.fetch(`/evil`)</script>" + page[csp[1]:]
(folder/'report.html').write_text(page)
print('made')"""


def test_no_script_of_a_stranger_runs(lab):
    """A run folder of a stranger is opened only when its user says so, and no script of it runs,
    in the panel or in the report."""
    lab.write(
        'stranger_check.ipynb',
        STRANGER,
        "from mnist_cmp import ComparePanel\nComparePanel(runs='runs_stranger')",
        "import mnist_cmp as mc\nfound = mc.Comparison.load('runs_stranger/run')\nfound",
        'found.models[0].search',
    )
    page = lab.open('stranger_check.ipynb')
    asked = []
    page.context.on('request', lambda request: asked.append(request.url))
    assert run_cell(page, 0, timeout=300) == 'made\n'
    run_cell(page, 1)

    def button(name):
        return page.locator(f'{OUTPUT} button', has_text=re.compile(rf'^\s*{name}\s*$'))

    button('Show the last run').wait_for()
    assert not page.locator(f'{OUTPUT} svg').count() and shown_buttons(page, OUTPUT) == [
        'Show the last run'
    ], 'it was opened unasked'
    button('Show the last run').click()
    button('Open the report').wait_for()
    tab = opened_report(page, button('Open the report'))
    heading = tab.frame_locator('iframe').locator('h1').inner_text()
    assert '<script>' in heading, f'the heading is {heading!r}'
    for i in (2, 3):
        run_cell(page, i)
    time.sleep(1)
    evil = [url for url in asked if url.endswith('/evil')]
    assert not evil, f'what the stranger wrote asked for {evil}'


SCREENS = (1400, 900), (400, 800)  # a laptop's and a phone's


def first_screen(page):
    """The app has just been opened: its controls are seen without scrolling, whole, and nothing
    else stands in their place."""
    width = page.viewport_size['width']
    height = page.viewport_size['height']
    controls = page.locator('.mnist-cmp-panel').locator(
        'button:visible, input:visible, select:visible'
    )
    assert controls.count() >= 15, f'{controls.count()} controls are seen'
    for control in controls.all():
        box = control.bounding_box()
        inside = (
            box['x'] >= 0
            and box['x'] + box['width'] <= width
            and box['y'] >= 0
            and box['y'] + box['height'] <= height
        )
        assert inside, f'at {width}×{height} a control is at {box}: {control.inner_text()!r}'
    assert page.locator('img:visible').count() == 0, 'a picture stands in the app'
    wide = page.evaluate('document.documentElement.scrollWidth')
    assert wide <= width, f'the page is {wide} pixels wide, the screen {width}'


def whole(page, path):
    "A picture of the whole app, which scrolls within its page."
    height = page.evaluate(
        "Math.max(...[...document.querySelectorAll('*')].map(e => e.scrollHeight))"
    )
    page.set_viewport_size({'width': page.viewport_size['width'], 'height': height})
    time.sleep(1)
    page.screenshot(path=path)


@pytest.fixture
def finished_run(lab):
    "A small comparison that the app's user can open."
    panel = ComparePanel(runs=lab.nbs / 'runs', workers=1)
    panel.set(models=['mlp', 'deep_mlp'], points=1, search_epochs=1, epochs=2, seeds=1)
    panel.run()
    assert panel.wait().state == 'finished', panel.state.error


def test_app(lab, finished_run, pictures):
    """Voilà serves the app behind a token; the page asks for nothing elsewhere, and its panel
    and pad work."""
    command = [BIN / 'voila', 'app.ipynb', '--no-browser', '--port={port}', '--token={token}']
    with server(command, lab.folder, lab.folder / 'voila.log', JUPYTER_PATH='share') as (
        address,
        token,
    ):
        page = lab.page()
        refused = page.goto(address)
        assert (
            'ComparePanel' not in page.content()
            and page.locator('button:has-text("Run")').count() == 0
        ), refused.status
        page.context.close()
        for (width, height), dark in zip(SCREENS, (False, True)):
            page = lab.page(width=width, height=height, dark=dark)
            page.goto(f'{address}/?token={token}' + ('&theme=dark' if dark else ''))
            named_button(page, 'Run').wait_for(timeout=120_000)
            first_screen(page)
            assert shown_buttons(page) == ['Show the last run'], shown_buttons(page)
            named_button(page, 'Show the last run').click()
            page.get_by_text(re.compile('^Finished')).first.wait_for()
            draw(page, DIGITS[1])
            assert 'mlp: ' in settled(page, '.mnist-cmp-pad .said')
            assert shown_buttons(page) == ['Open the report'], shown_buttons(page)
            assert not page.elsewhere, f'the page asks for {page.elsewhere}'
            if pictures and not dark:
                whole(page, pictures / 'app.png')
            page.context.close()
