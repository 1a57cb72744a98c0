"""The changes of tools/mutate.py: each breaks one function in a way that a test should notice.

`(function, text of its source, what stands there instead)`. A function is known by its name,
`Class.name` for a method, wherever in the package it stands; the text must occur in it once.
Choose what a tired programmer could write.
"""

MUTATIONS = [
    # core
    ('check_int', 'value > high', 'value >= high'),
    ('check_float', 'value > low if low_open', 'value >= low if low_open'),
    ('atomic_path', '        _fsync(temporary)\n', ''),
    ('atomic_path', '        _fsync(path.parent)\n', ''),
    ('derive_seed', 'json.dumps([seed, *path])', 'json.dumps([seed, *path[:1]])'),
    ('format_seconds', 'seconds < 3600', 'seconds <= 3600'),
    ('read_plain', 'size <= most:', 'size < most:'),
    ('remove_unfinished', '            and _is_left(entry.path)\n', ''),
    ('ShouldStop.__call__', 'is None or self.answer:', 'is None:'),
    ('_times', '(done - before) * (total - done)', '(done - before) * total'),
    # sources
    ('find_fault', '>= n_classes', '> n_classes'),
    ('_Stream._save', 'got > self.most', 'got > 2*self.most'),
    # data
    ('_hold_out', 'split[n:]', 'split[n - 1:]'),
    ('_check_labels', 'high >= n_classes', 'high > n_classes'),
    ('_sha256', "        h.update(f'{tuple(t.shape)} {t.dtype}'.encode())\n", ''),
    ('_digits_tensors', '/ 16', '/ 15'),
    ('show_samples', "derive_seed(seed, 'samples')", "derive_seed(0, 'samples')"),
    # models
    ('glorot_init', "        _fill(layer, 'bias', init.zeros_)\n", ''),
    ('begin', "derive_seed(seed, 'construct')", "derive_seed(0, 'construct')"),
    ('DeepMLP.__init__', 'layers[:-1]', 'layers'),
    ('MLP.forward', 'F.relu(self.fc2(x))', 'self.fc2(x)'),
    # params
    ('number_of_params', 'len(shape) > 1', 'len(shape) > 0'),
    ('relative_difference', 'abs(a - b) / a', 'abs(a - b) / b'),
    ('flops', 'forward = forward.get_total_flops() // 2', 'forward = forward.get_total_flops()'),
    ('unequal_sizes', 'max(counts.values()) > most', 'max(counts.values()) >= most'),
    # steps
    ('float_images', 'x.div(255)', 'x.div(256)'),
    ('SGD.move', 'g.add(p,', 'g.sub(p,'),
    ('train_batches', 'batch_loss * len(batch)', 'batch_loss * len(batches[0])'),
    ('_pool', ' or ceil_mode', ''),
    (
        'OneDNNStep._move_convs',
        'total[name].add_(gradient) if name in total else gradient',
        'gradient',
    ),
    ('_who_else', '{os.geteuid(), 0} if roots else {os.geteuid()}', '{os.geteuid(), 0}'),
    ('_content', 'library if hashlib.sha256(library).digest() == digest else None', 'library'),
    ('is_served', '            and kernel == stride\n', ''),
    ('unchanged', 'for t, before in kept:', 'for t, before in kept[1:]:'),
    ('choose_engine', '(plain or stages[0].is_conv)', 'plain'),
    # evaluation
    ('_evaluating', '    net.eval()\n', ''),
    ('_evaluating', '            part.training = mode\n', '            part.training = True\n'),
    ('measure', 'loss / len(split)', 'loss / (len(split) - 1)'),
    ('count_topk_errors', 'errors[k - 1]', 'errors[min(k, len(errors) - 1)]'),
    ('weights_digest', ' {tuple(t.shape)}', ''),
    ('_unpickled', 'weights_only=True', 'weights_only=False'),
    # training
    ('_order', "'order', epoch", "'order', 1"),
    (
        '_seeded_layers',
        "derive_seed(history.seed, 'layers', epoch)",
        "derive_seed(0, 'layers', epoch)",
    ),
    ('_run_epoch', '        net.train()\n', ''),
    ('_run', '                training.undo(whole)\n', ''),
    ('_keep', 'not all(math.isfinite', 'not any(math.isfinite'),
    ('History.best', 'min(self.epochs', 'min(reversed(self.epochs)'),
    ('_Checkpoint.resume', 'len(history.epochs) > epochs', 'len(history.epochs) >= epochs'),
    # points
    ('Space._at', 'math.ceil(u *', 'math.floor(u *'),
    ('_sobol_2d', 'state.seed_save = start - 1', 'state.seed_save = start'),
    ('_ends', 'if low > high:', 'if low > 2 * high:'),
    # population
    ('number_of_ticks', '- (-rest // block)', '+ rest // block'),
    (
        '_Stack.move',
        'torch.where(column(begins), g, self.sums[name] + g)',
        'self.sums[name] + g',
    ),
    ('nets_at_once', '// 2 // each', '// each'),
    # ledger and workers
    ('_write_trial', 'was[0] in DONE:', 'was[0] in DONE[:1]:'),
    ('Ledger._begin_to_write', 'synchronous=full', 'synchronous=off'),
    (
        'folder_lock',
        'lock = _locked(folder)',
        "lock = type('Free', (), {'release': lambda self: None})()",
    ),
    ('Ledger._open', "('running', 'crashed')", "('running')"),
    ('_transaction', "connection.execute('ROLLBACK')", "connection.execute('COMMIT')"),
    ('_Jobs.ended', 'tries > RETRIES', 'tries >= RETRIES'),
    ('_run_in_processes', 'if should_stop():', 'if not jobs:'),
    ('Child.__init__', 'start_new_session=True', 'start_new_session=False'),
    # searches and trainings
    ('SearchResult.best', 'return score, trial.loss, trial.number', 'return score, trial.number'),
    ('edge_sides', "('upper', high - value)", "('upper', value - high)"),
    ('read_search', "(*DONE, 'crashed')", 'DONE'),
    ('drop_checkpoints', ' or left.is_symlink()', ''),
    ('_is_stopped', "state == 'stopped'", "state == 'halted'"),
    ('_trainings', 'largest > images', 'largest >= images'),
    ('run_seed', "check_int('number', number, 0)", "check_int('number', number, 0) // 2"),
    (
        '_Retrainings._weights_in_file',
        "words.get('seed', str(history.seed)) != str(history.seed)",
        'not words',
    ),
    # evidence
    ('error_interval', 'min(errors, n - errors) < 30', 'errors < 30'),
    ('bonett_price_interval', '(a + b + 2) / n', '(a + b) / n'),
    (
        '_crossed_interval',
        'special.stdtrit(freedom, (1 - level) / 2)',
        'special.stdtrit(freedom, 1 - level)',
    ),
    ('_crossed_interval', 'rows.var(ddof=1)', 'rows.var()'),
    ('prob_better', 'a < b', 'b < a'),
    ('_stay_within', '(high <= t)', '(high < t)'),
    (
        'calibration',
        'np.searchsorted(edges[1:-1], c)',
        "np.searchsorted(edges[1:-1], c, side='right')",
    ),
    ('agreement', '(S * (S - 1))', '(S * S)'),
    # comparison and report
    ('_call_times', '    net.eval()\n', ''),
    (
        '_splits',
        'return data.train, data.valid, data.valid',
        'return data.train, data.valid, data.test',
    ),
    ('hard_images', 's > 0.5', 's >= 0.5'),
    ('_read_kept', "kept['sha256'] != _digest_of(kept)", "kept['sha256'] == ''"),
    ('level_of', '0.05 / (len(record.pairs) * max(parts, 1))', '0.05'),
    ('_by_union', 'min(lows)', 'both.low'),
    ('crossed_interval', '>= 4', '>= 2'),
    ('_exact_limits', ', N)', ', 10 * N)'),
    ('decide', 'far < margin', 'near < margin'),
    ('_shares', 'cost_a / cost_b', 'cost_b / cost_a'),
    (
        'confusion',
        '(y[wrong], np.array(run.test.predicted, dtype=int)), 1',
        '(np.array(run.test.predicted, dtype=int), y[wrong]), 1',
    ),
    ('Difference.apart', 'self.high < 0', 'self.high <= 0'),
    ('_relative', '100 * (a - b) / b', '100 * (a - b) / a'),
    ('plot_confusions', 'np.fill_diagonal(m, np.nan)', 'np.fill_diagonal(m, 0)'),
    ('_against', 'if d.apart:', 'if d.estimate > 0:'),
    ('_on_intervals', 'runs < 5', 'runs < 4'),
    # sound, pad, command
    ('tone', '1.5 * np.pi * 400', '2 * np.pi * 400'),
    ('Chime._cell_ends', ' and now - self._rang > 2', ''),
    ('_offset', '(np.arange(n) + 0.5)', 'np.arange(n)'),
    ('_ends', 'not low < high', 'not low <= high'),
    ('_resume_command', "a.split('=')[0] == '--out'", "a == '--out'"),
    ('_names', 'len(set(names)) >= 2', 'len(names) >= 2'),
]
