"""The benchmarks run: every problem is built and solved once by every method."""

import importlib.machinery
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gflow
from tests.helpers import slow_except

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """Import the files of benchmarks by name, as the scripts do."""
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_every_page_of_results_has_a_title():
    pages = sorted((BENCHMARKS / "results").glob("*.md"))
    assert len(pages) > 5
    assert [page.name for page in pages if not page.read_text().startswith("# ")] == []


@pytest.mark.slow
def test_work_precision_runs_on_every_problem_and_method():
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / "work_precision.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("kernel1797", "tanh3000", "plateau"):
        assert f"{name}: " in done.stdout
    for name in ("gflow auto", "gflow rkc2", "torchdiffeq dopri5", "scipy LSODA"):
        assert f"{name}: ok error" in done.stdout


def test_matched_costs_are_interpolated_in_logarithms(benchmarks):
    from matched_error import gradient_equivalents, matched
    from measuring import Row

    rows = [
        Row("p", "m", "peer", 1e-2, rhs=100, jvp=0, error=1e-2),
        Row("p", "m", "peer", 1e-3, rhs=90, jvp=0, error=3e-2),  # costs more and is worse
        Row("p", "m", "peer", 1e-4, rhs=400, jvp=0, error=1e-4),
    ]
    result = matched(rows, 1e-3, gradient_equivalents)
    assert result.mark == ""
    assert result.value == pytest.approx(200.0)
    assert matched(rows[2:], 1e-3, gradient_equivalents) == (400.0, "≤")
    assert matched(rows, 1e-5, gradient_equivalents) is None
    rows.append(Row("p", "m", "peer", 1e-5, "projected", rhs=5000, jvp=0))
    assert matched(rows, 1e-5, gradient_equivalents) == (5000.0, ">")


def matched_rows(problem, solve, certified, theirs, peer="CVODE gmres(30)"):
    """Return rows of `auto` and a peer that reach errors of 1e-3 and 1e-6."""
    from measuring import Row

    rows = []
    for error in (1e-2, 1e-3, 1e-6):
        counts = {"rhs": 10, "jvp": 0, "error": error}
        ours = {"seconds": [certified], "inner_seconds": [solve]}
        rows.append(Row(problem, "gflow auto", "gflow", 1e-6, **counts, **ours))
        rows.append(Row(problem, peer, "peer", 1e-6, **counts, seconds=[theirs]))
        solve, certified, theirs = 2 * solve, 2 * certified, 2 * theirs
    return rows


@pytest.mark.parametrize(("solve", "met"), [(0.3, (True, True)), (0.36, (True, False))])
def test_seconds_of_the_solve_are_compared_and_the_certificate_is_beside(benchmarks, solve, met):
    from against_peers import against_peers

    rows = matched_rows("completion", solve, 0.9, 0.4)
    found = [r for r in against_peers(rows) if "W = UUᵀ" in r.subject and "CVODE" in r.subject]
    assert tuple(r.met for r in found) == met
    assert [r.bound for r in found] == ["at most 1", "at most 0.8"]
    for requirement in found:
        assert f"`auto` {solve / 0.4:.2f} (with the certificate 2.25;" in requirement.measured


def test_every_comparison_with_compilation_must_be_ahead(benchmarks):
    from against_peers import against_peers

    rows = matched_rows("completion", 0.3, 0.9, 4.0, "diffrax Tsit5, cold")
    rows += matched_rows("plateau", 0.3, 0.9, 0.2, "diffrax Dopri8, cold")
    found = {r.subject: r for r in against_peers(rows)}
    requirement = found["seconds against diffrax with its compilation, all problems"]
    assert not requirement.met
    assert "worst of 4: `auto` 1.50" in requirement.measured
    assert "on plateau" in requirement.measured
    # A cold method is no peer of the comparisons that are warm.
    warm = [r for r in found.values() if "W = UUᵀ" in r.subject and "Tsit5" in r.subject]
    assert {r.met for r in warm} == {False}


