"""A Hugging Face Janus from a checkpoint of a run, while it runs or afterwards (`python -m janus.export --run`)."""

from __future__ import annotations

from pathlib import Path


def checkpoint_to_model(run: Path, out: Path, step: int = 0) -> int:
    """Write the Janus of a checkpoint: the run's starting model with the trained weights put in. Returns its step.

    Raises ValueError or FileNotFoundError with one line if there is no such checkpoint, or the model it started from
    is gone or another one now.
    """
    from janus.model.checkpoints.model_folder import load_janus, save_janus
    from janus.train.checkpoint import check_files, committed, load
    from janus.train.record import model_digest, read_record

    found = dict(committed(run / "checkpoints"))
    if not found:
        raise FileNotFoundError(f"{run}: holds no checkpoint")
    step = step or max(found)
    if step not in found:
        raise FileNotFoundError(f"{run}: no checkpoint of step {step}; there are {', '.join(map(str, found))}")
    state, record = check_files(found[step]), read_record(run)
    start = Path(record["model"])
    if model_digest(start) != state["identity"]["model"]:
        raise ValueError(f"{start}: not the model this run started from; its files are gone or were changed")
    model, processor = load_janus(start)
    trained = {name: tensor for name, tensor in model.state_dict().items() if _is_trained(name, record)}
    load(found[step], {f"model.{name}": tensor for name, tensor in trained.items()}, group=None)
    save_janus(out, model, processor)
    return step


def _is_trained(name: str, record: dict) -> bool:
    from janus.train.optim import module_of

    return module_of(name) in record["recipe"]["train"]
