# One cell: the unit of work, of caching, of re-running and of failure.


rule train:
    input:
        index=paths.INDEX,
        split=split_of,
        features=features_of,
        cutpaste=lambda wildcards: pool_of(wildcards, "cutpaste"),
        pseudo=lambda wildcards: pool_of(wildcards, "pseudo"),
    output:
        # metrics.json is written last: where it is, the cell is whole.
        multiext(paths.CELL + "/", "metrics.json", "history.csv", "scores.csv", "model.pt"),
    log:
        paths.CELL + "/train.log",
    benchmark:
        paths.CELL + "/benchmark.tsv"
    threads: CONFIG.threads
    resources:
        mem_mb=4000,
        runtime=720,
        gpu=GPUS,
    params:
        cell=paths.CELL,
        recipe=lambda wildcards: paths.recipe_file(wildcards.recipe),
        # What a cell depends on beside its inputs: the recipe's values and the training code, not their comments.
        recipe_sha256=lambda wildcards: recipe_of(wildcards.recipe).sha256,
        source=source_sha256("training"),
        folder=lambda wildcards, input: Path(input.features).parent,
        root=root_of,
        cutpaste=lambda wildcards, input: pool_option(input.cutpaste, "cutpaste"),
        pseudo=lambda wildcards, input: pool_option(input.pseudo, "pseudo"),
        weights=lambda wildcards: weights_option(recipe_of(wildcards.recipe).backbone),
        device=CONFIG.device,
    message:
        "Training {wildcards.recipe}: {wildcards.dataset}/{wildcards.category} {wildcards.split} k{wildcards.k}"
        " {wildcards.method} seed {wildcards.seed}"
    shell:
        "bgad train {params.cell:q} --recipe {params.recipe:q} --index {input.index:q} --split {input.split:q}"
        " --features {params.folder:q} {params.cutpaste} {params.pseudo} --root {params.root:q} {params.weights}"
        " --device {params.device} --threads {threads} > {log:q} 2>&1"
