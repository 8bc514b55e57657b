# What the other files share: the checked configuration, where things lie, what a stage depends on.

import atexit
import json
import shlex
import sys
from math import ceil
from pathlib import Path
from typing import NamedTuple

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import min_version, validate

from crystalformer_rl.config.loading import POLICY_SUFFIXES, arm_settings, parse_config
from crystalformer_rl.config.yaml_file import read_mapping
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.potential_registry import environment_key, environment_of, find, fingerprint, module_of
from crystalformer_rl.resources.registry import Resource, choose, load_registry
from crystalformer_rl.rewards.algebra import Reward
from crystalformer_rl.rewards.scored_batch import PROPERTIES as PREDICTED
from crystalformer_rl.rewards.scored_batch import STABILITY as CHANCES
from crystalformer_rl.stages.source_digest import source_digest
from crystalformer_rl.tables.provenance import read_provenance

min_version("9.19")


configfile: "config.yaml"


def checked(check, *arguments):
    """What `check` returns; its complaint in one sentence ends the run before any work."""
    try:
        return check(*arguments)
    except InputError as error:
        raise WorkflowError(str(error)) from None


# Snakemake has read the files, but lets the last of two equal keys win.
for path in workflow.configfiles:
    checked(read_mapping, path)
CONFIG = checked(parse_config, config, ", ".join(map(str, workflow.configfiles)))
config.update(CONFIG.model_dump(mode="json"))
validate(config, "../schemas/config.schema.json", set_default=False)


# The policies of the comparison by name, `ppo-0`, with the arm and the seed of each.
ARMS = {f"{name}-{seed}": (name, seed) for name, arm in CONFIG.arms.policies.items() for seed in arm.seeds}


def one_of(names):
    """A regular expression for exactly these names."""
    return "|".join(name.replace(".", r"\.") for name in names) or "(?!)"


# Crystals that fine-tuning scored, where they are candidates too: they go through the stages as a policy's samples do.
SCORED = ["scored"] if CONFIG.rank.scored else []


def of_kind(kind):
    """The policies of all arms of a kind."""
    return [policy for policy, (name, _) in ARMS.items() if CONFIG.arms.policies[name].kind == kind]


pathvars:
    results=CONFIG.results,


wildcard_constraints:
    policy=one_of(["base", "tuned", *SCORED, *ARMS]),
    batch=r"\d{5}",
    round=r"[1-9]\d*",


# On one machine two frameworks share a GPU, and neither may take all its memory; without one, both must not look for it.
# Jobs on one machine share what JAX compiled: a job of sampling is otherwise mostly compilation.
# Python looks into ~/.local before it looks into a conda environment, whose packages would give way to what lies there.
GPU = int(CONFIG.device == "gpu")
shell.prefix(
    f"set -euo pipefail; export CRYSTALFORMER_RL_DEVICE={CONFIG.device} PYTHONNOUSERSITE=1; "
    "export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0"
    ' JAX_COMPILATION_CACHE_DIR="${{JAX_COMPILATION_CACHE_DIR:-$PWD/.snakemake/jax/$(uname -n)}}" '
    + ("XLA_PYTHON_CLIENT_PREALLOCATE=false; " if GPU else "CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu; ")
)


def stage(name, *potentials, **settings):
    """The one parameter of a stage: its settings, the potentials that it uses, and the digest of the code that it runs.

    Snakemake leaves params whose functions take `input` out of its rerun triggers, so nothing here does.
    """
    facts = [potential.facts for potential in potentials]
    code = source_digest(name, *(potential.code for potential in potentials))
    return {**settings, **({"potentials": facts} if facts else {}), "code": code}


# Resources


def chosen(setting, value, kind, suffixes=()):
    """The file that a setting means; what must be fetched for it is noted in FETCHED."""
    choice = checked(choose, setting, value, kind, suffixes)
    if isinstance(choice, Path):
        return str(choice)
    FETCHED[choice.file_name] = choice
    return f"<results>/resources/{choice.file_name}"


