"""Parts of the property models' card: tables in Markdown of how they do beyond what they learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystalformer_rl.properties.models import PropertyModels

UNITS = {"eps_electronic": "ε_electronic", "eps_total": "ε_total"}


def extrapolation_parts(models: PropertyModels) -> list[str]:
    """Sections on the distance from the training data and on chemical families that were left out."""
    figures = models.card["figures"]
    return [
        "### Applicability",
        "`applicability` is the distance to the nearest crystal with dielectric constants in the kernel's metric, in units of the "
        "95th percentile of those distances within the training data. Errors of the logarithms, and the share of crystals within one, "
        "1.645 and two stated deviations (a normal distribution has 68, 90 and 95 %). Cross-validated by formula:",
        _by_applicability(figures["applicability"]),
        "With a chemical family left out (all families below, of anions and of cations), which fills the far bins:",
        _by_applicability(figures["families_applicability"]),
        "### Chemical families left out",
        "The models learned from all other families: what they say of chemistry that they do not know. An anion family is that of the "
        "most electronegative element, a cation family that of the least. Mean absolute errors of the logarithms:",
        table(
            ("left out", "ε_electronic, rows", "MAE of ln ε", "ε_total, rows", "MAE of ln ε"),
            [
                (f"{f['family']}{'' if f['family'] != 'all' else f' ({kind} families)'}", *_constants(f))
                for kind, rows in figures["families"].items()
                for f in rows
            ],
        ),
        "Gaps of anion families left out, by one network for each, trained more briefly than those of the ensemble:",
        gap_table([(f["family"], f) for f in figures["gap_families"]], "left out"),
    ]


def _constants(f: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell for key in UNITS for cell in (f[key]["rows"], number(f[key]["mae_ln"])))


def _by_applicability(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["applicability"]
    for name in UNITS.values():
        header += [f"{name}, rows", "MAE of ln ε", "1 std", "1.645 std", "2 std"]
    lines = []
    for f in rows:
        line = [span(f)]
        for key in UNITS:
            line += [f[key]["rows"], number(f[key]["mae_ln"]), *(percent(share) for share in f[key]["within"])]
        lines.append(line)
    return table(header, lines)


def gap_table(parts: Sequence[tuple[str, Mapping[str, Any]]], first: str) -> str:
    """Figures of the gap and of the metal decision, a row each; `first` heads their names."""
    header = (
        first,
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
    shares = ("insulators_found", "metals_found", "balanced_accuracy", "coverage_insulators", "coverage_all")
    rows = [
        (
            name,
            f["rows"],
            f["insulators"],
            number(f["mae_insulators"]),
            number(f["mae_insulators_if_insulator"]),
            *(percent(f[share]) for share in shares),
        )
        for name, f in parts
    ]
    return table(header, rows)


def anisotropy_parts(f: Mapping[str, Any]) -> list[str]:
    """The section on the principal values of the electronic tensor."""
    return [
        "### Principal values",
        f"`eps_electronic_1` to `_3` on the {f['rows']} crystals whose tensor is known, {f['isotropic']} of them isotropic, cross-validated "
        f"by formula; {percent(f['explained'])} of the variance of ln ε's deviators is explained. Mean absolute errors with the mean "
        "given, beside those of calling every crystal isotropic:",
        table(
            ("", "predicted", "if isotropic"),
            [
                ("ln of the principal values", *_pair(f["values"])),
                ("the same, anisotropic crystals", *_pair(f["anisotropic_values"])),
                ("ln of largest / smallest", *_pair(f["spread"])),
            ],
        ),
    ]


def _pair(f: Mapping[str, float]) -> tuple[str, str]:
    return number(f["mae"]), number(f["if_isotropic"])


def unrelaxed_parts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The section on crystals that are not at rest."""
    return [
        "### Crystals that are not relaxed",
        "The crystals with all labels under a random strain (components uniform within the bounds) and random displacements (standard "
        "deviation along each axis), judged against the labels of the relaxed ones by models that had not seen the formula:",
        table(
            ("geometry", "MAE of ln ε_electronic", "MAE of ln ε_total", "MAE of the gap, eV", "insulators found"),
            [
                (
                    f["geometry"],
                    number(f["eps_electronic"]["mae_ln"]),
                    number(f["eps_total"]["mae_ln"]),
                    number(f["mae_gap"]),
                    percent(f["insulators_found"]),
                )
                for f in rows
            ],
        ),
    ]


def textbook_parts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The section on textbook crystals; nothing where there are none."""
    if not rows:
        return []
    return [
        "### Textbook crystals",
        "At measured lattice constants. DFPT: the label of the same crystal in the dielectric set; measured: at room temperature, means "
        "over directions. `in_training` as in the table of predictions; the last column says whether the formula's dielectric "
        "constants were learned, not its gap alone.",
        table(
            (
                "",
                "gap, eV",
                "measured",
                "ε_electronic",
                "DFPT",
                "measured",
                "ε_total",
                "DFPT",
                "measured",
                "applicability",
                "`in_training`",
                "constants learned",
            ),
            [_textbook_row(row) for row in rows],
        ),
    ]


def _textbook_row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    said, calculated, measured = row["predicted"], row["calculated"], row["measured"]

    def predicted(key: str) -> str:
        return f"{said[key]:.3g} ± {said[f'{key}_std']:.2g}"

    cells = [row["name"], predicted("band_gap"), f"{measured['band_gap']:g}"]
    for key in UNITS:
        label = calculated.get(key)
        cells += [predicted(key), "–" if label is None else f"{label:.3g}", f"{measured[key]:g}"]
    answers = ("yes" if row[key] else "no" for key in ("in_training", "constants_in_training"))
    return (*cells, f"{said['applicability']:.2f}", *answers)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value: float | None) -> str:
    """Three decimals, or a dash for nothing."""
    return "–" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share in percent, or a dash for nothing."""
    return "–" if value is None else f"{100 * value:.1f} %"


def span(row: Mapping[str, Any]) -> str:
    """The bin of a row with bounds `from` and `to`, the last open."""
    return f"≥ {row['from']:g}" if row["to"] is None else f"{row['from']:g} – {row['to']:g}"
