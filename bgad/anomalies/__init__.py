"""The known anomalies as training data: CutPaste, RandAugment and pseudo anomalies."""
