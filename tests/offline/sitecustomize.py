"""Python imports this first, in the tests' processes and, by PYTHONPATH, in their children: see no_network.py."""

import no_network

no_network.forbid()
