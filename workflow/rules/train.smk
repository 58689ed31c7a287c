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
    # Out of memory: again with one test image at a time and more memory. Other failures are not repeated (bgad/attempts.py).
    # The Snakemake of a cluster's job would repeat in a job that has too little memory: there the whole job is sent again.
    retries: 2 if workflow.is_main_process else 0
    conda:
        "../envs/bgad.yaml"
    threads: cores_of
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        attempt=lambda wildcards, attempt: attempt,
        checkpoint_every=CONFIG.checkpoint_every,
        runtime=720,
        gpu=GPUS,
        gpu_percent=lambda wildcards, attempt: min(100, GPU_PERCENT * attempt),
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
        " --device {params.device} --threads {threads} --attempt {resources.attempt}"
        " --checkpoint-every {resources.checkpoint_every} > {log:q} 2>&1"
        # What signal 9 has killed says nothing itself; and where there is no room for what is said, the shell says so.
        " || {{ code=$?; case $code in 137) echo 'error: killed';; *) echo;; esac >> {log:q}; exit $code; }}"
