"""scikit-learn's own tests pass with `HypergradSearchCV` in the place of `GridSearchCV`.

The installed tests are run, in a process of their own, after `borrowed/substitute.py` has swapped the class.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import sklearn.model_selection

HERE = Path(__file__).parent


def run(folder, plugin, *arguments):
    """The counts of a pytest session with the plugin, and its last lines."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    counts = folder / "counts.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        plugin,
        "-p",
        "no:cacheprovider",
        "-c",
        "pytest.ini",
        *arguments,
    ]
    path = os.pathsep.join([str(HERE / "borrowed"), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "SKHYPERGRAD_BORROWED": str(counts)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert counts.exists(), done.stdout + done.stderr
    return json.loads(counts.read_text()), done.stdout[-6000:]


def test_the_tests_of_grid_search(tmp_path):
    found, log = run(tmp_path, "substitute", "--pyargs", "sklearn.model_selection.tests.test_search")
    assert found["outcomes"].get("failed", 0) == 0, log
    # what is skipped are the array API's and parallel tests that scikit-learn skips for its own class, too
    assert found["outcomes"]["passed"] >= 138, log
    assert found["fits"]["all"] >= 138


def test_the_tests_of_metadata_routing(tmp_path):
    module = "sklearn.tests.test_metaestimators_metadata_routing"
    found, log = run(tmp_path, "substitute", "--pyargs", module, "-k", "HypergradSearchCV")
    assert found["outcomes"] == {"passed": 8}, log


def test_the_tests_of_delegation(tmp_path):
    found, log = run(tmp_path, "substitute", "--pyargs", "sklearn.tests.test_metaestimators")
    assert found["outcomes"].get("failed", 0) == 0, log
    assert len([name for name in found["names"] if "HypergradSearchCV" in name]) >= 4, log


# Tests of searches over linear models. Of those that make sense for a space, three do not make sense for one row of results:
# refit_callable, grid_search_correct_score_results and grid_search_cv_splits_consistency count or index the listed values.
LINEAR = """
    grid_search_no_score grid_search_score_method grid_search_groups classes__property grid_search_error
    grid_search_sparse grid_search_sparse_scoring refit_callable_invalid_type refit_callable_out_bound
    refit_callable_multi_metric unsupported_sample_weight_scorer search_cv_sample_weight_equivalence
    search_cv_timing search_train_scores_set_to_false callable_multimetric_confusion_matrix
    callable_multimetric_same_as_list_of_strings callable_multimetric_error_on_invalid_key
    callable_single_metric_same_as_single_string search_cv_verbose_3 search_estimator_param
    multi_metric_search_forwards_metadata score_rejects_params_with_no_routing_enabled cv_results_multi_size_array
    grid_search_pipeline_steps search_html_repr search_with_estimators_issue_29157 cv_results_dtype_issue_29074
"""


def test_the_same_tests_of_linear_models_in_continuous_spaces(tmp_path):
    module = Path(sklearn.model_selection.__file__).parent / "tests" / "test_search.py"
    found, log = run(tmp_path, "continuous", *(f"{module}::test_{name}" for name in LINEAR.split()))
    assert found["outcomes"].get("failed", 0) == 0, log
    assert found["outcomes"]["passed"] >= 39, log
    assert found["fits"]["continuous"] >= 40
