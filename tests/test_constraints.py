"""Constraints on sampling: exact, inside the likelihood, and refused where nothing can satisfy them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from policy_examples import log_prob, small_policy

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.elements import atomic_number, parse_formula, reduced_formula
from crystalformer_rl.crystal.wyckoff import atoms_in_cell, centring_vectors, wyckoff_table
from crystalformer_rl.discovery.charge import charge_balanced
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.accepted import sample_accepted
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.checkpoint import save_policy
from crystalformer_rl.policy.completion import FormulaRequest, make_completion
from crystalformer_rl.policy.constraint_settings import ConstraintSettings
from crystalformer_rl.policy.constraints import allowed_elements
from crystalformer_rl.policy.request import Request
from crystalformer_rl.policy.sampler import sample
from crystalformer_rl.scoring.wanted import accepts
from crystalformer_rl.tables.parquet import read_table

pytestmark = pytest.mark.usefixtures("two_stages")

ANY = [1.0] * 230
PLACES = 9  # of the small policies here: fewer stages of the sampler to compile


def only(*groups: int) -> list[float]:
    return [float(g in groups) for g in range(1, 231)]


def cell_of(g, w, a) -> np.ndarray:
    """Atomic numbers of all atoms in the conventional cell."""
    return np.repeat(a, wyckoff_table().multiplicities[g, w])


def completions(g: int, counts: tuple[int, ...], sites: int) -> int | None:
    """Least sites that make up exactly `counts` atoms, by trying everything: an oracle for the table."""
    table = wyckoff_table()

    @cache
    def least(letter: int, left: tuple[int, ...]) -> int:
        if not any(left):
            return 0
        best = 99
        for w in range(letter, table.n_letters(g) + 1):
            m = table.multiplicity(g, w)
            for e, n in enumerate(left):
                if n >= m:
                    rest = (*left[:e], n - m, *left[e + 1 :])
                    best = min(best, 1 + least(w + int(table.no_freedom[g, w]), rest))
        return best

    found = least(1, counts)
    return found if found <= sites else None


@pytest.mark.parametrize("g", [1, 2, 14, 47, 62, 136, 166, 194, 205, 216, 221, 225, 227, 230])
def test_completion_agrees_with_trying_everything(g):
    for formula, units in product(("AlO", "MgF2", "Al2O3", "CaTiO3", "Cs2LiLuF6"), (1, 2, 4)):
        counts = parse_formula(formula)
        request = FormulaRequest(counts, (units,), 60, 20, allowed_elements())
        oracle = completions(g, tuple(n * units for n in counts.values()), 20)
        if oracle is None:
            with pytest.raises(InputError, match="fits in none of the space groups"):
                make_completion(request, [g])
            continue
        table, able = make_completion(request, [g])
        assert able == [g]
        nothing = jnp.zeros((1, len(table.elements)), jnp.int32)
        assert int(table.sites_needed(jnp.array([g]), jnp.array([1]), nothing)[0]) == oracle


def test_probabilities_of_all_crystals_of_a_formula_sum_to_one():
    """MgF2-like sequences on the four fixed positions of Pm-3m and P4/mmm's first six, all of them enumerated."""
    policy = small_policy(1, 4.0)
    elements = [atomic_number(name) for name in ("Mg", "O")]
    for g, letters in ((221, range(1, 5)), (123, range(1, 7))):
        blocked = {w: set() for w in range(1, 28) if w not in letters}
        request = Request(formula="MgO", site_elements=blocked, formula_units=(1, 2, 4), temperature=1.3, top_p=1.0)
        behaviour, _ = request.plan(only(g), 21)
        rows = [
            (chosen, kinds)
            for n in range(1, len(letters) + 1)
            for chosen in _rising(list(letters), n)
            for kinds in product(elements, repeat=n)
            if _fits(g, chosen, kinds)
        ]
        assert len(rows) > 3
        parts = log_prob(policy, _fixed_batch(g, rows), behaviour)
        assert float(jnp.exp(parts.w + parts.a).sum()) == pytest.approx(1, abs=1e-4)


