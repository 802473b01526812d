"""The small networks: what cells mean, and that their files are for one size."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')
from perception_nodes.backends import heads  # noqa: E402
from perception_nodes.backends.networks.scene import (  # noqa: E402
    BINS,
    BoxGrid,
    SceneDetector,
    SceneNetwork,
    SceneSegmenter,
)
from perception_nodes.training.scene import separated  # noqa: E402

pytestmark = pytest.mark.slow


def test_a_cell_says_its_box():
    sides = torch.full((1, 2, 4, BINS), -50.0)
    for k, distance in enumerate((1, 2, 3, 4)):
        sides[0, 0, k, distance] = 50.0
    sides[0, 1] = 0.0  # undecided: the middle of all bins
    grid = BoxGrid(torch.zeros(1, 2, 3), sides, torch.tensor([[20.0, 12.0], [48.0, 48.0]]),
                   torch.tensor([8.0, 32.0]))
    np.testing.assert_allclose(grid.boxes()[0], [
        [12, -4, 44, 44], [48 - 6 * 32, 48 - 6 * 32, 48 + 6 * 32, 48 + 6 * 32]], atol=1e-3)


@pytest.mark.parametrize('size', [(64, 96), (72, 100)])
def test_cells_cover_the_picture(size):
    height, width = size
    with torch.no_grad():
        grid = SceneDetector(3).eval().grid(torch.zeros(1, 3, height, width))
    assert sorted(set(grid.strides.tolist())) == [8, 16, 32]
    for stride in (8, 16, 32):
        centers = grid.centers[grid.strides == stride]
        rows, columns = -(-height // stride), -(-width // stride)
        assert len(centers) == rows * columns
        assert centers[0].tolist() == [stride / 2, stride / 2]
        assert centers[-1].tolist() == [(columns - 0.5) * stride, (rows - 0.5) * stride]


def test_the_table_is_what_head_yolo_reads():
    torch.manual_seed(0)
    network = SceneDetector(4).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        table, grid = network(image)[0].numpy(), network.grid(image)
    columns = heads.ScoreColumns(dict.fromkeys(range(4), ''))
    found, rows = heads.yolo_scores_rows(table.T, columns)
    assert len(found)
    np.testing.assert_allclose(found.boxes_xyxy, grid.boxes()[0].numpy()[rows], atol=1e-3)
    np.testing.assert_allclose(found.scores, grid.logits[0].sigmoid().numpy().max(1)[rows],
                               atol=1e-6)


def test_before_training_everything_is_background():
    torch.manual_seed(0)
    with torch.no_grad():
        grid = SceneDetector(5).grid(torch.randn(2, 3, 64, 64))
    assert grid.logits.sigmoid().mean() == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize('make', [SceneDetector, SceneSegmenter])
def test_shapes_need_no_memory(make):
    with torch.device('meta'):
        network, image = make(7), torch.zeros(2, 3, 240, 320)
        shape = tuple(network(image).shape)
    cells = 30 * 40 + 15 * 20 + 8 * 10
    assert shape == ((2, 4 + 7, cells) if make is SceneDetector else (2, 7, 60, 80))


def test_trained_together_they_answer_alone():
    torch.manual_seed(0)
    network = SceneNetwork(19, 9).eval()
    detector, segmenter = separated(network)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        grid, logits = network(*network.trunk.early(image))
        near = {'rtol': 1e-4, 'atol': 1e-4}
        torch.testing.assert_close(segmenter(image), logits, **near)
        torch.testing.assert_close(detector.grid(image).boxes(), grid.boxes(), **near)


@pytest.mark.parametrize('make', [SceneDetector, SceneSegmenter])
def test_a_file_is_for_one_size(tmp_path, make):
    onnx = pytest.importorskip('onnx')
    import onnxruntime
    from perception_nodes.training.export import export_onnx
    export_onnx(make(3), (96, 64), 'out', tmp_path / 'a.onnx')
    # what the runtime makes of it: sizes are constants, nothing depends on the picture
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / 'loaded.onnx')
    onnxruntime.InferenceSession(str(tmp_path / 'a.onnx'), options)
    graph = onnx.load(str(tmp_path / 'loaded.onnx')).graph
    assert not {'Shape', 'Gather', 'If', 'Loop', 'NonZero'} & {n.op_type for n in graph.node}
    for value in (*graph.input, *graph.output):
        assert all(d.dim_value > 0 for d in value.type.tensor_type.shape.dim)
