"""Encoding of a chunk of clips as objects of the store: spectrograms, sounds and a table.

Reading unpickles nothing. Content that was not written by this module raises ValueError.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from numpy.typing import NDArray

from marl.audio import AudioConfig
from marl.data.audio_dataset import PreparedClips
from study.store.tables import read_parquet

__all__ = ["chunk_rows", "decode_log_mels", "decode_sounds", "decode_table"]
__all__ += ["encode_log_mels", "encode_sounds", "encode_table"]

_TEXT = ("name", "group", "content", "rejected")
_WHOLE = ("chunk", "row")
_REAL = ("loudness_db", "peak", "sounds_s", "sum_db", "square_db")


def chunk_rows(number: int, prepared: PreparedClips, factors: Sequence[str]) -> pd.DataFrame:
    """Return a row for each entry of a chunk, with the columns of `study.datasets.prepared_set.PreparedSet.table`."""
    columns = [f"factor/{name}" for name in factors]
    rows = [
        clip._asdict() | {"chunk": number, "row": row} | dict(zip(columns, clip.values, strict=True))
        for row, clip in enumerate(prepared.clips)
    ]
    rows += [{"name": name, "rejected": reason, "chunk": number, "row": -1} for name, reason in prepared.rejected]
    return pd.DataFrame(rows, columns=[*_TEXT, *_WHOLE, *_REAL, *columns], dtype=object)


def encode_table(rows: pd.DataFrame) -> bytes:
    """Encode rows as Parquet. A factor that is unknown in all rows gets the null type, which merges with any other."""
    fields = [(name, pa.string()) for name in _TEXT] + [(name, pa.int64()) for name in _WHOLE]
    fields += [(name, pa.float64()) for name in _REAL]
    for name in rows.columns[len(fields) :]:
        known = rows[name].dropna()
        is_text = known.map(lambda value: isinstance(value, str)).any()
        fields.append((name, pa.string() if is_text else pa.float64() if len(known) else pa.null()))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, pa.schema(fields), preserve_index=False), buffer, compression="zstd")
    return buffer.getvalue()


def decode_table(content: bytes, factors: Sequence[str]) -> pd.DataFrame:
    """Decode the rows that `encode_table` encoded."""
    names = [*_TEXT, *_WHOLE, *_REAL, *(f"factor/{name}" for name in factors)]
    try:
        table = read_parquet(content)
        if missing := [name for name in names if name not in table.column_names]:
            raise ValueError(f"has no column {missing[0]}")
        return table.select(names).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error).splitlines()[0]) from None


def encode_log_mels(decibels_NFT: NDArray[np.float16]) -> bytes:
    """Encode spectrograms as an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, decibels_NFT, allow_pickle=False)
    return buffer.getvalue()


def decode_log_mels(content: bytes, audio: AudioConfig) -> NDArray[np.float16]:
    """Decode the spectrograms [n, F, T] that `encode_log_mels` encoded."""
    file, npy = io.BytesIO(content), np.lib.format
    try:
        read_header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
    except (OSError, EOFError) as error:
        raise ValueError(str(error)) from None
    if dtype != np.float16 or is_fortran or len(shape) != 3 or shape[1:] != (audio.mel_bands, audio.frames):
        expected = f"[clips, {audio.mel_bands}, {audio.frames}]"
        raise ValueError(f"must be float16 of {expected}; got {dtype} of {list(shape)}")
    # NumPy allocates memory for the shape of the header before it reads the values.
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"states {shape[0]:,} clips, and holds {len(content) - file.tell():,} bytes of values")
    decibels_nFT: NDArray[np.float16] = np.frombuffer(content, np.float16, offset=file.tell()).reshape(shape)
    if not np.isfinite(decibels_nFT).all():
        raise ValueError("holds values that are not finite")
    return decibels_nFT


def encode_sounds(samples_NS: NDArray[np.int16], sample_rate: int) -> bytes:
    """Encode clips one after another as FLAC, which is lossless."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples_NS.reshape(-1), sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_sounds(content: bytes, rows: Sequence[int], samples: int) -> NDArray[np.int16]:
    """Decode the clips at some rows, int16 [n, samples], that `encode_sounds` encoded."""
    samples_nS = np.empty((len(rows), samples), np.int16)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sounds:
            for index, row in enumerate(rows):
                sounds.seek(int(row) * samples)
                samples_nS[index] = sounds.read(samples, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise ValueError(str(error)) from None
    return samples_nS
