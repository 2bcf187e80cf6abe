import pytest
from pydantic import ValidationError

from marl.base_config import BaseConfig


class Config(BaseConfig):
    flag: bool = False
    count: int = 1
    at_most: int | None = None
    share: float = 0.5
    memory: float | str = "auto"
    sizes: tuple[int, ...] = ()


@pytest.mark.parametrize(
    "fields",
    [
        {"flag": 1},
        {"flag": "yes"},
        {"count": True},
        {"count": "3"},
        {"at_most": True},
        {"at_most": "3"},
        {"share": True},
        {"memory": True},
        {"sizes": [True, 2]},
        {"sizes": ["1"]},
    ],
)
def test_values_of_another_type_are_refused_with_the_received_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValidationError, match=f"must be .*got {(value[0] if isinstance(value, list) else value)!r}"):
        Config(**fields)


def test_values_of_the_type_are_accepted():
    config = Config(flag=True, count=2, at_most=3, share="1e-3", memory="auto", sizes=[1, 2])
    assert (config.at_most, config.share, config.sizes) == (3, 1e-3, (1, 2))
    assert Config(at_most=None).at_most is None
