"""Work that joblib hands out goes to a dask cluster when one is named."""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("distributed", reason='pip install "dask[distributed]"')

# a process of its own: dask changes the environment and the warning filters
SCRIPT = """
    import joblib
    import numpy as np
    from distributed import Client, LocalCluster
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import cross_validate
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    import skhypergrad.model_selection.search
    from skhypergrad import HypergradSearchCV, Real

    if __name__ == "__main__":
        X, y = load_diabetes(return_X_y=True)
        skhypergrad.model_selection.search.WORTH_PROCESSES = 0.0
        space = {"standardscaler": [StandardScaler(), MinMaxScaler(), None], "ridge__alpha": Real(1e-3, 1e3)}
        search = HypergradSearchCV(make_pipeline(StandardScaler(), Ridge()), [space, {"ridge__alpha": [1.0]}], cv=3)
        here = cross_validate(search, X, y, cv=2, return_estimator=True)
        alone = search.fit(X, y).cv_results_["mean_test_score"]
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            with Client(cluster), joblib.parallel_config("dask"):
                together = search.set_params(n_jobs=2).fit(X, y).cv_results_["mean_test_score"]
                folds = cross_validate(search.set_params(n_jobs=None), X, y, cv=2, n_jobs=2, return_estimator=True)
        assert (together == alone).all()
        assert (folds["test_score"] == here["test_score"]).all()
        for there, own in zip(folds["estimator"], here["estimator"]):
            assert there.best_params_["ridge__alpha"] == own.best_params_["ridge__alpha"]
        print("the same")
"""


def test_a_local_cluster(tmp_path):
    script = tmp_path / "cluster.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip().endswith("the same"), done.stderr[-3000:]