def published_sha256(resource):
    """The digest of the file that a resource becomes, where it is published."""
    digest = resource.digest
    return digest.value if digest and digest.kind == "sha256" and not resource.member else None


def fetch_settings(wildcards):
    """Another address or digest in the registry is another file, such as an embedded policy made anew."""
    resource = FETCHED[wildcards.file]
    return {"name": resource.name, "url": resource.url, "digest": str(resource.digest), "member": resource.member}


FETCHED: dict[str, Resource] = {}
REFERENCE = chosen("resources.reference", CONFIG.resources.reference, "reference", (".parquet",))
PROPERTIES = chosen("resources.properties", CONFIG.resources.properties, "properties", (".safetensors",))
STABILITY = chosen("resources.stability", CONFIG.resources.stability, "stability", (".safetensors",))
if CONFIG.policy.source == "pretrain":
    BASE_POLICY = "<results>/pretrain/policy.safetensors"
    PRETRAIN_DATA = chosen("pretrain.data", CONFIG.pretrain.data, "crystals")
    RECOVERED = ["<results>/pretrain/recovered.parquet"] if CONFIG.recover.compositions else []
else:
    BASE_POLICY = chosen("policy.source", CONFIG.policy.source, "policy", POLICY_SUFFIXES)
    PRETRAIN_DATA = []
    RECOVERED = []
# What the policy has seen: the reference, and the structures recovered for its training.
SEEN = "<results>/pretrain/reference.parquet" if RECOVERED else REFERENCE


class Potential(NamedTuple):
    """A potential of the run: its name, its checkpoint (none where it comes with a package), its code, what it stands for."""

    name: str
    file: list | str
    code: str
    facts: dict

    def given(self, place):
        """What --potential is given; `place` is where the checkpoint lies in the end."""
        return f"{self.name.partition(':')[0]}:{place}" if self.file else self.name


def potential(setting, name):
    """The potential that a setting means: a registered one, or a checkpoint by its place or its name in the registry."""
    if name in POTENTIAL_RESOURCES or Path(name).suffix == ".model" and ":" not in name:
        name = f"mace:{name}"
    registered, argument = checked(find, name)
    if registered.takes != "FILE":
        return Potential(name, [], checked(module_of, name), checked(fingerprint, name))
    file = chosen(setting, argument, "potential", (".model",))
    facts = checked(fingerprint, name)
    if Path(file).name in FETCHED:
        resource = FETCHED[Path(file).name]
        facts = facts | {"url": resource.url, "digest": str(resource.digest)}
    return Potential(name, file, checked(module_of, name), facts)


POTENTIAL_RESOURCES = {name for name, resource in load_registry().items() if resource.kind == "potential"}
POTENTIAL = potential("resources.potential", CONFIG.resources.potential)
# Property models are trained on this one's embeddings, whatever potential gives the energies.
EMBEDDER = potential("resources.properties", "chgnet")
POTENTIAL_CHECKED, REFERENCE_CHECKED = "<results>/checks/potential.json", "<results>/checks/reference.json"


def judge_of_run():
    """Who judges, and the reference by which; nobody where it cannot be had, which is said and stops nothing.

    With conda the judge lives in the environment of its rule, made when it is needed.
    """
    asked = CONFIG.judge if ARMS or CONFIG.rank.judge else None
    if asked is None:
        return None, []
    try:
        judging = potential("judge.potential", asked.potential)
        if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
            environment_of(asked.potential)
        by_dft = asked.reference == "embedded" and asked.potential != "chgnet-r2scan"
        if by_dft and Path(REFERENCE).is_file() and "bias" not in read_provenance(REFERENCE):
            raise InputError(f"{REFERENCE} has no DFT energies on a scale, by which {asked.potential} could judge.")
    except InputError as error:
        logger.warning(f"No second potential judges this run: {error}")
        return None, []
    if by_dft:
        return judging, REFERENCE
    name = "embedded-judge" if asked.reference == "embedded" else asked.reference
    return judging, chosen("judge.reference", name, "reference", (".parquet",))


