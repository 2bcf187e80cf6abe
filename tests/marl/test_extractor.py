import hashlib
import json

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

import marl
from marl import checkpoint
from marl.checkpoint import ModelMetadata
from marl.config import Config
from marl.models import ModelConfig
from tests.marl.cases import save_trained
from tests.messages import mentions

CONFIG = Config.model_validate({"latent": {"private": 3, "shared": 2}})
CONV = CONFIG.model_copy(update={"model": ModelConfig(kind="conv", channels=16, hidden=32)})


@pytest.fixture(scope="module")
def trained(small_dataset, tmp_path_factory):
    """Stack with a trained model in lane 0, and the folder of the saved model."""
    folder = tmp_path_factory.mktemp("model")
    return save_trained(CONFIG, 120, small_dataset, folder), folder


@pytest.fixture
def folder(trained, tmp_path):
    """Copy that a test may modify."""
    for file in trained[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_loaded_model_encodes_like_its_stack(trained, small_dataset):
    stack, folder = trained
    clips = small_dataset.splits["test"][:5]
    private, shared = marl.load(folder).encode(small_dataset.waveforms(clips.tolist()), 16_000)
    mean = stack.models.encode(clips).mean[0]
    assert private.shape == (5, 1, 3)
    assert shared.shape == (5, 1, 2)
    torch.testing.assert_close(private[:, 0], mean[:, :3], atol=1e-3, rtol=0)
    torch.testing.assert_close(shared[:, 0], mean[:, 8:10], atol=1e-3, rtol=0)


def test_a_loaded_conv_model_encodes_and_decodes_like_its_stack(small_dataset, tmp_path):
    stack = save_trained(CONV, 5, small_dataset, tmp_path)
    clips = small_dataset.splits["test"][:5]
    loaded, mean = marl.load(tmp_path), stack.models.encode(clips).mean[0]
    private, shared = loaded.encode(small_dataset.waveforms(clips.tolist()), 16_000)
    torch.testing.assert_close(private[:, 0], mean[:, :3], atol=1e-3, rtol=0)
    torch.testing.assert_close(shared[:, 0], mean[:, 8:10], atol=1e-3, rtol=0)
    parameters = {name: value[0] for name, value in stack.models.parameters.items()}
    decoded = stack.network.from_output(stack.network.decode(parameters, mean))
    torch.testing.assert_close(loaded.decode(mean[:, :3], mean[:, 8:10]), decoded, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("samples", "windows"), [(1, 1), (16_000, 1), (16_001, 2), (40_000, 3)])
def test_audio_of_any_length_is_cut_into_windows(trained, samples, windows):
    private, shared = marl.load(trained[1]).encode(torch.randn(samples) * 0.1, 16_000)
    assert private.shape == (windows, 3)
    assert shared.shape == (windows, 2)


def test_another_sample_rate_gives_nearly_the_same_features(trained):
    model = marl.load(trained[1])
    time_s = torch.arange(48_000) / 48_000
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * time_s)
    at_48, at_16 = model.encode(tone, 48_000)[0], model.encode(tone[::3], 16_000)[0]
    torch.testing.assert_close(at_48, at_16, atol=0.2, rtol=0)


def test_a_reconstruction_sounds_more_like_its_original_than_like_other_clips(trained, small_dataset):
    model = marl.load(trained[1])
    originals = small_dataset.waveforms(small_dataset.splits["training"][:16].tolist())
    sounds = model.reconstruct(originals, 16_000)
    assert sounds.shape == originals.shape
    original, heard = model.log_mel(originals), model.log_mel(sounds)
    error = (heard[:, None] - original[None]).square().mean(dim=(-2, -1)).sqrt()
    assert error.diagonal().mean() < 0.75 * error.mean()


def test_reconstructions_have_the_rate_of_the_model(trained):
    model = marl.load(trained[1])
    assert model.reconstruct(torch.randn(2, 44_100) * 0.1, 44_100).shape == (2, 16_000)


