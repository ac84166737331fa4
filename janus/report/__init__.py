"""Showing results: charts, HTML pages, contact sheets of pictures."""