JUDGING, JUDGE_REFERENCE = judge_of_run()
JUDGE_CONDA = f"../../envs/{environment_key(CONFIG.judge.potential) if JUDGING else 'potential'}.yaml"
JUDGE_CONDA = (
    JUDGE_CONDA if (Path(workflow.basedir) / "workflow/rules" / JUDGE_CONDA).exists() else "../../envs/potential.yaml"
)


def judge_settings(**more):
    """What the judge is asked, and how it relaxes."""
    relaxation = {name: getattr(CONFIG.relax, name) for name in ("fmax", "smax", "max_evaluations")}
    asked = {"stable_below": CONFIG.evaluate.stable_below, **relaxation, **more}
    return stage("judge", *([JUDGING] if JUDGING else []), **asked)


# The best candidates, judged before they are ranked for good.
SHORTLIST = JUDGING is not None and CONFIG.rank.judge > 0


def energies_by(wildcards, input):
    """What --potential is given; the setting itself stands in each stage's settings."""
    return POTENTIAL.given(input.potential)


def judged_by(wildcards, input):
    """The same where the judge is asked."""
    return JUDGING.given(input.potential)


# What the reward reads besides: models, where it asks for predicted figures, and tables that its terms name.
REWARDED_PROPERTIES = PROPERTIES if PREDICTED in checked(Reward.of, CONFIG.reward).needs else []
REWARDED_STABILITY = STABILITY if CHANCES in checked(Reward.of, CONFIG.reward).needs else []
REWARD_TABLES = CONFIG.reward.files
# Whose figures the reward is made of.
REWARDING = [POTENTIAL, *([EMBEDDER] if REWARDED_PROPERTIES else [])]

# Policies, batches and rounds


def pretrain_settings():
    """What the command `pretrain` takes as its configuration."""
    training = CONFIG.pretrain.training.model_dump()
    seed = CONFIG.seed if training["seed"] is None else training["seed"]
    return {"shape": CONFIG.pretrain.shape.model_dump(), "training": {**training, "seed": seed}}


def recover_settings():
    """What the command `recover` is given; `none` stands for no second potential."""
    return CONFIG.recover.model_dump(mode="json", exclude={"compositions"}) | {
        "second": CONFIG.recover.second or "none"
    }


BATCHES = [f"{k:05d}" for k in range(ceil(CONFIG.sample.n / CONFIG.sample.batch))]
ROUNDS = range(1, CONFIG.finetune.rounds + 1)
# Snakemake follows the chain of rounds by recursion, a few frames a round.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + 10 * len(ROUNDS)))


def batches(pattern):
    """One path for each batch of a policy's samples; a larger number of samples only adds to them."""
    return lambda wildcards: expand(pattern, policy=wildcards.policy, batch=batches_of(wildcards.policy))


def batches_of(policy):
    """The batches of a policy's crystals; those that fine-tuning scored are one, since nobody knows how many kinds they are."""
    return BATCHES[:1] if policy in SCORED else BATCHES


def seed_of(wildcards):
    """The seed of everything random that a policy does."""
    return ARMS[wildcards.policy][1] if wildcards.policy in ARMS else CONFIG.seed


def batch_of(wildcards):
    """Which crystals of the policy's endless sequence, or of its ranking, a batch holds."""
    if wildcards.policy in SCORED:
        return {"n": CONFIG.rank.scored, "offset": 0}
    offset = int(wildcards.batch) * CONFIG.sample.batch
    return {"n": min(CONFIG.sample.batch, CONFIG.sample.n - offset), "offset": offset}


