"""Recaptioning: captions that a model wrote, beside those of the source (docs/recaption.md, design D17)."""
