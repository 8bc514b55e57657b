# A base policy of one's own; only where policy.source is `pretrain`.


# One turn of a data engine: what is recovered is trained on beside the crystals given.
rule recover:
    input:
        compositions=CONFIG.recover.compositions or [],
        reference=REFERENCE,
        potential=POTENTIAL.file,
        checked=POTENTIAL_CHECKED,
    output:
        "<results>/pretrain/recovered.parquet",
    log:
        "<results>/logs/recover.log",
    conda:
        "../../envs/potential.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=6000,
        runtime=1440,
    params:
        settings=stage("recover", POTENTIAL, **recover_settings()),
        potential=energies_by,
        parts=f"{CONFIG.results}/pretrain/recovered.parts",
    message:
        "Recovering structures for compositions of {input.compositions}"
    shell:
        "crystalformer-rl recover {input.compositions:q} --prototypes {input.reference:q} --potential {params.potential:q}"
        " --second {params.settings[second]:q} --limit {params.settings[limit]}"
        " --max-e-above-hull {params.settings[max_e_above_hull]} --candidates {params.settings[candidates]}"
        " --relaxed {params.settings[relaxed]} --max-atoms {params.settings[max_atoms]}"
        " --max-evaluations {params.settings[max_evaluations]} --accepted-from {params.settings[accepted_from]}"
        " --learned-from {params.settings[learned_from]}"
        " --processes {threads} --work {params.parts:q} --out {output:q} > {log:q} 2>&1"


# They are in no hull and no known structures; but a sample that matches one is not new.
rule extend:
    input:
        reference=REFERENCE,
        recovered="<results>/pretrain/recovered.parquet",
    output:
        "<results>/pretrain/reference.parquet",
    log:
        "<results>/logs/extend.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=stage("extend"),
    message:
        "Adding the recovered structures to the reference"
    shell:
        "crystalformer-rl extend {input.reference:q} {input.recovered:q} --out {output:q} > {log:q} 2>&1"


rule tokenize:
    input:
        PRETRAIN_DATA,
        RECOVERED,
    output:
        "<results>/pretrain/tokens.parquet",
    log:
        "<results>/logs/tokenize.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        settings=stage("tokenize"),
    message:
        "Turning {input} into tokens"
    shell:
        "crystalformer-rl tokenize {input:q} --out {output:q} > {log:q} 2>&1"


rule pretrain_settings:
    output:
        "<results>/pretrain/settings.json",
    log:
        "<results>/logs/pretrain_settings.log",
    localrule: True
    conda:
        "../../envs/policy.yaml"
    params:
        settings=json.dumps(pretrain_settings(), sort_keys=True),
    message:
        "Writing the settings of pretraining"
    shell:
        "printf '%s\\n' {params.settings:q} > {output:q} 2> {log:q}"


rule pretrain:
    input:
        tokens="<results>/pretrain/tokens.parquet",
        settings="<results>/pretrain/settings.json",
    output:
        "<results>/pretrain/policy.safetensors",
    log:
        "<results>/logs/pretrain.log",
    conda:
        "../../envs/policy.yaml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=8000,
        runtime=1440,
    params:
        settings=stage("pretrain"),
    message:
        "Training a base policy on {input.tokens}"
    shell:
        "crystalformer-rl pretrain {input.tokens:q} --config {input.settings:q} --out {output:q} > {log:q} 2>&1"