def test_errors_are_compared_at_the_same_tolerance(benchmarks):
    from against_peers import against_peers

    rows = matched_rows("plateau", 0.3, 0.9, 0.2)[:2]
    for ours, met in ((1e-3, True), (1.0, False)):
        rows[0].error, rows[1].error = ours, 1e-2
        found = [r for r in against_peers(rows) if r.subject.endswith("error at rtol 1e-6")]
        assert [r.met for r in found] == [met]


def test_tables_have_both_seconds_and_name_the_fastest(benchmarks):
    from reporting import report

    lines = report(matched_rows("completion", 0.3, 0.9, 0.1)).splitlines()
    header = next(line for line in lines if line.startswith("| method"))
    assert header.count("| solve, s | with certificate, s |") == 2
    assert (
        "| gflow auto | ≤ 10 (1) | 0.6 (1) | 1.8 (3) | ≤ 10 (1) | 1.2 (1) | 3.6 (3) | – |" in lines
    )
    peer = "| CVODE gmres(30) | ≤ 10 (1) | 0.2 (0.33) | – | ≤ 10 (1) | 0.4 (0.33) | – | – |"
    assert peer in lines
    fastest = "| completion | 1e-03 | CVODE gmres(30) | 0.2 | 0.6 (3) | 1.8 (9) | auto: 0.6 (3) |"
    assert fastest in lines


def test_gflow_is_stopped_at_the_limit_of_its_solve(benchmarks):
    from measuring import measure
    from peers import gflow_methods
    from problems import non_stiff

    method = next(m for m in gflow_methods() if m.name == "gflow tsit5")
    assert measure(method, non_stiff(), 1e-3, 60.0).status == "ok"
    assert measure(method, non_stiff(), 1e-3, 1e-5).status.startswith("out of time")


def test_peer_that_is_not_installed_is_not_run(benchmarks, monkeypatch):
    from measuring import measure
    from peers_sundials import sundials_methods
    from problems import non_stiff

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for method in sundials_methods():
        status = measure(method, non_stiff(), 1e-3, 10.0).status
        assert status.startswith("not run: s")
        assert "is not installed" in status


@pytest.mark.slow
def test_cold_rows_have_the_seconds_of_the_compilation(benchmarks):
    pytest.importorskip("diffrax")
    from measuring import measure
    from peers_jax import cold_rows, jax_methods
    from problems import non_stiff

    problem = non_stiff()
    warm = measure(jax_methods()[0], problem, 1e-3, 60.0)
    (cold,) = cold_rows([warm], problem)
    assert cold.method == "diffrax Tsit5, cold"
    assert (cold.error, cold.rhs) == (warm.error, warm.rhs)
    assert cold.wall > warm.wall


@pytest.mark.slow
def test_ensemble_benchmark_matches_errors(benchmarks):
    from ensemble import REFERENCE, rows, table

    measured = rows(members=4, sample=2, repeats=1)
    level = next(row.error for row in measured if row.method == REFERENCE)
    ours = [row for row in measured if row.method == "gflow auto" and row.answered]
    assert ours[-1].error <= level
    assert ours[-1].wall > ours[-1].solve > 0
    assert f"At error {level:.1e}" in table(measured)


def test_failing_solver_is_a_row_with_its_reason(benchmarks):
    from measuring import Method, measure
    from problems import non_stiff

    def fails(problem, rtol, progress):
        raise ZeroDivisionError("no luck\nsecond line")

    row = measure(Method("m", fails), non_stiff(), 1e-3, 10.0)
    assert row.status == "ZeroDivisionError: no luck"
    assert not row.answered


def test_cost_of_a_solve_out_of_time_is_extrapolated(benchmarks):
    from measuring import Method, measure
    from problems import non_stiff

    def endless(problem, rtol, progress):
        progress.rhs, progress.t = 10, 0.25
        while True:
            pass

    row = measure(Method("m", endless, explicit=True), non_stiff(), 1e-3, 0.1)
    assert row.status == "projected"
    assert row.rhs == 40
    assert row.wall >= 0.4


