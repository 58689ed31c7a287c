# One cell: the unit of work, of caching, of re-running and of failure.


rule train:
    input:
        unpack(inputs_of),
        index=paths.INDEX,
    output:
        # metrics.json is written last: where it is, the cell is whole.
        multiext(f"{paths.CELL}/", "metrics.json", "history.csv", "scores.csv", "model.pt", "likelihoods.json"),
        multiext(f"{paths.CELL}/gallery/", *paths.GALLERY),
    log:
        f"{paths.CELL}/train.log",
    benchmark:
        f"{paths.CELL}/benchmark.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: cores_of
    resources:
        mem_mb=4000,
        runtime=720,
        gpu=GPUS,
        gpu_percent=GPU_PERCENT,
    params:
        cell=paths.CELL,
        recipe=paths.RECIPE,
        # What a cell depends on beside its inputs: the recipe's values and its method's code, not their comments.
        recipe_sha256=lambda wildcards: recipe_sha256_of(wildcards.recipe),
        source=lambda wildcards: method_sha256_of(wildcards.method),
        root=root_of,
        caches=caches_option,
        weights=lambda wildcards: weights_option(recipe_of(wildcards.recipe).backbone),
        device=CONFIG.device,
    message:
        "Training {wildcards.recipe}: {wildcards.dataset}/{wildcards.category} {wildcards.split} k{wildcards.k}"
        " {wildcards.method} seed {wildcards.seed}"
    shell:
        "bgad cell {params.cell:q} --recipe {params.recipe:q} --index {input.index:q} --split {input.split:q}"
        " {params.caches} --root {params.root:q} {params.weights}"
        " --device {params.device} --threads {threads} --checkpoint-every {CONFIG.checkpoint_every} > {log:q} 2>&1"


# What a finished cell keeps for a run that is killed (bgad/finished.py) goes once Snakemake has recorded the cell: where all of
# its files are there and none is marked incomplete. (Where some are missing, a killed run may have taken them away.)
def forget_recorded():
    for job in workflow.dag.jobs:
        if job.rule.name == "train" and all(Path(path).exists() for path in job.output):
            if not workflow.async_run(workflow.persistence.incomplete(job)):
                finished.forget(Path(job.params.cell))


onstart:
    forget_recorded()


onsuccess:
    forget_recorded()
