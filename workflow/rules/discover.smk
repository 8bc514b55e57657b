# Which crystals are new, how good each policy is, and which crystals are the best.


rule novelty:
    input:
        relaxed=batches("<results>/relaxed/{policy}/{batch}.parquet"),
        reference=SEEN,
    output:
        "<results>/novelty/{policy}.parquet",
    log:
        "<results>/logs/novelty/{policy}.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        settings=stage("novelty"),
    message:
        "Sorting the crystals of the {wildcards.policy} policy into retrieved and new"
    shell:
        "crystalformer-rl novelty {input.relaxed:q} --reference {input.reference:q} --out {output:q} > {log:q} 2>&1"


rule evaluate:
    input:
        samples=batches("<results>/samples/{policy}/{batch}.parquet"),
        relaxed=batches("<results>/relaxed/{policy}/{batch}.parquet"),
        reference=SEEN,
        hull="<results>/hull/{policy}.parquet",
        novelty="<results>/novelty/{policy}.parquet",
        properties="<results>/properties/{policy}.parquet",
    output:
        crystals="<results>/evaluation/{policy}/crystals.parquet",
        metrics="<results>/evaluation/{policy}/metrics.parquet",
    log:
        "<results>/logs/evaluate/{policy}.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=stage("evaluate", stable_below=CONFIG.evaluate.stable_below),
        relaxed=lambda wildcards, input: repeated("--relaxed", input.relaxed),
        out=subpath(output.crystals, parent=True),
    message:
        "Evaluating the {wildcards.policy} policy"
    shell:
        "crystalformer-rl evaluate {input.samples:q} --reference {input.reference:q} {params.relaxed}"
        " --hull {input.hull:q} --novelty {input.novelty:q} --properties {input.properties:q}"
        " --stable-below {params.settings[stable_below]} --name {wildcards.policy} --out {params.out:q} > {log:q} 2>&1"


rule rank:
    input:
        **RANKED,
    output:
        candidates="<results>/candidates.parquet",
        cif=directory("<results>/candidates_cif"),
        metrics="<results>/metrics.parquet",
    log:
        "<results>/logs/rank.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=30,
    params:
        settings=stage("rank", by=CONFIG.rank.by, where=CONFIG.rank.where, exclude=CONFIG.rank.exclude or ["nothing"]),
        where=repeated("--where", CONFIG.rank.where),
        exclude=repeated("--exclude", CONFIG.rank.exclude or ["nothing"]),
        folders=lambda wildcards, input: sorted({str(Path(path).parent) for path in input.policies}),
        also=lambda wildcards, input: repeated("--also", [Path(path).parent for path in input.also]),
        config=lambda wildcards, input: repeated("--config", input.config),
        judged=lambda wildcards, input: repeated("--judged", input.judged),
        out=subpath(output.candidates, parent=True),
    message:
        "Ranking the candidates"
    shell:
        "crystalformer-rl rank {params.folders:q} --by={params.settings[by]} {params.where} {params.exclude}"
        " {params.also} {params.judged} {params.config} --out {params.out:q} > {log:q} 2>&1"
