"""Write random crystals as CIFs in many ways, read them, and count: a wrong `ok` must not occur.

python scripts/fuzz_cifs.py [--n 10000] [--seed 0]

Any of the 530 settings of the space groups, expanded by spglib's operations (tests/cif_examples.py); symmetry by operations, Hall
symbol, symbol with and without suffix, number, or not at all; roundings, occupancies, right and wrong formulas and Z.
"""

from __future__ import annotations

import argparse
import random
import sys
import warnings
from collections import Counter
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from cif_examples import N_SETTINGS, SYMMETRIES, Writing, check, denied, example, names


def writing(chance: random.Random) -> Writing:
    """One of many ways."""
    return Writing(
        symmetry=chance.choice(SYMMETRIES),
        digits=chance.randint(3, 6),
        formula=chance.choice(("none", "right", "right", "wrong")),
        units=chance.choice(("none", "right", "right", "wrong")),
        occupancy=chance.choice((None, None, None, 1.0, 0.5, 0.98)),
        multiplicities=chance.random() < 0.3,
        capitals=chance.random() < 0.3,
        dots=chance.random() < 0.3,
        decimals=chance.random() < 0.3,
        uncertainties=chance.random() < 0.3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    chance = random.Random(options.seed)
    found: Counter[tuple[str, str, str]] = Counter()
    wrong = []
    with tqdm(total=options.n) as bar:
        while bar.n < options.n:
            made = example(
                chance.randint(1, N_SETTINGS), chance.randint(1, 3), chance.random() < 0.6, chance.randrange(2**31)
            )
            how = writing(chance)
            if made is None or ("symbol" in how.symmetry and not names(made.hall)[2]):
                continue
            bar.update()
            try:
                status = str(check(made, how))
            except AssertionError as error:
                status = "WRONG"
                wrong.append(str(error))
            found[how.symmetry, "contradicts itself" if denied(how) else "sound", status] += 1
    print(f"{options.n} CIFs, {len(wrong)} read wrongly")
    for (symmetry, kind, status), n in sorted(found.items()):
        print(f"  {symmetry:22} {kind:18} {status:18} {n}")
    for words in wrong[:5]:
        print(words)


if __name__ == "__main__":
    main()
