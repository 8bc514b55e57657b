"""docs/results.md and its pictures from finished comparisons of arms, one section a preset.

    snakemake compare --cores all --configfile workflow/presets/ehull-long.yaml
    python scripts/write_results.py ehull-long

Nothing is written there by hand. Sections of other presets stay as an earlier call left them.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TITLES = {
    "ehull-long": "The default way with five times the crystals",
    "ehull-small": "Ways to fine-tune, at 10,240 crystals",
    "fom-small": "Figure of merit in space group 225",
}
INTRODUCTION = """# What fine-tuning reached

Made by `python scripts/write_results.py` from what the presets left in `results/`: the embedded policy and reference, two CPU cores.
{made} Each section prints the reward and settings that it was measured with;
where a default has changed since, the command gives other figures today.

Why the presets are as they are, and what did not help, is told in [finetuning.md](finetuning.md#what-helped-and-what-did-not).
"""


def section(name: str, document: str, drawing: str) -> str:
    """A comparison's document as a section: its own title, headings a level down, the picture under its new name."""
    body = document.partition("\n")[2].strip()
    body = re.sub(r"^#", "##", body, flags=re.MULTILINE)
    return f"## {TITLES.get(name, name)}\n\n{body.replace('(comparison.svg)', f'({drawing})')}\n"


def sections_of(document: Path) -> dict[str, str]:
    """The sections of the document as it stands, by preset."""
    if not document.is_file():
        return {}
    text = document.read_text(encoding="utf-8")
    starts = {name: text.find(f"\n## {title}\n") for name, title in TITLES.items()}
    found = sorted((start + 1, name) for name, start in starts.items() if start >= 0)
    ends = [start for start, _ in found[1:]] + [len(text)] * bool(found)
    return {name: text[start:end].strip() + "\n" for (start, name), end in zip(found, ends, strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", help="which presets [default: those that are finished]")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the presets' results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.md")
    arguments = parser.parse_args()
    sections = sections_of(arguments.out)
    finished = [name for name in TITLES if (arguments.results / name / "comparison" / "comparison.md").is_file()]
    for name in arguments.presets or finished:
        place = arguments.results / name / "comparison"
        if not (place / "comparison.md").is_file():
            command = f"snakemake compare --cores all --configfile workflow/presets/{name}.yaml"
            print(f"{place} holds no comparison.md; run `{command}` first.", file=sys.stderr)
            return 1
        drawing = f"{arguments.out.stem}-{name}.svg"
        arguments.out.with_name(drawing).write_bytes((place / "comparison.svg").read_bytes())
        sections[name] = section(name, (place / "comparison.md").read_text(encoding="utf-8"), drawing)
    shown = [*(name for name in TITLES if name in sections), *(name for name in sections if name not in TITLES)]
    lines = [f"`snakemake compare --cores all --configfile workflow/presets/{name}.yaml`" for name in shown]
    introduction = INTRODUCTION.format(made=f"Run by {' and '.join(lines)}.")
    arguments.out.write_text("\n".join([introduction, *(sections[name] for name in shown)]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
