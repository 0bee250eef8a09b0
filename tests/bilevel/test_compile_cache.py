"""Compiled programs are kept where nobody else can write, and an earlier process's are used."""

import os
import stat
import subprocess
import sys

import pytest

from skhypergrad.bilevel import compile_cache

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders have no owners here")

SEARCH = """
import sys
from scipy.stats import loguniform
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from skhypergrad import HypergradSearchCV, enable_compile_cache
import jax
asked = []
jax.monitoring.register_event_listener(lambda name, **_: asked.append(name))
print(enable_compile_cache(sys.argv[1]))
search = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-4, 1e4)}, n_starts=5).fit(*load_diabetes(return_X_y=True))
print(search.best_params_["alpha"].hex(), asked.count("/jax/compilation_cache/cache_misses"))
"""


def search(folder):
    done = subprocess.run([sys.executable, "-c", SEARCH, folder], capture_output=True, text=True, check=True)
    place, result = done.stdout.splitlines()
    return place, *result.split()


def test_a_second_process_compiles_nothing(tmp_path):
    folder = tmp_path / "cache"
    place, alpha, misses = search(folder)
    assert int(misses) > 0
    for made in (folder, place):
        assert stat.S_IMODE(os.stat(made).st_mode) == 0o700
    assert any(os.scandir(place))
    assert search(folder) == (place, alpha, "0")


def test_folders_of_others_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    compile_cache.check_private(folder)
    folder.chmod(0o750)
    with pytest.raises(PermissionError, match="is open to other users"):
        compile_cache.check_private(folder)
    folder.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(PermissionError, match="is a link"):
        compile_cache.check_private(link)
    above = tmp_path / "above"
    below = above / "cache"
    below.mkdir(parents=True, mode=0o700)
    above.chmod(0o777)
    with pytest.raises(PermissionError, match="could be replaced by other users, who can write to 'above'"):
        compile_cache.check_private(below)
    above.chmod(0o1777)
    compile_cache.check_private(below)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        compile_cache.check_private(folder)


def test_a_cache_that_jax_has_is_left_alone(tmp_path):
    import jax

    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        with pytest.raises(ValueError, match="keeps a cache of compiled programs already"):
            compile_cache.enable_compile_cache(tmp_path / "other")
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
    assert not (tmp_path / "other").exists()