def _rising(letters: list[int], n: int) -> list[tuple[int, ...]]:
    return [c for c in product(letters, repeat=n) if all(a < b for a, b in pairwise(c))]


def _fits(g: int, letters: tuple[int, ...], elements: tuple[int, ...]) -> bool:
    multiplicity = wyckoff_table().multiplicities[g, list(letters)]
    counts = [int(multiplicity[np.array(elements) == z].sum()) for z in sorted(set(elements))]
    return len(counts) == 2 and counts[0] == counts[1] and counts[0] in (1, 2, 4)


def _fixed_batch(g: int, rows: list) -> TokenBatch:
    """Crystals on positions without freedom; their coordinates are those of the positions."""
    w, a, x = np.zeros((len(rows), 9), np.int32), np.zeros((len(rows), 9), np.int32), np.zeros((len(rows), 9, 3), np.float32)
    for i, (letters, elements) in enumerate(rows):
        w[i, : len(letters)], a[i, : len(letters)] = letters, elements
        for j, letter in enumerate(letters):
            x[i, j] = wyckoff_table().operations(g, letter)[0][:, 3]
    lattice = np.tile(np.array([1, 1, 1, 1.57, 1.57, 1.57], np.float32), (len(rows), 1))
    return TokenBatch(*(jnp.asarray(array) for array in (np.full(len(rows), g, np.int32), w, a, x, lattice)))


