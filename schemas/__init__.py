"""The contracts that flows, pipelines and the trainer agree on. Imports nothing but pyarrow and pydantic."""
