"""The flow's chain of blocks as compiled code."""
