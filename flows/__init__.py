"""What runs when: Prefect flows around the pipelines, and the demo that runs everything."""
