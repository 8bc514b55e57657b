"""The card of the property models: what they are, what they learned from, how good they are, where they fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystalformer_rl.properties.models import PropertyModels

_MERITS = {"fom": "`fom`, ε_electronic · gap", "fom_total": "`fom_total`, ε_total · gap"}
_UNITS = {"eps_electronic": "ε_electronic", "eps_total": "ε_total"}


def card_text(models: PropertyModels, name: str, size: int) -> str:
    """The card in Markdown; `name` and `size` (bytes) are of the models' file."""
    card = models.card
    figures = card["figures"]
    parts = [
        f"# Property models: `{name}`",
        _what(models, size),
        "## Data",
        "\n".join(f"- {line}" for line in card["data"]),
        f"Licence: {card['licence']}.",
        "## How well they do",
        "All figures are from 5-fold cross-validation split by reduced formula: each crystal is judged by models that have "
        "not seen any crystal of its formula. For the gap that is a fifth of the networks, so the whole ensemble does a little "
        "better than the table says. The kernel's lengths and the networks' size were chosen by such cross-validation too, on other "
        "folds of the same crystals, which flatters the figures slightly.",
        "### Dielectric constants",
        _table(
            (
                "",
                "rows",
                "MAE of ln ε",
                "RMSE of ln ε",
                "coverage of the 90 % interval",
                "the same, calibrated on other folds",
            ),
            [
                (
                    _UNITS[key],
                    f["rows"],
                    _3(f["mae_ln"]),
                    _3(f["rmse_ln"]),
                    _percent(f["coverage"]),
                    _percent(f["coverage_cross"]),
                )
                for key, f in figures["dielectric"].items()
            ],
        ),
        "### Band gap and metal decision",
        _gap_table(figures["gap"]),
        f"The interval of an insulator's gap covers {_percent(figures['gap']['coverage_insulators_cross'])} when it is calibrated "
        "on the other folds. Metals that are found have gap 0 and an interval that holds it, so the coverage of all rows is higher.",
        "By the gap that is reported, metals taken for insulators included:",
        _table(
            ("reported gap, eV", "rows", "of them metals", "coverage of the 90 % interval"),
            [
                (_range(f), f["rows"], f["rows"] - f["insulators"], _percent(f["coverage_all"]))
                for f in figures["gap"]["by_gap"]
            ],
        ),
        "### Figure of merit",
        "\n".join(f"- {name}: {_fom_words(figures[key])}" for key, name in _MERITS.items()),
        "### Applicability",
        "`applicability` is the distance to the nearest crystal of the dielectric set in the kernel's metric, in units of the 95th "
        "percentile of those distances within the set. Mean absolute errors of the logarithms by distance:",
        _table(
            ("applicability", "rows", "ln ε_electronic", "ln ε_total"),
            [(_range(f), f["rows"], _3(f["eps_electronic"]), _3(f["eps_total"])) for f in figures["applicability"]],
        ),
        "## Where not to trust them",
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _what(models: PropertyModels, size: int) -> str:
    card = models.card
    embedding = card["embedding"]
    return (
        f"Predict the PBE band gap, the electronic and the total dielectric constant (trace/3) of an ordered inorganic crystal, each "
        f"with a standard deviation. {size / 1e6:.1f} MB of plain arrays; prediction needs numpy and the embeddings of "
        f"{embedding['name']} (weights {embedding['weights_sha256'][:12]}…).\n\n"
        f"- Input: the embedding ({card['embedding_size']} means and standard deviations, over atoms, of the potential's features "
        "before its read-out, before its last convolution and of its bonds, and the moments it predicts) and "
        f"{len(card['features'])} features of composition and of the atoms' surroundings. The dielectric constants, learned from "
        "a thousand crystals, use the first 64 of the embedding.\n"
        f"- Gap: {card['networks']} small neural networks, each with a logit for insulator or metal, a gap and the scale of a Laplace "
        "distribution. Both classes weigh the same in training: `insulator_probability` is the probability at equal prior odds, "
        "and below one half the crystal counts as a metal of gap 0.\n"
        "- Dielectric constants: a Gaussian process each on the logarithm, with Student-t noise, so that outliers among the "
        "training rows have little say.\n"
        "- The standard deviations are scaled so that mean ± 1.645 std covers 90 % in cross-validation "
        f"(factors {', '.join(f'{key} {value:.2f}' for key, value in sorted(models.calibration.items()))}).\n"
        "- `fom` = ε_electronic · gap and `fom_total` = ε_total · gap, their deviations those of a product of independent variables, "
        "scaled likewise."
    )


def _gap_table(gap: Mapping[str, Any]) -> str:
    header = (
        "source",
        "rows",
        "insulators",
        "MAE of insulators' gaps, eV",
        "the same before the metal decision",
        "insulators found",
        "metals found",
        "balanced accuracy",
        "coverage, insulators",
        "coverage, all",
    )
    rows = [
        (
            name,
            f["rows"],
            f["insulators"],
            _3(f["mae_insulators"]),
            _3(f["mae_insulators_if_insulator"]),
            _percent(f["insulators_found"]),
            _percent(f["metals_found"]),
            _percent(f["balanced_accuracy"]),
            _percent(f["coverage_insulators"]),
            _percent(f["coverage_all"]),
        )
        for name, f in [("all", gap), *gap["by_source"].items()]
    ]
    return _table(header, rows)


def _fom_words(fom: Mapping[str, Any]) -> str:
    return (
        f"on the {fom['rows']} crystals of the dielectric set (mean {fom['mean_truth']:.1f} eV): mean absolute error "
        f"{fom['mae']:.2f} eV, median {fom['median_absolute_error']:.2f} eV; the 90 % interval covers "
        f"{_percent(fom['coverage'])}, and {_percent(fom['coverage_cross'])} when calibrated on other folds."
    )


_LIMITS = """\
- The labels are PBE's, whose gaps are too small by a third to a half against experiment, with dielectric constants a little
  too large as a rule.
- The dielectric set holds insulators in cells of at most 20 atoms. A crystal predicted metallic gets no dielectric
  constants, and figures of merit of 0; for one with `applicability` well above 1 it is a guess.
- Near a ferroelectric transition ε_total diverges; the models do not know soft modes and smooth this over: they say 11 for SrTiO₃,
  78 for PbTe and 20 for rutile, which have about 300, 400 and 110 at room temperature. Families that are known for it (perovskite
  titanates, niobates and tantalates, IV–VI rock salts, rutile) are named in the column `soft_mode`.
- They learned from relaxed crystals; how wrong they are on unrelaxed ones has not been measured.
- Elements beyond plutonium are refused, and so are crystals that the potential refuses."""


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _3(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _range(row: Mapping[str, Any]) -> str:
    return f"≥ {row['from']:g}" if row["to"] is None else f"{row['from']:g} – {row['to']:g}"
