# Ways to fine-tune side by side; only where arms.policies names some.


# A potential that no reward has seen, on the crystals as they are: what gain remains was learned of the crystals.
rule judge:
    input:
        samples=batches("<results>/samples/{policy}/{batch}.parquet"),
        relaxed=batches("<results>/relaxed/{policy}/{batch}.parquet"),
        reference=JUDGE_REFERENCE,
        potential=JUDGING.file if JUDGING else [],
    output:
        "<results>/judge/{policy}.parquet",
    log:
        "<results>/logs/judge/{policy}.log",
    conda:
        "../../envs/potential.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        settings=stage("judge", *([JUDGING] if JUDGING else [])),
        potential=judged_by,
        relaxed=lambda wildcards, input: repeated("--relaxed", input.relaxed),
    message:
        "Judging the crystals of the {wildcards.policy} policy with {params.potential}"
    shell:
        "crystalformer-rl judge {input.samples:q} {params.relaxed} --potential {params.potential:q}"
        " --reference {input.reference:q} --out {output:q} > {log:q} 2>&1"


rule compare:
    input:
        **compared(),
    output:
        COMPARISON,
    log:
        "<results>/logs/compare.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=stage("compare"),
        only=repeated("--only", ["base", *ARMS]),
        results=lambda wildcards, input: str(Path(input.evaluations[0]).parents[2]),
        out=subpath(output[0], parent=True),
    message:
        "Comparing the arms"
    shell:
        "crystalformer-rl compare {params.results:q} {params.only} --out {params.out:q} > {log:q} 2>&1"