def test_evaluations_of_gflow_are_counted(benchmarks):
    """The evaluations in ``stats`` are the calls of the flow."""
    from overhead import Tiny

    calls = 0

    class Counting(Tiny):
        def __call__(self, t, y):
            nonlocal calls
            calls += 1
            return super().__call__(t, y)

    y0 = torch.zeros(2, dtype=torch.float64)
    for method in ("dopri5", "scipy:LSODA"):
        calls = 0
        path = gflow.integrate(Counting(), y0, (0.0, 3.0), method, 1e-5, 1e-8)
        assert path.stats.rhs_evals <= calls <= path.stats.rhs_evals + 60  # the certificate's


def test_fixed_steps_have_their_orders_and_are_counted(benchmarks):
    from rk4 import TIMES, euler, fixed_steps, runge_kutta

    H = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    flow = gflow.KernelFlow(H, torch.ones(2, dtype=torch.float64))
    y0 = torch.zeros(2, dtype=torch.float64)
    t_end = 0.25 * TIMES  # λ_max = 4: one step of 1/λ_max at each time
    assert fixed_steps(flow, y0, t_end, euler, 1.0)[1] == TIMES
    assert fixed_steps(flow, y0, t_end, euler, 0.25)[1] == 4 * TIMES
    exact = flow.exact(torch.tensor([1.0]).double(), y0)[0]
    for step, order in ((euler, 1), (runge_kutta, 4)):
        wrong = [
            float((fixed_steps(flow, y0, 1.0, step, h)[0] - exact).norm()) for h in (0.02, 0.01)
        ]
        assert wrong[0] / wrong[1] == pytest.approx(2**order, rel=0.05)


@pytest.mark.slow
def test_sharpness_along_a_flow_is_accurate_and_its_products_are_counted(benchmarks):
    from problems import tanh1000
    from sharpness import TIMES, accuracy, ratios, solve

    problem = tanh1000()
    alone, both = solve(problem, 1.0, False), solve(problem, 1.0, True)
    assert both.rhs == alone.rhs
    assert alone.products == 0
    assert TIMES <= both.products < 4 * TIMES
    assert ratios([alone], [both])[0] == (both.rhs + 2 * both.products) / alone.rhs
    assert float(accuracy(problem, 1.0, both.sharpness).max()) < 0.02


@pytest.mark.slow
def test_netcdf_benchmark_runs(benchmarks, monkeypatch, capsys):
    import netcdf

    monkeypatch.setattr(netcdf, "LARGE", (10, 100))
    monkeypatch.setattr(sys, "argv", ["netcdf.py", "--repeats", "1"])
    assert netcdf.main() in (0, 1)  # as the times are
    assert "| deep-linear, the result of a run | 22 |" in capsys.readouterr().out


def test_scripts_are_in_the_readme_and_shadow_no_library():
    """The folder of a script precedes the libraries on the path."""
    readme = (BENCHMARKS / "README.md").read_text()
    scripts = [p for p in BENCHMARKS.glob("*.py") if "argparse.ArgumentParser" in p.read_text()]
    assert len(scripts) >= 11
    for script in scripts:
        assert f"python benchmarks/{script.name}" in readme
    elsewhere = [path for path in sys.path if Path(path or ".").resolve() != BENCHMARKS.resolve()]
    for file in BENCHMARKS.glob("*.py"):
        assert importlib.machinery.PathFinder.find_spec(file.stem, elsewhere) is None, file


def test_stored_table_of_requirements_agrees_with_the_stored_rows(benchmarks):
    from requirements import requirements_table
    from rows import load

    report = (BENCHMARKS / "results" / "solvers.md").read_text()
    tables = requirements_table(load()), report[report.index("## Requirements") :]
    computed, stored = (
        [line.split(" | ") for line in table.splitlines() if line.startswith("|")]
        for table in tables
    )
    assert len(stored) > 20
    for row, stored_row in zip(computed, stored, strict=True):
        # The measured values are rounded in the file of rows.
        assert (row[:2], row[-1]) == (stored_row[:2], stored_row[-1])


