# What comes from elsewhere, or with the repository.


localrules:
    fetch,
    fetch_undigested,


rule fetch:
    output:
        ensure(
            "<results>/resources/{file}",
            sha256=lambda wildcards: published_sha256(FETCHED[wildcards.file]),
        ),
    log:
        "<results>/logs/fetch/{file}.log",
    wildcard_constraints:
        file=one_of(name for name, resource in FETCHED.items() if published_sha256(resource)),
    conda:
        "../../envs/policy.yaml"
    resources:
        mem_mb=500,
        runtime=720,
    params:
        settings=fetch_settings,
    message:
        "Fetching {params.settings[name]}"
    shell:
        "crystalformer-rl fetch {params.settings[name]} --out {output:q} > {log:q} 2>&1"


# Where nobody published the digest of the file itself, the command keeps a lock file.
use rule fetch as fetch_undigested with:
    output:
        ensure("<results>/resources/{file}", non_empty=True),
    wildcard_constraints:
        file=one_of(name for name, resource in FETCHED.items() if not published_sha256(resource)),
