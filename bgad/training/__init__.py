"""BGAD's training loop, its losses, its mini-batches and its checkpoint."""
