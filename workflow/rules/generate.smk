# Crystals of a policy.


rule sample:
    input:
        unpack(sample_source),
    output:
        "<results>/samples/{policy}/{batch}.parquet",
    log:
        "<results>/logs/sample/{policy}/{batch}.log",
    wildcard_constraints:
        policy=one_of(["base", "tuned", *of_kind("finetune")]),
    conda:
        "../../envs/policy.yaml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=2000,
        runtime=60,
    params:
        settings=sample_settings,
        space_groups_from=lambda wildcards, input: repeated("--space-groups-from", input.get("space_groups", [])),
    message:
        "Sampling {params.settings[n]} crystals from the {wildcards.policy} policy, from number {params.settings[offset]}"
    shell:
        "crystalformer-rl sample --policy {input.policy:q} --n {params.settings[n]} --offset {params.settings[offset]}"
        " --seed {params.settings[seed]} --temperature {params.settings[temperature]} {params.settings[constraints]}"
        " {params.space_groups_from}"
        " --out {output:q} > {log:q} 2>&1"


# Best of N: the policy stays as it is, and the best of all that it was seen to make stand for it. Likewise the best of what
# fine-tuning scored, where these are candidates too.
rule select:
    input:
        lambda wildcards: rounds_of(["tuned" if wildcards.policy in SCORED else wildcards.policy], ["rollouts.parquet"]),
    output:
        "<results>/samples/{policy}/{batch}.parquet",
    log:
        "<results>/logs/select/{policy}/{batch}.log",
    wildcard_constraints:
        policy=one_of([*SCORED, *of_kind("best_of_n")]),
    conda:
        "../../envs/policy.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=lambda wildcards: stage("select", **batch_of(wildcards)),
        or_fewer=lambda wildcards: "--or-fewer" if wildcards.policy in SCORED else "",
    message:
        "Selecting {params.settings[n]} of the best crystals for {wildcards.policy}, from number {params.settings[offset]}"
    shell:
        "crystalformer-rl select {input:q} --n {params.settings[n]} --offset {params.settings[offset]} {params.or_fewer}"
        " --out {output:q} > {log:q} 2>&1"