@pytest.mark.parametrize("method", slow_except(["tsit5", "bdf", "rkc2"], "bdf"))
def test_a_solve_of_a_large_state_keeps_few_states(benchmarks, monkeypatch, method):
    """The allocations of torch are counted, as in the table of a million parameters."""
    from memory import BOUNDS, measure

    from gflow.linalg import large
    from gflow.solvers.loop import system

    monkeypatch.setattr(system, "_SMALL", 0)
    monkeypatch.setattr(large, "LARGE", 10_000)
    row = measure(method, 10_000, torch.float64)
    assert row.evaluation < row.product < row.peak
    assert 5 < round(row.states, 1) <= BOUNDS[method]
    assert sum(row.holders.values()) == pytest.approx(row.peak, abs=0.1)


@pytest.mark.parametrize("method", slow_except(["tsit5", "rkc2"], "tsit5"))
def test_the_host_waits_once_a_step_and_once_an_estimate_of_growth(benchmarks, method):
    from gpu import ensemble
    from host_reads import counted

    device = torch.device("cpu")
    flow, Y0 = ensemble(3, device, torch.float64)
    gflow.integrate(flow, Y0, [0.0, 0.1], method, 1e-6, 1e-9)  # fills what is computed once
    with counted(device) as reads:
        path = gflow.integrate(flow, Y0, [0.0, 0.2], method, 1e-6, 1e-9)
    assert reads.steps >= path.stats.accepted / 3
    assert reads.in_steps == reads.steps
    of_radius = 0 if method == "tsit5" else 30  # six of the spectral radius: once a product
    assert 0 < reads.in_estimates <= reads.estimates + of_radius
    at_start = 6
    assert reads.in_loop <= reads.in_steps + reads.in_estimates + at_start


def test_results_on_a_device_are_compared_with_the_cpu(benchmarks, monkeypatch):
    import device_differences as compared

    monkeypatch.setattr(compared, "METHODS", ("tsit5", "bdf"))
    device = torch.device("cpu")
    found = [*compared.differences(device, compared.Clock(device, 1.0), [gflow.FactorFlow])]
    assert [value for _, _, value in found] == [0.0, 0.0, 0.0, None] * 2  # bdf takes one start
    assert [*compared.differences(device, compared.Clock(device, -1.0), [gflow.FactorFlow])] == [
        ("FactorFlow", compared.OUT_OF_TIME, None)
    ]
    kernels = [*compared.kernel_differences(device, 8)]
    assert len(kernels) == 6
    assert all(value == 0.0 for _, _, value in kernels)
    # Another flow in place of the same one on the device.
    flow, y0 = gflow.FactorFlow.example()
    other = gflow.FactorFlow(gflow.losses.SquaredDistance(torch.eye(len(y0)).double()))
    examples = itertools.cycle([(flow, y0), (other, y0)])
    monkeypatch.setattr(gflow.FactorFlow, "example", lambda: next(examples))
    found = [*compared.differences(device, compared.Clock(device, 1.0), [gflow.FactorFlow])]
    values = [value for _, _, value in found if value is not None]
    assert len(values) == 6
    assert min(values) > 1e-2


@pytest.mark.slow
def test_the_gpu_script_runs_on_the_cpu(benchmarks, monkeypatch, capsys):
    import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py", "--small", "--flows", "FactorFlow", "KernelFlow"])
    assert gpu.main() == 0
    printed = capsys.readouterr().out
    for part in ("| FactorFlow | 0.0e+00 | 22 | 2 |", "| tsit5 |", "gflow auto", "ntk of 200"):
        assert part in printed
    assert "Differs" not in printed


def test_live_memory_counts_storages_until_they_are_freed(benchmarks):
    from live_memory import LiveMemory

    known = torch.zeros(100, dtype=torch.float64)
    with LiveMemory() as memory:
        view = known[:50]  # no memory of its own
        a, b = known + 1, view * 2
        assert memory.live == memory.peak == 8 * 150
        del a
        c = b.reshape(5, 10).t()
        assert memory.live == 8 * 50
        del b, c
        assert memory.live == 0
    assert memory.peak == 8 * 150
