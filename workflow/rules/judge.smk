# A second potential, which no reward has seen, on the best candidates, and on all crystals of arms.


# The candidates in the order that one potential gives them.
use rule rank as shortlist with:
    input:
        **{**RANKED, "judged": []},
    output:
        candidates="<results>/shortlist/candidates.parquet",
        cif=temp(directory("<results>/shortlist/candidates_cif")),
        metrics=temp("<results>/shortlist/metrics.parquet"),
    log:
        "<results>/logs/shortlist.log",
    message:
        "Choosing the candidates that are judged"


rule judge_best:
    input:
        crystals="<results>/shortlist/candidates.parquet",
        reference=JUDGE_REFERENCE,
        stability=STABILITY,
        potential=JUDGING.file if JUDGING else [],
    output:
        "<results>/shortlist/judged.parquet",
    log:
        "<results>/logs/judge_best.log",
    conda:
        JUDGE_CONDA
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=2000,
        runtime=120,
    params:
        settings=judge_settings(best=CONFIG.rank.judge),
        potential=judged_by,
    message:
        "Judging the best {params.settings[best]} candidates with {params.potential}"
    shell:
        "crystalformer-rl judge {input.crystals:q} --best {params.settings[best]} --potential {params.potential:q}"
        " --reference {input.reference:q} --stability {input.stability:q}"
        " --stable-below {params.settings[stable_below]} --max-evaluations {params.settings[max_evaluations]}"
        " --fmax {params.settings[fmax]} --smax {params.settings[smax]} --out {output:q} > {log:q} 2>&1"


# What gain remains was learned of the crystals, not of the potential that rewarded.
rule judge:
    input:
        crystals="<results>/evaluation/{policy}/crystals.parquet",
        samples=batches("<results>/samples/{policy}/{batch}.parquet"),
        reference=JUDGE_REFERENCE,
        stability=STABILITY,
        potential=JUDGING.file if JUDGING else [],
    output:
        "<results>/judge/{policy}.parquet",
    log:
        "<results>/logs/judge/{policy}.log",
    conda:
        JUDGE_CONDA
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=2000,
        runtime=240,
    params:
        settings=judge_settings(),
        potential=judged_by,
        samples=lambda wildcards, input: repeated("--samples", input.samples),
    message:
        "Judging the crystals of the {wildcards.policy} policy with {params.potential}"
    shell:
        "crystalformer-rl judge {input.crystals:q} {params.samples} --potential {params.potential:q}"
        " --reference {input.reference:q} --stability {input.stability:q}"
        " --stable-below {params.settings[stable_below]} --max-evaluations {params.settings[max_evaluations]}"
        " --fmax {params.settings[fmax]} --smax {params.settings[smax]} --out {output:q} > {log:q} 2>&1"
