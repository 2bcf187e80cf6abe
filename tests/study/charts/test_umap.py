import json
import sys

import numpy as np
import pandas as pd
import pytest

from study.charts.style import MissingDataError
from study.charts.umap import MAX_CLIPS, umap_chart, umap_data
from tests.messages import mentions
from tests.study.report.studies import separated


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
