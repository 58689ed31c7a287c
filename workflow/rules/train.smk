# One cell: the unit of work, caching, re-running and failure.


rule train:
    input:
        unpack(inputs_of),
        index=paths.INDEX,
    output:
        # metrics.json is written last: once it is there, the cell is complete.
        [f"{paths.CELL}/{name}" for name in paths.CELL_FILES],
    log:
        f"{paths.CELL}/train.log",
    benchmark:
        f"{paths.CELL}/benchmark.tsv"
    wildcard_constraints:
        k=r"[1-9]\d*",
    conda:
        "../envs/bgad.yaml"
    threads: cores_of
    resources:
        mem_mb=lambda wildcards, attempt: (4000 + 600 * workers_of(wildcards)) * attempt,
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


# With k 0 the split changes only the test set: a category and seed are trained once, on seen, and evaluated on every split.
use rule train as train_k0 with:
    output:
        [f"{paths.CELL}/{name}" for name in (*paths.CELL_FILES, paths.SCORED)],
    wildcard_constraints:
        split="seen",
        k="0",


use rule train as evaluate_k0 with:
    wildcard_constraints:
        split="hard-[^/]+",
        k="0",
    message:
        "Evaluating {wildcards.recipe}: {wildcards.dataset}/{wildcards.category} {wildcards.split} k0 {wildcards.method}"
        " seed {wildcards.seed}"
