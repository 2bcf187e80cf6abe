import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from marl.data import Factor
from marl.evaluation import information_columns
from study.charts.style import MissingDataError
from study.charts.trial import (
    MAX_CLIPS,
    factor_classes,
    mutual_information_chart,
    mutual_information_data,
    readings_chart,
    readings_data,
    umap_chart,
    umap_data,
)
from study.report.figures import mutual_information_figure, readings_figure
from tests.messages import assert_mentions, mentions
from tests.study.report.studies import FACTORS, all_clips, class_of_clips, context_of, separated, trial_of, write_study


def cells(latents):
    data = mutual_information_data(pd.DataFrame(latents), FACTORS)
    return data.set_index(["factor", "subspace", "latent"])["nmi"].sort_index()


def test_a_latent_equal_to_a_factor_has_all_information_about_it_and_none_about_others():
    found = cells(separated())
    assert len(found) == 9
    home = {("frequency", "private", 0), ("amplitude", "private", 1), ("timbre", "shared", 0)}
    for cell, nmi in found.items():
        assert nmi == pytest.approx(float(cell in home), abs=1e-12), cell


def test_numbers_are_those_of_the_studys_own_metric():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(640, 5)).astype(np.float32)
    noise[:, 1] += class_of_clips(0)
    names = ["private/0", "private/1", "private/2", "shared/0", "shared/1"]
    found = cells(all_clips() | dict(zip(names, noise.T, strict=True)))
    classes = torch.tensor(np.stack([class_of_clips(factor) for factor in range(3)], axis=1))
    metrics = information_columns(
        torch.from_numpy(noise)[None], torch.ones(1, 5), 3, classes, [factor.name for factor in FACTORS], ["timbre"]
    )
    for factor in FACTORS:
        for subspace in ("private", "shared"):
            assert found[factor.name, subspace].max() == pytest.approx(metrics[f"nmi/{factor.name}/{subspace}"].item())


def test_no_latent_has_information_about_a_factor_of_one_class():
    latents = separated() | {"factor/timbre": ["sine"] * 640}
    assert (cells(latents)["timbre"] == 0).all()


def test_numbers_of_another_machine_are_taken_for_the_nearest_value():
    factor = FACTORS[1]
    values = pd.DataFrame({"factor/frequency": np.array(factor.values) * (1 + 1e-12)})
    assert factor_classes(values, factor).tolist() == list(factor.class_of_value)


def test_class_names_do_not_depend_on_the_order_of_values():
    factor = Factor("timbre", ("b", "a", "c"), (0, 1, 1))
    assert factor_classes(pd.DataFrame({"factor/timbre": ["a", "b", "c", "a"]}), factor).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda latents: latents.drop(columns="factor/timbre"), ["timbre", "clips"]),
        (lambda latents: latents.assign(**{"factor/timbre": "organ"}), ["timbre", "'organ'"]),
        (lambda latents: latents[[c for c in latents if c.startswith("factor/")]], ["no latents"]),
    ],
)
def test_latents_that_cannot_be_read_are_named(change, facts):
    with pytest.raises(MissingDataError, match=mentions(*facts)):
        mutual_information_data(change(pd.DataFrame(separated())), FACTORS)


def test_subspaces_stand_apart_and_cells_have_their_numbers_where_they_fit():
    home = {"timbre": "shared", "frequency": "private", "amplitude": "private"}
    data = mutual_information_data(pd.DataFrame(separated()), FACTORS)
    chart = json.loads(mutual_information_chart(data, home).to_json())
    assert [part["title"]["text"] for part in chart["hconcat"]] == ["private", "shared"]
    assert [layer["mark"]["type"] for layer in chart["hconcat"][0]["layer"]] == ["rect", "text"]
    wide = pd.concat([data.assign(latent=latent) for latent in range(30)])
    chart = json.loads(mutual_information_chart(wide, home).to_json())
    assert [layer["mark"]["type"] for layer in chart["hconcat"][0]["layer"]] == ["rect"]


def test_the_picture_is_of_seed_0_of_the_best_trial_of_the_front(tmp_path, tiny):
    trials = [trial_of([4.0, 4.0], [0.2, 0.4]), trial_of([5.0, 5.0], [0.6, 0.8]), trial_of([6.0, 6.0], [0.1, 0.1])]
    store = write_study(tmp_path, tiny, trials)
    context = context_of(store)
    assert (int(context.example["trial"]), context.example_metric) == (1, "disentanglement/separation")
    with pytest.raises(MissingDataError, match=mentions("latents", "trial 1", "seed 0")):
        mutual_information_figure(context)
    store.write_latents(1, 1, separated())
    with pytest.raises(MissingDataError, match=mentions("latents", "trial 1", "seed 0")):
        mutual_information_figure(context_of(store))
    store.write_latents(1, 0, separated())
    assert "trial 1, seed 0" in mutual_information_figure(context_of(store)).caption


