import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from fake_runs import alpha_rows, search_rows, train_rows, write_rows
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.detectors.base import Detections
from fna_lightning.errors import ArchitectureError, UserError
from fna_lightning.reporting.pictures import (
    draw_alphas,
    draw_architecture,
    draw_curves,
    draw_detections,
    draw_pareto,
    pareto_front,
    to_png,
)
from fna_lightning.reporting.series import read_series, smoothed


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def patches(figure, start):
    boxes = [patch for axes in figure.axes for patch in axes.patches if isinstance(patch, Rectangle)]
    return [box for box in boxes if str(box.get_gid()).startswith(start)]


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


class TestArchitecture:
    def test_one_box_a_layer(self):
        architecture = load_architecture("fna_retinanet")
        figure = draw_architecture(architecture)
        for number, stage in enumerate(architecture.stages, start=1):
            assert len(patches(figure, f"stage {number} ")) == len(stage.layers)
        assert len(patches(figure, "stem")) == 1
        to_png(figure, dpi=20)

    def test_colour_is_kernel_height_is_expansion_skips_are_hollow(self):
        architecture = parse_architecture("[[8, 6], ['k3_e6', 'k5_e3', 'skip', 'k5_e6'], 2]")
        first, second, skip, last = patches(draw_architecture(architecture), "stage 1 ")
        assert first.get_height() == last.get_height() == 2 * second.get_height()
        assert to_hex(second.get_facecolor()) == to_hex(last.get_facecolor()) != to_hex(first.get_facecolor())
        assert skip.get_facecolor()[3] == 0
        assert first.get_facecolor()[3] == 1

    def test_notes(self, mobilenet):
        written = texts(draw_architecture(mobilenet))
        for text in ("stem", "3 → 32", "stage 1", "32 → 16", "stride 1", "stage 7", "160 → 320", "k3\ne6"):
            assert text in written
        assert written.count("stride 2") == 1 + 4

    def test_deep_networks_take_several_rows(self):
        stage = "[[8, 8], [" + ", ".join(["'k3_e1'"] * 12) + "], 1]"
        assert len(draw_architecture(parse_architecture("|".join([stage] * 5))).axes) == 3

    def test_shuffle_blocks(self):
        """Colour is the kernel; Xception blocks are taller."""
        figure = draw_architecture(load_architecture("detnas_coco_fpn_1_3g"))
        assert [len(patches(figure, f"stage {number} ")) for number in range(1, 5)] == [8, 8, 16, 8]
        boxes = patches(figure, "stage 1 ")  # 0, 0, 3, 1, 2, ...
        assert boxes[0].get_height() == boxes[3].get_height() < boxes[2].get_height()
        assert len({to_hex(box.get_facecolor()) for box in boxes[1:5]}) == 4
        for text in ("3 → 48", "48 → 96", "480 → 960", "X3", "k7"):
            assert text in texts(figure)
        assert figure.get_suptitle() == "40 blocks in 4 stages; layout detnas"
        to_png(figure, dpi=20)

    def test_another_kind_is_refused(self):
        with pytest.raises(ArchitectureError, match="no picture"):
            draw_architecture("[[8, 6]]")


