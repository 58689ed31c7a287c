# A suite's cells as a table, plots and a page. reports/table.md is the paper suite's.

PLOT_FILES = [f"{name}.{ending}" for name in paths.PLOTS for ending in ("svg", "png")]


rule plots:
    input:
        metrics_of,
    output:
        [
            report(
                f"{paths.REPORT}/{name}.svg",
                caption=f"../report/{name}.rst",
                category="{suite}",
                labels={"what": what, "kind": "plot"},
            )
            for name, what in paths.PLOTS.items()
        ],
        [f"{paths.REPORT}/{name}.png" for name in paths.PLOTS],
    log:
        "resources/logs/plots/{suite}.log",
    benchmark:
        "resources/benchmarks/plots/{suite}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=0,
    params:
        folder=paths.REPORT,
        datasets=lambda wildcards: DATASETS_JSON,
        source=source_sha256("report"),
    message:
        "Plots of suite {wildcards.suite}"
    shell:
        "bgad plots {wildcards.suite} --output {params.folder:q} --datasets {params.datasets:q} > {log:q} 2>&1"


rule examples:
    input:
        splits_with_examples,
    output:
        report(
            f"{paths.REPORT}/{paths.EXAMPLES}",
            caption="../report/cutpaste.rst",
            category="{suite}",
            labels={"what": "Known anomalies after CutPaste", "kind": "plot"},
        ),
    log:
        "resources/logs/examples/{suite}.log",
    benchmark:
        "resources/benchmarks/examples/{suite}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=0,
    params:
        datasets=lambda wildcards: DATASETS_JSON,
        source=source_sha256("examples"),
    message:
        "Examples of CutPaste of suite {wildcards.suite}"
    shell:
        "bgad examples {wildcards.suite} --output {output:q} --datasets {params.datasets:q} > {log:q} 2>&1"


rule table:
    input:
        lambda wildcards: metrics_for_table(wildcards, f"reports/{wildcards.suite}/table.md"),
        plots=multiext(f"{paths.REPORT}/", *PLOT_FILES),
        examples=f"{paths.REPORT}/{paths.EXAMPLES}",
    output:
        md=report(
            f"{paths.REPORT}/table.md",
            caption="../report/table.rst",
            category="{suite}",
            labels={"what": "the verdict and the results", "kind": "table"},
        ),
        csv=report(
            f"{paths.REPORT}/table.csv",
            caption="../report/table.rst",
            category="{suite}",
            labels={"what": "every number", "kind": "CSV"},
        ),
    log:
        "resources/logs/table/{suite}.log",
    benchmark:
        "resources/benchmarks/table/{suite}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=0,
    params:
        suite="{suite}",
        folder=lambda wildcards, input: str(Path(input.examples).parent),
        datasets=lambda wildcards: DATASETS_JSON,
        margin=CONFIG.margin,
        source=source_sha256("report"),
    message:
        "Table of suite {wildcards.suite}"
    shell:
        "bgad table {params.suite} --output {output.md:q} --plots {params.folder:q}"
        " --datasets {params.datasets:q} --margin {params.margin} > {log:q} 2>&1"


rule page:
    input:
        metrics_for_page,
    output:
        report(
            f"{paths.REPORT}/report.html",
            caption="../report/page.rst",
            category="{suite}",
            labels={"what": "all results, to filter and browse", "kind": "page"},
        ),
    log:
        "resources/logs/page/{suite}.log",
    benchmark:
        "resources/benchmarks/page/{suite}.tsv"
    conda:
        "../envs/bgad.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=0,
    params:
        datasets=lambda wildcards: DATASETS_JSON,
        margin=CONFIG.margin,
        source=source_sha256("report"),
    message:
        "Page of suite {wildcards.suite}"
    shell:
        "bgad report {wildcards.suite} --output {output:q} --datasets {params.datasets:q} --margin {params.margin}"
        " > {log:q} 2>&1"


use rule table as paper_table with:
    input:
        lambda wildcards: metrics_for_table(wildcards, "reports/table.md"),
        plots=multiext("reports/paper/", *PLOT_FILES),
        examples=f"reports/paper/{paths.EXAMPLES}",
    output:
        md=report(
            "reports/table.md",
            caption="../report/table.rst",
            category="paper",
            labels={"what": "the verdict and the results", "kind": "table"},
        ),
        csv=report(
            "reports/table.csv",
            caption="../report/table.rst",
            category="paper",
            labels={"what": "every number", "kind": "CSV"},
        ),
    log:
        "resources/logs/table/paper-at-top.log",
    benchmark:
        "resources/benchmarks/table/paper-at-top.tsv"
    params:
        suite="paper",
        folder=lambda wildcards, input: str(Path(input.examples).parent),
        datasets=lambda wildcards: DATASETS_JSON,
        margin=CONFIG.margin,
        source=source_sha256("report"),
    message:
        "Table of the paper suite"
