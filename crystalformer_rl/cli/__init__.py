"""The command line: one module a command, imported only when that command is called."""

from __future__ import annotations

import importlib
import sys

import click

from crystalformer_rl import __version__
from crystalformer_rl.errors import InputError

#: In the order of the story. Command `log-prob` lives in module `log_prob`, as `command`.
COMMANDS = {
    "fetch": "Bring a named resource or an address to a file, verified.",
    "tokenize": "Turn crystals into space group, Wyckoff sites and lattice.",
    "pretrain": "Train a policy on tokens.",
    "sample": "Sample crystals from a policy.",
    "predict": "Predict the structures of a formula, lowest energy first.",
    "mcmc": "Markov chains over elements, coordinates and lattices on fixed Wyckoff sites.",
    "convert": "Turn a published checkpoint into a policy of ours.",
    "log-prob": "Log-probabilities of tokens under a policy.",
    "potential": "The potentials that there are, and environments for those that need one.",
    "check-potential": "Hold a potential to the laws of physics.",
    "check-reference": "Compute some energies of a reference again.",
    "relax": "Relax crystals with a potential, keeping the space group.",
    "reference": "Build a reference: crystals, tokens and energies in one potential.",
    "recover": "Find structures for compositions whose energy is known.",
    "extend": "Add recovered structures to a reference.",
    "hull": "Formation energy and energy above the convex hull.",
    "properties": "Predict band gap and dielectric constants.",
    "train-properties": "Train the property models.",
    "finetune": "One round of fine-tuning a policy on a reward.",
    "propose": "Crystals to score that no policy drew: known ones, or elements exchanged.",
    "score": "What crystals earn by the reward of a run.",
    "select": "The best of many sampled crystals, each kind once.",
    "novelty": "Sort crystals into new and retrieved.",
    "evaluate": "Relax, hull, novelty and S.U.N. on anybody's crystals.",
    "rank": "Rank the crystals of several policies and set their metrics side by side.",
    "judge": "Energies above the hull in a potential that no reward has seen.",
    "compare": "Ways to fine-tune side by side: one table, one picture.",
    "retrieve": "Whether what was found was retrieved or lies beyond what the policy had seen.",
    "report": "A self-contained HTML page from a folder of results.",
}


class _Commands(click.Group):
    """Lists every command without importing its module, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"crystalformer_rl.cli.{name.replace('-', '_')}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in the order of the pipeline"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="crystalformer-rl")
def cli() -> None:
    """Sample crystals from a pretrained policy, relax and score them, fine-tune the policy on the score,
    and say which of the best crystals are new.

    Every command reads and writes Parquet and can be used alone; `snakemake` chains them.
    """


def main() -> None:
    """Entry point: what the user can mend is one sentence and exit status 2."""
    try:
        cli(standalone_mode=True)
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
