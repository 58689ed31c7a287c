"""The conditional flow, its position code, and how likelihoods become scores."""
