"""Commands that use an exported model: embed, swap."""

import time
import uuid
from pathlib import Path
from typing import Annotated

import typer

from study.cli.terminal import err
from study.errors import RunError, UserError
from study.formatting import printable

__all__ = ["embed", "swap"]

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of an exported model.")]
_SOUNDS = (".wav", ".flac")


def embed(
    model: ModelArgument,
    audio: Annotated[list[str], typer.Argument(metavar="AUDIO...", help="Sound files, folders, s3://bucket/prefix.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A file ending in .parquet.")],
) -> None:
    """Write the features of sounds as a table: a row for each window, as long as the clips of training.

    Columns: `file`, `start_s`, `private/0`, …, `shared/0`, …. Any format that libsndfile reads, any rate, any length;
    channels are averaged, the last window of a file is filled up with silence. What cannot be read is left out and
    said.

    Example: marl-study embed exported/quickstart-trial-7-seed-0 recordings -o features.parquet
    """
    _check_output(output, (".parquet",))
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from study.export.embed import about_model, loaded
    from study.export.embed import embed as write
    from study.export.recordings import recordings

    extractor, sounds = loaded(model), recordings(audio)
    columns = (
        TextColumn("embedding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("embedding", total=len(sounds), rate="")

        def done(files: int, windows: int) -> None:
            rate = windows / (time.monotonic() - started)
            progress.update(task, completed=files, rate=f"{rate:.0f} windows/s")

        def left_out(name: str, reason: str) -> None:
            err.print(f"left out: {printable(name)}: {printable(reason)}", markup=False, soft_wrap=True)

        found = write(extractor, sounds, output, about_model(model), done, left_out)
    took_s = time.monotonic() - started
    without = f", {len(found.left_out)} left out" if found.left_out else ""
    err.print(
        f"embedded {found.windows} windows of {found.files} files in {took_s:.1f} s "
        f"({found.windows / took_s:.0f} windows/s){without}: {output}",
        markup=False,
        soft_wrap=True,
    )
    if not found.windows:
        raise RunError("nothing could be embedded")


def swap(
    model: ModelArgument,
    content: Annotated[Path, typer.Argument(metavar="A", help="Sound file that gives what is private.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Sound file that gives what is shared.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A file ending in .wav or .flac.")],
) -> None:
    """Give a sound what the model holds to be shared, of another: where timbre is shared, play A with the timbre of B.

    The private features are those of A, window by window; the shared ones are those of B, averaged over its windows.

    Example: marl-study swap exported/quickstart-trial-7-seed-0 flute.wav violin.wav -o swapped.wav
    """
    _check_output(output, _SOUNDS)
    import soundfile
    import torch

    from marl.data.audio_file import read_mono
    from marl.data.source import Unusable
    from study.export.embed import loaded
    from study.storage.backend import UNFINISHED

    extractor = loaded(model)
    rate = extractor.log_mel.config.sample_rate
    waveforms = []
    for path in (content, other):
        try:
            waveforms.append(torch.from_numpy(read_mono(path, rate)))
        except Unusable as reason:
            raise UserError(f"{path}: {reason}") from None
    torch.set_num_threads(1)  # Griffin-Lim makes much of the last bit, which depends on how many there are
    swapped = extractor.swap(waveforms[0], rate, waveforms[1], rate).numpy()
    # Where it would clip all of it is made quieter.
    loudest = max(1.0, float(abs(swapped).max()))
    draft = output.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    kind = output.suffix[1:].upper()
    try:
        soundfile.write(draft, swapped / loudest, rate, subtype="PCM_16", format=kind)
        draft.replace(output)
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"--output: cannot write {output}: {error}") from None
    finally:
        draft.unlink(missing_ok=True)
    factors = " and ".join(extractor.shared_factors) or "what is shared"
    err.print(f"{output}: {factors} of {other}, all else of {content}", markup=False, soft_wrap=True)


def _check_output(output: Path, suffixes: tuple[str, ...]) -> None:
    if output.suffix.lower() not in suffixes:
        raise UserError(f"--output: must end in {' or '.join(suffixes)}; got {output}")
    if not output.parent.is_dir():
        raise UserError(f"--output: the folder {output.parent} is not there")
    if output.is_dir():
        raise UserError(f"--output: must be a file; {output} is a folder")
