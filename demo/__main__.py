"""`python -m demo`, which is `make demo`: from nothing to a trained, measured tiny Janus, with a report."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.table import Table

from janus import cli


def demo(out: Path = Path("runs/demo"), scenes: int = 8000, seed: int = 0) -> None:
    """From nothing to a trained, measured tiny Janus. Run it again after an interruption: it goes on.

    Args:
        out: Folder for everything: world, models, corpora, logs and report.html.
        scenes: Training scenes of the built-in world, roughly; the steps of training stay the same.
        seed: Seed of the world and of the base models.
    """
    if scenes < 1:
        raise cli.UserError(f"--scenes {scenes}: expected at least 1")
    # Late: --help does not wait for them.
    from demo.chain import Chain
    from demo.screen import Screen, duration
    from demo.steps import plan

    console = cli.console()
    steps = plan(out, scenes, seed)
    screen = Screen(console, [step.title for step in steps])
    start = time.monotonic()
    try:
        with screen.shown():
            chain = Chain(out, screen)
            for order, step in enumerate(steps):
                chain.do(step, order)
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on from here.")
        raise
    results = json.loads((out / "results.json").read_text())
    console.print(results_table(results))
    console.print(f"Done in {duration(time.monotonic() - start)}. Report: {out / 'report.html'}")


def results_table(results: dict) -> Table:
    """The numbers, trained beside untrained."""
    table = Table("", "trained", "untrained", box=None, padding=(0, 2), title=None)
    rows = [("POPE accuracy", "pope", "accuracy"), ("POPE F1", "pope", "f1")]
    rows += [(name.replace("_", " "), name, "accuracy") for name in ("multiple_choice", "counting")]
    rows += [(f"GenEval {task.replace('_', ' ')}", "geneval", task) for task in results["geneval"]]
    for title, part, key in rows:
        table.add_row(title, f"{results[part][key]:.3f}", f"{results['untrained'][part][key]:.3f}")
    table.add_row("caption score AUC", f"{results['caption_score']['auc']:.3f}", "")
    return table


def main() -> None:
    """Run the command."""
    cli.parse(demo, prog="python -m demo")


if __name__ == "__main__":
    cli.run(main)
