"""The card of the property models: what they are, what they learned from, how good they are, where they fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystalformer_rl.properties.card_parts import (
    UNITS,
    anisotropy_parts,
    extrapolation_parts,
    gap_table,
    textbook_parts,
    unrelaxed_parts,
)
from crystalformer_rl.properties.card_parts import number as _3
from crystalformer_rl.properties.card_parts import percent as _percent
from crystalformer_rl.properties.card_parts import span as _range
from crystalformer_rl.properties.card_parts import table as _table
from crystalformer_rl.properties.models import PropertyModels

_MERITS = {"fom": "`fom`, ε_electronic · gap", "fom_total": "`fom_total`, ε_total · gap"}


def card_text(models: PropertyModels, name: str, size: int) -> str:
    """The card in Markdown; `name` and `size` (bytes) are of the models' file."""
    card = models.card
    figures = card["figures"]
    parts = [
        f"# Property models: `{name}`",
        _what(models, size),
        "## Data",
        "\n".join(f"- {line}" for line in card["data"]),
        f"Learned from: {card['rows']['gaps']} crystals with gaps, {card['rows']['dielectric']} with dielectric constants. "
        + _LEARNED,
        f"Licence: {card['licence']}.",
        "## How well they do",
        _HOW,
        "### Dielectric constants",
        _dielectric_table(figures["dielectric"]),
        "### Band gap and metal decision",
        gap_table([("all", figures["gap"]), *figures["gap"]["by_source"].items()], "source"),
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
        "\n".join(_fom_words(key, figures[key]) for key in _MERITS),
        "### Formulas held out of everything",
        _withheld_words(figures["withheld"]),
        *extrapolation_parts(models),
        *anisotropy_parts(figures["anisotropy"]),
        *unrelaxed_parts(figures["unrelaxed"]),
        *textbook_parts(figures.get("textbook", [])),
        "## Where not to trust them",
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


_LEARNED = (
    "A gap or a squared refractive index that is known of a composition is given to its crystal where the composition has one entry in "
    "the Materials Project and one structure here; an index only if the gap is 0.1 eV or more and agrees with the structure's own, "
    "where it has one. Formulas that are held out (a twentieth, by a hash of the formula) or reserved are never learned from."
)
_HOW = (
    "All figures are from 5-fold cross-validation split by reduced formula unless they say otherwise: each crystal is judged by models "
    "that have not seen any crystal of its formula. For the gap that is a fifth of the networks, so the whole ensemble does a little "
    "better than the table says. The kernel's lengths and the networks' size were chosen by such cross-validation too, on other "
    "folds of the same crystals, which flatters the figures slightly."
)


def _dielectric_table(dielectric: Mapping[str, Any]) -> str:
    header = (
        "",
        "source",
        "rows",
        "MAE of ln ε",
        "median",
        "RMSE of ln ε",
        "coverage of the 90 % interval",
        "the same, calibrated on other folds",
    )
    rows = []
    for key, f in dielectric.items():
        for source, part in [("all", f), *f["by_source"].items()]:
            figures = (_3(part["mae_ln"]), _3(part["median_ln"]), _3(part["rmse_ln"]), _percent(part["coverage"]))
            rows.append((UNITS[key], source, part["rows"], *figures, _percent(part.get("coverage_cross"))))
    return _table(header, rows)


def _withheld_words(withheld: Mapping[str, Any]) -> str:
    words = []
    for key in ("eps_electronic", "eps_total"):
        if key in withheld:
            words.append(f"ln {UNITS[key]} within {_3(withheld[key]['mae_ln'])} on {withheld[key]['rows']} crystals")
    if "gap" in withheld:
        gap = withheld["gap"]
        words.append(
            f"insulators' gaps within {_3(gap['mae_insulators'])} eV on {gap['insulators']} crystals, metal or insulator right in "
            f"{_percent(gap['balanced_accuracy'])} (balanced) of {gap['rows']}"
        )
    return f"The finished models, whole ensemble: {'; '.join(words) or 'none are among the data'}."


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
        "training rows have little say; ε_total is the mean of one learned directly and one of ε_electronic and the ions' part.\n"
        "- `eps_electronic_1` to `_3`: ln ε's deviator as a sum of tensors of the atoms' surroundings, each with a Gaussian process of "
        "the features as its coefficient, so that symmetry is kept.\n"
        "- `in_training`: whether a crystal of the reduced formula, in whatever structure, was among those learned from, for the gap or a "
        "dielectric constant. Apart from the textbook crystals, the figures below are of crystals for which it is false.\n"
        "- The standard deviations are scaled so that mean ± 1.645 std covers 90 % in cross-validation "
        f"(factors {', '.join(f'{key} {value:.2f}' for key, value in sorted(models.calibration.items()))}). Beyond `applicability` 1 "
        "those of the dielectric constants are wider by a factor 1 + far · (applicability − 1), until 3, fitted to families left out "
        f"({', '.join(f'{key} {value:.2f}' for key, value in sorted(models.far.items()))}).\n"
        "- `fom` = ε_electronic · gap and `fom_total` = ε_total · gap, with the standard deviations of products of independent variables, "
        "scaled likewise."
    )


def _fom_words(key: str, fom: Mapping[str, Any]) -> str:
    kinds = [("all crystals with the constant", fom), ("those with all labels", fom["complete"])]
    return "\n".join(
        f"- {_MERITS[key]}, {name}: {f['rows']} (mean {f['mean_truth']:.1f} eV): mean absolute error "
        f"{f['mae']:.2f} eV, median {f['median_absolute_error']:.2f} eV; the 90 % interval covers "
        f"{_percent(f['coverage'])}, and {_percent(f['coverage_cross'])} when calibrated on other folds."
        for name, f in kinds
        if name != "those with all labels" or f["rows"] != fom["rows"]
    )


_LIMITS = """\
- The labels are PBE's, whose gaps are too small by a third to a half against experiment, with dielectric constants a little
  too large as a rule.
- The dielectric data hold insulators, most in cells of at most 20 atoms. A crystal predicted metallic gets no dielectric
  constants, and figures of merit of 0; for one with `applicability` well above 1 it is a guess, and its `_std` says so.
- Near a ferroelectric transition ε_total diverges; the models do not know soft modes and smooth this over, as the table of textbook
  crystals shows for SrTiO₃, BaTiO₃ and rutile. Families that are known for it (perovskite titanates, niobates and tantalates,
  IV–VI rock salts, rutile) are named in the column `soft_mode`.
- The principal values have no deviations of their own; those of the total tensor are not predicted.
- Elements beyond plutonium are refused, and so are crystals that the potential refuses."""
