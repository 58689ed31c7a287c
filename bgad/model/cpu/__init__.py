"""The flow's blocks on a CPU, as compiled code."""
