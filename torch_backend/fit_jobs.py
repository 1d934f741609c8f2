"""What the command `fit` does; torch and the models are imported inside the functions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from blender_talkhead.contract.errors import BackendError, BadInputError, UsageError
from torch_backend.emitter import Emitter
from torch_backend.info import import_torch
from torch_backend.jobs import FitExpressionsJob, FitIdentityJob

if TYPE_CHECKING:
    from torch_backend.fitting.config import FittingConfig

logger = logging.getLogger(__name__)

_LOADED = 0.02


def fit_identity(job: FitIdentityJob, emitter: Emitter) -> Path:
    """Write the identity of a scan.

    Returns:
        The file.

    Raises:
        BadInputError: the scan, the landmarks or the settings are not usable.
        BackendError: torch or the head model are missing or broken.
        OutputError: the file cannot be written.
    """
    _prepare(job.threads, job.seed)
    from torch_backend.fitting.fitted_head import load_fitted_head
    from torch_backend.fitting.fitted_identity import save_fitted_identity
    from torch_backend.fitting.scan_identity import ScanSettings, fit_scan

    if not job.output.name.endswith(".safetensors"):
        raise UsageError(f"--output: expected a file NAME.safetensors, got {job.output.name}")
    emitter.phase("loading the model", 0.0, _LOADED)
    settings = ScanSettings(_load_config(job.config), job.aligned, job.landmarks, job.seed)
    head = load_fitted_head(job.head_weights)
    fitted = fit_scan(job.scan, head, settings, emitter.phase("fitting the identity", _LOADED, 1.0))
    save_fitted_identity(job.output, fitted)
    logger.info("mean distance %.3f %s", fitted.facts["mean_error"], fitted.facts["error_unit"])
    return job.output


def fit_expressions(job: FitExpressionsJob, emitter: Emitter) -> Path:
    """Write a folder of code sequences.

    Returns:
        The folder; finished clips stay after a failure, and are not fitted again.

    Raises:
        BadInputError: a clip or the settings are not usable.
        BackendError: torch, the head model, the identity or the speech encoder are missing or broken.
        OutputError: the folder cannot be written.
    """
    _prepare(job.threads, job.seed)
    from torch_backend.audio.clean_up import CleanUp
    from torch_backend.audio.speech_encoder import load_speech_encoder
    from torch_backend.fitting.clip import open_clip
    from torch_backend.fitting.clip_fit import ClipFitSettings, ClipFitter
    from torch_backend.fitting.fitted_head import load_fitted_head
    from torch_backend.fitting.fitted_identity import load_fitted_identity
    from torch_backend.models.facetalk import FRAME_RATE

    emitter.phase("loading the model", 0.0, _LOADED)
    try:
        cleaning = CleanUp(None if job.auto_gain else job.gain_db, job.reduce_noise)
        clips = [open_clip(folder, job.recorded_rate, FRAME_RATE) for folder in job.clips]
    except ValueError as error:
        raise BadInputError(str(error)) from error
    settings = ClipFitSettings(_load_config(job.config), job.aligned, cleaning, job.held_out_every, job.seed)
    head = load_fitted_head(job.head_weights)
    identity = None if job.identity is None else load_fitted_identity(job.identity, head.sha256).identity_code
    encoder = None if job.condition == "landmarks" else load_speech_encoder(job.encoder, "cpu")
    fitter = ClipFitter(head, identity, encoder, settings)
    fitter.fit(clips, job.output, emitter.phase("fitting expressions", _LOADED, 1.0))
    return job.output


def _load_config(path: Path | None) -> FittingConfig:
    from torch_backend.fitting.config import load_fitting_config

    try:
        return load_fitting_config(path)
    except OSError as error:
        raise BadInputError(f"the settings {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BadInputError(str(error)) from error


def _prepare(threads: int | None, seed: int) -> None:
    torch = import_torch()
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    try:
        import igl  # noqa: F401 - a fit that fails for a missing package should do so at once
    except ImportError as error:
        raise BackendError(f"the backend's Python lacks libigl ({error}). Install it.") from error
