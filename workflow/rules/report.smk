# The page that shows it, and the words that end the run.


rule report:
    input:
        candidates="<results>/candidates.parquet",
        metrics="<results>/metrics.parquet",
        crystals=expand("<results>/evaluation/{policy}/crystals.parquet", policy=["base", "tuned"]),
        rollouts=rounds_of(["tuned"], ["rollouts.parquet"]),
        updates=rounds_of(["tuned"], ["updates.parquet"]),
    output:
        page="<results>/report/index.html",
        summary="<results>/report/summary.txt",
    log:
        "<results>/logs/report.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=30,
    params:
        settings=stage("report"),
        results=subpath(input.candidates, parent=True),
        out=subpath(output.page, parent=True),
    message:
        "Writing the report"
    shell:
        "crystalformer-rl report {params.results:q} --out {params.out:q} > {log:q} 2>&1"


# A run of single stages makes no report, and an older one does not speak of it.
SUMMARY = Path(CONFIG.results) / "report" / "summary.txt"
SUMMARY_BEFORE = modified(SUMMARY)


onsuccess:
    if modified(SUMMARY) != SUMMARY_BEFORE:
        print_last(SUMMARY)
