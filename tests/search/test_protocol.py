import pytest

from zipasr.search.config import DecodingConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beam_size", 0),
        ("max_sym_per_frame", 0),
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
    ],
)
def test_impossible_settings_name_the_flag(field, value):
    with pytest.raises(ValueError, match="--" + field.replace("_", "-")):
        DecodingConfig(**{field: value})
