# The policy learns from the scores, in rounds; each is one job that goes on from the one before.


# The number of rounds is not among the settings of a round, so that more rounds only add jobs.
rule finetune_settings:
    output:
        "<results>/finetune/settings.json",
    log:
        "<results>/logs/finetune_settings.log",
    localrule: True
    conda:
        "../../envs/policy.yaml"
    params:
        settings=json.dumps(CONFIG.finetune.model_dump(mode="json", exclude={"rounds"}), sort_keys=True),
    message:
        "Writing the settings of fine-tuning"
    shell:
        "printf '%s\\n' {params.settings:q} > {output:q} 2> {log:q}"


rule finetune:
    input:
        unpack(round_start),
        base=BASE_POLICY,
        reference=REFERENCE,
        settings="<results>/finetune/settings.json",
        potential=POTENTIAL_FILE,
        checked=ancient(CHECKED),
    output:
        policy="<results>/finetune/round_{round}/policy.safetensors",
        state="<results>/finetune/round_{round}/state.safetensors",
        rollouts="<results>/finetune/round_{round}/rollouts.parquet",
        updates="<results>/finetune/round_{round}/updates.parquet",
    log:
        "<results>/logs/finetune/round_{round}.log",
    # All later work waits for the rounds, so they start before the base policy's crystals are scored.
    priority: 10
    conda:
        "../../envs/potential.yaml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=3000,
        runtime=240,
    params:
        settings=stage("finetune", "potential.worker", seed=CONFIG.seed),
        potential=potential,
        state=lambda wildcards, input: repeated("--state", input.get("state", [])),
        out=subpath(output.policy, parent=True),
    message:
        "Fine-tuning, round {wildcards.round}"
    shell:
        "crystalformer-rl finetune --policy {input.policy:q} {params.state} --base-policy {input.base:q}"
        " --reference {input.reference:q} --potential {params.potential:q} --round {wildcards.round}"
        " --seed {params.settings[seed]} --config {input.settings:q} --out {params.out:q} > {log:q} 2>&1"
