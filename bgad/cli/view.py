"""A running suite in the browser."""

import json
import os
import webbrowser
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bgad.cli.app import app
from bgad.cli.options import Datasets, check_in_project, configuration, suite_cells
from bgad.errors import ConfigError


@app.command()
def view(
    folder: Annotated[Path, Argument(help="reports/<suite>, in the project's folder.")],
    datasets: Datasets = None,
    port: Annotated[int, Option(min=0, max=65535, help="Port to serve on; 0: a free one.")] = 0,
    browser: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
    once: Annotated[bool, Option("--json", help="Print the suite's progress as JSON and exit.")] = False,
) -> None:
    """Serves a suite's page and progress on this machine, and updates them as cells finish; Ctrl-C ends it.

    Example: bgad view reports/demo
    """
    from bgad.config import paths
    from bgad.report.live.server import LOOPBACK, Live, serve
    from bgad.report.live.status import QUEUED, RUNNING, status_of
    from bgad.report.page.page import page

    check_in_project()
    suite = folder.resolve().name
    if folder.resolve() != Path(paths.REPORT.format(suite=suite)).resolve():
        raise ConfigError(f"{folder}: not a suite's report; give reports/<suite>, in the project's folder.")
    definition, wanted, left_out = suite_cells(suite, datasets)
    if once:
        print(json.dumps(status_of(wanted).as_json(), indent=1))
        return

    margin = configuration().margin

    def made(status):
        states = {cell: state for cell, state in status.states.items() if state in (RUNNING, QUEUED)}
        return page(suite, definition, wanted, left_out=left_out, states=states, margin=margin)

    with Live(wanted, made) as live, serve(live, definition.title, port) as server:
        address = f"http://{LOOPBACK}:{server.server_port}/"
        print(f"{os.path.relpath(folder)} is at {address} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
