# A suite's cells as a table and plots. reports/table.md is the paper suite's.
from dataclasses import asdict


def metrics_of(wildcards):
    """The metrics of every cell of a suite; a paper table is asked for without a wildcard."""
    return metrics_files(getattr(wildcards, "suite", "paper"))


@cache
def metrics_files(suite):
    return [(cell.folder / "metrics.json").as_posix() for cell in cells_of(suite)]


def metrics_for_table(wildcards, output):
    REQUESTED[getattr(wildcards, "suite", "paper")] = output
    return metrics_of(wildcards)


def metrics_for_page(wildcards):
    PAGES.add(wildcards.suite)
    return metrics_of(wildcards)


def splits_with_examples(wildcards):
    """Index and split of each category that knows anomalies."""
    shown = [asdict(cell) for cell in cells.with_examples(cells_of(wildcards.suite))]
    return [paths.INDEX.format(**of) for of in shown] + [splits.file_of(recipe_of(of["recipe"]), of) for of in shown]


PLOTS = [
    f"{name}.{ending}"
    for name in ("auroc-by-k", "known-unseen", "by-category", "training-curves", "best-epoch")
    for ending in ("svg", "png")
]


rule plots:
    input:
        metrics_of,
    output:
        report(
            multiext(paths.REPORT + "/", *PLOTS),
            caption="../report/plots.rst",
            category="{suite}",
            labels={"figure": "plots"},
        ),
    log:
        "resources/logs/plots/{suite}.log",
    benchmark:
        "resources/benchmarks/plots/{suite}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=0,
    params:
        folder=paths.REPORT,
        datasets=DATASETS_JSON,
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
            paths.REPORT + "/cutpaste.png",
            caption="../report/cutpaste.rst",
            category="{suite}",
            labels={"figure": "CutPaste"},
        ),
    log:
        "resources/logs/examples/{suite}.log",
    benchmark:
        "resources/benchmarks/examples/{suite}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=0,
    params:
        datasets=DATASETS_JSON,
        source=source_sha256("examples"),
    message:
        "Examples of CutPaste of suite {wildcards.suite}"
    shell:
        "bgad examples {wildcards.suite} --output {output:q} --datasets {params.datasets:q} > {log:q} 2>&1"


rule table:
    input:
        lambda wildcards: metrics_for_table(wildcards, f"reports/{wildcards.suite}/table.md"),
        plots=multiext(paths.REPORT + "/", *PLOTS),
        examples=paths.REPORT + "/cutpaste.png",
    output:
        md=report(
            paths.REPORT + "/table.md",
            caption="../report/table.rst",
            category="{suite}",
            labels={"figure": "table"},
        ),
        csv=paths.REPORT + "/table.csv",
    log:
        "resources/logs/table/{suite}.log",
    benchmark:
        "resources/benchmarks/table/{suite}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=0,
    params:
        suite="{suite}",
        folder=paths.REPORT,
        datasets=DATASETS_JSON,
        source=source_sha256("report"),
    message:
        "Table of suite {wildcards.suite}"
    shell:
        "bgad table {params.suite} --output {output.md:q} --plots {params.folder:q}"
        " --datasets {params.datasets:q} > {log:q} 2>&1"


rule page:
    input:
        metrics_for_page,
    output:
        report(
            paths.REPORT + "/report.html",
            caption="../report/page.rst",
            category="{suite}",
            labels={"figure": "page to filter and browse"},
        ),
    log:
        "resources/logs/page/{suite}.log",
    benchmark:
        "resources/benchmarks/page/{suite}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=0,
    params:
        datasets=DATASETS_JSON,
        source=source_sha256("report"),
    message:
        "Page of suite {wildcards.suite}"
    shell:
        "bgad report {wildcards.suite} --output {output:q} --datasets {params.datasets:q} > {log:q} 2>&1"


use rule table as paper_table with:
    input:
        lambda wildcards: metrics_for_table(wildcards, "reports/table.md"),
        plots=multiext("reports/paper/", *PLOTS),
        examples="reports/paper/cutpaste.png",
    output:
        md=report("reports/table.md", caption="../report/table.rst", category="paper", labels={"figure": "table"}),
        csv="reports/table.csv",
    log:
        "resources/logs/table/paper-at-top.log",
    benchmark:
        "resources/benchmarks/table/paper-at-top.tsv"
    params:
        suite="paper",
        folder="reports/paper",
        datasets=DATASETS_JSON,
        source=source_sha256("report"),
    message:
        "Table of the paper suite"