def test_a_long_recording_is_encoded_like_its_windows(trained):
    model = marl.load(trained[1])
    windows = torch.randn(150, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    for whole, alone in zip(model.encode(windows.flatten(), 16_000), model.encode(windows, 16_000), strict=True):
        torch.testing.assert_close(whole, alone[:, 0], atol=1e-5, rtol=0)
    last = model.encode(windows[-1], 16_000)[0]
    torch.testing.assert_close(model.encode(windows.flatten(), 16_000)[0][-1:], last, atol=1e-5, rtol=0)


def tone(seconds: float, hz: float = 220.0) -> torch.Tensor:
    """Return a tone of five partials."""
    time_s = torch.arange(round(seconds * 16_000)) / 16_000
    return 0.2 * sum(torch.sin(2 * torch.pi * hz * number * time_s) / number for number in range(1, 6))


def test_reconstructions_have_no_clicks_between_windows(trained, monkeypatch):
    model, windows = marl.load(trained[1]), tone(8.0).unflatten(0, (8, 16_000))
    # Decode to the log-mels of the sound itself, so that steps come from the inversion alone.
    log_mel_NFT = model.log_mel(windows)
    monkeypatch.setattr(type(model), "decode", lambda *_: log_mel_NFT)

    def steps_at_borders(sound):
        step = sound.diff().abs()
        return step[torch.arange(1, 8) * 16_000 - 1] / step.square().mean().sqrt()

    assert (steps_at_borders(model.reconstruct(windows.flatten(), 16_000)) < 2).all()
    window_by_window = model.log_mel.invert(log_mel_NFT).flatten()
    assert (steps_at_borders(window_by_window) > 3).all()  # so the check notices clicks


def test_long_reconstructions_keep_their_level(trained, monkeypatch):
    monkeypatch.setattr("marl.extractor._MAX_INVERTED_WINDOWS", 6)
    model = marl.load(trained[1])
    sounds = model.reconstruct(torch.stack([tone(12.5), tone(12.5, 330.0)]), 16_000)
    assert sounds.shape == (2, 200_000)
    level = sounds[:, : 12 * 16_000].reshape(2, 12, 16_000).square().mean(dim=-1).sqrt()[:, 2:10]
    assert (level / level.median(dim=-1, keepdim=True).values - 1).abs().max() < 0.1


def test_a_model_states_its_shared_factors(trained):
    assert marl.load(trained[1]).shared_factors == ("timbre",)


def test_swapping_a_sound_with_itself_reconstructs_it(trained, small_dataset):
    model, clip = marl.load(trained[1]), small_dataset.waveforms([5])[0]
    assert torch.equal(model.swap(clip, 16_000, clip, 16_000), model.reconstruct(clip, 16_000))


def test_a_swap_decodes_private_features_of_one_sound_and_shared_features_of_the_other(trained, small_dataset):
    model = marl.load(trained[1])
    first, second = small_dataset.waveforms([5, 300])
    private, _ = model.encode(first, 16_000)
    _, shared = model.encode(second, 16_000)
    expected = model.log_mel.invert(model.decode(private, shared))[0]
    found = model.swap(first, 16_000, second, 16_000)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(found, model.reconstruct(first, 16_000), atol=1e-2)


def test_shared_features_are_averaged_by_window_length(trained, small_dataset, monkeypatch):
    model = marl.load(trained[1])
    content, style = tone(2.5), torch.cat([small_dataset.waveforms([300])[0], tone(0.25)])
    decoded = []
    monkeypatch.setattr(model, "decode", lambda *latents: decoded.append(latents) or torch.zeros(3, 64, 64))
    assert model.swap(content, 16_000, style, 16_000).shape == (40_000,)
    ((private, shared),) = decoded
    assert torch.equal(private, model.encode(content, 16_000)[0])
    first, second = model.encode(style, 16_000)[1]
    torch.testing.assert_close(shared, ((first + 0.25 * second) / 1.25).expand(3, -1), atol=1e-5, rtol=0)


def test_the_sound_of_unchanged_latents_is_the_reconstruction(trained):
    model, sound = marl.load(trained[1]), tone(2.3)
    synthesised = model.synthesise(*model.encode(sound, 16_000))
    assert synthesised.shape == (3 * model.log_mel.config.clip_samples,)
    assert torch.equal(synthesised[: len(sound)], model.reconstruct(sound, 16_000))


def test_swaps_average_channels_whose_order_is_named(trained):
    model = marl.load(trained[1])
    content, style = torch.randn(2, 20_000), torch.randn(2, 30_000)
    expected = model.swap(content.mean(0), 16_000, style.mean(0), 16_000)
    assert torch.equal(model.swap(content, 16_000, style, 16_000, channels_first=True), expected)
    assert torch.equal(model.swap(content.T, 16_000, style.T, 16_000, channels_first=False), expected)


def test_swaps_of_stereo_audio_without_an_order_are_rejected(trained):
    with pytest.raises(ValueError, match=mentions("style", "one recording", "(2, 100)", "channels_first")):
        marl.load(trained[1]).swap(torch.zeros(100), 16_000, torch.zeros(2, 100), 16_000)


def test_channels_are_averaged_in_either_order(trained):
    model = marl.load(trained[1])
    stereo = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0)) * 0.1
    expected = model.encode(stereo.mean(dim=0), 16_000)
    for waveform, channels_first in ((stereo, True), (stereo.T, False)):
        for ours, theirs in zip(model.encode(waveform, 16_000, channels_first), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        assert model.reconstruct(waveform, 16_000, channels_first).shape == (20_000,)
    assert torch.equal(model.encode(stereo[0], 16_000, False)[0], model.encode(stereo[0], 16_000)[0])


@pytest.mark.parametrize(
    ("shape", "channels_first", "remedy"),
    [
        ((4_000, 2), None, "channels_first=False"),
        ((4_000, 2), True, "channels_first=False"),
        ((2, 4_000), False, "True"),
    ],
)
def test_channels_in_the_other_order_are_refused(trained, shape, channels_first, remedy):
    with pytest.raises(ValueError, match=mentions("waveform", shape, remedy)):
        marl.load(trained[1]).encode(torch.zeros(shape), 16_000, channels_first)


def test_a_file_is_encoded_as_the_mean_of_its_channels(trained, tmp_path):
    model, path = marl.load(trained[1]), tmp_path / "stereo.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (70 * 22_050, 2)), 22_050, subtype="FLOAT")
    audio, sample_rate = soundfile.read(path, dtype="float32")
    expected = model.encode(torch.from_numpy(audio), sample_rate, channels_first=False)
    for ours, theirs in zip(model.encode_file(path), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_file_that_cannot_be_encoded_is_named(trained, tmp_path):
    path = tmp_path / "text.wav"
    path.write_text("no sound")
    with pytest.raises(ValueError, match=mentions(path, "decoded")):
        marl.load(trained[1]).encode_file(path)
    with pytest.raises(ValueError, match=mentions(tmp_path / "none.wav")):
        marl.load(trained[1]).encode_file(tmp_path / "none.wav")


@pytest.mark.parametrize(
    "convert",
    [
        lambda sound: (sound * 2**15).to(torch.int16),
        lambda sound: (sound.double() * 2**31).to(torch.int32),
        lambda sound: (sound * 2**15).to(torch.int16).numpy(),
        lambda sound: (sound * 2**15).to(torch.int16).numpy().astype(">i2"),
        lambda sound: sound.double().numpy(),
        lambda sound: sound.flip(0).numpy()[::-1],
        lambda sound: sound.double(),
    ],
)
def test_integers_and_arrays_are_encoded_at_their_full_scale(trained, convert):
    model, sound = marl.load(trained[1]), tone(1.0)
    expected = torch.cat(model.encode(sound, 16_000), dim=-1)
    found = torch.cat(model.encode(convert(sound), 16_000), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


def test_8_bit_audio_is_silent_at_128(trained):
    model = marl.load(trained[1])
    found = model.encode(torch.full((16_000,), 128, dtype=torch.uint8), 16_000)
    for ours, theirs in zip(found, model.encode(torch.zeros(16_000), 16_000), strict=True):
        assert torch.equal(ours, theirs)


def test_arrays_can_be_reconstructed_and_swapped(trained):
    model, sound = marl.load(trained[1]), tone(1.0)
    assert torch.equal(model.reconstruct(sound.numpy(), 16_000.0), model.reconstruct(sound, 16_000))
    swapped = model.swap(sound.numpy(), 16_000, sound.numpy(), np.int64(16_000))
    assert torch.equal(swapped, model.swap(sound, 16_000, sound, 16_000))


@pytest.mark.parametrize(
    ("waveform", "facts"),
    [
        (torch.zeros(0), ["not empty", "(0,)"]),
        (torch.tensor(0.5), ["dimensions", "()"]),
        (torch.zeros(2, 3, 4), ["shape", "(2, 3, 4)"]),
        (torch.tensor([0.0, float("nan")]), ["finite"]),
        (np.array([0.0, float("-inf")]), ["finite"]),
        (np.array([0.0, 1e300]), ["finite"]),
        (torch.tensor([0.0, -1e20]), ["finite", "full scale"]),
    ],
)
def test_invalid_audio_is_rejected(trained, waveform, facts):
    with pytest.raises(ValueError, match=mentions(*facts)):
        marl.load(trained[1]).encode(waveform, 16_000)


@pytest.mark.parametrize(
    ("waveform", "facts"),
    [
        ([0.0, 0.5], ["list", "array"]),
        ("sound.wav", ["str", "array"]),
        (np.array(["a"]), ["str"]),
        (np.zeros(10, np.int64), ["int64", "int16"]),
        (torch.zeros(10, dtype=torch.bool), ["bool", "float32"]),
        (torch.zeros(10, dtype=torch.complex64), ["complex64", "float32"]),
    ],
)
def test_other_types_than_audio_are_rejected(trained, waveform, facts):
    model = marl.load(trained[1])
    for call in (lambda: model.encode(waveform, 16_000), lambda: model.reconstruct(waveform, 16_000)):
        with pytest.raises(TypeError, match=mentions("waveform", *facts)):
            call()
    with pytest.raises(TypeError, match=mentions("style", *facts)):
        model.swap(tone(0.1), 16_000, waveform, 16_000)


@pytest.mark.parametrize("rate", [0, -16_000, 999, 10**12, 16_000.5, float("nan"), float("inf"), True])
def test_impossible_sample_rates_are_rejected(trained, rate):
    with pytest.raises(ValueError, match=mentions("sample_rate", "1,000", "768,000", str(rate))):
        marl.load(trained[1]).encode(torch.zeros(10), rate)


@pytest.mark.parametrize("rate", ["16000", None, 16_000j])
def test_sample_rates_that_are_no_numbers_are_rejected(trained, rate):
    with pytest.raises(TypeError, match=mentions("sample_rate", type(rate).__name__)):
        marl.load(trained[1]).encode(torch.zeros(10), rate)


def test_a_missing_file_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=mentions(folder / "model.safetensors")):
        marl.load(folder)


def test_an_unknown_field_of_the_description_is_named(folder):
    content = json.loads((folder / "config.json").read_text())
    content["config"]["latent"]["privat"] = 3
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=mentions("config.json", "config.latent.privat")):
        marl.load(folder)


def test_weights_of_the_wrong_shape_are_named(folder):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["encoder.mean.bias"] = torch.zeros(4)
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=mentions("weights", "encoder.mean.bias", "(5,)", "(4,)")):
        marl.load(folder)


