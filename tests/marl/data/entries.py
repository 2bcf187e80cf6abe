"""Waveforms of entries of a data set, for tests."""

from marl.data.audio_dataset import UnusableClipError


def waveforms_of(config, entries, sample_rate, samples):
    """Return the waveform of each entry, or the error that it raises."""
    found = []
    for entry in entries:
        try:
            found.append(config.waveform(entry, sample_rate, samples))
        except UnusableClipError as error:
            found.append(error)
    return found
