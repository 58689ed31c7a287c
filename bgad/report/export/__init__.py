"""Exports for other tools: metrics as one table, and a model as an ONNX file."""
