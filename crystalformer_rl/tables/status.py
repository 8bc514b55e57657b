"""What became of a crystal in a stage: `ok`, or the named reason why its row has no result."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Every status that a row may carry; `meaning` is its sentence. Rows that fail keep their place."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Status:
        status = str.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status

    OK = "ok", "the stage succeeded for this crystal"
    UNREADABLE = "unreadable", "the input could not be read as a crystal"
    DISORDERED = "disordered", "sites that are partly occupied or shared by elements, so no single arrangement of atoms"
    FORMULA_MISMATCH = "formula_mismatch", "the atoms read are not those that the file's own formula states"
    SYMMETRY_UNCLEAR = (
        "symmetry_unclear",
        "the file's symmetry does not say which atoms the cell holds, or contradicts its cell or its own statements",
    )
    NOT_PERIODIC = "not_periodic", "the input says that it is not periodic in three directions"
    UNKNOWN_ELEMENT = "unknown_element", "an element outside the supported range (Z = 1 to 118)"
    EMPTY_CRYSTAL = "empty_crystal", "no atoms"
    BAD_LATTICE = "bad_lattice", "a lattice that is not finite, has no volume or angles no cell can have"
    BAD_COORDINATES = "bad_coordinates", "coordinates that are not finite or not three per atom"
    NO_SYMMETRY = "no_symmetry", "no space group was found"
    TOO_MANY_SITES = "too_many_sites", "more symmetry-inequivalent sites than a token sequence holds"
    NO_WYCKOFF_REPRESENTATIVE = (
        "no_wyckoff_representative",
        "no point of an orbit satisfies the standard form of its Wyckoff position",
    )
    NOT_REPRODUCED = "not_reproduced", "decoding the tokens does not give the crystal back"
    NO_CRYSTAL = "no_crystal", "the sampled tokens decode to no crystal: no sites, or no room for the lattice"
    UNWANTED = "unwanted", "a hundred crystals were drawn, and none met the run's constraints"
    OVERLAPPING_ATOMS = "overlapping_atoms", "two atoms closer than 0.5 Å"
    TOO_LARGE = "too_large", "more atoms than the limit of reading or of the stage"
    ISOLATED_ATOMS = "isolated_atoms", "an atom with no neighbour within the potential's cutoff"
    UNSUPPORTED_ELEMENT = "unsupported_element", "the potential was not made for one of the elements"
    POTENTIAL_FAILED = "potential_failed", "the potential gave no finite energy"
    OUT_OF_MEMORY = "out_of_memory", "the potential needs more memory for this crystal alone than there is"
    COLLAPSED = "collapsed", "the cell shrank below half of its first volume in relaxation"
    EXPLODED = "exploded", "the cell grew beyond twice its first volume in relaxation"
    NO_REFERENCE_ENERGY = "no_reference_energy", "no elemental reference energy for one of the elements"
    IMPLAUSIBLE_ENERGY = (
        "implausible_energy",
        "a formation energy more than 5 eV/atom from the elements: energies of mixed scales, or of a cell and not of an atom",
    )
    NO_ENERGY = "no_energy", "the computed entry gives no finite energy"
    NO_STRUCTURE = "no_structure", "the computed entry gives a composition but no structure"
    OTHER_FUNCTIONAL = "other_functional", "the computed entry's functional or Hubbard U is not that of the reference"
    NO_CORRECTION = "no_correction", "the MP2020 corrections of its energy cannot be worked out"
    KNOWN_STRUCTURE = "known_structure", "a structure of the composition is known, so none is recovered"
    HELD_OUT = "held_out", "a formula that is held out of training, or reserved for tests"
    NOT_ATTEMPTED = "not_attempted", "beyond the limits of this run"
    NO_PROTOTYPE = "no_prototype", "no known crystal has the composition's stoichiometry"
    NOT_ACCEPTED = "not_accepted", "the best structure is not probable enough to be the right one"
    DUPLICATE = "duplicate", "the structure of another row, which stands for it"
    OUTDONE = "outdone", "others of its formula lay lower after as little work, so that it was not relaxed to rest"
    NO_FIGURE = "no_figure", "a figure that the reward needs is not known, and no stage says why"
    MATCH_FAILED = "match_failed", "the structure matcher could not handle the crystal"
    UPSTREAM_FAILED = "upstream_failed", "an earlier stage failed for this crystal; its own status says how"


OK = Status.OK
#: Meaning by status, also for names that come out of files.
STATUSES: dict[str, str] = {status.value: status.meaning for status in Status}
