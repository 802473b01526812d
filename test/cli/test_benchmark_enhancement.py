"""The measure of enhancement, with a network that changes nothing."""

import json

import cv2
import numpy as np
from perception_nodes.cli.main import main
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnxruntime')
from perception_nodes.backends.networks.enhancement import EnhancementNetwork  # noqa: E402
from perception_nodes.training.export import export_safetensors  # noqa: E402

pytestmark = pytest.mark.slow


def test_what_changes_nothing_gains_nothing(tmp_path, capsys):
    """Two pictures of a ball; motion, blur and noise at three strengths, and none."""
    (tmp_path / 'set' / 'test' / 'images').mkdir(parents=True)
    for i in range(2):
        rgb = np.full((240, 320, 3), 120, np.uint8)
        cv2.circle(rgb, (100 + 60 * i, 120), 40, (200, 60, 60), -1)
        cv2.imwrite(str(tmp_path / 'set' / 'test' / 'images' / f'{i}.png'), rgb)
    (tmp_path / 'set' / 'test' / 'instances.json').write_text(json.dumps({
        'categories': [{'id': 13, 'name': 'ball'}],
        'images': [{'id': i, 'file_name': f'{i}.png', 'width': 320, 'height': 240}
                   for i in range(2)],
        'annotations': [{'id': i, 'image_id': i, 'category_id': 13,
                         'bbox': [60 + 60 * i, 80, 80, 80]} for i in range(2)]}))
    weights, out = tmp_path / 'same.safetensors', tmp_path / 'out.json'
    export_safetensors(EnhancementNetwork(), weights)
    command = ['benchmark', 'enhancement', str(tmp_path / 'set'), str(weights), '--out', str(out)]
    assert main(command) == 0
    result = json.loads(out.read_text())
    conditions = ['clean', *(f'{name}_{k}' for name in ('motion', 'blur', 'noise')
                             for k in (1, 2, 3))]
    for condition in conditions:
        start = f'simulation_{condition}'
        assert result[f'{start}_network_gain'] == 0.0
        assert result[f'{start}_network_psnr_db'] == result[f'{start}_none_psnr_db']
        suited = {'clean': 2, 'motion': 1, 'blur': 1, 'noise': 1}[condition.partition('_')[0]]
        assert sum(f'{start}_{way}_gain' in result for way in (
            'unsharp', 'non_local_means')) == suited
    assert result['simulation_clean_none_ssim'] == 1.0
    assert result['simulation_noise_3_none_ssim'] < result['simulation_noise_1_none_ssim'] < 1.0
    assert result['simulation_network_cpu_ms_p50'] > 0.0
    assert result['simulation_images'] == result['n'] == 2
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines if line[1:2] == ['network']] == conditions


def test_missing_weights_are_a_sentence(tmp_path, capsys):
    assert main(['benchmark', 'enhancement', str(tmp_path), str(tmp_path / 'no')]) == 1
    said = capsys.readouterr().err
    assert 'perception train enhancement' in said and 'Traceback' not in said
