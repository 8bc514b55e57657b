# A policy learns from the scores, in rounds; each is one job that goes on from the one before.


rule finetune_settings:
    output:
        "<results>/finetune/{policy}/settings.json",
    log:
        "<results>/logs/finetune_settings/{policy}.log",
    wildcard_constraints:
        policy=one_of(["tuned", *ARMS]),
    localrule: True
    conda:
        "../../envs/policy.yaml"
    params:
        settings=finetune_settings,
    message:
        "Writing the settings of fine-tuning of the {wildcards.policy} policy"
    shell:
        "printf '%s\\n' {params.settings:q} > {output:q} 2> {log:q}"


rule finetune:
    input:
        unpack(round_start),
        base=BASE_POLICY,
        reference=SEEN,
        properties=REWARDED_PROPERTIES,
        stability=REWARDED_STABILITY,
        tables=REWARD_TABLES,
        settings="<results>/finetune/{policy}/settings.json",
        potential=POTENTIAL.file,
        checked=[POTENTIAL_CHECKED, REFERENCE_CHECKED],
    output:
        policy="<results>/finetune/{policy}/round_{round}/policy.safetensors",
        state="<results>/finetune/{policy}/round_{round}/state.safetensors",
        rollouts="<results>/finetune/{policy}/round_{round}/rollouts.parquet",
        updates="<results>/finetune/{policy}/round_{round}/updates.parquet",
    log:
        "<results>/logs/finetune/{policy}/round_{round}.log",
    # Wall time, memory and processor time, which no table may hold: they differ from run to run.
    benchmark:
        "<results>/logs/finetune/{policy}/round_{round}.tsv"
    wildcard_constraints:
        policy=one_of(["tuned", *ARMS]),
    # All later work waits for the rounds, so they start before the base policy's crystals are scored.
    priority: 10
    conda:
        "../../envs/potential.yaml"
    # As many as score beside each other; the policy learns meanwhile.
    threads: CONFIG.scoring.workers
    resources:
        gpu=GPU,
        mem_mb=2000 + 1000 * CONFIG.scoring.workers,
        runtime=240,
    params:
        settings=lambda wildcards: stage("finetune", *REWARDING, seed=seed_of(wildcards)),
        potential=energies_by,
        state=lambda wildcards, input: repeated("--state", input.get("state", [])),
        models=lambda wildcards, input: repeated("--models", input.properties),
        stability=lambda wildcards, input: repeated("--stability", input.stability),
        out=subpath(output.policy, parent=True),
    message:
        "Fine-tuning of the {wildcards.policy} policy, round {wildcards.round}"
    shell:
        "crystalformer-rl finetune --policy {input.policy:q} {params.state} --base-policy {input.base:q}"
        " --reference {input.reference:q} {params.models} {params.stability} --potential {params.potential:q}"
        " --round {wildcards.round} --seed {params.settings[seed]} --config {input.settings:q}"
        " --workers {threads} --out {params.out:q} > {log:q} 2>&1"