@pytest.mark.parametrize(
    ("formula", "units"),
    [
        pytest.param("Cs2LiLuF6", (), marks=pytest.mark.slow),
        pytest.param("CaTiO3", (), marks=pytest.mark.slow),
        ("SiO2", (2, 3)),
    ],
)
def test_every_sample_has_the_formula(formula, units):
    behaviour, weights = Request(formula=formula, formula_units=units).plan(ANY, PLACES)
    drawn = sample(small_policy(n_max=PLACES), 0, range(64), weights, behaviour)
    atoms = [cell_of(*row) for row in zip(*drawn.tokens[:3], strict=True)]
    assert {reduced_formula(cell) for cell in atoms} == {formula}
    per_unit = sum(parse_formula(formula).values())
    if units:
        assert {len(cell) // per_unit for cell in atoms} <= set(units)
    assert len(set(drawn.tokens.g.tolist())) > 10
    tokens = jax.tree.map(jnp.asarray, drawn.tokens)
    np.testing.assert_allclose(
        drawn.behaviour_log_prob, log_prob(small_policy(n_max=PLACES), tokens, behaviour).total, atol=1e-3
    )
    np.testing.assert_allclose(drawn.log_prob, log_prob(small_policy(n_max=PLACES), tokens).total, rtol=1e-4, atol=2e-3)


@pytest.mark.slow
def test_formula_with_a_narrow_choice():
    """Formula, forbidden places and top-p together: nothing runs into a dead end."""
    request = Request(formula="CaTiO3", site_elements={1: {20}, 2: {22}}, top_p=0.3, temperature=0.5)
    behaviour, weights = request.plan(only(221, 62, 140), PLACES)
    drawn = sample(small_policy(n_max=PLACES), 4, range(64), weights, behaviour)
    for g, w, a in zip(*drawn.tokens[:3], strict=True):
        assert reduced_formula(cell_of(g, w, a)) == "CaTiO3"
        for letter, element in zip(w[w > 0], a[w > 0], strict=True):
            assert element == {1: 20, 2: 22}.get(letter, element)


def test_template_fixes_the_sites():
    behaviour, weights = Request(wyckoff=("3c", "1a", "b"), site_elements={3: {8, 9}}).plan(only(221), PLACES)
    drawn = sample(small_policy(n_max=PLACES), 0, range(64), weights, behaviour)
    assert (np.asarray(drawn.tokens.w)[:, :4] == [1, 2, 3, 0]).all()
    assert set(np.asarray(drawn.tokens.a)[:, 2]) == {8, 9}
    tokens = jax.tree.map(jnp.asarray, drawn.tokens)
    np.testing.assert_allclose(
        drawn.behaviour_log_prob, log_prob(small_policy(n_max=PLACES), tokens, behaviour).total, atol=5e-4
    )


@pytest.mark.slow
def test_template_with_a_formula():
    behaviour, weights = Request(wyckoff=("4a", "4b", "8c", "24e"), formula="Cs2LiLuF6").plan(only(225), PLACES)
    drawn = sample(small_policy(n_max=PLACES), 0, range(64), weights, behaviour)
    a = np.asarray(drawn.tokens.a)
    assert {tuple(sorted(row)) for row in a[:, :2].tolist()} == {(3, 71)}
    assert (a[:, 2:4] == [55, 9]).all()
    assert {tuple(row) for row in a[:, :2].tolist()} == {(3, 71), (71, 3)}


@pytest.mark.parametrize(
    ("request_", "groups", "says"),
    [
        (Request(formula="Cs2LiLuF7"), (225,), "none of the space groups.*225: no choice"),
        (Request(formula="NaCl", formula_units=(3,)), (225,), "divisible by 4"),
        (Request(formula="Na30Cl31"), (1,), "hold 40 by the limit on atoms"),
        (Request(formula="NaCl", forbidden={11}), (225,), "holds Na, which is not allowed"),
        (Request(formula="NaX"), (225,), "'X' is not an element symbol"),
        (Request(formula_units=(2,)), (225,), "but no formula that they count"),
        (Request(wyckoff=("4a",)), (225, 221), "one space group"),
        (Request(wyckoff=("4a", "4a")), (225,), "holds one site only"),
        (Request(wyckoff=("4c",)), (225,), "has no position 4c; c has multiplicity 8"),
        (Request(wyckoff=("m",)), (225,), "letters go from a to l"),
        (Request(elements={11}, forbidden={11}), (225,), "may hold any element"),
        (Request(wyckoff=("4a", "4b"), formula="NaCl2"), (225,), "cannot be shared out among the sites 4a 4b"),
    ],
)
def test_what_cannot_be_is_refused(request_, groups, says):
    with pytest.raises(InputError, match=says):
        request_.plan(only(*groups), 21)


def test_space_groups_that_cannot_hold_a_formula_are_left_out():
    _, weights = Request(formula="Cs2LiLuF6", max_atoms=10).plan(ANY, 21)
    able = {g for g in range(1, 231) if weights[g - 1] > 0}
    assert {1, 166, 225} <= able
    # One formula unit in the cell: no position for a single lithium in Pnma, none for ten atoms in Ia-3d.
    assert not {62, 230} & able


def test_forbidden_elements():
    table = allowed_elements({8, 11, 17}, {17}, {2: {8, 26}})
    assert np.flatnonzero(table[1]).tolist() == [8, 11]
    assert np.flatnonzero(table[2]).tolist() == [8]
    assert not table[0].any()


def test_sample_command_with_constraints(tmp_path):
    path, out = tmp_path / "p.safetensors", tmp_path / "s.parquet"
    save_policy(path, small_policy(n_max=PLACES), {"space_group_counts": [1] * 230})
    base = ["sample", "--policy", str(path), "--n", "12", "--out", str(out)]
    result = CliRunner().invoke(
        cli, [*base, "--formula", "MgAl2O4", "--formula-units", "2", "8", "--space-group", "227", "74"]
    )
    assert result.exit_code == 0, result.output
    table = read_table(out)
    assert set(table.column("formula").to_pylist()) - {None} == {"MgAl2O4"}
    rows = zip(*(table.column(name).to_pylist() for name in ("space_group", "wyckoff")), strict=True)
    for g, letters in (row for row in rows if None not in row):
        assert atoms_in_cell(g, np.array(letters)) in (14, 56)
    refused = CliRunner().invoke(cli, [*base, "--site-elements", "a:Na"])
    assert refused.exit_code != 0
    assert "--site-elements 'a:Na'" in f"{refused.output} {refused.exception}"
    options = ["--space-group", "221", "--wyckoff", "1a", "3c", "--site-elements", "a=Na,K", "--forbid", "O"]
    sites = CliRunner().invoke(cli, [*base, *options])
    assert sites.exit_code == 0, sites.output
    rows = [row for row in read_table(out).column("elements").to_pylist() if row]
    assert {row[0] for row in rows} <= {11, 19}
    assert 8 not in {row[1] for row in rows}


def test_cells_are_no_larger_than_asked_and_likelihoods_count_it():
    """No formula is needed; every primitive cell obeys, and a sample's log-probability is that of the masked likelihood."""
    policy, groups = small_policy(n_max=PLACES), only(225, 221, 62)
    behaviour, weights = Request(max_atoms=6).plan(groups, PLACES)
    assert weights[224] > 0
    drawn = sample(policy, 0, range(128), weights, behaviour)
    for g, w in zip(np.asarray(drawn.tokens.g), np.asarray(drawn.tokens.w), strict=True):
        assert atoms_in_cell(g, w[w > 0]) <= 6 * len(centring_vectors(g))
    np.testing.assert_allclose(log_prob(policy, drawn.tokens, behaviour).total, drawn.behaviour_log_prob, atol=2e-3)
    with pytest.raises(InputError, match="primitive cell of at most 2 atoms"):
        Request(max_atoms=2).plan(only(62), PLACES)


def test_what_no_mask_can_hold_is_drawn_again_until_it_does():
    """The crystals are those that the first test of each attempt lets through: the policy conditioned, not another one."""
    policy, wanted = (
        small_policy(n_max=PLACES),
        ConstraintSettings(require=["Li"], min_elements=2, elements=["Li", "O", "Na", "Fe"]),
    )
    behaviour, weights = wanted.request().plan(only(2, 225), PLACES)
    test = accepts(wanted)
    samples, found = sample_accepted(policy, 3, range(40), weights, behaviour, test)
    crystals = [(sites, status) for sites, status in found if sites is not None]
    assert len(crystals) > 2
    assert all(3 in sites.elements and len(set(sites.elements.tolist())) > 1 for sites, _ in crystals)
    some, _ = sample_accepted(policy, 3, [7, 21], weights, behaviour, test)
    np.testing.assert_array_equal(some.tokens.a, samples.tokens.a[[7, 21]])
    np.testing.assert_allclose(log_prob(policy, samples.tokens, behaviour).total, samples.behaviour_log_prob, atol=2e-3)
    never = ConstraintSettings(require=["Li"], forbid=["O"])
    assert accepts(ConstraintSettings()) is None
    nothing = sample_accepted(policy, 3, range(4), *never_holds(never), lambda sites: False)[1]
    assert {status for sites, status in nothing} <= {"unwanted", "bad_lattice", "no_crystal"}


def never_holds(wanted):
    behaviour, weights = wanted.request().plan(only(225), PLACES)
    return weights, behaviour


def test_charge_balance_is_held_by_every_crystal():
    policy, wanted = small_policy(n_max=PLACES), ConstraintSettings(charge_balanced=True, elements=["Na", "Cl", "O"])
    behaviour, weights = wanted.request().plan(only(225), PLACES)
    _, found = sample_accepted(policy, 1, range(32), weights, behaviour, accepts(wanted))
    held = [sites for sites, _ in found if sites is not None]
    assert held
    assert all(charge_balanced(cell_of(225, s.wyckoff, s.elements)) for s in held)


def test_a_narrower_policy_makes_the_same_choices_nearer_to_their_means():
    """One weight, two readings: letters and elements are equally likely given what came before, coordinates and lattices nearer."""
    policy = small_policy(n_max=PLACES)
    narrow = policy.at_density_temperature(0.01)
    assert policy.at_density_temperature(1.0).shape == policy.shape
    everything = Request().plan(only(2), PLACES)[0]
    wide_drawn, drawn = (sample(p, 0, range(128), only(2), everything) for p in (policy, narrow))
    np.testing.assert_allclose(
        log_prob(narrow, drawn.tokens, everything).total, drawn.behaviour_log_prob, rtol=2e-4, atol=5e-3
    )
    here, there = (log_prob(p, drawn.tokens, everything) for p in (policy, narrow))
    np.testing.assert_allclose(here.choices, there.choices, atol=1e-4)
    assert float((there.densities - here.densities).mean()) > 3
    assert float(jnp.std(drawn.tokens.l[:, 0])) < float(jnp.std(wide_drawn.tokens.l[:, 0]))
