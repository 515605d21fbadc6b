"""Options made from a model's fields, durations, and the options of sweeps."""

import click
import pytest

from gflow.cli.options import Duration, model_options, output_options, sweep_options
from gflow.scenario import read_scenario, setting_model


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90.0), ("1.5m", 90.0), ("2h", 7200.0), ("1:30", 90.0), ("2-01:00:00", 176400.0)],
)
def test_a_duration_is_read_in_every_notation(given, seconds):
    assert Duration().convert(given, None, None) == seconds


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "1:2:3:4", "inf", "1e3", ""])
def test_other_durations_are_refused(value):
    with pytest.raises(click.BadParameter, match="must be a"):
        Duration().convert(value, None, None)


def options_of(name):
    keys = read_scenario(name)
    return {o.name: o for o in model_options(setting_model(keys["setting"]), keys)}


def test_a_field_is_an_option_with_type_help_and_default():
    options = options_of("kernel")
    assert options["t_end"].opts == ["--t-end"]
    assert options["t_end"].metavar == "NUMBER"
    assert options["estimate_error"].secondary_opts == ["--no-estimate-error"]
    assert options["step_sizes"].metavar == "NUMBER,..."
    assert "[default: 0]" in options["seed"].help
    assert all(option.default is None for option in options.values())  # the model has them


def test_lists_are_separated_by_commas():
    option = options_of("kernel")["step_sizes"]
    assert option.type.convert("0.1, 0.05", option, None) == (0.1, 0.05)
    with pytest.raises(
        click.BadParameter, match="'x' is not a valid float; separate numbers by commas"
    ):
        option.type.convert("0.1,x", option, None)


def test_one_number_or_one_for_each_layer():
    option = options_of("network")["init_scale"]
    assert option.metavar == "NUMBER[,...]"
    assert option.type.convert("3, 0.1", option, None) == (3.0, 0.1)
    assert option.type.convert("3", option, None) == 3.0
    with pytest.raises(click.BadParameter, match="'' is not a valid float"):
        option.type.convert("3,", option, None)


@pytest.mark.parametrize("options", [output_options(), sweep_options()])
def test_every_option_has_a_help_text(options):
    assert all(option.help for option in options)
    assert len({option.name for option in options}) == len(options)