class TestCurves:
    def test_training(self, tmp_path):
        write_rows(tmp_path / "metrics.csv", train_rows(steps=60))
        losses, validation = draw_curves(tmp_path / "metrics.csv")
        (axes,) = losses.axes
        assert set(lines(axes)) == {"classification", "box", "loss"}
        assert axes.get_xlabel() == "iteration"
        np.testing.assert_array_equal(lines(axes)["loss"].get_xdata(), np.arange(0, 60, 2))
        (axes,) = validation.axes
        assert set(lines(axes)) == {"mAP", "mAP_50", "mAP_75"}
        assert axes.get_ylabel() == "mAP"
        values = lines(axes)["mAP"].get_ydata()
        assert texts(validation) == [f"best {max(values):.4g}"]

    def test_search(self, tmp_path):
        write_rows(tmp_path / "metrics.csv", search_rows())
        losses, search = draw_curves(tmp_path / "metrics.csv")
        assert [axes.get_title(loc="left") for axes in losses.axes] == [
            "Weight steps: loss",
            "Architecture steps: loss",
        ]
        assert "cost" in lines(losses.axes[1])
        assert [axes.get_ylabel() for axes in search.axes] == ["entropy", "skip share", "expected madds"]
        assert [axes.get_ylim() for axes in search.axes[:2]] == [(-0.02, 1.02)] * 2
        assert search.axes[2].yaxis.get_major_formatter()(2.5e9) == "2.5 B"

    def test_long_losses_are_smoothed(self, tmp_path):
        write_rows(tmp_path / "metrics.csv", [{"step": n, "train/loss": n % 2} for n in range(1000)])
        (figure,) = draw_curves(tmp_path / "metrics.csv")
        mean = lines(figure.axes[0])["loss"].get_ydata()
        assert np.all(np.abs(mean[30:-30] - 0.5) < 0.05)

    def test_what_nothing_counts_for_is_left_out(self, tmp_path):
        rows = [{"step": 1, "val/mAP": -1, "val/mAP_50": 0.5}, {"step": 2, "val/mAP": "nan", "val/mAP_50": 0.6}]
        write_rows(tmp_path / "metrics.csv", rows)
        (figure,) = draw_curves(tmp_path / "metrics.csv")
        assert figure.axes[0].get_ylabel() == "mAP_50"

    @pytest.mark.parametrize("text", [None, "", "step,train/loss\n", "a,b\n1,2\n", "\x00\x00", "step\n1\n"])
    def test_nothing_to_draw(self, tmp_path, text):
        if text is not None:
            (tmp_path / "metrics.csv").write_text(text)
        assert draw_curves(tmp_path / "metrics.csv") == []

    def test_gaps_and_single_points_are_drawn(self, tmp_path):
        (tmp_path / "metrics.csv").write_text("step,train/loss,train/box\n1,nan,0.5\n2,inf,\n3,1.5,\n")
        (figure,) = draw_curves(tmp_path / "metrics.csv")
        assert np.isnan(lines(figure.axes[0])["loss"].get_ydata()).tolist() == [True, True, False]
        to_png(figure, dpi=20)


def test_series_of_a_resumed_run_whose_last_row_is_cut(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,x,y\n10,1.0,\n20,2.0,5\n20,2.5,\n15,1.5,\n,9,9\n30,3.x,6\n4")
    series = read_series(path)
    assert series["x"].iterations.tolist() == [10, 15, 20]
    assert series["x"].values.tolist() == [1.0, 1.5, 2.5]
    assert series["y"].values.tolist() == [5, 6]


def test_smoothing_keeps_constants_and_passes_over_gaps():
    values = np.array([2.0, 2.0, np.nan, 2.0, 2.0])
    np.testing.assert_allclose(smoothed(values, 3), 2.0)


class TestAlphas:
    @pytest.fixture
    def file(self, tmp_path):
        choices = {"stages.2.0": ["k3_e3", "k5_e6"], "stages.2.1": ["k3_e3", "skip", "k7_e6"]}
        write_rows(tmp_path / "alphas.csv", alpha_rows(choices, range(0, 50, 10)))
        return tmp_path / "alphas.csv"

    def test_heat_map_holds_the_last_row(self, file):
        heat, _ = draw_alphas(file).axes
        assert [label.get_text() for label in heat.get_xticklabels()] == ["k3_e3", "k5_e6", "k7_e6", "skip"]
        assert [label.get_text() for label in heat.get_yticklabels()] == ["stages.2.0", "stages.2.1"]
        table = heat.images[0].get_array()
        last = {name: column.values[-1] for name, column in read_series(file, by="iteration").items()}
        assert table[0, 1] == last["stages.2.0/k5_e6"]
        assert table[1, 3] == last["stages.2.1/skip"]
        assert table.mask.tolist() == [[False, False, True, True], [False, True, False, False]]
        np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-5)

    def test_the_most_probable_is_framed(self, file):
        heat, _ = draw_alphas(file).axes
        table = heat.images[0].get_array()
        for row, frame in enumerate(heat.patches):
            assert frame.get_xy() == (int(np.argmax(table[row].filled(-1))) - 0.5, row - 0.5)

    def test_certainty_over_time(self, file):
        _, right = draw_alphas(file).axes
        drawn = lines(right)
        assert list(drawn) == ["stages.2.0", "stages.2.1"]
        assert drawn["stages.2.1"].get_xdata().tolist() == [0, 10, 20, 30, 40]
        assert drawn["stages.2.1"].get_ydata()[0] == pytest.approx(1 / 3, abs=1e-5)
        assert right.get_ylim() == (0, 1.02)

    def test_many_candidates_get_a_scale_instead_of_numbers(self, tmp_path):
        write_rows(tmp_path / "alphas.csv", alpha_rows({"width": [str(n) for n in range(30)]}))
        figure = draw_alphas(tmp_path / "alphas.csv")
        assert len(figure.axes) == 3
        assert texts(figure) == []

    def test_an_empty_file_is_named(self, tmp_path):
        (tmp_path / "alphas.csv").write_text("iteration\n")
        with pytest.raises(UserError, match=r"alphas\.csv"):
            draw_alphas(tmp_path / "alphas.csv")


