"""Settings on drawn data: what they refuse, and that the message names the option to change."""

import pytest

from gflow.errors import InputError
from gflow.scenario import load_scenario


@pytest.mark.parametrize(("key", "value"), [("classes", ("1", "2")), ("fewer_samples", True)])
def test_keys_of_data_from_files_are_refused(key, value):
    with pytest.raises(InputError, match=f"{key}.* must be left out, as the data are drawn"):
        load_scenario("max-margin", {key: value})


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("two-by-two", {"init_scale": 1e-300}, "init_scale 1e-300 it is not; use one nearer to 1"),
        ("two-by-two", {"init_scale": 1e200}, r"init_scale 1e\+200 it is not; use one nearer to 1"),
        ("kernel-to-rich", {"samples": 1, "inputs": 1}, "half of samples .* use one input more"),
    ],
)
def test_the_message_names_the_option_to_change(name, keys, message):
    scenario = load_scenario(name, keys)
    with pytest.raises(InputError, match=message):
        scenario.run(lambda stage, t_end: None)


def test_the_help_of_max_margin_says_on_which_clock_its_path_ends():
    description = type(load_scenario("max-margin")).model_fields["t_end"].description
    assert "clock tau" in description