def test_weights_of_another_dtype_are_rejected(folder):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["encoder.mean.bias"] = torch.zeros(5, dtype=torch.float64)
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=mentions("encoder.mean.bias", "float32", "float64")):
        marl.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 100])
def test_an_invalid_safetensors_file_is_named_and_never_executed(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=mentions(folder / "model.safetensors", "safetensors file")):
        marl.load(folder)


def write_manifest(folder, hashes):
    (folder / "manifest.json").write_text(json.dumps({"sha256": hashes}))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_differs_from_the_manifest_is_named(folder, name):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_manifest(folder, {file: hashlib.sha256(content).hexdigest() for file, content in files.items()})
    marl.load(folder)
    changed = bytearray(files[name])
    changed[-3] ^= 1
    (folder / name).write_bytes(changed)
    with pytest.raises(ValueError, match=mentions(folder / name, "changed", "SHA-256")):
        marl.load(folder)


@pytest.mark.parametrize("content", ["", "[]", '{"sha256": 3}', '{"sha256": {"model.safetensors": "0"}}'])
def test_a_manifest_without_checksums_is_named(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=mentions(folder / "manifest.json", "SHA-256", "config.json")):
        marl.load(folder)


def test_snapshots_survive_serialisation(trained):
    stack, folder = trained
    snapshot = stack.snapshot(0)
    metadata = ModelMetadata.model_validate_json((folder / "config.json").read_bytes())
    again = checkpoint.load_snapshot(metadata, checkpoint.model_bytes(snapshot), checkpoint.state_bytes(snapshot))
    for part in ("parameters", "first_moment", "second_moment"):
        for name, value in getattr(snapshot, part).items():
            assert torch.equal(getattr(again, part)[name], value)