def test_a_study_without_an_objective_of_disentanglement_shows_the_best_of_its_last_one(tmp_path, tiny):
    tiny["objectives"] = {"fidelity/log_mel_rmse_db": "min"}
    store = write_study(tmp_path, tiny, [trial_of([5.0, 5.0], [0.9, 0.9]), trial_of([4.0, 4.0], [0.2, 0.4])])
    context = context_of(store)
    assert int(context.example["trial"]) == 1


@pytest.mark.slow
def test_the_largest_value_of_a_subspace_equals_the_reported_metric(finished):
    reports = finished.reports()
    reports = reports[(reports["seed"] == 0) & (reports["step"] == 30)].set_index("trial")
    for trial in reports.index:
        found = cells(finished.store.read_latents(trial, 0)).groupby(["factor", "subspace"]).max()
        for (factor, subspace), nmi in found.items():
            assert nmi == pytest.approx(reports.loc[trial, f"nmi/{factor}/{subspace}"], abs=1e-9)


def test_each_subspace_has_a_row_and_each_factor_a_column_with_its_kind_of_colours(flat_maps):
    chart = json.loads(umap_chart(umap_data(pd.DataFrame(separated()))).to_json())
    colours = [column["vconcat"][0]["encoding"]["color"] for column in chart["concat"]]
    assert [len(column["vconcat"]) for column in chart["concat"]] == [2, 2, 2]
    assert [colour["title"] for colour in colours] == ["timbre", "frequency (Hz)", "amplitude (1 is full scale)"]
    assert [colour["type"] for colour in colours] == ["nominal", "quantitative", "quantitative"]
    assert chart["resolve"]["scale"]["color"] == "independent"


def test_a_map_has_the_first_clips_of_the_sample(flat_maps):
    latents = pd.concat([pd.DataFrame(separated())] * 2, ignore_index=True)
    data = umap_data(latents)
    assert data["subspace"].value_counts().to_dict() == {"private": MAX_CLIPS, "shared": MAX_CLIPS}
    assert data["x"].tolist()[:MAX_CLIPS] == latents["private/0"].tolist()[:MAX_CLIPS]


def test_few_clips_make_no_map(flat_maps):
    with pytest.raises(MissingDataError, match=mentions("UMAP", "20 clips", 3)):
        umap_data(pd.DataFrame(separated()).head(3))


def test_a_sample_without_latents_makes_no_map(flat_maps):
    latents = pd.DataFrame(separated())
    with pytest.raises(MissingDataError, match=mentions("no latents")):
        umap_data(latents[["clip", "factor/timbre"]])


