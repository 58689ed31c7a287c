# Images on disk, the index of a category, which later steps read instead of folders, and its splits.


rule download:
    output:
        touch(f"{paths.DATASET}.complete"),
    log:
        "resources/logs/download/{dataset}.log",
    benchmark:
        "resources/benchmarks/download/{dataset}.tsv"
    wildcard_constraints:
        dataset="|".join(presets.presets()),
    retries: 2
    localrule: True  # the nodes of a cluster often have no network
    conda:
        "../envs/bgad.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=600,
        gpu=0,
    params:
        root=paths.DATASET,
        archives=paths.ARCHIVES,
    message:
        "Downloading {wildcards.dataset}"
    shell:
        "bgad download {wildcards.dataset} --root {params.root:q} --archives {params.archives:q} > {log:q} 2>&1"


rule mini:
    output:
        directory("resources/datasets/mini/{category}"),
    log:
        "resources/logs/mini/{category}.log",
    benchmark:
        "resources/benchmarks/mini/{category}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        root=lambda wildcards, output: str(Path(output[0]).parent),
        source=source_sha256("mini"),
    message:
        "Making the embedded category {wildcards.category}"
    shell:
        "bgad mini {wildcards.category:q} --root {params.root:q} > {log:q} 2>&1"


rule index:
    input:
        images_of,
    output:
        paths.INDEX,
    log:
        "resources/logs/index/{dataset}/{category}.log",
    benchmark:
        "resources/benchmarks/index/{dataset}/{category}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: CONFIG.threads
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        category=lambda wildcards: names_of(wildcards)["category"],
        root=root_of,
        # Only this data set's settings: a change to another one makes no index again.
        datasets=lambda wildcards: json.dumps({wildcards.dataset: settings_of(wildcards.dataset)}),
        content=content_of,
        source=source_sha256("index"),
    message:
        "Checking the images of {wildcards.dataset}/{wildcards.category}"
    shell:
        "bgad index --dataset {wildcards.dataset} --category {params.category:q} --root {params.root:q}"
        " --datasets {params.datasets:q} --threads {threads} --output {output:q} > {log:q} 2>&1"


rule split:
    input:
        index=paths.INDEX,
        before=indexes_before,
    output:
        paths.SPLIT,
    log:
        "resources/logs/split/{draws}/{dataset}/{category}/{split}/seed{seed}.log",
    benchmark:
        "resources/benchmarks/split/{draws}/{dataset}/{category}/{split}/seed{seed}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
        gpu=0,
    params:
        split=lambda wildcards: names_of(wildcards)["split"],
        pool=lambda wildcards: CONFIG.datasets[wildcards.dataset].pool,
        before=in_a_row_option,
        source=source_sha256("split"),
    message:
        "Drawing split {wildcards.split} of {wildcards.dataset}/{wildcards.category}, seed {wildcards.seed}"
    shell:
        "bgad split --index {input.index:q} --split {params.split:q} --seed {wildcards.seed} --pool {params.pool}"
        " {params.before} --output {output:q} > {log:q} 2>&1"
