"""Coverage-guided fuzzing of everything that reads bytes of others: `make fuzz` (docs/threat-model.md)."""
