# One cell: the unit of work, caching, re-running and failure.


rule train:
    input:
        unpack(inputs_of),
        index=paths.INDEX,
    output:
        # metrics.json is written last: once it is there, the cell is complete.
        multiext(f"{paths.CELL}/", "metrics.json", "history.csv", "scores.csv", "curves.npz", "model.pt", "likelihoods.json"),
        multiext(f"{paths.CELL}/gallery/", *paths.GALLERY),
    log:
        f"{paths.CELL}/train.log",
    benchmark:
        f"{paths.CELL}/benchmark.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: cores_of
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        checkpoint_every=CONFIG.checkpoint_every,
        runtime=720,
        gpu=GPUS,
        gpu_percent=GPU_PERCENT,
    params:
        cell=paths.CELL,
        recipe=paths.RECIPE,
        # Hashes of the recipe's values and of the method's code, so that a comment changes nothing.
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
        " {params.caches} --root {params.root:q} {params.weights} --device {params.device} --threads {threads}"
        " --checkpoint-every {resources.checkpoint_every} > {log:q} 2>&1"
        # A process killed with signal 9 cannot write to its log; if the log's disk is full, the shell fails here and says so.
        " || {{ code=$?; case $code in 137) echo 'error: killed';; *) echo;; esac >> {log:q}; exit $code; }}"
