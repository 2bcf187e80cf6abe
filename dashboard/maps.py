"""UMAPs of latents, computed by another process while the page stays usable, and kept on disk."""

import hashlib
import logging
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import streamlit as st

from study.charts.style import MissingDataError
from study.charts.trial import umap_data
from study.environment import cache_folder
from study.local_files import atomic_path

_FOLDER = "umap"
_VERSION = 1  # of the way that maps are computed

_logger = logging.getLogger(__name__)


@st.cache_resource
def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


@st.cache_resource
def _jobs() -> "dict[str, Future[pd.DataFrame]]":
    return {}


@st.cache_resource
def _lock() -> threading.Lock:
    return threading.Lock()


def map_of(latents: pd.DataFrame) -> pd.DataFrame | None:
    """Return `umap_data` of latents, or None while it is computed; later calls return it.

    Raises:
        MissingDataError: If the latents are too few, or the process that computed was killed. A later call tries again.
    """
    content = pd.util.hash_pandas_object(latents, index=False).to_numpy().tobytes()
    name = hashlib.sha256(f"{_VERSION} {list(latents)}".encode() + content).hexdigest()
    path, jobs = cache_folder() / _FOLDER / f"{name}.parquet", _jobs()
    with _lock():  # sessions may ask at the same time
        if (stored := _stored(path)) is not None:
            return stored
        try:
            if name not in jobs:
                jobs[name] = _pool().submit(umap_data, latents)
            if not jobs[name].done():
                return None
            data = jobs[name].result()
        except BrokenProcessPool:
            _pool.clear()
            jobs.clear()
            raise MissingDataError("the process that computes maps was killed") from None
        except MissingDataError:
            del jobs[name]
            raise
        try:
            with atomic_path(path) as draft:
                data.to_parquet(draft)
            del jobs[name]
        except OSError as error:  # the map stays in memory
            _logger.warning("map not kept in %s: %s", path, error)
        return data


def _stored(path: Path) -> pd.DataFrame | None:
    try:
        return pd.read_parquet(path) if path.exists() else None
    except (OSError, ValueError) as error:
        _logger.warning("%s is not readable and is computed again: %s", path, error)
        return None
