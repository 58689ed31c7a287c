# A category's features from the frozen backbone, computed once for all cells with that backbone and image size.


rule features:
    input:
        paths.INDEX,
    output:
        # features.json is written last: once it is there, the cache is complete.
        multiext(f"{paths.FEATURES}/", "level1.npy", "level2.npy", "level3.npy", "masks.npy", "thumbnails.npy", "features.json"),
    log:
        "resources/logs/features/{backbone}/{image_size}/{dataset}/{category}.log",
    benchmark:
        "resources/benchmarks/features/{backbone}/{image_size}/{dataset}/{category}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: CONFIG.threads
    resources:
        mem_mb=3000,
        runtime=60,
        gpu=GPUS,
        gpu_percent=GPU_PERCENT,
    params:
        root=root_of,
        folder=paths.FEATURES,
        weights=lambda wildcards: weights_option(wildcards.backbone),
        device=CONFIG.device,
        content=content_of,  # of the masks too, which the index does not have
        source=source_sha256("features"),
    message:
        "Features of {wildcards.dataset}/{wildcards.category} by {wildcards.backbone} at {wildcards.image_size} pixels"
    shell:
        "bgad features --index {input:q} --root {params.root:q} --backbone {wildcards.backbone:q} {params.weights}"
        " --image-size {wildcards.image_size} --device {params.device} --threads {threads}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule synthetic:
    input:
        index=paths.INDEX,
        split=paths.SPLIT,
    output:
        multiext(
            f"{paths.SYNTHETIC}/", "level1.npy", "level2.npy", "level3.npy", "masks.npy", "thumbnails.npy", "features.json"
        ),
    log:
        "resources/logs/{kind}/{draws}/{backbone}/{image_size}/{dataset}/{category}/{split}/seed{seed}/{known}x{each}.log",
    benchmark:
        "resources/benchmarks/{kind}/{draws}/{backbone}/{image_size}/{dataset}/{category}/{split}/seed{seed}/{known}x{each}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: CONFIG.threads
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=GPUS,
        gpu_percent=GPU_PERCENT,
    params:
        root=root_of,
        folder=paths.SYNTHETIC,
        weights=lambda wildcards: weights_option(wildcards.backbone),
        device=CONFIG.device,
        content=content_of,
        source=source_sha256("synthetic"),
    message:
        "Pool of {wildcards.kind} images of {wildcards.dataset}/{wildcards.category} {wildcards.split}, seed {wildcards.seed}"
    shell:
        "bgad synthetic {wildcards.kind} --index {input.index:q} --split {input.split:q} --root {params.root:q}"
        " --backbone {wildcards.backbone:q} {params.weights} --image-size {wildcards.image_size}"
        " --known {wildcards.known} --each {wildcards.each} --device {params.device} --threads {threads}"
        " --output {params.folder:q} > {log:q} 2>&1"
