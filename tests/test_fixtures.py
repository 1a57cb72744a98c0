"The runs that other tests build on do end, with numbers."


def test_search_ends_with_scores(search_in, tmp_path):
    found = search_in(tmp_path / 's')
    assert [trial.history.state for trial in found.trials] == ['finished', 'finished']


def test_comparison_ends_with_all_runs(compare_in, tmp_path):
    found = compare_in(tmp_path / 'c')
    assert [len(model.runs) for model in found.models] == [2, 2]
