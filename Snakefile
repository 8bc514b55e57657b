# From a pretrained policy to a ranked table of crystals. Each rule calls the command of its name.


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/policy.smk"
include: "workflow/rules/generate.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/discover.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        everything(),
    localrule: True
    message:
        "Everything is there"
