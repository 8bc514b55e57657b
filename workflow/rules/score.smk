# What the crystals are worth: relaxed, against the convex hull, and their predicted properties.


# The laws that the potential must keep: nothing is relaxed before.
rule check_potential:
    input:
        potential=POTENTIAL.file,
    output:
        POTENTIAL_CHECKED,
    log:
        "<results>/logs/check_potential.log",
    conda:
        "../../envs/potential.yaml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=2000,
        runtime=60,
    params:
        settings=stage("check-potential", POTENTIAL),
        potential=energies_by,
    message:
        "Checking {params.potential}"
    shell:
        "crystalformer-rl check-potential --potential {params.potential:q} --out {output:q} > {log:q} 2>&1"


# The reference's energies recomputed: nothing is compared with them before.
rule check_reference:
    input:
        reference=REFERENCE,
        potential=POTENTIAL.file,
    output:
        REFERENCE_CHECKED,
    log:
        "<results>/logs/check_reference.log",
    conda:
        "../../envs/potential.yaml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=2000,
        runtime=60,
    params:
        settings=stage("check-reference", POTENTIAL),
        potential=energies_by,
    message:
        "Computing some energies of the reference again with {params.potential}"
    shell:
        "crystalformer-rl check-reference --reference {input.reference:q} --potential {params.potential:q}"
        " --out {output:q} > {log:q} 2>&1"


rule relax:
    input:
        crystals="<results>/samples/{policy}/{batch}.parquet",
        potential=POTENTIAL.file,
        stability=STABILITY,
        checked=POTENTIAL_CHECKED,
    output:
        "<results>/relaxed/{policy}/{batch}.parquet",
    log:
        "<results>/logs/relax/{policy}/{batch}.log",
    conda:
        "../../envs/potential.yaml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=2000,
        runtime=240,
    params:
        settings=stage("relax", POTENTIAL, **CONFIG.relax.model_dump()),
        potential=energies_by,
        free="--free" if CONFIG.relax.free else "",
    message:
        "Relaxing batch {wildcards.batch} of the {wildcards.policy} policy with {params.potential}"
    shell:
        "crystalformer-rl relax {input.crystals:q} --potential {params.potential:q} --fmax {params.settings[fmax]}"
        " --smax {params.settings[smax]} --max-evaluations {params.settings[max_evaluations]}"
        " {params.free} --stability {input.stability:q} --out {output:q} > {log:q} 2>&1"


rule hull:
    input:
        relaxed=batches("<results>/relaxed/{policy}/{batch}.parquet"),
        reference=REFERENCE,
        stability=STABILITY,
        checked=REFERENCE_CHECKED,
    output:
        "<results>/hull/{policy}.parquet",
    log:
        "<results>/logs/hull/{policy}.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=60,
    params:
        settings=stage("hull", stable_below=CONFIG.evaluate.stable_below),
    message:
        "Energies above the convex hull for the {wildcards.policy} policy"
    shell:
        "crystalformer-rl hull {input.relaxed:q} --reference {input.reference:q} --stability {input.stability:q}"
        " --stable-below {params.settings[stable_below]} --out {output:q} > {log:q} 2>&1"


rule properties:
    input:
        relaxed=batches("<results>/relaxed/{policy}/{batch}.parquet"),
        models=PROPERTIES,
    output:
        "<results>/properties/{policy}.parquet",
    log:
        "<results>/logs/properties/{policy}.log",
    conda:
        "../../envs/potential.yaml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=2000,
        runtime=120,
    params:
        settings=stage("properties", EMBEDDER),
    message:
        "Band gaps and dielectric constants for the {wildcards.policy} policy"
    shell:
        "crystalformer-rl properties {input.relaxed:q} --models {input.models:q} --out {output:q} > {log:q} 2>&1"
