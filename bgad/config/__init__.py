"""Settings, paths, cells, and the hashes of the code behind a result."""
