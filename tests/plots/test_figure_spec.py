"""A declared figure is data: its name, its variables and the function that draws it."""

from gflow.plots.figure_spec import FigureSpec, figure_spec


def test_declaration_keeps_the_function_and_what_it_needs():
    def draw(ds, *axes):
        axes[0].plot(ds["x"])

    spec = figure_spec("two panels", ["x", "y"], panels=2)(draw)
    assert isinstance(spec, FigureSpec)
    assert (spec.name, spec.variables) == ("two panels", ("x", "y"))
    assert (spec.panels, spec.draw) == (2, draw)


def test_a_figure_has_one_panel_by_default():
    assert figure_spec("one panel", ["x"])(lambda ds, axes: None).panels == 1
