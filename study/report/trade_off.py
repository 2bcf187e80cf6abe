"""The trade-off between the objectives."""

from study.report.material import Material, MissingError, Picture
from study.trade_off import trade_off_chart, trade_off_data

__all__ = ["trade_off_picture"]


def trade_off_picture(material: Material) -> Picture:
    """The plot of `marl-study plot`."""
    if (trade_off_data(material.results)["trial"] < 0).all():
        raise MissingError("no trial has values of both objectives yet")
    return Picture(
        title="Trade-off",
        caption=(
            f"Each point is a trial, a mean over replicates, and {material.spread}. The dashed line is the front: the "
            "complete trials, by their numbers, that no other beats in both objectives."
        ),
        chart=trade_off_chart(material.results),
    )
