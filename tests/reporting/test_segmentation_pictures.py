from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

from fna_lightning.data.batches import IGNORED_LABEL, SegmentationBatch
from fna_lightning.data.label_maps import build_label_map
from fna_lightning.reporting.pictures import draw_class_scores, draw_segmentations, to_png
from fna_lightning.runs.samples import sample_pictures
from fna_lightning.tasks import SegmentationMetric, SegmentationTask

MAP = build_label_map({"road": 7, "ca$h $x": 26, "sky": 23, "pole": 17})
ROAD, SKY = (128, 64, 128), (70, 130, 180)


def shown(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


def legend(figure):
    (box,) = figure.legends
    texts = [text.get_text() for text in box.get_texts()]
    return dict(zip(texts, (handle.get_facecolor()[:3] for handle in box.legend_handles), strict=True))


class TestSegmentations:
    def test_picture_truth_and_found_side_by_side(self):
        image = torch.randint(256, (3, 4, 6), dtype=torch.uint8)
        truth = torch.tensor([[0, 0, 2], [2, 2, IGNORED_LABEL]], dtype=torch.uint8)
        found = torch.tensor([[0, 0, 2], [2, 1, 1]], dtype=torch.uint8)
        figure = draw_segmentations([image], [found], [truth], MAP)
        picture, true, guess = figure.axes
        np.testing.assert_array_equal(shown(picture), image.permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(shown(true), [[ROAD, ROAD, SKY], [SKY, SKY, (0, 0, 0)]])
        np.testing.assert_array_equal(shown(guess)[0], [ROAD, ROAD, SKY])
        assert guess.get_title(loc="left") == "found, 80.0% of the pixels right"
        assert list(legend(figure)) == ["road", r"ca\$h \$x", "sky", "not labelled"]
        assert legend(figure)["sky"] == pytest.approx(np.array(SKY) / 255)
        assert legend(figure)["not labelled"] == to_rgb("black")
        to_png(figure, dpi=20)

    @pytest.mark.parametrize("number", [1, 6])
    def test_rows(self, number):
        images = [torch.zeros(3, 8 + n, 12, dtype=torch.uint8) for n in range(number)]
        labels = [torch.full((5, 6 + n), IGNORED_LABEL, dtype=torch.uint8) for n in range(number)]
        figure = draw_segmentations(images, labels, labels, MAP)
        assert sum(len(axes.images) for axes in figure.axes) == 3 * min(number, 4)
        assert {axes.get_title(loc="left") for axes in figure.axes} == {
            "picture",
            "annotated",
            "found",
        } or not number
        to_png(figure, dpi=20)


class TestClassScores:
    def test_bars_in_the_order_given_and_their_mean(self):
        figure = draw_class_scores({"road": 0.9, "a $ b $": 0.3}, "IoU")
        (axes,) = figure.axes
        assert [bar.get_width() for bar in axes.patches] == [0.9, 0.3]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["road", r"a \$ b \$"]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first above
        (line,) = axes.lines
        assert line.get_xdata() == pytest.approx([0.6, 0.6])
        assert [text.get_text() for text in axes.texts] == ["0.900", "0.300"]
        to_png(figure, dpi=20)


class TestSamples:
    class Dark(nn.Module):
        """Road where a pixel is dark, else sky."""

        num_classes = 4

        def forward(self, images):
            grey = images[:, :1].float()
            return torch.cat([-grey, grey * 0 - 999, grey - 255, grey * 0 - 999], dim=1)

    @pytest.fixture
    def module(self):
        """Two pictures, dark above and light below, the second smaller than the first and its labels."""
        images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        images[0, :, 4:], images[1, :, 2:] = 255, 255
        labels = torch.full((2, 8, 8), IGNORED_LABEL, dtype=torch.uint8)
        labels[:, :4], labels[:, 4:] = 0, 2
        sizes, label_sizes = torch.tensor([[8, 8], [4, 4]]), torch.tensor([[8, 8], [8, 8]])
        batch = SegmentationBatch(images, labels, sizes, label_sizes)
        data = SimpleNamespace(val_dataloader=lambda: [batch], label_map=MAP)
        return SimpleNamespace(
            trainer=SimpleNamespace(datamodule=data),
            task=SegmentationTask(),
            network=self.Dark(),
            metric=SegmentationMetric(MAP.class_names),
            device=torch.device("cpu"),
            eval=lambda: None,
            transfer_batch_to_device=lambda batch, *_: batch,
        )

    def test_pictures_lose_their_padding(self, module):
        pictures = sample_pictures(module)
        assert list(pictures) == ["Labels"]
        axes = pictures["Labels"].axes
        assert [shown(ax).shape[:2] for ax in axes] == [(8, 8), (8, 8), (8, 8), (4, 4), (8, 8), (8, 8)]
        np.testing.assert_array_equal(shown(axes[2]), shown(axes[1]))

    def test_classes_are_drawn_once_they_are_scored(self, module):
        batch = module.trainer.datamodule.val_dataloader()[0]
        module.metric.update(module.task.predict(module.network, batch), batch)
        module.metric.compute()
        (axes,) = sample_pictures(module)["Classes"].axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["road", "sky"]
        assert len(axes.patches) == 2
