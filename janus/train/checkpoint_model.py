"""A Hugging Face Janus from a checkpoint of a run, while it runs or afterwards (`python -m janus.export --run`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path


def checkpoint_to_model(run: Path, out: Path, step: int = 0, *, merge: bool = True) -> int:
    """Write the Janus of a checkpoint: the run's starting model with the trained weights put in. Returns its step.

    Args:
        run: run folder.
        out: model folder to write.
        step: of the checkpoint; 0 for the newest.
        merge: of a run with adapters: merge them into the model, or else leave it as it was before the run and write
            them to `out`/adapter.

    Raises ValueError or FileNotFoundError with one line if there is no such checkpoint, or the model it started from
    is gone or another one now.
    """
    from janus.model.checkpoints.adapter import write_adapter
    from janus.model.checkpoints.model_folder import load_janus, save_janus, write_janus
    from janus.model.lora import merge_tensors
    from janus.model.network import MODULES
    from janus.train.checkpoint import check_files, committed, load
    from janus.train.record import model_digest, read_record
    from janus.train.trained import adapter_of, choose_trained, read_lora

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
    lora = read_lora(record)
    model, processor = load_janus(start)
    before = model.state_dict()
    if lora.rank:
        lora = replace(lora, quantize="none")  # adapters are merged into whole weights
    trained = {n: p.detach() for n, p in choose_trained(model, record["recipe"]["train"], lora, seed=0).items()}
    if lora.rank:
        before = {name: tensor.clone() if name in trained else tensor for name, tensor in before.items()}
    load(found[step], {f"model.{name}": tensor for name, tensor in trained.items()}, group=None)
    if not lora.rank:
        save_janus(out, model, processor)
    elif merge:
        write_janus(out, merge_tensors(model.state_dict(), adapter_of(lora)), model.config, processor)
    else:
        write_janus(out, before, model.config, processor)
        whole = [MODULES[name] for name in record["recipe"]["train"]]
        write_adapter(out / "adapter", adapter_of(lora), trained, whole=whole, base=str(start))
    return step
