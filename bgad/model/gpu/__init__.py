"""The flow's blocks on a GPU, in few operations, and training steps as CUDA graphs."""
