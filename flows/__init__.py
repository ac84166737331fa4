"""What runs when: Prefect flows around the pipelines."""
