"""Official head model checkpoints: random weights of the exact shapes give what a naive evaluation of them gives."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from blender_talkhead.contract.errors import BackendError
from tests.backend import nphm_reference as reference
from torch_backend.models.nphm import BACKWARD_KIND, FORWARD_KIND, BackwardNPHM, ForwardNPHM
from torch_backend.models.nphm_import import import_official_head_model, load_head_model, save_head_model


@pytest.fixture
def anchors_file(tmp_path: Path) -> Path:
    path = tmp_path / "anchors_39.npy"
    np.save(path, reference.mean_anchors().numpy())
    return path


def write(folder: Path, name: str, content: dict) -> Path:
    torch.save(content, folder / name)
    return folder / name


def in_double(state: reference.StateDict) -> reference.StateDict:
    return {name: tensor.double() for name, tensor in state.items()}


def random_queries(count: int, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = (torch.rand(2, count, 3, generator=generator) - 0.5) * 1.2
    identity = torch.randn(2, reference.CODE, generator=generator) * 0.3
    expression = torch.randn(2, reference.EXPRESSION, generator=generator) * 0.3
    return points, identity, expression


@pytest.mark.parametrize("anchor_width", [64, 128])
def test_backward_checkpoint_gives_the_official_field(tmp_path: Path, anchors_file: Path, anchor_width: int) -> None:
    checkpoint = reference.backward_checkpoint(anchor_width=anchor_width)
    imported = import_official_head_model([write(tmp_path, "checkpoint_epoch_6000.tar", checkpoint)], anchors_file)
    model = imported.model
    assert isinstance(model, BackwardNPHM) and not model.training
    points, identity, expression = random_queries(4)
    offsets, hyper = model.deform(points, identity, expression)
    distances = model.signed_distance(points, identity, expression).detach()

    id_state, ex_state = in_double(checkpoint["id_decoder"]), in_double(checkpoint["ex_decoder"])
    mean = reference.mean_anchors().double()
    for entry in range(2):
        code, expression_code = identity[entry].double(), expression[entry].double()
        places = reference.anchors(id_state, code, mean)
        np.testing.assert_allclose(model.anchors(identity)[entry].detach(), places, atol=1e-5)
        for number in range(4):
            point = points[entry, number].double()
            moved = reference.deform(ex_state, point, code, expression_code, places)
            np.testing.assert_allclose(offsets[entry, number].detach(), moved[:3], atol=2e-5)
            np.testing.assert_allclose(hyper[entry, number].detach(), moved[3:], atol=2e-5)
            canonical = torch.cat([point + moved[:3], moved[3:]])
            expected = reference.backward_distance(id_state, canonical, code, places)
            assert float(distances[entry, number]) == pytest.approx(float(expected), abs=3e-5)


@pytest.mark.parametrize("anchor_width", [256, 128])
@pytest.mark.parametrize("training", [False, True])
def test_forward_checkpoints_give_the_official_field(
    tmp_path: Path, anchors_file: Path, anchor_width: int, training: bool
) -> None:
    identity_file, expression_file = reference.forward_checkpoints(anchor_width=anchor_width)
    paths = [write(tmp_path, "expression.tar", expression_file), write(tmp_path, "identity.tar", identity_file)]
    model = import_official_head_model(paths, anchors_file).model
    assert isinstance(model, ForwardNPHM)
    points, identity, expression = random_queries(4)
    offsets, hyper = model.deform(points, identity, expression)
    distances = model.train(training).canonical_signed_distance(points, identity).detach()
    assert hyper.shape == (2, 4, 0)

    id_state = in_double(identity_file["decoder_state_dict"])
    ex_state = in_double(expression_file["decoder_state_dict"])
    for entry in range(2):
        code, expression_code = identity[entry].double(), expression[entry].double()
        places = reference.anchors(id_state, code, reference.mean_anchors().double())
        for number in range(4):
            point = points[entry, number].double()
            moved = reference.deform(ex_state, point, code, expression_code, places)
            np.testing.assert_allclose(offsets[entry, number].detach(), moved, atol=2e-5)
            expected = reference.forward_distance(id_state, point, code, places, training=training)
            assert float(distances[entry, number]) == pytest.approx(float(expected), abs=3e-5)


def test_backward_file_survives_the_round_trip(tmp_path: Path, anchors_file: Path) -> None:
    checkpoint = reference.backward_checkpoint()
    imported = import_official_head_model([write(tmp_path, "a.tar", checkpoint)], anchors_file)
    save_head_model(tmp_path / "head.safetensors", imported, step=6000)
    loaded = load_head_model(tmp_path / "head.safetensors", BACKWARD_KIND)
    assert loaded.model.config == imported.model.config
    assert loaded.metadata["step"] == 6000
    for name, tensor in imported.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert loaded.identity_codes.shape == (3, 1344) and loaded.expression_codes.shape == (5, 200)
    table = checkpoint["latent_codes"]["codebook.geo.embedding.weight"]
    assert torch.equal(loaded.identity_codes, table)  # short enough to be left alone
    assert loaded.expression_codes.norm(dim=1).tolist() == pytest.approx([1.0] * 5)  # 0.2 * sqrt(200) is not
    with pytest.raises(BackendError, match="nphm_backward"):
        load_head_model(tmp_path / "head.safetensors", FORWARD_KIND)


def test_forward_file_survives_the_round_trip(tmp_path: Path, anchors_file: Path) -> None:
    files = reference.forward_checkpoints()
    paths = [write(tmp_path, f"{number}.tar", content) for number, content in enumerate(files)]
    imported = import_official_head_model(paths, anchors_file)
    save_head_model(tmp_path / "head.safetensors", imported)
    loaded = load_head_model(tmp_path / "head.safetensors", FORWARD_KIND)
    for name, tensor in imported.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert torch.equal(loaded.identity_codes, files[0]["latent_codes_state_dict"]["weight"])


def test_prefix_of_parallel_training_is_taken_off(tmp_path: Path, anchors_file: Path) -> None:
    checkpoint = reference.backward_checkpoint()
    plain = import_official_head_model([write(tmp_path, "a.tar", checkpoint)], anchors_file)
    checkpoint["id_decoder"] = {f"module.{name}": tensor for name, tensor in checkpoint["id_decoder"].items()}
    wrapped = import_official_head_model([write(tmp_path, "b.tar", checkpoint)], anchors_file)
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(wrapped.model.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c["id_decoder"].pop("deepSDFensemble.layers.7.layers.4.weight"), "lacks .*layers.7.layers.4.weight"),
        (lambda c: c["ex_decoder"].update({"color_mlp.0.weight": torch.zeros(1)}), "unknown tensors: color_mlp"),
        (lambda c: c["ex_decoder"].update({"defDeepSDF.lin3.weight": torch.zeros(512, 512)}), r"\(512, 512\).*747"),
        (lambda c: c["id_decoder"].update({"mlp_pos.4.weight": torch.zeros(116, 64)}), "116 rows"),
        (lambda c: c["ex_decoder"].update({"compressor.0.weight": torch.zeros(32, 1460)}), r"1460.*1461"),
        (lambda c: c["latent_codes"].update({"codebook.geo.embedding.weight": torch.zeros(2, 9)}), r"\(2, 9\).*1344"),
        (lambda c: c.update({"id_decoder": [1, 2]}), "no state dict"),
        (lambda c: c.pop("ex_decoder"), "no official head model"),
        (lambda c: c["ex_decoder"].update({"defDeepSDF.lin6.weight": torch.zeros(5)}), "axes|shape"),
        (lambda c: [c["ex_decoder"].pop(key) for key in list(c["ex_decoder"])], "lacks"),
    ],
)
def test_misshapen_backward_checkpoint_is_named(tmp_path: Path, anchors_file: Path, damage, message: str) -> None:
    checkpoint = reference.backward_checkpoint()
    damage(checkpoint)
    with pytest.raises(BackendError, match=message):
        import_official_head_model([write(tmp_path, "bad.tar", checkpoint)], anchors_file)


def test_wrong_sets_of_files_are_refused(tmp_path: Path, anchors_file: Path) -> None:
    identity, expression = reference.forward_checkpoints()
    first, second = write(tmp_path, "i.tar", identity), write(tmp_path, "e.tar", expression)
    for paths in ([first], [first, first], [second, second], []):
        with pytest.raises(BackendError, match="Pass the files as they were released"):
            import_official_head_model(paths, anchors_file)
    with pytest.raises(BackendError, match="missing"):
        import_official_head_model([tmp_path / "none.tar"], anchors_file)
    with pytest.raises(BackendError, match="anchors"):
        import_official_head_model([first, second], tmp_path / "none.npy")
    np.save(tmp_path / "few.npy", np.zeros((5, 3)))
    with pytest.raises(BackendError, match=r"\(39, 3\).*\(5, 3\)"):
        import_official_head_model([first, second], tmp_path / "few.npy")


class _Spy:
    def __reduce__(self):
        return (Path.touch, (Path("spy_was_here"),))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, anchors_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, save in (("zip.tar", torch.save), ("raw.tar", lambda c, p: p.write_bytes(pickle.dumps(c)))):
        save({"id_decoder": _Spy(), "ex_decoder": {}}, tmp_path / name)
        with pytest.raises(BackendError, match="no PyTorch checkpoint"):
            import_official_head_model([tmp_path / name], anchors_file)
    (tmp_path / "noise.tar").write_bytes(b"not a checkpoint")
    with pytest.raises(BackendError, match="no PyTorch checkpoint"):
        import_official_head_model([tmp_path / "noise.tar"], anchors_file)
    assert not (tmp_path / "spy_was_here").exists()
