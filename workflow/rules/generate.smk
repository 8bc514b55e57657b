# Crystals from a policy.


rule sample:
    input:
        unpack(sample_source),
    output:
        "<results>/samples/{policy}/{batch}.parquet",
    log:
        "<results>/logs/sample/{policy}/{batch}.log",
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
        " --seed {params.settings[seed]} --temperature {params.settings[temperature]} {params.settings[space_groups]}"
        " {params.space_groups_from}"
        " --out {output:q} > {log:q} 2>&1"