def sample_settings(wildcards):
    """Which crystals a batch holds, and how they are drawn."""
    return stage(
        "sample",
        **batch_of(wildcards),
        seed=seed_of(wildcards),
        temperature=CONFIG.sample.temperature,
        constraints=constraint_options(CONFIG.constraints),
    )


def constraint_options(wanted):
    """What every crystal must be, as options of `sample`."""
    several = {"--space-group": wanted.space_groups, "--elements": wanted.elements, "--forbid": wanted.forbid}
    several |= {"--require": wanted.require, "--wyckoff": wanted.wyckoff}
    options = [repeated(option, values) for option, values in several.items() if values]
    options += [repeated("--min-elements", wanted.min_elements)] if wanted.min_elements > 1 else []
    options += ["--charge-balanced"] if wanted.charge_balanced else []
    options += [repeated("--formula", wanted.formula)] if wanted.formula else []
    options += [repeated("--max-atoms", wanted.max_atoms)] if wanted.max_atoms else []
    return " ".join(options)


def sample_source(wildcards):
    """The policy; and the crystals whose space groups are followed, where a published policy does not say its own."""
    foreign = BASE_POLICY.endswith(".pkl") and not CONFIG.constraints.space_groups
    return {"policy": policy_file(wildcards), **({"space_groups": REFERENCE} if foreign else {})}


def policy_file(wildcards):
    """The policy that samples are drawn from: the base policy, or that of the last round."""
    if wildcards.policy == "base":
        return BASE_POLICY
    return f"<results>/finetune/{wildcards.policy}/round_{ROUNDS[-1]}/policy.safetensors"


def finetune_settings(wildcards):
    """What the command `finetune` takes as its configuration.

    The number of rounds is not part of it, so that more rounds only add jobs.
    """
    settings = CONFIG.finetune
    if wildcards.policy in ARMS:
        settings = checked(arm_settings, CONFIG, ARMS[wildcards.policy][0])
    parts = {
        "finetune": settings.model_dump(mode="json", exclude={"rounds"}),
        "reward": CONFIG.reward.model_dump(mode="json"),
        "constraints": CONFIG.constraints.model_dump(mode="json"),
        "evaluate": CONFIG.evaluate.model_dump(mode="json"),
    }
    return json.dumps(parts, sort_keys=True)


def round_start(wildcards):
    """What a round goes on from: the base policy, or policy and training state of the round before."""
    if wildcards.round == "1":
        return {"policy": BASE_POLICY}
    before = f"<results>/finetune/{wildcards.policy}/round_{int(wildcards.round) - 1}"
    return {
        "policy": f"{before}/policy.safetensors",
        "state": f"{before}/state.safetensors",
    }


def rounds_of(policies, files):
    """Files of all rounds of the policies."""
    return expand("<results>/finetune/{policy}/round_{round}/{file}", policy=policies, round=ROUNDS, file=files)


def compared():
    """What the comparison of the arms stands on."""
    policies = ["base", *ARMS]
    return {
        "rounds": rounds_of(ARMS, ["rollouts.parquet", "updates.parquet"]),
        "settings": expand("<results>/finetune/{policy}/settings.json", policy=ARMS),
        "evaluations": expand(
            "<results>/evaluation/{policy}/{table}.parquet", policy=policies, table=["crystals", "metrics"]
        ),
        "judged": expand("<results>/judge/{policy}.parquet", policy=policies) if JUDGING else [],
    }


# What the ranking of the candidates stands on.
RANKED = {
    "policies": expand(
        "<results>/evaluation/{policy}/{table}.parquet", policy=["base", "tuned"], table=["crystals", "metrics"]
    ),
    "also": expand("<results>/evaluation/{policy}/crystals.parquet", policy=SCORED),
    "config": "<results>/finetune/tuned/settings.json" if CONFIG.rank.by.strip("-") == "reward" else [],
    "judged": "<results>/shortlist/judged.parquet" if SHORTLIST else [],
}

