# The entry: `snakemake --cores 8 reports/table.md` from this folder. The workflow itself is in workflow/.
include: "workflow/Snakefile"