class TestDetections:
    def test_found_and_true_boxes(self):
        found = Detections(
            torch.tensor([[1.0, 2, 11, 22], [5, 5, 9, 9]]), torch.tensor([0.9, 0.1]), torch.tensor([1, 0])
        )
        truth = (torch.tensor([[0.0, 0, 4, 4], [1, 1, 2, 2]]), torch.tensor([0, 1]))
        images = torch.full((1, 3, 24, 32), 128, dtype=torch.uint8)
        figure = draw_detections(images, [found], [truth], ["a", "co$t $x"])
        (drawn,) = patches(figure, "found")
        assert (*drawn.get_xy(), drawn.get_width(), drawn.get_height()) == (1, 2, 10, 20)
        true = patches(figure, "truth")
        assert [box.get_linestyle() for box in true] != [drawn.get_linestyle()] * 2
        assert {to_hex(box.get_edgecolor()) for box in true}.isdisjoint({to_hex(drawn.get_edgecolor())})
        assert texts(figure) == [r"co\$t \$x 0.90"]
        assert figure.axes[0].get_title(loc="left") == "2 annotated, 1 found with score ≥ 0.3"
        assert figure.axes[0].get_xlim() == (-0.5, 31.5)
        to_png(figure, dpi=20)

    @pytest.mark.parametrize("number", [0, 1, 4])
    def test_grid(self, number):
        nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        truth = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        images = [torch.rand(3, 8, 8 + n) * 255 for n in range(number)]
        figure = draw_detections(images, [nothing] * number, [truth] * number, [])
        assert sum(len(axes.images) for axes in figure.axes) == number
        to_png(figure, dpi=20)


values = st.one_of(st.none(), st.integers(0, 6).map(float), st.just(math.nan), st.just(math.inf))


class TestPareto:
    @given(st.lists(st.tuples(st.just("x"), values, values), max_size=12))
    def test_front_equals_brute_force(self, points):
        def known(point):
            return all(value is not None and math.isfinite(value) for value in point[1:])

        def beats(a, b):
            return a[1] <= b[1] and a[2] >= b[2] and a[1:] != b[1:]

        expected = {
            i for i, b in enumerate(points) if known(b) and not any(known(a) and beats(a, b) for a in points)
        }
        front = pareto_front(points)
        assert set(front) == expected
        assert len(front) == len(expected)
        assert [points[i][1] for i in front] == sorted(points[i][1] for i in front)

    def test_front_is_marked_and_labelled(self):
        points = [("cheap", 1e8, 0.1), ("good", 3e8, 0.3), ("beaten", 3.1e8, 0.2), ("failed", None, 0.5)]
        figure = draw_pareto(points, metric_name="mAP")
        (axes,) = figure.axes
        (line,) = axes.lines
        assert line.get_xydata().tolist() == [[1e8, 0.1], [3e8, 0.3]]
        assert texts(figure) == ["cheap", "good", "beaten"]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("multiply-adds", "mAP")
        assert axes.xaxis.get_major_formatter()(3e8) == "300 M"

    def test_labels_never_cover_each_other(self):
        points = [(f"weight={n}", 1e8 + 1e5 * n, 0.2 + 0.0003 * (n * 7 % 5)) for n in range(25)]
        figure = draw_pareto(points)
        drawn = figure.axes[0].texts
        assert 1 <= len(drawn) <= 25
        boxes = [Text.get_window_extent(text) for text in drawn]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])

    def test_no_points(self):
        to_png(draw_pareto([]), dpi=20)


def test_pictures_are_the_same_bytes_every_time(mobilenet):
    assert to_png(draw_architecture(mobilenet), 30) == to_png(draw_architecture(mobilenet), 30)


def test_pictures_leave_pyplot_and_torch_alone():
    code = (
        "import sys; from fna_lightning.reporting.pictures import draw_pareto, to_png;"
        "to_png(draw_pareto([('a', 1.0, 2.0)])); sys.exit(bool({'matplotlib.pyplot', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