COMPARISON = [
    f"<results>/comparison/{name}" for name in ("arms.parquet", "curves.parquet", "comparison.md", "comparison.svg")
]


def everything():
    """Every file that a run keeps, not only the last: what is deleted is missed, and made again."""
    policies, tables = ["base", "tuned", *SCORED, *ARMS], ["crystals", "metrics"]
    of_round = ["policy.safetensors", "state.safetensors", "rollouts.parquet", "updates.parquet"]
    return [
        *(f"<results>/resources/{name}" for name in FETCHED),
        *([BASE_POLICY] if CONFIG.policy.source == "pretrain" else []),
        POTENTIAL_CHECKED,
        REFERENCE_CHECKED,
        *rounds_of(["tuned", *ARMS], of_round),
        *(
            path
            for policy in policies
            for path in expand(
                "<results>/{stage}/{policy}/{batch}.parquet",
                stage=["samples", "relaxed"],
                policy=policy,
                batch=batches_of(policy),
            )
        ),
        *expand("<results>/{stage}/{policy}.parquet", stage=["hull", "properties", "novelty"], policy=policies),
        *expand("<results>/evaluation/{policy}/{table}.parquet", policy=policies, table=tables),
        *(["<results>/shortlist/candidates.parquet", "<results>/shortlist/judged.parquet"] if SHORTLIST else []),
        "<results>/candidates.parquet",
        "<results>/candidates_cif",
        "<results>/metrics.parquet",
        "<results>/report/index.html",
        "<results>/report/summary.txt",
        *(compared()["judged"] + COMPARISON if ARMS else []),
    ]


# What a stage's name means as a target: all its policies and batches. Rules of those names have wildcards, which
# Snakemake takes for no target.
STAGE_FILES = {
    "sample": "samples/{policy}/{batch}.parquet",
    "relax": "relaxed/{policy}/{batch}.parquet",
    "hull": "hull/{policy}.parquet",
    "properties": "properties/{policy}.parquet",
    "novelty": "novelty/{policy}.parquet",
    "evaluate": "evaluation/{policy}/metrics.parquet",
    "judge": "judge/{policy}.parquet",
    "finetune": "finetune/{tuned}/round_{round}/policy.safetensors",
}


def files_of_stage(name):
    """All files of a stage, below the folder of results."""
    found = expand(
        STAGE_FILES[name],
        policy=["base", "tuned", *ARMS] if name != "judge" else ["base", *ARMS] if JUDGING and ARMS else [],
        tuned=["tuned", *ARMS],
        batch=BATCHES,
        round=ROUNDS,
    )
    if not found:
        raise WorkflowError(f"There is nothing to {name}: arms.policies names no arms, or nobody judges.")
    return [f"{CONFIG.results}/{path}" for path in found]


class StageTargets(type(workflow)):
    """The workflow, with names of stages among its targets replaced by their files.

    Snakemake hands over the targets when it has read the rules, and no rule with wildcards can be one.
    """

    @property
    def dag_settings(self):
        return self.__dict__.get("_dag_settings")

    @dag_settings.setter
    def dag_settings(self, settings):
        if settings is not None:
            named = set(settings.targets)
            files = {path for name in named & STAGE_FILES.keys() for path in files_of_stage(name)}
            settings.targets = (named - STAGE_FILES.keys()) | files
        self.__dict__["_dag_settings"] = settings


workflow.__class__ = StageTargets


def repeated(option, values):
    """`--option a --option b`, for one value or several, quoted for the shell."""
    values = [values] if isinstance(values, (str, Path, int)) else values
    return " ".join(f"{option} {shlex.quote(str(value))}" for value in values)


def modified(path):
    """When a file was last written, or None where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else None


def print_last(path):
    """Print a text when everything else was said."""
    text = path.read_text(encoding="utf-8").rstrip()
    atexit.register(print, f"\n{text}", flush=True)
