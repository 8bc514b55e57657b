"""A process that holds a potential and answers with figures: `python -m crystalformer_rl.scoring.worker NAME`.

It lives as long as its standard input is open. Frames go both ways (`scoring.frames`). The first frame out greets:
its schema metadata holds either `identity` (JSON) or `error` (a sentence). Then each frame in is a crystals table that
asks for a group of figures, each frame out the table of them, in the same order. `--properties PATH` loads models of
properties; without it nobody can ask for these.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from crystalformer_rl.errors import InputError
from crystalformer_rl.scoring.frames import ANSWERS, greeting, read_frame, requested, write_frame
from crystalformer_rl.tables.column import make_table

if TYPE_CHECKING:
    from crystalformer_rl.potential.protocol import Potential

Answer = Callable[[pa.Table], pa.Table]


def serve(name: str, properties: str | None, requests: BinaryIO, replies: BinaryIO) -> None:
    """Load the potential `name`, and the property models, and answer until `requests` ends."""
    from crystalformer_rl.potential import load

    threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    try:
        potential = load(name, threads=threads)
        answers = {group: _evaluations(potential, group) for group in ("energy", "force")}
        if properties is not None:
            answers["properties"] = _predictions(potential, properties, threads)
    except InputError as error:
        write_frame(replies, greeting(error=str(error)))
        return
    write_frame(replies, greeting(identity=json.dumps(potential.identity, sort_keys=True)))
    while (table := read_frame(requests)) is not None:
        try:
            write_frame(replies, answers[requested(table)](table))
        except InputError as error:  # such as a calculator without forces
            write_frame(replies, greeting(error=str(error)))


def _evaluations(potential: Potential, group: str) -> Answer:
    """Energies, and with `force` the largest force on an atom."""
    from crystalformer_rl.crystal.structure import crystals_from_table

    def answer(table: pa.Table) -> pa.Table:
        crystals, statuses = crystals_from_table(table)
        energies: list[float | None] = [None] * len(crystals)
        forces: list[float | None] = [None] * len(crystals)
        good = [(k, c) for k, c in enumerate(crystals) if c is not None and statuses[k] == "ok"]
        outcomes = potential.evaluate([c for _, c in good], forces=group == "force")
        for (k, _), outcome in zip(good, outcomes, strict=True):
            if isinstance(outcome, str):
                statuses[k] = outcome
                continue
            energies[k] = outcome.energy
            if outcome.forces is not None:
                forces[k] = float(np.linalg.norm(outcome.forces, axis=1).max())
        columns = {"id": table.column("id").to_pylist(), "energy": energies, "force": forces, "status": statuses}
        return make_table(ANSWERS[group], columns)

    return answer


def _predictions(potential: Potential, path: str, threads: int) -> Answer:
    """Predicted properties, from the embeddings of the potential that the models at `path` learned from."""
    from crystalformer_rl.potential import load
    from crystalformer_rl.properties import PropertyModels, check_embedding, properties_table

    models = PropertyModels.load(path)
    embedder: Any = potential
    if potential.identity.get("weights_sha256") != models.embedding.get("weights_sha256"):
        embedder = load(models.embedding["load"], threads=threads)
        check_embedding(models, embedder.identity, path)
    return lambda table: properties_table(models, embedder, table)


def main() -> None:
    """Serve on standard input and output; whatever libraries print goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential")
    parser.add_argument("--properties")
    options = parser.parse_args()
    # An interrupt at the terminal reaches the whole group; the parent decides, and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(options.potential, options.properties, sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
