# The entry: `snakemake --cores 8 reports/table.md` from this folder. The workflow itself is in workflow/.
include: "workflow/Snakefile"


# Without a target, what the workflow does by default; an included file cannot say that itself.
rule all:
    default_target: True
    input:
        rules.demo.input,
