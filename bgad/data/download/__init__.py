"""Published data sets: fetched, checked, unpacked."""
