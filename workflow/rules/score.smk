# What the crystals are worth: relaxed, against the convex hull, and their predicted properties.


# The laws that the potential must keep, and the reference's energies recomputed: nothing is scored before.
rule check_potential:
    input:
        reference=REFERENCE,
        potential=POTENTIAL_FILE,
    output:
        CHECKED,
    log:
        "<results>/logs/check_potential.log",
    conda:
        "../../envs/potential.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=stage("check-potential"),
        potential=potential,
    message:
        "Checking {params.potential} and the reference"
    shell:
        "crystalformer-rl check-potential --potential {params.potential:q} --reference {input.reference:q}"
        " --out {output:q} > {log:q} 2>&1"


rule relax:
    input:
        crystals="<results>/samples/{policy}/{batch}.parquet",
        potential=POTENTIAL_FILE,
        checked=ancient(CHECKED),
    output:
        "<results>/relaxed/{policy}/{batch}.parquet",
    log:
        "<results>/logs/relax/{policy}/{batch}.log",
    conda:
        "../../envs/potential.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        settings=stage("relax", **CONFIG.relax.model_dump()),
        potential=potential,
        free="--free" if CONFIG.relax.free else "",
    message:
        "Relaxing batch {wildcards.batch} of the {wildcards.policy} policy with {params.potential}"
    shell:
        "crystalformer-rl relax {input.crystals:q} --potential {params.potential:q} --fmax {params.settings[fmax]}"
        " --smax {params.settings[smax]} --max-evaluations {params.settings[max_evaluations]}"
        " {params.free} --out {output:q} > {log:q} 2>&1"


rule hull:
    input:
        relaxed=batches("<results>/relaxed/{policy}/{batch}.parquet"),
        reference=REFERENCE,
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
        settings=stage("hull"),
    message:
        "Energies above the convex hull for the {wildcards.policy} policy"
    shell:
        "crystalformer-rl hull {input.relaxed:q} --reference {input.reference:q} --out {output:q} > {log:q} 2>&1"


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
        mem_mb=2000,
        runtime=120,
    params:
        settings=stage("properties"),
    message:
        "Band gaps and dielectric constants for the {wildcards.policy} policy"
    shell:
        "crystalformer-rl properties {input.relaxed:q} --models {input.models:q} --out {output:q} > {log:q} 2>&1"
