"""Compiled programs on disk, for those who ask for it: the first fit of a process need not compile what an earlier one did.

What is in such a folder is run as it is, so that it must be nobody else's to write to.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from pathlib import Path

import jax
import jaxlib


def enable_compile_cache(folder: str | os.PathLike | None = None) -> Path:
    """Keep compiled programs on disk, and use those of earlier processes, from now on in this process.

    It is JAX's own cache that is switched on, so it serves other programs that JAX compiles in this process as well. Results
    do not depend on it. Call it before the first `fit`.

    Parameters
    ----------
    folder : path, default=None
        None for `skhypergrad` in `$XDG_CACHE_HOME`, or in `~/.cache` where that is not set. It is made where it is missing,
        for its owner alone (mode 0700).

    Returns
    -------
    pathlib.Path
        The folder within it that is used: one for each version of JAX and jaxlib and each kind of processor, because programs
        are compiled for these. Delete it at any time.

    Raises
    ------
    PermissionError
        When `folder` is a link, belongs to someone else or may be written to by others, or could be replaced by others
        because a folder above it can: programs in it would be run unseen.
    ValueError
        When JAX has been given another cache already.
    NotImplementedError
        Where files have no owners that could be checked (Windows).

    Examples
    --------
    >>> import tempfile
    >>> from skhypergrad import enable_compile_cache
    >>> enable_compile_cache(tempfile.mkdtemp())  # doctest: +SKIP
    PosixPath('...')
    """
    if not hasattr(os, "getuid"):
        raise NotImplementedError("A compile cache needs folders with an owner, which this system does not tell.")
    if folder is None:
        above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(above) / "skhypergrad"
    folder = Path(folder).expanduser().absolute()
    place = folder / _kind()
    given = getattr(jax.config, "jax_compilation_cache_dir", None)
    if given is not None and Path(given) != place:
        raise ValueError(
            "JAX keeps a cache of compiled programs already, elsewhere (jax_compilation_cache_dir). It serves skhypergrad as "
            "it is; to have one here instead, do not set the other."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    for private in (folder, place):
        private.mkdir(mode=0o700, exist_ok=True)
        check_private(private)
    jax.config.update("jax_compilation_cache_dir", str(place))
    # small programs add up: there are some dozens in a first fit
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return place


def check_private(folder: Path) -> None:
    """PermissionError unless only its owner, who is this process's, can write to a folder or put another in its place."""
    own = os.lstat(folder)
    if stat.S_ISLNK(own.st_mode):
        raise _refusal(folder, "is a link")
    if own.st_uid != os.getuid():
        raise _refusal(folder, "belongs to another user")
    if stat.S_IMODE(own.st_mode) & 0o077:
        raise _refusal(folder, "is open to other users", f"chmod 700 {folder.name!r}, if nobody has written to it, or")
    for above in folder.resolve().parents:
        found = os.stat(above)
        may_be_replaced = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
        if may_be_replaced or found.st_uid not in (0, os.getuid()):
            raise _refusal(folder, f"could be replaced by other users, who can write to {above.name!r} above it")


def _refusal(folder: Path, why: str, remedy: str = "") -> PermissionError:
    return PermissionError(
        f"The folder {folder.name!r} for compiled programs {why}, and whoever writes there decides what is run here: "
        f"{remedy + ' ' if remedy else ''}name another folder."
    )


def _kind() -> str:
    """What programs are compiled for, as the name of a folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    except OSError:
        processor = platform.processor()
    digest = hashlib.sha256(f"{platform.machine()} {processor}".encode()).hexdigest()[:12]
    return f"jax-{jax.__version__}-jaxlib-{jaxlib.__version__}-{digest}"
