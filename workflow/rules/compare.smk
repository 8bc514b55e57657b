# Ways to fine-tune side by side; only where arms.policies names some.


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
