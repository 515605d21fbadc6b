"""Animations."""

import numpy as np
import pytest
import xarray as xr
from matplotlib import animation
from PIL import Image

from gflow.errors import InputError
from gflow.plots import animations
from gflow.plots.animations import animate_spectrum, at_time, save_animation

VALUES = np.array([[0.1, 0.05], [0.9, 0.1], [1.0, 0.4]])
DS = xr.Dataset({"singular_values": (("time", "mode"), VALUES)}, {"time": [0.0, 1.0, 3.0]})


def test_a_gif_has_the_frames_of_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(animations, "_SECONDS", 4 / 12)
    monkeypatch.setattr(animations, "_DPI", 30)
    name, animated = animate_spectrum(DS, title="modes")
    save_animation(animated, tmp_path / "file", kind="gif")
    with Image.open(tmp_path / "file") as image:
        assert image.format == "GIF"
        assert image.n_frames == 4
    assert name == "singular_values"
    (axes,) = animated._fig.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([1.0, 0.4])
    assert axes.get_title() == "modes   t = 3"


def test_values_between_two_times_are_on_the_line():
    time = DS["time"].values
    for t in (0.0, 0.3, 1.0, 2.5, 3.0):
        expected = [np.interp(t, time, VALUES[:, i]) for i in range(2)]
        np.testing.assert_allclose(at_time(time, VALUES, t), expected)
    np.testing.assert_array_equal(at_time(time[:1], VALUES[:1], 0.0), VALUES[0])


def test_what_cannot_be_animated_is_refused_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no spectrum 'singular_value'.*did you mean"):
        animate_spectrum(DS, ["singular_value"])
    with pytest.raises(InputError, match=r"needs one of singular_values, .* choose another"):
        animate_spectrum(xr.Dataset())
    monkeypatch.setattr(animation.FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(InputError, match="mp4 needs the program ffmpeg, which was not found"):
        save_animation(None, tmp_path / "file", kind="mp4")
    assert not (tmp_path / "file").exists()
