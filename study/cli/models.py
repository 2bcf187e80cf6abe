"""Commands about exported models: export, verify, embed, swap."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from study.cli.common import (
    JsonOption,
    OverwriteOption,
    PluginOption,
    StoreOption,
    StudyArgument,
    check_output,
    log,
    open_results,
    stderr,
)
from study.errors import DEFAULT_STORE, RunError, UserError

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of an exported model.")]
_SOUNDS = (".wav", ".flac")


def export(
    study: StudyArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder that gets one folder for each model.")],
    store: StoreOption = DEFAULT_STORE,
    front: Annotated[bool, typer.Option("--front", help="Every trial of the front.")] = False,
    trial: Annotated[list[int] | None, typer.Option("--trial", min=0, help="This trial; may be repeated.")] = None,
    best: Annotated[str | None, typer.Option("--best", metavar="COLUMN", help="The best trial in a metric.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="NAME", help="Licence in the model card, such as CC-BY-4.0.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Export models with all that is needed to use them.

    A model that was exported before is left as it is. If its folder holds another model, another licence or changed
    files, nothing is exported; --overwrite replaces the whole folder.

    Example: marl-study export quickstart --best disentanglement/separation --to exported
    """
    from study.export.bundle import export_trials
    from study.export.replicates import choose_trials
    from study.progress import progress_bar

    if sum([front, bool(trial), best is not None]) != 1:
        raise UserError("which models: give exactly one of --front, --trial ID and --best COLUMN")
    study_results = open_results(store, study)

    def exists(bundle: Path) -> None:
        log(f"already exported, same model and licence: {bundle}")

    trials, metric = choose_trials(study_results, trial or None, best)
    with progress_bar(stderr(), "exporting", "models") as show:
        bundles = export_trials(study_results, trials, metric, to, licence, overwrite, exists, show)
    for bundle in bundles:
        typer.echo(str(bundle))


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an exported model.")],
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an exported model and score it again.

    Example: marl-study verify exported/quickstart-trial-7-seed-1
    """
    from study.export.verify import verify as verify_bundle

    scores = verify_bundle(folder, plugin or ())
    if as_json:
        pairs = {name: {"stated": stated, "computed": computed} for name, (stated, computed) in scores.items()}
        typer.echo(json.dumps(pairs, indent=1))
        return
    for name, (stated, computed) in scores.items():
        if " of " not in name:  # scores of single clips are many
            typer.echo(f"{name:<34} stated {stated:9.4f}   found {computed:9.4f}")
    log(f"verified: {folder}")


def embed(
    model: ModelArgument,
    audio: Annotated[list[str], typer.Argument(metavar="AUDIO...", help="Audio files, folders, s3://bucket/prefix.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A file ending in .parquet.")],
    plugin: PluginOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write features of recordings as a Parquet table.

    Each row is a window as long as a training clip. Columns: `file`, `start_s`, `private/0`, …, `shared/0`, …. Files
    may have any format that libsndfile reads, any sample rate and any length. Channels are averaged; the last window
    of a file is padded with silence. Files that cannot be read are reported and left out.

    Example: marl-study embed exported/quickstart-trial-7-seed-1 recordings -o features.parquet
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from study.export.embed import embed as write
    from study.export.embed import load_model, model_metadata
    from study.export.recordings import find_recordings
    from study.formatting import printable

    sounds = find_recordings(audio)
    local = (str(recording.open()) for recording in sounds if not recording.held_bytes)
    check_output("--output", output, overwrite, (".parquet",), local)
    extractor = load_model(model, plugin or ())
    rate_column = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), rate_column, TimeRemainingColumn())
    started = time.monotonic()
    with Progress(*columns, console=stderr(), transient=True, disable=not stderr().is_terminal) as progress:
        task = progress.add_task("embedding", total=len(sounds), rate="")

        def done(files: int, windows: int) -> None:
            rate = windows / (time.monotonic() - started)
            progress.update(task, completed=files, rate=f"{rate:.0f} windows/s")

        def rejected(name: str, reason: str) -> None:
            log(f"left out: {printable(name)}: {printable(reason)}")

        found = write(extractor, sounds, output, model_metadata(model), done, rejected)
    if not found.windows:
        raise RunError(f"no file could be embedded, {len(found.rejected)} left out; nothing was written to {output}")
    took_s = time.monotonic() - started
    without = f", {len(found.rejected)} left out" if found.rejected else ""
    log(
        f"embedded {found.windows} windows of {found.files} files in {took_s:.1f} s "
        f"({found.windows / took_s:.0f} windows/s){without}: {output}"
    )


def swap(
    model: ModelArgument,
    content: Annotated[Path, typer.Argument(metavar="A", help="Recording that gives the private features.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Recording that gives the shared features.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A file ending in .wav or .flac.")],
    plugin: PluginOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Play recording A with the shared features of recording B.

    If timbre is shared, this is A in the timbre of B.

    The private features come from A, window by window. The shared features of B are averaged over its windows.

    Example: marl-study swap exported/quickstart-trial-7-seed-1 flute.wav violin.wav -o swapped.wav
    """
    check_output("--output", output, overwrite, _SOUNDS, (content, other))
    import soundfile
    import torch

    from marl.data.audio_dataset import UnusableClipError
    from marl.data.audio_file import read_mono
    from study.export.embed import load_model
    from study.local_files import atomic_path

    extractor = load_model(model, plugin or ())
    rate = extractor.log_mel.config.sample_rate
    waveforms = []
    for path in (content, other):
        try:
            waveforms.append(torch.from_numpy(read_mono(path, rate)))
        except UnusableClipError as reason:
            raise UserError(f"{path}: {reason}") from None
    torch.set_num_threads(1)  # Griffin-Lim amplifies rounding, which depends on the number of threads
    swapped = extractor.swap(waveforms[0], rate, waveforms[1], rate).numpy()
    peak = max(1.0, float(abs(swapped).max()))
    try:
        with atomic_path(output) as draft:
            soundfile.write(draft, swapped / peak, rate, subtype="PCM_16")
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"--output: cannot write {output}: {error}") from None
    factors = " and ".join(extractor.shared_factors) or "shared features"
    log(f"{output}: {factors} of {other}, private features of {content}")