@pytest.mark.slow
def test_umap_keeps_clusters_apart_and_comes_out_the_same_again():
    rng = np.random.default_rng(0)
    cluster = np.repeat([0, 1], 50)
    frame = pd.DataFrame(
        {
            "clip": np.arange(100),
            "factor/timbre": np.where(cluster == 0, "sine", "square"),
            "private/0": (20 * cluster + rng.normal(size=100)).astype(np.float32),
            "shared/0": np.zeros(100, np.float32),
        }
    )
    first, again = umap_data(frame), umap_data(frame)
    pd.testing.assert_frame_equal(first, again)
    assert "umap" in sys.modules
    private = first[first["subspace"] == "private"][["x", "y"]].to_numpy()
    centres = [private[cluster == index].mean(axis=0) for index in (0, 1)]
    spread = max(np.abs(private[cluster == index] - centres[index]).max() for index in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > spread
    assert np.isfinite(first[["x", "y"]].to_numpy()).all()


CLASSES = {"timbre": 4, "frequency": 20, "amplitude": 4}
HOME = {"timbre": "shared", "frequency": "private", "amplitude": "private"}


def test_bars_are_the_means_and_error_bars_their_intervals(tmp_path, tiny):
    trial = trial_of([4.0, 4.0], [0.2, 0.4])
    trial["metrics"] |= {"probe/timbre/shared": [0.9, 0.7], "information/timbre/shared": [0.6, 0.5]}
    trial["metrics"]["linear_information/timbre/shared"] = [0.3, 0.2]  # has no bar
    context = context_of(write_study(tmp_path, tiny, [trial]))
    untrained = {"probe/timbre/shared": 0.4, "information/timbre/shared": 0.1}
    data = readings_data(context.example, CLASSES, untrained).set_index(["factor", "subspace", "reader"])
    strong, lightweight = (data.loc["timbre", "shared", reader] for reader in ("strong", "lightweight"))
    assert strong["share"] == pytest.approx(0.55)
    half_of_sd = stats.t.ppf(0.95, df=1) / np.sqrt(2)
    spread = half_of_sd * np.std([0.6, 0.5], ddof=1)
    assert (strong["low"], strong["high"]) == (pytest.approx(0.55 - spread), pytest.approx(0.55 + spread))
    assert strong["untrained"] == pytest.approx(0.1)
    # Chance is 0 and perfect is 1.
    assert lightweight["share"] == pytest.approx((0.8 - 0.25) / 0.75)
    spread = half_of_sd * np.std([0.9, 0.7], ddof=1) / 0.75
    assert lightweight["high"] - lightweight["share"] == pytest.approx(spread)
    assert lightweight["untrained"] == pytest.approx(0.15 / 0.75)
    assert data.loc["frequency", "private", "lightweight"]["share"] == pytest.approx((0.5 - 1 / 20) / (19 / 20))
    assert len(data) == 3 * 2 * 2


def test_a_trial_that_was_measured_by_an_earlier_version_has_bars_of_the_lightweight_reader_alone():
    data = readings_data(pd.Series({"trial": 0, "probe/timbre/shared": 0.95}), CLASSES, {})
    assert data["reader"].tolist() == ["lightweight"]
    assert data["untrained"].isna().all()


def test_the_classes_are_those_of_the_data(tmp_path, tiny):
    context = context_of(write_study(tmp_path, tiny, [trial_of([4.0, 4.0], [0.2, 0.4])]))
    assert {factor.name: factor.classes for factor in context.factors} == CLASSES
    assert context.factors == FACTORS
    chart = json.loads(readings_figure(context).chart.to_json())
    panels = chart["concat"]
    assert [panel["title"]["text"] for panel in panels] == list(CLASSES)
    assert_mentions(panels[0]["title"]["subtitle"], "shared subspace")


def test_a_single_replicate_has_no_error_bars_and_the_caption_says_so(tmp_path, tiny):
    tiny["replicates"] = 1
    picture = readings_figure(context_of(write_study(tmp_path, tiny, [trial_of([4.0], [0.2])])))
    assert_mentions(picture.caption, "no error bars", "replicate")


def test_the_untrained_network_is_shown_if_it_was_evaluated(tmp_path, tiny):
    store = write_study(tmp_path, tiny, [trial_of([4.0, 4.0], [0.2, 0.4])])
    assert "untrained" not in readings_figure(context_of(store)).caption
    store.write_baselines({"untrained": {"probe/timbre/shared": 0.3}, "replicates": 2})
    assert_mentions(readings_figure(context_of(store)).caption, "magenta", "untrained")


def test_a_trial_that_nothing_was_read_from_is_named():
    with pytest.raises(MissingDataError, match=mentions("trial 3", "information/", "probe/")):
        readings_data(pd.Series({"trial": 3}), CLASSES, {})


def test_bars_above_one_and_below_zero_widen_the_axis():
    row = pd.Series({"trial": 0, "information/timbre/shared": 0.95, "information/timbre/shared/ci": 0.15})
    row = pd.concat([row, pd.Series({"information/timbre/private": 0.1, "information/timbre/private/ci": 0.3})])
    chart = json.loads(readings_chart(readings_data(row, CLASSES, {}), HOME).to_json())
    scale = chart["concat"][0]["layer"][0]["encoding"]["y"]["scale"]
    assert scale["domain"] == [pytest.approx(-0.2), pytest.approx(1.1)]


def test_each_factor_has_a_bar_for_each_subspace_and_reader():
    row = pd.Series({"trial": 0, "information/timbre/shared": 0.95, "probe/timbre/shared": 0.9})
    chart = json.loads(readings_chart(readings_data(row, CLASSES, {}), HOME).to_json())
    (bars, *_) = chart["concat"][0]["layer"]
    assert bars["encoding"]["xOffset"] == {"field": "reader", "sort": ["strong", "lightweight"], "type": "nominal"}
    assert bars["encoding"]["opacity"]["scale"] == {"domain": ["strong", "lightweight"], "range": [1.0, 0.45]}
